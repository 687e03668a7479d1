"""torchac's encoder in plain integers: the files can be made, to the same bytes, where torchac is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch import Tensor

_HALF, _QUARTER, _TOP = 1 << 31, 1 << 30, (1 << 32) - 1


@contextmanager
def plain_torchac() -> Iterator[None]:
    """adcgs encodes by this module instead of torchac."""
    with mock.patch("adcgs.entropy.coder._torchac", return_value=_Backend):
        yield


class _Backend:
    """What adcgs calls of torchac."""

    @staticmethod
    def encode_int16_normalized_cdf(cdf: Tensor, symbols: Tensor) -> bytes:
        """Symbols (n,) under rows of 16-bit start values (n, symbols + 1), of which the last stands for 2^16."""
        rows = (cdf.long() & 0xFFFF).tolist()
        return encode([(row[s], row[s + 1] or 1 << 16) for row, s in zip(rows, symbols.tolist(), strict=True)])


def encode(intervals: list[tuple[int, int]]) -> bytes:
    """A block of symbols, each given by its interval (start, end) of 0 .. 65536: ENTROPY.md, section 7."""
    low, high, pending = 0, _TOP, 0
    bits: list[int] = []

    def put(bit: int) -> None:
        bits.extend([bit, *[1 - bit] * pending])

    for start, end in intervals:
        span = high - low + 1
        low, high = low + (span * start >> 16), low + (span * end >> 16) - 1
        while True:
            if high < _HALF or low >= _HALF:
                bit = int(low >= _HALF)
                put(bit)
                pending, drop = 0, bit * _HALF
            elif low >= _QUARTER and high < 3 * _QUARTER:
                pending, drop = pending + 1, _QUARTER
            else:
                break
            low, high = 2 * (low - drop), 2 * (high - drop) + 1
    pending += 1
    put(int(low >= _QUARTER))
    bits += [0] * (-len(bits) % 8)
    return int("".join(map(str, bits)), 2).to_bytes(len(bits) // 8, "big")
