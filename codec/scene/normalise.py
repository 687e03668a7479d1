"""One similarity per scene, after which its content has unit scale whatever the capture's units were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera, Similarity
from .focus import common_focus


def rough_similarity(cameras: Sequence[Camera]) -> Similarity:
    """From the cameras alone: their common focus becomes the origin, what they see around it has half-extent 1.

    Good enough to compute in (single precision suffices afterwards); the cloud then decides.
    """
    focus, extent = common_focus(cameras)
    return Similarity(1 / extent, focus)


def content_similarity(box: NDArray[np.float64]) -> Similarity:
    """The box's centre becomes the origin and its longest half-side 1. ``box`` is (2, 3), not empty."""
    return Similarity(2 / float((box[1] - box[0]).max()), box.mean(axis=0))


def robust_box(points: NDArray[np.floating], percent: float) -> NDArray[np.float64]:
    """(2, 3) corners that leave ``percent`` % of the points out on each side of each axis."""
    return np.percentile(np.asarray(points, np.float64), [percent, 100 - percent], axis=0)


def compose(first: Similarity, second: Similarity) -> Similarity:
    """The similarity that applies ``first``, then ``second``."""
    return Similarity(second.scale * first.scale, first.invert(second.center))
