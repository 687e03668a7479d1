"""A capture's own cloud that leaves much of its images empty is completed by stereo.

Structure from motion finds points where there is texture: a rig in a plain room may bring points on its people and
none on the walls. A model that starts without walls hangs them up as haze right before the cameras.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..evenly import evenly
from .capture import InitialCloud
from .near import near_plane
from .stereo import confirm, depth_maps, fused_cloud, stereo_frames
from .views import Views

ENOUGH = 0.7  # of the cells of the usual view have a point
CELLS = 24  # along an image's longer side
_VIEWS = 24
MIN_IMAGES = 6  # fewer can't outvote each other's mistakes
_FAR = 2.0  # times the farthest points of the cloud


def completed_cloud(cloud: InitialCloud, views: Views) -> InitialCloud:
    """The cloud itself where it covers the views; else what of it the views do not contradict, and stereo's points.

    Args:
        cloud: in the views' space.
    """
    if coverage(cloud.points, views) >= ENOUGH:
        return cloud
    groups = stereo_frames(views)
    if len(groups) < MIN_IMAGES:
        return cloud
    cameras = [group[0].camera for group in groups]
    near = near_plane(cameras, cloud.points)
    far = np.array([_FAR * max(_farthest(camera, cloud.points), 2 * near) for camera in cameras])
    maps = confirm(depth_maps(views, groups, np.column_stack([np.full(len(far), near), far])))
    points, colors = fused_cloud(maps)
    if len(points) == 0:
        return cloud
    kept = ~maps.contradicted(cloud.points)
    source = f"{cloud.source}, {int((~kept).sum())} dropped, {len(points)} added by stereo between {len(groups)} images"
    return InitialCloud(
        np.concatenate([cloud.points[kept], points.astype(np.float32)]),
        np.concatenate([cloud.colors[kept], colors]),
        source,
    )


def coverage(points: NDArray[np.floating], views: Views) -> float:
    """The share of an image's content (of its opaque cells) that has a point; the median over some training views."""
    train = views.split("train")
    shares = []
    for index in evenly(len(train), _VIEWS):
        camera = train[index].camera
        factor = max(1, max(camera.width, camera.height) // CELLS)
        content = views.image(train[index], factor)
        small = views.camera(train[index], factor)
        opaque = content[..., 3] > 127 if views.has_alpha else np.ones(content.shape[:2], bool)
        if opaque.any():
            shares.append(float(_hit(points, small)[opaque].mean()))
    return float(np.median(shares)) if shares else 1.0


def _hit(points: NDArray[np.floating], camera: Camera) -> NDArray[np.bool_]:
    """(H, W) pixels in which a point falls."""
    pixels, depths = camera.project(np.asarray(points, np.float64))
    column, row = np.floor(pixels).astype(np.int64).T
    inside = (depths > 0) & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
    hit = np.zeros((camera.height, camera.width), bool)
    hit[row[inside], column[inside]] = True
    return hit


def _farthest(camera: Camera, points: NDArray[np.floating]) -> float:
    _, depths = camera.project(np.asarray(points, np.float64))
    ahead = depths[depths > 0]
    return float(np.percentile(ahead, 98)) if len(ahead) else 0.0
