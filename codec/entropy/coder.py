"""Two arithmetic coders behind one interface; both code the same symbols over the same 16-bit tables.

A stream is written by ``push`` calls followed by one ``finish``, and read by ``pull`` calls with the same
tables and counts in the same order. A coder cannot notice damage by itself: garbage gives other symbols, all of
them inside their tables, or a ``BitstreamError``. Checksums are the container's job.

``constriction`` (default): a range coder on 32-bit words. ``torchac`` (``pip install 'adcgs[torchac]'``): a bit-wise
arithmetic coder that is compiled at its first import and needs a C++ compiler.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import AdcError, BitstreamError, OptionError
from .tables import PRECISION, TOTAL, Table

Symbols = NDArray[np.int32]
Runs = Sequence[tuple[Table, int]]  # (table, number of symbols) in coding order

# torchac wants one row of table per symbol; this many symbols at a time bound its memory to 34 MB.
TORCHAC_BLOCK = 16384


class SymbolEncoder(Protocol):
    """Writes one stream."""

    def push(self, runs: Runs, symbols: Symbols) -> None:
        """Append symbols; the first ``runs[0][1]`` of them use table ``runs[0][0]``, and so on."""

    def finish(self) -> bytes:
        """The stream; the encoder is used up."""


class SymbolDecoder(Protocol):
    """Reads one stream."""

    def pull(self, runs: Runs) -> Symbols:
        """The next symbols, as many as the runs' counts say. Raises: BitstreamError ``corrupt-stream``."""


def open_encoder(name: str) -> SymbolEncoder:
    """An encoder by its name. Raises: OptionError ``unknown-coder``, ``coder-not-installed``."""
    return _kind(name)[0]()


def open_decoder(name: str, data: bytes) -> SymbolDecoder:
    """A decoder of ``data`` by its coder's name. Raises: OptionError ``unknown-coder``, ``coder-not-installed``."""
    return _kind(name)[1](data)


def check_coder(name: str) -> None:
    """Refuse a coder that cannot be used here, before there is anything to code.

    Raises: OptionError ``unknown-coder``, ``coder-not-installed``.
    """
    open_encoder(name)


def _kind(name: str) -> tuple[Any, Any]:
    if name == "constriction":
        return _RangeEncoder, _RangeDecoder
    if name == "torchac":
        return _TorchacEncoder, _TorchacDecoder
    raise OptionError("unknown-coder", f"coder {name!r} is unknown; known are constriction and torchac")


def _split(runs: Runs, symbols: Symbols) -> list[tuple[Table, Symbols]]:
    """Cut symbols into runs, having checked that each lies inside its table."""
    if sum(count for _, count in runs) != symbols.shape[0]:
        raise ValueError("runs and symbols differ in length")
    parts = []
    start = 0
    for table, count in runs:
        part = symbols[start : start + count]
        start += count
        if count and (int(part.min()) < 0 or int(part.max()) >= len(table)):
            raise ValueError("symbol outside its table")
        parts.append((table, part))
    return parts


# ---------------------------------------------------------------- constriction


@cache
def _categorical(key: bytes) -> Any:
    import constriction

    frequencies = np.frombuffer(key, dtype=np.int64)
    # constriction turns n probabilities p into 24-bit frequencies 1 + trunc(p * (2^24 - n) / sum(p)). With
    # p = 256 f - 1 the sum is 2^24 - n, the quotient is exactly 1, and the frequencies are exactly 256 f.
    weights = (frequencies << (24 - PRECISION)) - 1
    return constriction.stream.model.Categorical(weights.astype(np.float64), perfect=False)


def _model(table: Table) -> Any:
    return _categorical(table.frequencies.tobytes())


class _RangeEncoder:
    def __init__(self) -> None:
        import constriction

        self._coder = constriction.stream.queue.RangeEncoder()

    def push(self, runs: Runs, symbols: Symbols) -> None:
        for table, part in _split(runs, symbols):
            if part.size:
                self._coder.encode(np.ascontiguousarray(part, dtype=np.int32), _model(table))

    def finish(self) -> bytes:
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes()


class _RangeDecoder:
    def __init__(self, data: bytes) -> None:
        import constriction

        if len(data) % 4:
            raise BitstreamError(
                "corrupt-stream", f"entropy stream: {len(data)} bytes are no whole number of 32-bit words"
            )
        # An empty stream is what an encoder leaves that wrote nothing; the decoder reads zeros past any end.
        words = np.frombuffer(data, dtype="<u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def pull(self, runs: Runs) -> Symbols:
        parts: list[Symbols] = []
        for table, count in runs:
            if count < 0:
                raise BitstreamError("corrupt-stream", "entropy stream: negative symbol count")
            if count:
                parts.append(self._decode(table, count))
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def _decode(self, table: Table, count: int) -> Symbols:
        try:
            return np.asarray(self._coder.decode(_model(table), count), dtype=np.int32)
        except AssertionError as error:  # how constriction reports words that no encoder writes
            raise _corrupt() from error
        except BaseException as error:  # a Rust panic derives from BaseException alone
            if type(error).__name__ == "PanicException":
                raise _corrupt() from None
            raise


def _corrupt() -> BitstreamError:
    return BitstreamError("corrupt-stream", "entropy stream: damaged data that no encoder writes; get the file again")


# ---------------------------------------------------------------- torchac


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """torchac's first import runs a compiler whose lines would end up in what a command prints for programs."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@cache
def _torchac() -> Any:
    try:
        with _stdout_to_stderr():
            import torchac
    except Exception as error:  # its first import runs a compiler, which can fail in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OptionError(
            "coder-not-installed",
            f"coder torchac cannot be loaded ({reason}); install 'adcgs[torchac]' and a C++ compiler",
        ) from error
    return torchac


@cache
def _cdf_row(key: bytes) -> NDArray[np.int16]:
    frequencies = np.frombuffer(key, dtype=np.int64)
    edges = np.zeros(frequencies.shape[0] + 1, dtype=np.int64)
    np.cumsum(frequencies, out=edges[1:])
    assert edges[-1] == TOTAL
    return edges.astype(np.uint16).view(np.int16)  # 2^16 wraps to 0, which torchac knows to be the end


def _blocks(runs: Runs) -> list[list[tuple[Table, int]]]:
    """Cut runs into blocks of one table length and at most ``TORCHAC_BLOCK`` symbols, in coding order."""
    blocks: list[list[tuple[Table, int]]] = []
    room = 0
    for table, run in runs:
        count = run
        while count:
            if not room or len(blocks[-1][0][0]) != len(table):
                blocks.append([])
                room = TORCHAC_BLOCK
            take = min(count, room)
            blocks[-1].append((table, take))
            room -= take
            count -= take
    return blocks


def _cdf(block: list[tuple[Table, int]]) -> Any:
    import torch

    rows = np.stack([_cdf_row(table.frequencies.tobytes()) for table, _ in block])
    return torch.from_numpy(np.repeat(rows, [count for _, count in block], axis=0))


class _TorchacEncoder:
    """Each block is a stream of torchac's, after its length in bytes (little-endian 32-bit)."""

    def __init__(self) -> None:
        self._backend = _torchac()
        self._parts: list[bytes] = []

    def push(self, runs: Runs, symbols: Symbols) -> None:
        import torch

        _split(runs, symbols)  # torchac writes nonsense for a symbol outside its table and does not say so
        start = 0
        for block in _blocks(runs):
            count = sum(n for _, n in block)
            part = torch.from_numpy(symbols[start : start + count].astype(np.int16))
            data = self._backend.encode_int16_normalized_cdf(_cdf(block), part)
            self._parts += [len(data).to_bytes(4, "little"), data]
            start += count

    def finish(self) -> bytes:
        return b"".join(self._parts)


class _TorchacDecoder:
    def __init__(self, data: bytes) -> None:
        self._backend = _torchac()
        self._data = data
        self._at = 0

    def pull(self, runs: Runs) -> Symbols:
        if any(count < 0 for _, count in runs):
            raise BitstreamError("corrupt-stream", "entropy stream: negative symbol count")
        parts = [self._decode(block) for block in _blocks(runs)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def _decode(self, block: list[tuple[Table, int]]) -> Symbols:
        left = len(self._data) - self._at
        size = int.from_bytes(self._data[self._at : self._at + 4], "little") if left >= 4 else -1
        if not 0 < size <= left - 4:
            raise BitstreamError(
                "corrupt-stream", "entropy stream: a block ends outside its section; get the file again"
            )
        data = self._data[self._at + 4 : self._at + 4 + size]
        self._at += 4 + size
        try:
            symbols = self._backend.decode_int16_normalized_cdf(_cdf(block), data)
        except AdcError:
            raise
        except (RuntimeError, ValueError) as error:
            raise _corrupt() from error
        return np.asarray(symbols.numpy(), dtype=np.int32)
