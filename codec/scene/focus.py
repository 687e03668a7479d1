"""Where a set of cameras looks: their common focus and how much around it they see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera


def axes(cameras: Sequence[Camera]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres (N, 3) and unit viewing directions (N, 3)."""
    centers = np.stack([camera.center for camera in cameras])
    return centers, np.stack([camera.world_to_camera[2, :3] for camera in cameras])


def common_focus(cameras: Sequence[Camera]) -> tuple[NDArray[np.float64], float]:
    """The point nearest to all optical axes, and the half-extent that a typical camera sees around it.

    Axes that are nearly parallel meet far away or nowhere: a weak pull towards a point in front of the rig, a few
    baselines off, keeps the answer finite without moving a well-defined one.

    Returns:
        focus (3,) and a positive half-extent, both in the cameras' space.
    """
    centers, directions = axes(cameras)
    rig = centers.mean(axis=0)
    spread = float(np.linalg.norm(centers - rig, axis=1).max())
    reach = spread if spread > 0 else 1.0
    ahead = directions.mean(axis=0)
    guess = rig + 3 * reach * ahead
    projectors = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    weight = 1e-3 * len(cameras)
    matrix = projectors.sum(axis=0) + weight * np.eye(3)
    focus = np.linalg.solve(matrix, np.einsum("nij,nj->i", projectors, centers) + weight * guess)
    depth = np.einsum("nj,nj->n", focus - centers, directions)
    in_front = depth > 0
    if in_front.mean() < 0.5:  # the axes meet behind the cameras: they look outwards
        focus, depth = guess, np.full(len(cameras), 3 * reach)
        in_front = depth > 0
    half_view = np.array([max(c.width / c.fx, c.height / c.fy) / 2 for c in cameras])
    return focus, float(np.median((depth * half_view)[in_front]))
