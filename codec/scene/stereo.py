"""Depth maps from posed images, and the cloud that they agree on.

1. Plane sweep: for each image a stack of depths, uniform in 1 / depth, is tried; the depth at which its neighbours
   correlate best with it wins (R. T. Collins, "A space-sweep approach to true multi-image matching", CVPR 1996;
   zero-mean normalised correlation, as cameras of a rig differ in exposure).
2. A depth stays if other views' maps confirm it and hardly one sees through it.
3. Smooth walls and floors, which nothing tells apart, take the depth that their surroundings imply: 1 / depth is
   continued harmonically. Such a depth too needs the other views' votes.
4. Points are kept where several views gave one.

Fixed cameras are matched by their temporal medians: the cloud is that of what stands still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..evenly import evenly
from .capture import Frame
from .plates import fixed_cameras, plate
from .views import Views

T = TypeVar("T", bound=np.generic)
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIDE = 160  # pixels along the longer side of the images that are matched
IMAGES = 32  # at most
PLANES = 96
RADIUS = 3  # of the correlated windows
NEIGHBOURS = 6
FACING = 0.3  # least cosine between the axes of neighbours
CORRELATION = 0.6  # at least
FRONT, NEAR = 0.1, 0.06  # shares of the depth: see stereo_kernels.vote
LOOSE = (0.15, 0.08)  # the same for continued depths
MIN_REGION = 12  # pixels; smaller islands of confirmed depths are chance
STRIDE = 3  # of the pixels that give a point
CELL = 8  # pixels; parts of an image that stay empty are filled by such squares


@dataclass(frozen=True, eq=False)
class DepthMaps:
    """What some views of a capture know of its geometry.

    Attributes:
        cameras: (n) on the depth maps' pixel grids. images: (n) of (H, W, 3) float32 in [0, 1].
        depths: (n) of (H, W), everywhere positive. confirmed: (n) of (H, W), where other views agree.
    """

    cameras: list[Camera]
    images: list[NDArray[np.float32]]
    depths: list[Floats]
    confirmed: list[Mask]

    def contradicted(self, points: NDArray[np.floating]) -> Mask:
        """(P,) points that views see through: two, and more than confirm them; or a third of those that know."""
        places = np.asarray(points, np.float64)
        _, through, agreed = _votes(places, self, self.confirmed, FRONT, NEAR)
        known, loosely, _ = _votes(places, *self._continued(), *LOOSE)
        return (through > np.maximum(agreed, 1)) | (3 * loosely > known)

    def _continued(self) -> tuple[DepthMaps, list[Mask]]:
        """Maps whose confirmed depths are continued over the whole image, and where there are any."""
        pairs = list(zip(self.depths, self.confirmed, strict=True))
        depths = [1 / continued(1 / depth, known) if known.any() else depth for depth, known in pairs]
        everywhere = [np.full(known.shape, bool(known.any())) for known in self.confirmed]
        return DepthMaps(self.cameras, self.images, depths, everywhere), everywhere


def stereo_frames(views: Views) -> list[list[Frame]]:
    """For each image that is worth matching the frames that it is the median of.

    One image for each fixed camera if there are at least three; else one of each camera at the first instant; else
    single frames of the whole clip.
    """
    rig = list(fixed_cameras(views).values())
    if len(rig) >= 3:
        return _some(rig)
    train = views.split("train")
    first = min(frame.time for frame in train)
    chosen = [frame for frame in train if frame.time == first]
    return _some([[frame] for frame in (chosen if len(chosen) >= 3 else train)])


def _some(items: list[list[Frame]]) -> list[list[Frame]]:
    picks = evenly(len(items), IMAGES)
    return [items[i] for i in picks]


def depth_maps(views: Views, frames: Sequence[Sequence[Frame]], ranges: Floats) -> DepthMaps:
    """Match images with each other.

    Args:
        frames: for each image the frames that it is the median of, see :func:`stereo_frames`.
        ranges: (images, 2) nearest and farthest depth to try.
    """
    cameras, images = zip(*(_small(views, group) for group in frames), strict=True)
    maps = DepthMaps(list(cameras), list(images), [], [])
    maps.depths.extend(_match(maps, ranges))
    return maps


def _small(views: Views, frames: Sequence[Frame]) -> tuple[Camera, NDArray[np.float32]]:
    camera = frames[0].camera
    downscale = max(1, round(max(camera.width, camera.height) / SIDE))
    if len(frames) > 1 and not views.has_alpha:
        image = np.divide(plate(views, frames, downscale), 255, dtype=np.float32)
    else:
        image = views.target(frames[0], downscale=downscale)
    return views.camera(frames[0], downscale), image


def _match(maps: DepthMaps, ranges: Floats) -> list[Floats]:
    """Depth maps by plane sweep; ``maps.confirmed`` is filled with where they can be believed."""
    from ..jit import run, thread_count
    from . import stereo_kernels as kernels

    starts, sizes = _places(maps.images)
    pixels = np.concatenate([image.mean(axis=2).ravel() for image in maps.images]).astype(np.float32)
    matrices, shifts = _between(maps.cameras)
    planes = np.stack([1 / np.linspace(1 / near, 1 / far, PLANES) for near, far in ranges])
    depths, scores = np.ones(len(pixels)), np.empty(len(pixels), np.float32)
    arguments = (
        pixels, starts, sizes, matrices, shifts, _neighbours(maps.cameras), planes, RADIUS,
        np.zeros(1, np.int64), depths, scores,
    )  # fmt: skip
    run(kernels.match_all, arguments, thread_count())
    last = np.repeat(planes[:, -2], sizes.prod(axis=1))  # a match at the end of the range is none
    maps.confirmed.extend(_split((scores > CORRELATION) & (depths < last), sizes))
    return _split(depths, sizes)


def _places(images: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each image starts in a flat array, and its height and width."""
    sizes = np.array([image.shape[:2] for image in images], np.int64)
    return np.concatenate([[0], np.cumsum(sizes.prod(axis=1))[:-1]]), sizes


def _split(flat: NDArray[T], sizes: NDArray[np.int64]) -> list[NDArray[T]]:
    parts = np.split(flat, np.cumsum(sizes.prod(axis=1))[:-1])
    return [part.reshape(tuple(size)) for part, size in zip(parts, sizes, strict=True)]


def _between(cameras: Sequence[Camera]) -> tuple[Floats, Floats]:
    """Matrices (n, n, 3, 3) and shifts (n, n, 3) from pixels of one camera to another's: see stereo_kernels."""
    inverse = np.stack([c.world_to_camera[:3, :3].T @ np.linalg.inv(c.intrinsics) for c in cameras])
    forward = np.stack([c.intrinsics @ c.world_to_camera[:3, :3] for c in cameras])
    offset = np.stack([c.intrinsics @ c.world_to_camera[:3, 3] for c in cameras])
    centers = np.stack([c.center for c in cameras])
    matrices = np.einsum("jab,ibc->ijac", forward, inverse)
    shifts = np.einsum("jab,ib->ija", forward, centers) + offset
    return np.ascontiguousarray(matrices), np.ascontiguousarray(shifts)


def _neighbours(cameras: Sequence[Camera]) -> NDArray[np.int64]:
    """(n, NEIGHBOURS) the nearest cameras that stand somewhere else and look the same way, -1 where there are none."""
    centers = np.stack([camera.center for camera in cameras])
    axes = np.stack([camera.world_to_camera[2, :3] for camera in cameras])
    table = np.full((len(cameras), NEIGHBOURS), -1, np.int64)
    for i in range(len(cameras)):
        distance = np.linalg.norm(centers - centers[i], axis=1)
        apart = distance > 1e-3 * max(float(distance.max()), 1e-12)
        usable = np.flatnonzero(apart & (axes @ axes[i] > FACING))
        nearest = usable[np.argsort(distance[usable], kind="stable")[:NEIGHBOURS]]
        table[i, : len(nearest)] = nearest
    return table


def _votes(points: Floats, maps: DepthMaps, known: Sequence[Mask], front: float, near: float) -> tuple[
    NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]
]:  # fmt: skip
    """For points (P, 3): how many views know what is there, see through the point, and confirm it."""
    from ..jit import run, thread_count
    from . import stereo_kernels as kernels

    starts, sizes = _places(maps.images)
    projections = np.stack([camera.intrinsics @ camera.world_to_camera[:3] for camera in maps.cameras])
    depths = np.concatenate([depth.ravel() for depth in maps.depths])
    votes = np.zeros((len(points), 3), np.int32)
    arguments = (
        np.ascontiguousarray(points), projections, starts, sizes, depths,
        np.concatenate([mask.ravel() for mask in known]), front, near, np.zeros(1, np.int64), votes,
    )  # fmt: skip
    run(kernels.vote, arguments, thread_count())
    return votes[:, 0], votes[:, 1], votes[:, 2]


def confirm(maps: DepthMaps, rounds: int = 3) -> DepthMaps:
    """Keep the depths that other views confirm and do not see through; a lost one no longer votes in the next round."""
    from scipy.ndimage import label

    needed = _needed(maps) + 1  # a view confirms itself
    sizes = _places(maps.images)[1]
    known = maps.confirmed
    for _ in range(rounds):
        points = np.concatenate([_points(c, d) for c, d in zip(maps.cameras, maps.depths, strict=True)])
        _, through, agreed = _votes(points, maps, known, FRONT, NEAR)
        kept = _split((agreed >= needed) & (4 * through <= agreed), sizes)
        known = [np.asarray(a & b) for a, b in zip(known, kept, strict=True)]
    solid = []
    for mask in known:
        regions, _ = label(mask)
        size = np.bincount(regions.ravel())
        size[0] = 0
        solid.append(np.asarray(size[regions] >= MIN_REGION))
    return DepthMaps(maps.cameras, maps.images, maps.depths, solid)


def _points(camera: Camera, depth: Floats) -> Floats:
    """The pixels' points, (H * W, 3)."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], axis=-1)
    rays = rays @ camera.world_to_camera[:3, :3]
    return np.asarray((camera.center + rays * depth[..., None]).reshape(-1, 3))


def fused_cloud(maps: DepthMaps) -> tuple[Floats, NDArray[np.float32]]:
    """Points (P, 3) and colours (P, 3) that the views agree on, continued over smooth surfaces; P may be 0.

    Args:
        maps: as :func:`confirm` leaves them.
    """
    if not any(mask.any() for mask in maps.confirmed):
        return np.zeros((0, 3)), np.zeros((0, 3), np.float32)
    whole, everywhere = maps._continued()
    points, colors, sure, source, footprint = [], [], [], [], []
    for index, (camera, depth, image) in enumerate(zip(whole.cameras, whole.depths, whole.images, strict=True)):
        chosen = np.zeros(depth.shape, bool)
        chosen[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] = everywhere[index].any()
        points.append(_points(camera, depth)[chosen.ravel()])
        colors.append(image[chosen])
        sure.append(maps.confirmed[index][chosen])
        source.append(np.full(int(chosen.sum()), index))
        footprint.append(depth[chosen] * STRIDE / max(camera.fx, camera.fy))
    cloud, tint, index = np.concatenate(points), np.concatenate(colors), np.concatenate(source)
    known, through, agreed = _votes(cloud, whole, everywhere, *LOOSE)
    likely = np.concatenate(sure) | ((3 * through <= known) & (4 * agreed >= known))
    radius = 1.1 * float(np.median(np.concatenate(footprint)[likely]))
    kept = np.zeros(len(cloud), bool)
    kept[np.flatnonzero(likely)] = _support(cloud[likely], index[likely], radius) >= max(2, _needed(maps))
    kept |= _uncovered(cloud, index, kept, maps.cameras) & (2 * through <= known)
    return cloud[kept], tint[kept]


def _needed(maps: DepthMaps) -> int:
    """Views that must agree."""
    return max(1, min(4, len(maps.cameras) // 4))


def _support(points: Floats, source: NDArray[np.int64], radius: float) -> NDArray[np.int64]:
    """For each of the points (P, 3) the number of images that gave one within ``radius``."""
    from scipy.spatial import cKDTree

    around = cKDTree(points).query_ball_point(points, radius)
    return np.array([len(np.unique(source[near])) for near in around], np.int64)


def _uncovered(points: Floats, source: NDArray[np.int64], kept: Mask, cameras: Sequence[Camera]) -> Mask:
    """(P,) points of images at cells that no ``kept`` point covers."""
    found = np.zeros(len(points), bool)
    for index, camera in enumerate(cameras):
        cells = np.zeros((-(-camera.height // CELL), -(-camera.width // CELL)), bool)
        column, row, inside = _cells(camera, points[kept])
        cells[row[inside], column[inside]] = True
        mine = np.flatnonzero(source == index)
        column, row, inside = _cells(camera, points[mine])
        found[mine] = inside & ~cells[row * inside, column * inside]
    return found


def _cells(camera: Camera, points: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], Mask]:
    """Columns and rows of cells of CELL pixels that points fall into, and whether they are in the image."""
    pixels, depths = camera.project(points)
    x, y = pixels.T
    inside = (depths > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
    safe = np.where(inside[:, None], pixels, 0).astype(np.int64) // CELL
    return safe[:, 0], safe[:, 1], inside


def continued(values: Floats, known: Mask, relaxations: int = 60) -> Floats:
    """Values (H, W) continued from where they are ``known`` by the smoothest function: harmonic, coarse to fine."""
    height, width = values.shape
    if known.all() or min(height, width) <= 2:
        return np.where(known, values, values[known].mean() if known.any() else 0.0)
    half = ((height + 1) // 2, (width + 1) // 2)
    total, count = np.zeros((2 * half[0], 2 * half[1])), np.zeros((2 * half[0], 2 * half[1]))
    total[:height, :width], count[:height, :width] = values * known, known
    total = total.reshape(half[0], 2, half[1], 2).sum(axis=(1, 3))
    count = count.reshape(half[0], 2, half[1], 2).sum(axis=(1, 3))
    coarse = continued(total / np.maximum(count, 1), count > 0, relaxations)
    filled = np.where(known, values, coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width])
    for _ in range(relaxations):
        border = np.pad(filled, 1, mode="edge")
        mean = (border[:-2, 1:-1] + border[2:, 1:-1] + border[1:-1, :-2] + border[1:-1, 2:]) / 4
        filled = np.where(known, values, mean)
    return filled
