"""Weights in eight bits: one scale per output channel, symbols range-coded under adaptive integer tables.

Layout of a group: for every array in order, vectors (fewer than two axes) as float16; matrices as one u16
per row, the upper half of a float32 scale (bfloat16). Then a varint number of 32-bit words and the words of
one range-coded stream over all matrices' symbols -127..127 in C order. A weight is the float32 product of
its row's scale and its symbol; a row is one index of the first axis.

The table (24-bit frequencies of 255 symbols) is the same for 64 symbols, then it is made again from what
was coded: ``count[s]`` over the symbols so far, divided by four (rounding down) where a new matrix begins;
blocks begin with it. Neighbours share evidence: ``h[s] = 1 + 2 sum_d (4 - |d|) count[s + d]`` over |d| < 4;
``frequency[s] = 1 + floor((2^24 - 255) h[s] / sum h)``, and what is missing to 2^24 goes to symbol 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cursor import Cursor, varint

SYMBOLS = 255
ZERO = 127  # index of symbol 0
TOTAL = 1 << 24
BLOCK = 64
_REACH = 4

Int64 = NDArray[np.int64]


class Rounded(NamedTuple):
    """A matrix as it is coded."""

    scales: NDArray[np.uint16]  # (rows,), their upper halves
    symbols: Int64  # of the matrix's shape

    def values(self) -> NDArray[np.float32]:
        """What a decoder makes of it."""
        rows = self.symbols.reshape(len(self.scales), math.prod(self.symbols.shape[1:])).astype(np.float32)
        return (_scales(self.scales)[:, None] * rows).reshape(self.symbols.shape)


def row_scales(matrix: NDArray[np.float32], levels: int) -> NDArray[np.uint16]:
    """Upper halves of the rows' scales, (rows,), rounded up so that nothing clips."""
    rows = matrix.reshape(len(matrix), math.prod(matrix.shape[1:]))
    largest = np.abs(rows).max(axis=1, initial=0.0)
    bits = (largest / np.float32(levels)).astype(np.float32).view(np.uint32)
    # An infinity is one above the largest finite pattern: a row of huge weights must not round up to it.
    return np.minimum((bits + 0xFFFF) >> 16, 0x7F7F).astype(np.uint16)


def quantise(matrix: NDArray[np.float32], levels: int) -> Rounded:
    """Every weight to the nearest step of its row."""
    upper = row_scales(matrix, levels)
    rows = matrix.reshape(len(matrix), math.prod(matrix.shape[1:]))
    scale = _scales(upper)[:, None].astype(np.float64)
    symbols = np.rint(np.divide(rows, scale, out=np.zeros(rows.shape), where=scale > 0))
    return Rounded(upper, symbols.astype(np.int64).clip(-ZERO, ZERO).reshape(matrix.shape))


def _scales(upper: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (upper.astype(np.uint32) << 16).view(np.float32)


class _Tables:
    """The adaptive tables; the encoder and the decoder feed it the same symbols."""

    def __init__(self) -> None:
        self._count: Int64 = np.zeros(SYMBOLS, dtype=np.int64)

    def start_matrix(self) -> None:
        self._count >>= 2

    def update(self, symbols: NDArray[np.int32]) -> None:
        self._count += np.bincount(symbols, minlength=SYMBOLS)

    def frequencies(self) -> Int64:
        """(255,) positive integers that sum to 2^24."""
        kernel = _REACH - np.abs(np.arange(1 - _REACH, _REACH))
        smooth = 1 + 2 * np.convolve(self._count, kernel, mode="same")
        frequency = 1 + (TOTAL - SYMBOLS) * smooth // smooth.sum()
        frequency[ZERO] += TOTAL - frequency.sum()
        return frequency

    def model(self) -> Any:
        """The table as constriction takes it.

        Constriction adds one to each probability times (2^24 - 255) / sum and truncates: frequencies less
        one sum to just that, so all its floats are integers and its table is ours.
        """
        import constriction

        return constriction.stream.model.Categorical((self.frequencies() - 1).astype(np.float64), perfect=False)


def _blocks(sizes: Sequence[int]) -> Iterator[tuple[bool, int]]:
    """(first of its matrix, number of symbols) for every block of matrices of these sizes."""
    for size in sizes:
        for start in range(0, size, BLOCK):
            yield start == 0, min(BLOCK, size - start)


def _encode(matrices: Sequence[Int64]) -> bytes:
    import constriction

    symbols = np.concatenate([matrix.ravel() for matrix in matrices]).astype(np.int32) + ZERO
    coder, tables, at = constriction.stream.queue.RangeEncoder(), _Tables(), 0
    for is_first, length in _blocks([matrix.size for matrix in matrices]):
        if is_first:
            tables.start_matrix()
        block = symbols[at : at + length]
        coder.encode(block, tables.model())
        tables.update(block)
        at += length
    words = coder.get_compressed()
    return varint(len(words)) + words.astype("<u4").tobytes()


def _decode(cursor: Cursor, sizes: Sequence[int]) -> Int64:
    """All matrices' symbols, -127..127."""
    import constriction

    count = cursor.count("words of weights", 1 << 26, bytes_each=4)
    words = np.frombuffer(cursor.take(4 * count, "weights"), dtype="<u4").astype(np.uint32)
    total = sum(sizes)
    # Shared evidence keeps every probability under 0.41, so a symbol costs more than a bit.
    if total == 0 and count > 0:
        raise cursor.fail("bad-stream", "weights", "are none, in a stream that is not empty")
    if total > 32 * count:
        raise cursor.fail("count-exceeds-data", "weights", f"are {total} in a stream of {4 * count} bytes")
    coder, tables, at = constriction.stream.queue.RangeDecoder(words), _Tables(), 0
    symbols = np.empty(total, dtype=np.int32)
    for is_first, length in _blocks(sizes):
        if is_first:
            tables.start_matrix()
        try:
            block = coder.decode(tables.model(), length)
        except AssertionError:
            raise cursor.fail("bad-stream", "weights", "do not decode") from None
        tables.update(block)
        symbols[at : at + length] = block
        at += length
    if not coder.maybe_exhausted():
        raise cursor.fail("bad-stream", "weights", "leave words of their stream unread")
    return symbols.astype(np.int64) - ZERO


def pack_int8(arrays: Sequence[NDArray[np.float32] | Rounded], levels: int) -> bytes:
    """One group's bytes; matrices that are rounded already stay as they are."""
    out, matrices = b"", []
    for array in arrays:
        if not isinstance(array, Rounded) and array.ndim < 2:
            out += array.astype("<f2").tobytes()
        else:
            found = array if isinstance(array, Rounded) else quantise(array, levels)
            out += found.scales.astype("<u2").tobytes()
            matrices.append(found.symbols)
    return out + (_encode(matrices) if matrices else varint(0))


def unpack_int8(cursor: Cursor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """The inverse of :func:`pack_int8`; BitstreamError for any damage."""
    needed = 2 * sum(math.prod(shape) if len(shape) < 2 else shape[0] for shape in shapes.values())
    if needed > cursor.remaining:
        raise cursor.fail(
            "length-mismatch",
            "weights",
            f"are {cursor.remaining} bytes, the configuration needs over {needed}",
        )
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, shape in shapes.items():
        size = math.prod(shape) if len(shape) < 2 else shape[0]
        raw = cursor.take(2 * size, name)
        if len(shape) < 2:
            arrays[name] = np.frombuffer(raw, dtype="<f2").astype(np.float32).reshape(shape)
        else:
            arrays[name] = _scales(np.frombuffer(raw, dtype="<u2"))
    matrices = [name for name, shape in shapes.items() if len(shape) >= 2]
    symbols = _decode(cursor, [math.prod(shapes[name]) for name in matrices])
    cursor.finish()
    at = 0
    for name in matrices:
        size = math.prod(shapes[name])
        rows = symbols[at : at + size].reshape(shapes[name][0], math.prod(shapes[name][1:])).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a stranger's scales: the caller refuses what is not finite
            arrays[name] = (arrays[name][:, None] * rows).reshape(shapes[name])
        at += size
    return arrays
