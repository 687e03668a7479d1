"""Numbers that are the same on every machine and with every library: no conformance file may depend on either."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_FRACTION_BITS = 12


class Source:
    """Numbers from SHAKE-256 over a name; each call gives new ones."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls = 0

    def integers(self, low: int, high: int, *shape: int) -> NDArray[np.int64]:
        """Even over low .. high, both ends included."""
        self._calls += 1
        count = int(np.prod(shape, dtype=np.int64))
        data = hashlib.shake_256(f"{self._name}/{self._calls}".encode()).digest(4 * count)
        words = np.frombuffer(data, "<u4").astype(np.int64)
        return (low + words % (high - low + 1)).reshape(shape)

    def floats(self, reach: float, *shape: int) -> NDArray[np.float32]:
        """Even over -reach .. reach; exact in float32 where ``reach`` is a power of two."""
        one = 1 << _FRACTION_BITS
        return (self.integers(-one, one, *shape) * (reach / one)).astype(np.float32)

    def bell(self, reach: float, *shape: int) -> NDArray[np.float32]:
        """A hump over -reach .. reach, as exact."""
        one = 1 << _FRACTION_BITS
        quarters = self.integers(-one // 4, one // 4, 4, *shape).sum(axis=0)
        return (quarters * (reach / one)).astype(np.float32)
