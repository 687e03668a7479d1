"""What tells a capture from another of the same layout, size and number of frames, such as a second take of one rig.

A checkpoint keeps it, so that a run is not continued, unnoticed, on other pictures. It is compared with room for what
another machine's video decoder or resampling may round differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..evenly import evenly
from ..scene import Frame, Scene

FRAMES = 8
CELLS = 8
TOLERANCES = {"times": 1e-4, "poses": 1e-3, "pictures": 2 / 255}


def fingerprint(scene: Scene, frames: Sequence[Frame]) -> dict[str, Tensor]:
    """A few of the frames, evenly spread: when, from where, and what they show.

    Returns:
        ``times`` (n,), ``poses`` (n, 4, 4) and ``pictures`` (n, CELLS, CELLS, 3), mean colours in [0, 1] over the
        capture's background; float32.
    """
    chosen = [frames[i] for i in evenly(len(frames), FRAMES)]
    poses = np.stack([frame.camera.world_to_camera for frame in chosen]).astype(np.float32)
    return {
        "times": torch.tensor([frame.time for frame in chosen]),
        "poses": torch.from_numpy(poses),
        "pictures": torch.stack([_cells(torch.from_numpy(scene.target(frame))) for frame in chosen]),
    }


def differences(made: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What is another in ``made`` than in ``given``, of the same shapes, in words."""
    # Not a number is no match either.
    matches = {name: bool(((made[name] - given[name]).abs() <= most).all()) for name, most in TOLERANCES.items()}
    return [f"other {name}" for name, match in matches.items() if not match]


def _cells(image: Tensor) -> Tensor:
    """(H, W, 3) to (CELLS, CELLS, 3)."""
    return torch.nn.functional.adaptive_avg_pool2d(image.permute(2, 0, 1), CELLS).permute(1, 2, 0).contiguous()
