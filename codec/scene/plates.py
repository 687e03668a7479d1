"""What a fixed camera sees when everything that moves is taken away: the temporal median of its frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..evenly import evenly
from .capture import Frame
from .views import Views

MIN_INSTANTS = 5  # fewer do not tell what moves
MEDIAN_FRAMES = 15


def fixed_cameras(views: Views) -> dict[int, list[Frame]]:
    """Training frames of each camera that stands still for ``MIN_INSTANTS`` frames or more, in order of time."""
    cameras: dict[int, list[Frame]] = {}
    for frame in views.split("train"):
        if frame.camera_id >= 0:
            cameras.setdefault(frame.camera_id, []).append(frame)
    return {
        key: sorted(frames, key=lambda f: f.time) for key, frames in cameras.items() if len(frames) >= MIN_INSTANTS
    }


def plate(views: Views, frames: Sequence[Frame], downscale: int) -> NDArray[np.uint8]:
    """Median of some of one fixed camera's frames, (H, W, 3)."""
    chosen = evenly(len(frames), MEDIAN_FRAMES)
    return np.median(np.stack([views.image(frames[i], downscale)[..., :3] for i in chosen]), axis=0).astype(np.uint8)
