"""Does a rendering jump between neighbouring instants? Popping is a step that its neighbours in time do not share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from .pictures import Picture

REACH = 3
"""Steps to each side that a step is compared with."""

FLOOR = 0.05
"""Levels of 255: smaller changes are rounding, not motion."""


def steps(frames: Sequence[Picture]) -> NDArray[np.float64]:
    """Mean absolute change from each frame to the next, in levels of 255, (len(frames) - 1,)."""
    return np.array([np.abs(b.astype(np.int16) - a.astype(np.int16)).mean() for a, b in pairwise(frames)])


def largest_jump(frames: Sequence[Picture]) -> float:
    """The largest ratio of a step to the median of the steps around it; near 1 for even motion, a pop is far above.

    Args:
        frames: of one camera at rest, at evenly spread instants denser than the capture's.

    Raises:
        OptionError: ``too-few-frames`` under three frames.
    """
    if len(frames) < 3:
        raise OptionError(
            "too-few-frames", f"steps are compared with their neighbours: give 3 frames, not {len(frames)}"
        )
    size = np.maximum(steps(frames), FLOOR)
    ratios = []
    for k in range(len(size)):
        around = np.concatenate([size[max(0, k - REACH) : k], size[k + 1 : k + 1 + REACH]])
        ratios.append(size[k] / np.median(around))
    return float(max(ratios))
