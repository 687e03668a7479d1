"""From a capture to an untrained model: anchors on the initial cloud, attributes that say 'a small soft dot of that colour'."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SceneError
from ..features import Features
from ..model import AnchorModel, ModelConfig

# Standard deviation of the frequencies of the smooth functions that f_v starts as, in cycles per unit of the scene.
_REFERENCE_BANDWIDTH = 0.6
_REFERENCE_SCALE = 0.7


def thin(points: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of at most ``count`` points of (P, 3), one per cell of the finest grid that allows it."""
    if len(points) <= count:
        return np.arange(len(points))
    low, high = 1e-4, float(np.ptp(points, axis=0).max()) + 1e-3
    keep = np.zeros(1, np.int64)
    for _ in range(24):
        middle = math.sqrt(low * high)
        cells = np.floor((points - points.min(axis=0)) / middle).astype(np.int64)
        _, index = np.unique(cells, axis=0, return_index=True)
        if len(index) > count:
            low = middle
        else:
            high, keep = middle, index
    return np.sort(keep)


def neighbour_distance(points: NDArray[np.float64], neighbours: int = 3) -> NDArray[np.float64]:
    """Mean distance of each point to its nearest ``neighbours``, (P,); 0.1 where there are none."""
    from scipy.spatial import cKDTree

    available = min(neighbours, len(points) - 1)
    if available < 1:
        return np.full(len(points), 0.1)
    distance, _ = cKDTree(points).query(points, k=available + 1)
    return np.asarray(distance[:, 1:].mean(axis=1)).clip(1e-4, 1.0)


def initial_features(
    points: NDArray[np.float64],
    colors: NDArray[np.float64],
    times: NDArray[np.float64] | None,
    config: ModelConfig,
    generator: torch.Generator,
) -> Features:
    """Attributes of anchors at ``points`` (N, 3): f_v a smooth function of place (and instant), f_g zero."""
    where = torch.from_numpy(points).float()
    place = torch.randn(3, config.reference_dim, generator=generator) * _REFERENCE_BANDWIDTH
    phase = torch.rand(config.reference_dim, generator=generator) * 2 * math.pi
    angle = 2 * math.pi * where @ place + phase
    if times is not None:
        when = torch.from_numpy(times).float()[:, None]
        angle = angle + 2 * math.pi * when * torch.randn(1, config.reference_dim, generator=generator)
    f_v = _REFERENCE_SCALE * torch.sin(angle)
    size = torch.from_numpy(neighbour_distance(points)).float().log()[:, None].expand(-1, 3)
    sigma = torch.cat([size + math.log(0.7), size + math.log(0.5)], dim=1)
    rgb = torch.from_numpy(colors).float().clamp(0.02, 0.98)
    f_g = torch.zeros(len(points), config.primitives, config.residual_dim)
    return Features(f_v.contiguous(), f_g, sigma.contiguous(), torch.logit(rgb))


def initial_model(
    points: NDArray[np.floating],
    colors: NDArray[np.floating],
    times: NDArray[np.floating] | None,
    config: ModelConfig,
    count: int,
    seed: int,
) -> AnchorModel:
    """An untrained model with at most ``count`` anchors on the cloud; reproducible from ``seed``.

    Args:
        points: (P, 3) cloud in the normalised space.
        colors: (P, 3) in [0, 1].
        times: (P,) instants in [0, 1] at which the points were there, or None.

    Raises:
        SceneError: ``empty-cloud``.
    """
    if len(points) == 0:
        raise SceneError(
            "empty-cloud", "the initial cloud is empty; provide points3D.ply or check masks and poses"
        )
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    xyz = np.asarray(points, np.float64)
    keep = thin(xyz if times is None else np.column_stack([xyz, np.asarray(times) * 4.0]), count)
    when = None if times is None else np.asarray(times, np.float64)[keep]
    features = initial_features(xyz[keep], np.asarray(colors, np.float64)[keep], when, config, generator)
    return AnchorModel(config, torch.from_numpy(xyz[keep]).float(), features, generator=generator)


def snap(positions: Tensor, origin: Tensor, voxel: float) -> Tensor:
    """Positions (N, 3) to integer grid coordinates (N, 3), int64; the position of cell i is origin + i * voxel."""
    return torch.round((positions - origin) / voxel).to(torch.int64)
