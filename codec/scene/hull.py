"""Carving the visual hull from alpha masks, at an instant of a scene that moves.

With one camera per instant there is no instant at which several masks agree exactly. So the few frames nearest
in time stand in for it, and a cell survives if nearly all that see it call it opaque. More frames carve closer
where nothing moves and eat what does; about a dozen were the best of both on rendered captures whose shape is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..evenly import evenly
from .capture import Frame, InitialCloud
from .focus import common_focus
from .views import Views

MASK_SIDE = 256  # masks are carved with at about this resolution
VISIBILITY_CAMERAS = 48


@dataclass(frozen=True)
class CarveOptions:
    """How the hull is carved.

    Attributes:
        window: frames nearest in time that take part; None takes the instant's own when there are at least 8 of
            them, else a tenth of the training frames, between 8 and 16.
        resolution: cells along the longest side of the box.
        agreement: the fraction of the frames seeing a cell that must call it opaque.
    """

    window: int | None = None
    resolution: int = 128
    agreement: float = 0.9


DEFAULT_CARVING = CarveOptions()


@dataclass(frozen=True, eq=False)
class Mask:
    frame: Frame
    matrix: NDArray[np.float32]  # (3, 4), space to mask pixels
    opaque: NDArray[np.bool_]  # (H, W)
    rgb: NDArray[np.uint8]  # (H, W, 3)


def carve(
    views: Views,
    instant: float = 0.0,
    box: NDArray[np.float64] | None = None,
    options: CarveOptions = DEFAULT_CARVING,
) -> InitialCloud:
    """The surface cells of the visual hull that some camera can see, coloured from the images that do.

    Args:
        instant: in [0, 1].
        box: (2, 3) corners to carve in, in the views' space; None finds the content of the whole clip first.

    Returns:
        points (P, 3) with ``times`` all equal to the instant; P is 0 where the masks leave nothing.
    """
    if box is None:
        box = content_box(views)
    masks = [mask_of(views, frame) for frame in _window(views.split("train"), instant, options.window)]
    size = float((box[1] - box[0]).max()) / options.resolution
    cells = carve_cells(masks, box, size, options.agreement)
    points = _seen_surface(views, cells, box[0], size)
    colors = mask_colors(points, masks, size)
    times = np.full(len(points), instant, np.float32)
    source = f"visual hull of {len(masks)} alpha masks nearest t = {instant:.3g}, cells of {size:.3g}"
    return InitialCloud(points, colors, source, times)


def carve_instants(
    views: Views,
    instants: Sequence[float],
    options: CarveOptions = DEFAULT_CARVING,
    box: NDArray[np.float64] | None = None,
) -> InitialCloud:
    """Hulls of several instants in one cloud; ``times`` says which point belongs to which."""
    if box is None:
        box = content_box(views)
    hulls = [carve(views, instant, box, options) for instant in instants]
    return InitialCloud(
        np.concatenate([h.points for h in hulls]),
        np.concatenate([h.colors for h in hulls]),
        f"visual hulls at {len(hulls)} instants",
        np.concatenate([h.times for h in hulls if h.times is not None]),
    )


def has_silhouettes(views: Views) -> bool:
    """Whether the alpha channel tells an object from its surroundings in the training images."""
    if not views.has_alpha:
        return False
    frames = _spread(views.split("train"), 8)
    covered = [mask_of(views, frame).opaque.mean() for frame in frames]
    return 0 < float(np.mean(covered)) < 0.95


def content_box(views: Views, instants: int = 8, resolution: int = 48) -> NDArray[np.float64]:
    """(2, 3) corners around all that the masks show over the clip, with a margin of two cells.

    It looks at several windows in time and joins what it finds: a ball that crosses the scene belongs to it.
    """
    frames = views.split("train")
    focus, extent = common_focus([frame.camera for frame in frames])
    box = np.stack([focus - 1.25 * extent, focus + 1.25 * extent])
    size = float((box[1] - box[0]).max()) / resolution
    found = []
    for instant in (np.arange(instants) + 0.5) / instants:
        masks = [mask_of(views, frame) for frame in _window(frames, float(instant), None)]
        cells = carve_cells(masks, box, size, CarveOptions.agreement)
        found.append(_seen_surface(views, cells, box[0], size))
    points = np.concatenate(found)
    if len(points) == 0:
        return box
    return np.stack([points.min(axis=0) - 2.5 * size, points.max(axis=0) + 2.5 * size]).astype(np.float64)


def _window(frames: list[Frame], instant: float, window: int | None) -> list[Frame]:
    distance = np.abs(np.array([frame.time for frame in frames]) - instant)
    if window is None:
        at_once = int((distance <= distance.min() + 1e-9).sum())
        window = at_once if at_once >= 8 else int(np.clip(len(frames) // 10, 8, 16))
    nearest = np.argsort(distance, kind="stable")[: max(1, window)]
    return [frames[i] for i in nearest]


def _spread(frames: list[Frame], count: int) -> list[Frame]:
    chosen = evenly(len(frames), count)
    return [frames[i] for i in chosen]


def mask_of(views: Views, frame: Frame) -> Mask:
    """A frame's silhouette, about MASK_SIDE pixels along its longer side."""
    downscale = max(1, round(max(frame.camera.width, frame.camera.height) / MASK_SIDE))
    camera = views.camera(frame, downscale)
    image = views.image(frame, downscale)
    matrix = (camera.intrinsics @ camera.world_to_camera[:3]).astype(np.float32)
    return Mask(frame, matrix, image[..., 3] >= 128, image[..., :3])


def _look_up(
    mask: Mask, points: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float32]]:
    """Which points (N, 3) fall into the image, the pixel of those that do, and every point's depth."""
    height, width = mask.opaque.shape
    local = points @ mask.matrix[:, :3].T + mask.matrix[:, 3]
    depth = local[:, 2]
    safe = np.where(depth > 1e-6, depth, 1)
    # Cells behind the camera and numbers beyond an integer's range are outside before any cast.
    column, row = local[:, 0] / safe, local[:, 1] / safe
    inside = (depth > 1e-6) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = row[inside].astype(np.int64) * width + column[inside].astype(np.int64)
    return inside, pixel, depth


def carve_cells(masks: list[Mask], box: NDArray[np.float64], size: float, agreement: float) -> NDArray[np.int32]:
    """Indices (M, 3) of the surviving cells, in order; the least share ``agreement`` of the masks that see one call it
    opaque, and two thirds of all see it."""
    from ..jit import run, thread_count
    from .hull_kernels import arguments, carve_slabs

    counts = np.maximum(1, np.ceil((box[1] - box[0]) / size - 1e-6).astype(int))
    standing = np.zeros(counts, np.bool_)
    run(carve_slabs, (*arguments(masks, standing, box[0], size), agreement), thread_count())
    return np.argwhere(standing).astype(np.int32)


def surface(cells: NDArray[np.int32]) -> NDArray[np.int32]:
    """The cells with at least one empty neighbour across a face."""
    if len(cells) == 0:
        return cells
    low = cells.min(axis=0) - 1
    solid = np.zeros(cells.max(axis=0) - low + 2, bool)
    x, y, z = (cells - low).T
    solid[x, y, z] = True
    buried = np.ones(len(cells), bool)
    for dx, dy, dz in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
        buried &= solid[x + dx, y + dy, z + dz]
    return cells[~buried]


def _seen_surface(
    views: Views, cells: NDArray[np.int32], corner: NDArray[np.float64], size: float
) -> NDArray[np.float32]:
    """Centres of the surface cells that at least two training cameras have in front, (P, 3).

    Below an object that was filmed from above, masks leave a cone that no image contradicts: it is out of sight.
    """
    points = (corner + (surface(cells) + 0.5) * size).astype(np.float32)
    witnesses = np.zeros(len(points), np.int16)
    for frame in _spread(views.split("train"), VISIBILITY_CAMERAS):
        mask = mask_of(views, frame)
        inside, pixel, depth = _look_up(mask, points)
        witnesses[inside] += depth[inside] <= _front_depth(mask, pixel, depth[inside], size) + 2 * size
    return points[witnesses >= min(2, len(views.split("train")))]


def mask_colors(points: NDArray[np.float32], masks: list[Mask], size: float) -> NDArray[np.float32]:
    """Mean colour over the masks in which a point is opaque and in front, (P, 3) in [0, 1].

    The frames nearest in time (they come first) count most, for they show the point where it is.
    """
    from scipy.spatial import cKDTree

    total = np.zeros((len(points), 3))
    weight = np.zeros(len(points))
    ranks = {time: rank for rank, time in enumerate(dict.fromkeys(mask.frame.time for mask in masks))}
    for mask in masks:
        inside, pixel, depth = _look_up(mask, points)
        front = _front_depth(mask, pixel, depth[inside], size)
        good = mask.opaque.reshape(-1)[pixel] & (depth[inside] <= front + 2 * size)
        index = np.flatnonzero(inside)[good]
        share = 1 / (1 + ranks[mask.frame.time]) ** 2
        total[index] += share * mask.rgb.reshape(-1, 3)[pixel[good]]
        weight[index] += share
    known = weight > 0
    if not known.any():
        return np.full((len(points), 3), 0.5, np.float32)
    colors = total[known] / weight[known, None] / 255
    nearest = cKDTree(points[known]).query(points)[1]  # what no mask shows looks like what is next to it
    return colors[nearest].astype(np.float32)


def _front_depth(mask: Mask, pixel: NDArray[np.int64], depth: NDArray[np.float32], size: float) -> NDArray[np.float32]:
    """The least depth around each pixel, on a grid coarse enough that the cells of a surface leave no holes."""
    height, width = mask.opaque.shape
    if len(depth) == 0:
        return depth
    focal = float(np.linalg.norm(mask.matrix[0, :3]))
    step = max(1, int(np.ceil(2 * focal * size / float(np.median(depth)))))
    columns = -(-width // step)
    block = (pixel // width // step) * columns + (pixel % width) // step
    nearest = np.full(columns * -(-height // step), np.inf, np.float32)
    np.minimum.at(nearest, block, depth)
    return nearest[block]
