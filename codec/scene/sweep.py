"""Plane-sweep stereo: a rough depth for the pixels whose surroundings say where they are.

For each reference image a stack of depths, uniform in 1 / depth, is tried; at each depth every pixel looks up its
neighbour cameras, colour differences are averaged over a small window, and the depth with the least cost wins
if it wins clearly (R. T. Collins, "A space-sweep approach to true multi-image matching", CVPR 1996). Pixels
without texture, or that no neighbour confirms, give no point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from .capture import Frame
from .views import Views

SIDE = 112  # pixels along the longer side of the images that are matched
PLANES = 48
WINDOW = 2  # the cost is averaged over (2 WINDOW + 1)^2 pixels
NEIGHBOURS = 4
CLEARNESS = 0.45  # the best cost over the median cost of all depths, at most
MIN_CONTRAST = 0.01  # the median cost, at least: else there is no texture to tell depths apart
MAX_COST = 0.08  # mean colour difference in [0, 1] of a match, at most
_UNSEEN = 1.0  # stands for a cost where there is none; the largest colour difference


@dataclass(frozen=True, eq=False)
class _Image:
    camera: Camera
    rgb: NDArray[np.float32]  # (H, W, 3) in [0, 1]


def sweep(
    views: Views, frames: list[Frame], depths: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Points (P, 3) and colours (P, 3) that the frames agree on; P may be 0.

    Args:
        frames: images to match with each other: of one instant, or of a scene that mostly stands still.
        depths: (len(frames), 2) nearest and farthest depth to try for each.
    """
    images = [_small(views, frame) for frame in frames]
    centers = np.stack([image.camera.center for image in images])
    found = [_match(image, [images[j] for j in _neighbours(centers, i)], *depths[i]) for i, image in enumerate(images)]
    return np.concatenate([points for points, _ in found]), np.concatenate([colors for _, colors in found])


def _small(views: Views, frame: Frame) -> _Image:
    downscale = max(1, round(max(frame.camera.width, frame.camera.height) / SIDE))
    return _Image(views.camera(frame, downscale), views.target(frame, downscale=downscale))


def _neighbours(centers: NDArray[np.float64], index: int) -> list[int]:
    """The nearest cameras that stand somewhere else."""
    distance = np.linalg.norm(centers - centers[index], axis=1)
    apart = np.flatnonzero(distance > 1e-3 * max(float(distance.max()), 1e-12))
    return [int(i) for i in apart[np.argsort(distance[apart], kind="stable")[:NEIGHBOURS]]]


def _match(
    image: _Image, others: list[_Image], near: float, far: float
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    if not others:
        return np.zeros((0, 3)), np.zeros((0, 3), np.float32)
    camera = image.camera
    v, u = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], axis=-1)
    rays = rays @ camera.world_to_camera[:3, :3]  # (H, W, 3) in space, unit depth
    planes = 1 / np.linspace(1 / near, 1 / far, PLANES)
    costs = np.stack([_cost(image, others, camera.center + depth * rays) for depth in planes])  # (D, H, W)
    best = costs.argmin(axis=0)
    least = np.take_along_axis(costs, best[None], 0)[0]
    seen = (costs < _UNSEEN).sum(axis=0)
    # The median over the planes that are in view: unseen ones sort last.
    usual = np.take_along_axis(np.sort(costs, axis=0), np.maximum(seen // 2, 0)[None], 0)[0]
    clear = (seen >= PLANES // 4) & (least < MAX_COST) & (least < CLEARNESS * usual) & (usual > MIN_CONTRAST)
    clear &= (best > 0) & (best < PLANES - 1)  # a match at the end of the range is none
    return (camera.center + planes[best][..., None] * rays)[clear], image.rgb[clear]


def _cost(image: _Image, others: list[_Image], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mean colour difference over a window to the better half of the other images, (H, W).

    It is ``_UNSEEN`` where fewer than those have the point in view.
    """
    height, width = points.shape[:2]
    flat = points.reshape(-1, 3)
    costs = np.full((len(others), height, width), _UNSEEN, np.float32)
    for cost, other in zip(costs, others, strict=True):
        pixels, depth = other.camera.project(flat)
        size = (other.camera.width, other.camera.height)
        inside = (depth > 0) & (pixels >= 0.5).all(axis=1) & (pixels < np.subtract(size, 0.5)).all(axis=1)
        colors = _bilinear(other.rgb, pixels[inside])
        difference = np.abs(colors - image.rgb.reshape(-1, 3)[inside]).mean(axis=1)
        cost.reshape(-1)[inside] = difference
    better = np.sort(costs, axis=0)[: max(1, (len(others) + 1) // 2)]
    unseen = better[-1] >= _UNSEEN
    seen = np.where(unseen, np.float32(0), np.float32(1))
    smooth = _box_mean(better.mean(axis=0) * seen, WINDOW) / np.maximum(_box_mean(seen, WINDOW), 1e-6)
    return np.where(unseen, np.float32(_UNSEEN), np.minimum(smooth, np.float32(0.99)))


def _bilinear(image: NDArray[np.float32], pixels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Colours at pixel positions (N, 2) with centres at +0.5, at least half a pixel from the border."""
    height, width = image.shape[:2]
    x, y = (pixels - 0.5).T
    left = np.clip(x.astype(np.int64), 0, max(width - 2, 0))
    top = np.clip(y.astype(np.int64), 0, max(height - 2, 0))
    a, b = (x - left)[:, None].astype(np.float32), (y - top)[:, None].astype(np.float32)
    upper = image[top, left] * (1 - a) + image[top, left + 1] * a
    lower = image[top + 1, left] * (1 - a) + image[top + 1, left + 1] * a
    return upper * (1 - b) + lower * b


def _box_mean(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Mean over a square window, the border repeated."""
    span = 2 * radius + 1
    for axis in (0, 1):
        pad = [(radius, radius) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(values, pad, mode="edge")
        length = values.shape[axis]
        total = np.zeros_like(values)
        for k in range(span):
            total += np.take(padded, range(k, k + length), axis)
        values = total / np.float32(span)
    return values
