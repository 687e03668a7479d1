"""Checked reading and plain writing of the primitives that every section is made of.

Little-endian throughout. A *varint* is an unsigned LEB128 of at most 64 bits in its shortest form: seven
bits a byte, low bits first, the high bit set on all bytes but the last. A *signed varint* maps 0, -1, 1, -2,
... to 0, 1, 2, 3, ...
"""

from __future__ import annotations

import math
import struct

from ..errors import BitstreamError
from .printable import is_printable

MAX_VARINT = (1 << 64) - 1
_VARINT_BYTES = 10


class Cursor:
    """Reads forward through bytes; every refusal is a BitstreamError that names the source and the field.

    Args:
        data: the bytes.
        source: what they are, for messages, such as ``"scene.adc: header"``.
    """

    def __init__(self, data: bytes | memoryview, source: str) -> None:
        self._data = memoryview(data)
        self._at = 0
        self.source = source

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._at

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def fail(self, code: str, field: str, problem: str) -> BitstreamError:
        """The error to raise about ``field``."""
        return BitstreamError(code, f"{self.source}: {field} {problem}; get a new copy of the file or encode it again")

    def take(self, count: int, field: str) -> memoryview:
        """The next ``count`` bytes, as a view."""
        if count > self.remaining:
            raise self.fail("truncated", field, f"needs {count} bytes where {self.remaining} are left")
        view = self._data[self._at : self._at + count]
        self._at += count
        return view

    def u8(self, field: str) -> int:
        """The next byte."""
        return self.take(1, field)[0]

    def u32(self, field: str) -> int:
        """The next four bytes, little-endian."""
        return int.from_bytes(self.take(4, field), "little")

    def varint(self, field: str, low: int = 0, high: int = MAX_VARINT) -> int:
        """A varint in [low, high]."""
        value = 0
        for index in range(_VARINT_BYTES):
            byte = self.u8(field)
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if (byte == 0 and index > 0) or value > MAX_VARINT:
                    raise self.fail("bad-number", field, "is not a shortest-form 64-bit varint")
                return self.within(value, field, low, high)
        raise self.fail("bad-number", field, "is a varint of more than ten bytes")

    def signed(self, field: str) -> int:
        """A signed varint, in [-2^63, 2^63)."""
        value = self.varint(field)
        return (value >> 1) ^ -(value & 1)

    def count(self, field: str, high: int, bytes_each: int = 1) -> int:
        """A varint that counts things of at least ``bytes_each`` bytes, all of which are still to be read."""
        value = self.varint(field)
        if value * bytes_each > self.remaining:
            raise self.fail("count-exceeds-data", field, f"is {value} with {self.remaining} bytes left")
        return self.within(value, field, 0, high)

    def within(self, value: int, field: str, low: int, high: int) -> int:
        """``value`` itself where it is in [low, high]."""
        if not low <= value <= high:
            raise self.fail("limit-exceeded", field, f"is {value}, not in {low}..{high}")
        return value

    def f32(self, field: str) -> float:
        """A finite float32."""
        return self._finite(struct.unpack("<f", self.take(4, field))[0], field)

    def f64(self, field: str) -> float:
        """A finite float64."""
        return self._finite(struct.unpack("<d", self.take(8, field))[0], field)

    def _finite(self, value: float, field: str) -> float:
        if not math.isfinite(value):
            raise self.fail("not-finite", field, f"is {value}")
        return value

    def text(self, field: str, longest: int = 255) -> str:
        """A string: varint length in bytes, then UTF-8; printable and not empty."""
        length = self.count(field, longest)
        try:
            value = bytes(self.take(length, field)).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("bad-name", field, "is not UTF-8") from None
        if not value or not is_printable(value):
            raise self.fail("bad-name", field, "is empty or holds control characters")
        return value

    def finish(self) -> None:
        """Refuse what is left over."""
        if self.remaining:
            raise self.fail("trailing-garbage", "end of data", f"is followed by {self.remaining} more bytes")


def varint(value: int) -> bytes:
    """An unsigned integer below 2^64 as a varint."""
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"{value} is no unsigned 64-bit integer")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    """An integer in [-2^63, 2^63) as a signed varint."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def text(value: str) -> bytes:
    """A string as its length and its UTF-8."""
    data = value.encode("utf-8")
    return varint(len(data)) + data
