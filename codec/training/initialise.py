"""From a capture to an untrained model: anchors on the initial clouds, each a few soft dots of its colour."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SceneError
from ..features import Features
from ..model import AnchorModel, ModelConfig
from .lifetimes import teach_lifetimes


class Cloud(Protocol):
    """Points (P, 3) in the normalised space, colours (P, 3) in [0, 1], and instants (P,) in [0, 1] where known."""

    @property
    def points(self) -> NDArray[np.float32]: ...
    @property
    def colors(self) -> NDArray[np.float32]: ...
    @property
    def times(self) -> NDArray[np.float32] | None: ...


# Standard deviation of the frequencies of the smooth functions that f_v starts as, in cycles per unit of the scene.
_REFERENCE_BANDWIDTH = 0.6
_REFERENCE_SCALE = 0.7
_INSTANT_BANDWIDTH = 2.0  # the same for instants, in cycles per clip


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
    spacing: NDArray[np.float64],
    config: ModelConfig,
    generator: torch.Generator,
) -> Features:
    """Attributes of anchors at ``points`` (N, 3), ``spacing`` (N,) apart: f_v a smooth function of place (and instant),
    f_g zero."""
    where = torch.from_numpy(points).float()
    place = torch.randn(3, config.reference_dim, generator=generator) * _REFERENCE_BANDWIDTH
    phase = torch.rand(config.reference_dim, generator=generator) * 2 * math.pi
    angle = 2 * math.pi * where @ place + phase
    if times is not None:  # every second channel of what moves says when, not where
        when = torch.from_numpy(times).float()[:, None]
        rate = torch.randn(1, config.reference_dim, generator=generator) * _INSTANT_BANDWIDTH
        tells_when = (when >= 0) & (torch.arange(config.reference_dim) % 2 == 1)
        angle = torch.where(tells_when, 2 * math.pi * when * rate + phase, angle)
    f_v = _REFERENCE_SCALE * torch.sin(angle)
    size = torch.from_numpy(spacing).float().log()[:, None].expand(-1, 3)
    sigma = torch.cat([size + math.log(0.7), size + math.log(0.5)], dim=1)
    rgb = torch.from_numpy(colors).float().clamp(0.02, 0.98)
    f_g = torch.zeros(len(points), config.primitives, config.residual_dim)
    return Features(f_v.contiguous(), f_g, sigma.contiguous(), torch.logit(rgb))


def _spread(cloud: Cloud, coordinates: NDArray[np.float64], count: int) -> tuple[NDArray[np.generic], ...]:
    """Indices of at most ``count`` points, far apart in ``coordinates`` (P, D); their places, colours and spacing."""
    keep = thin(coordinates, count)
    points, colors = np.asarray(cloud.points, np.float64)[keep], np.asarray(cloud.colors, np.float64)[keep]
    return keep, points, colors, neighbour_distance(coordinates[keep])


def initial_model(
    still: Cloud, moving: Cloud | None, config: ModelConfig, count: int, moving_count: int, seed: int
) -> AnchorModel:
    """A model with anchors on the initial clouds; reproducible from ``seed``.

    It knows nothing but when its anchors on what moves are there (see :mod:`.lifetimes`).

    Args:
        still: the capture's initial cloud.
        moving: what moves, at several instants; its anchors' f_v tell the instants apart.
        count, moving_count: most anchors on each.

    Raises:
        SceneError: ``empty-cloud``.
    """
    if len(still.points) == 0:
        raise SceneError("empty-cloud", "the initial cloud is empty; provide points3D.ply or check masks and poses")
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    parts = [_spread(still, np.asarray(still.points, np.float64), count)]
    times = None
    if moving is not None and moving_count > 0:
        when = np.asarray(moving.times, np.float64)
        # An instant apart counts like a world apart: each keeps its own points, and its own spacing.
        keep, *part = _spread(moving, np.column_stack([moving.points, 100.0 * when]), moving_count)
        parts.append((keep, *part))
        times = np.concatenate([np.full(len(parts[0][0]), -0.5), when[keep]])
    _, points, colors, size = (np.concatenate(column) for column in zip(*parts, strict=True))
    features = initial_features(points, colors, times, size, config, generator)
    model = AnchorModel(config, torch.from_numpy(points).float(), features, generator=generator)
    if times is not None and config.coarse and config.coarse_opacity:
        instants = torch.from_numpy(np.where(times < 0, np.nan, times)).float()
        teach_lifetimes(model, instants, _spacing(times), seed)
    return model


def _spacing(times: NDArray[np.float64]) -> float:
    """Between the instants of a moving cloud; the whole clip if there is only one."""
    instants = np.unique(times[times >= 0])
    return float(np.diff(instants).min()) if len(instants) > 1 else 1.0
