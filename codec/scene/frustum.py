"""Points for captures that bring none and have no masks: matched between images, else spread where cameras look."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .capture import Frame, InitialCloud
from .stereo import confirm, depth_maps, fused_cloud, stereo_frames
from .views import Views

SAMPLES = 20_000
ENOUGH = 2_000  # matched points that make random ones unnecessary


def frustum_cloud(views: Views, near_far: tuple[float, float] | None, seed: int = 0) -> InitialCloud:
    """An initial cloud from nothing but posed images.

    Args:
        views: in a space where the cameras' common focus is the origin.
        near_far: the depths between which the content lies, when the capture says; else a fifth to five times
            each camera's distance to the focus.
    """
    groups = stereo_frames(views)
    depths = np.array([near_far or _depths(group[0]) for group in groups])
    points, colors = fused_cloud(confirm(depth_maps(views, groups, depths)))
    matched = len(points)
    source = f"{matched} points by stereo between {len(groups)} images"
    if matched < ENOUGH:
        extra, extra_colors = _samples(views, [group[0] for group in groups], depths, np.random.default_rng(seed))
        points, colors = np.concatenate([points, extra]), np.concatenate([colors, extra_colors])
        source = f"{len(extra)} points sampled in the cameras' common frustum" + (f", {source}" if matched else "")
    return InitialCloud(points.astype(np.float32), colors.astype(np.float32), source)


def _depths(frame: Frame) -> tuple[float, float]:
    to_focus = max(float(np.linalg.norm(frame.camera.center)), 1e-3)
    return to_focus / 5, to_focus * 5


def _samples(
    views: Views, frames: list[Frame], depths: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Random points on the frames' rays, uniform in 1 / depth, that at least two of the cameras have in view."""
    share = -(-SAMPLES // len(frames))
    points, colors = [], []
    for frame, (near, far) in zip(frames, depths, strict=True):
        camera = frame.camera
        pixels = rng.random((share, 2)) * (camera.width, camera.height)
        depth = 1 / rng.uniform(1 / far, 1 / near, share)
        rays = np.c_[(pixels - (camera.cx, camera.cy)) / (camera.fx, camera.fy), np.ones(share)]
        points.append(camera.center + depth[:, None] * (rays @ camera.world_to_camera[:3, :3]))
        column, row = pixels.astype(np.int64).T
        colors.append(views.target(frame)[row, column])
    cloud, tint = np.concatenate(points), np.concatenate(colors)
    seen = np.zeros(len(cloud), np.int32)
    for frame in frames:
        pixels, ahead = frame.camera.project(cloud)
        seen += (ahead > 0) & (pixels >= 0).all(1) & (pixels < (frame.camera.width, frame.camera.height)).all(1)
    common = seen >= min(2, len(frames))
    if not common.any():  # cameras that share no view at all
        common[:] = True
    return cloud[common], tint[common]
