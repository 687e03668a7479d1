"""What moves before a rig of fixed cameras: where it is, and which way it goes.

What a fixed camera sees change against its temporal median is a silhouette of what moves. Silhouettes of one
instant from several cameras are carved like alpha masks, and what is carved is followed from instant to instant. So a
model can start with anchors on things that fly or swing farther than any gradient would ever drag them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..evenly import evenly
from .capture import Frame, MovingCloud
from .hull import Mask, carve_cells, mask_colors, surface
from .plates import fixed_cameras, plate
from .scene import Scene
from .tracks import Track, find_tracks

MIN_CAMERAS = 4
MASK_SIDE = 240
CHANGE = 22  # of 255, in the channel that changes most
AGREEMENT = 0.85  # others may hide what moves from some cameras
RESOLUTION = 144


def moving_cloud(scene: Scene, most: int, progress: Callable[[float], None] | None = None) -> MovingCloud | None:
    """The surfaces of what moves, in rigid pieces, each followed while it can be; None where cameras are not fixed.

    Needs at least four fixed training cameras with five instants each. Reads small versions of their frames.

    Args:
        most: instants to look at, evenly spread over those of the capture; each further one is found more surely.
        progress: told the share of the instants that are done.
    """
    rigs = fixed_cameras(scene)
    if len(rigs) < MIN_CAMERAS or most < 1:
        return None
    times = _instants(rigs, most)
    medians = {key: plate(scene, frames, _downscale(frames[0])) for key, frames in rigs.items()}
    size = float((scene.bounds[1] - scene.bounds[0]).max()) / RESOLUTION
    clouds = []
    for done, instant in enumerate(times):
        masks = [_changed(scene, _nearest(frames, instant), medians[key]) for key, frames in rigs.items()]
        cells = surface(carve_cells(masks, scene.bounds, size, AGREEMENT))
        points = (scene.bounds[0] + (cells + 0.5) * size).astype(np.float32)
        clouds.append((points.astype(np.float64), mask_colors(points, masks, size).astype(np.float64)))
        if progress is not None:
            progress((done + 1) / len(times))
    tracks = find_tracks(clouds, times, size)
    if not tracks:
        return None
    source = f"what moves before {len(rigs)} fixed cameras, followed over {len(times)} instants"
    return joined(tracks, clouds, times, source)


def _instants(rigs: dict[int, list[Frame]], most: int) -> NDArray[np.float64]:
    """At most ``most`` of the instants at which cameras saw something."""
    times = np.unique([frame.time for frames in rigs.values() for frame in frames])
    return np.asarray(times[evenly(len(times), most)])


def joined(
    tracks: Sequence[Track],
    clouds: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    times: NDArray[np.float64],
    source: str,
) -> MovingCloud:
    """Pieces found in the clouds (points and colours of each instant), as one cloud with their ways."""
    sizes = [len(track.members) for track in tracks]
    held = [np.clip(np.arange(len(times)) - track.first, 0, len(track.shifts) - 1) for track in tracks]
    return MovingCloud(
        np.concatenate([clouds[t.instant][0][t.members] for t in tracks]).astype(np.float32),
        np.concatenate([clouds[t.instant][1][t.members] for t in tracks]).astype(np.float32),
        np.repeat(np.arange(len(tracks)), sizes),
        times,
        np.array([(t.first, t.last) for t in tracks]),
        np.stack([t.rotations[h] for t, h in zip(tracks, held, strict=True)]),
        np.stack([t.shifts[h] for t, h in zip(tracks, held, strict=True)]),
        f"{source}, {len(tracks)} pieces",
    )


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
