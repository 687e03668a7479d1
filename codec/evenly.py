"""A few of many, evenly spread: which frames, cameras or instants are looked at where all would take too long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` rising indices below ``count``, the first and the last among them where ``most`` allows it."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
