"""The two coders' decoders as ``bitstream_spec/ENTROPY.md`` has them: plain integers, one symbol at a time."""

from __future__ import annotations

from collections.abc import Sequence


def find(frequencies: Sequence[int], count: int) -> tuple[int, int, int]:
    """(symbol, frequencies before it, its own) of the symbol that ``count``, 0 .. 65535, falls on."""
    start = 0
    for symbol, frequency in enumerate(frequencies):
        if count < start + frequency:
            return symbol, start, frequency
        start += frequency
    raise AssertionError("frequencies do not sum to 65536")


class RangeDecoder:
    """Section 3.1. ``data`` is a whole number of little-endian 32-bit words."""

    def __init__(self, data: bytes) -> None:
        self.words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
        self.at = 0
        self.low = 0
        self.range = (1 << 64) - 1
        self.point = self.word() << 32
        self.point |= self.word()

    def word(self) -> int:
        self.at += 1
        return self.words[self.at - 1] if self.at <= len(self.words) else 0

    def symbol(self, frequencies: Sequence[int]) -> int:
        scale = self.range >> 24
        quantile = ((self.point - self.low) % (1 << 64)) // scale
        if quantile >= 1 << 24:
            raise ValueError("corrupt-stream")
        symbol, start, frequency = find(frequencies, quantile >> 8)
        self.low = (self.low + scale * (start << 8)) % (1 << 64)
        self.range = scale * (frequency << 8)
        if self.range < 1 << 32:
            self.low = (self.low << 32) % (1 << 64)
            self.range <<= 32
            self.point = (self.point << 32) % (1 << 64) | self.word()
        return symbol


class BitDecoder:
    """Section 3.2, one block."""

    def __init__(self, data: bytes) -> None:
        self.bits = (data[i >> 3] >> (7 - (i & 7)) & 1 for i in range(8 * len(data)))
        self.low = 0
        self.high = (1 << 32) - 1
        self.value = 0
        for _ in range(32):
            self.value = self.value * 2 + next(self.bits, 0)

    def symbol(self, frequencies: Sequence[int]) -> int:
        span = self.high - self.low + 1
        count = ((self.value - self.low + 1) * 65536 - 1) // span
        symbol, start, frequency = find(frequencies, count)
        self.high = self.low + (span * (start + frequency) >> 16) - 1
        self.low += span * start >> 16
        half, quarter = 1 << 31, 1 << 30
        while True:
            if self.high < half:
                drop = 0
            elif self.low >= half:
                drop = half
            elif self.low >= quarter and self.high < half + quarter:
                drop = quarter
            else:
                return symbol
            self.low = (self.low - drop) * 2
            self.high = (self.high - drop) * 2 + 1
            self.value = (self.value - drop) * 2 + next(self.bits, 0)
