"""Where the things that move are, at several instants, before a rig of fixed cameras.

What a fixed camera sees change against its temporal median is a silhouette of what moves. Silhouettes of one
instant from several cameras are carved like alpha masks, so a model can start with anchors along the whole
path of a thing that no gradient would ever drag across the scene.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .capture import Frame, InitialCloud
from .hull import Mask, carve_cells, mask_colors, surface
from .plates import fixed_cameras, plate
from .scene import Scene

MIN_CAMERAS = 4
MASK_SIDE = 240
CHANGE = 22  # of 255, in the channel that changes most
AGREEMENT = 0.85  # others may hide what moves from some cameras
RESOLUTION = 144


def moving_cloud(scene: Scene, instants: Sequence[float]) -> InitialCloud | None:
    """Carved surfaces of what moves at each of ``instants``, with their ``times``; None where cameras are not fixed.

    Needs at least four fixed training cameras with five instants each. Reads a small version of a few dozen frames.
    """
    rigs = fixed_cameras(scene)
    if len(rigs) < MIN_CAMERAS:
        return None
    medians = {key: plate(scene, frames, _downscale(frames[0])) for key, frames in rigs.items()}
    size = float((scene.bounds[1] - scene.bounds[0]).max()) / RESOLUTION
    points, colors, times = [], [], []
    for instant in instants:
        masks = [_changed(scene, _nearest(frames, instant), medians[key]) for key, frames in rigs.items()]
        cells = surface(carve_cells(masks, scene.bounds, size, AGREEMENT))
        found = (scene.bounds[0] + (cells + 0.5) * size).astype(np.float32)
        points.append(found)
        colors.append(mask_colors(found, masks, size))
        times.append(np.full(len(found), instant, np.float32))
    if sum(map(len, points)) == 0:
        return None
    source = f"what moves before {len(rigs)} fixed cameras, carved at {len(points)} instants"
    return InitialCloud(np.concatenate(points), np.concatenate(colors), source, np.concatenate(times))


def _nearest(frames: Sequence[Frame], instant: float) -> Frame:
    return min(frames, key=lambda f: abs(f.time - instant))


def _downscale(frame: Frame) -> int:
    return max(1, round(max(frame.camera.width, frame.camera.height) / MASK_SIDE))


def _changed(scene: Scene, frame: Frame, median: NDArray[np.uint8]) -> Mask:
    downscale = _downscale(frame)
    picture = scene.image(frame, downscale)[..., :3]
    camera = scene.camera(frame, downscale)
    matrix = (camera.intrinsics @ camera.world_to_camera[:3]).astype(np.float32)
    changed = np.abs(picture.astype(np.int16) - median.astype(np.int16)).max(axis=2) > CHANGE
    return Mask(frame, matrix, _close(changed), picture)


def _close(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill small gaps, drop specks."""
    from scipy.ndimage import binary_closing, binary_dilation, binary_opening

    return np.asarray(binary_dilation(binary_opening(binary_closing(mask, iterations=2), iterations=1)), bool)
