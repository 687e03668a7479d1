"""From a capture to an untrained model: anchors on the initial clouds, each a few soft dots of its colour."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SceneError
from ..features import Features
from ..model import AnchorModel, ModelConfig
from .motion import Motion, teach_motion


class Cloud(Protocol):
    """Points (P, 3) in the normalised space and colours (P, 3) in [0, 1]."""

    @property
    def points(self) -> NDArray[np.float32]: ...
    @property
    def colors(self) -> NDArray[np.float32]: ...


class Movers(Cloud, Protocol):
    """Points in rigid pieces with their ways; see :class:`adcgs.scene.MovingCloud`."""

    @property
    def track(self) -> NDArray[np.int64]: ...
    @property
    def times(self) -> NDArray[np.float64]: ...
    @property
    def lives(self) -> NDArray[np.int64]: ...
    @property
    def rotations(self) -> NDArray[np.float64]: ...
    @property
    def shifts(self) -> NDArray[np.float64]: ...


# Standard deviation of the frequencies of the smooth functions that f_v starts as, in cycles per unit of the scene.
_REFERENCE_BANDWIDTH = 0.6
_REFERENCE_SCALE = 0.7
# Anchors on what moves are at most so many times as far apart as half of them are.
_LARGEST_GAP = 1.5


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
    pieces: NDArray[np.int64],
    spacing: NDArray[np.float64],
    config: ModelConfig,
    generator: torch.Generator,
) -> Features:
    """Attributes of anchors at ``points`` (N, 3), ``spacing`` (N,) apart: f_v a smooth function of place, f_g zero.

    ``pieces`` (N,) names the rigid piece of an anchor on what moves: every second channel of those is their piece's
    own, so that F_omega can tell one from another. It is -1 elsewhere.
    """
    where = torch.from_numpy(points).float()
    place = torch.randn(3, config.reference_dim, generator=generator) * _REFERENCE_BANDWIDTH
    phase = torch.rand(config.reference_dim, generator=generator) * 2 * math.pi
    angle = 2 * math.pi * where @ place + phase
    if (pieces >= 0).any():
        own = torch.rand(int(pieces.max()) + 1, config.reference_dim, generator=generator) * 2 * math.pi
        tells_piece = torch.from_numpy(pieces >= 0)[:, None] & (torch.arange(config.reference_dim) % 2 == 1)
        angle = torch.where(tells_piece, own[torch.from_numpy(pieces).clamp_min(0)], angle)
    f_v = _REFERENCE_SCALE * torch.sin(angle)
    size = torch.from_numpy(spacing).float().log()[:, None].expand(-1, 3)
    sigma = torch.cat([size + math.log(0.7), size + math.log(0.5)], dim=1)
    rgb = torch.from_numpy(colors).float().clamp(0.02, 0.98)
    f_g = torch.zeros(len(points), config.primitives, config.residual_dim)
    return Features(f_v.contiguous(), f_g, sigma.contiguous(), torch.logit(rgb))


def _spread(
    cloud: Cloud, coordinates: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Indices of at most ``count`` points, far apart in ``coordinates`` (P, D); their places, colours and spacing."""
    keep = thin(coordinates, count)
    points, colors = np.asarray(cloud.points, np.float64)[keep], np.asarray(cloud.colors, np.float64)[keep]
    return keep, points, colors, neighbour_distance(coordinates[keep])


def _spread_over_pieces(
    moving: Movers, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """As :func:`_spread`, of what moves.

    A piece apart counts like a world apart: each keeps its own points, and its own spacing. But what other pieces left
    of one may be a few points far from each other; as large as these gaps, it would cover whole views as it passes a
    camera, and the first steps, which take it away, would take along what flies behind it.
    """
    keep, points, colors, size = _spread(moving, np.column_stack([moving.points, 100.0 * moving.track]), count)
    return keep, points, colors, np.minimum(size, _LARGEST_GAP * np.median(size))


def initial_model(
    still: Cloud, moving: Movers | None, config: ModelConfig, count: int, moving_count: int, seed: int
) -> AnchorModel:
    """A model with anchors on the initial clouds; reproducible from ``seed``.

    It knows nothing but the ways of its anchors on what moves (see :mod:`.motion`).

    Args:
        still: the capture's initial cloud.
        moving: what moves, in rigid pieces.
        count, moving_count: most anchors on each.

    Raises:
        SceneError: ``empty-cloud``.
    """
    if len(still.points) == 0:
        raise SceneError("empty-cloud", "the initial cloud is empty; provide points3D.ply or check masks and poses")
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    keep, *part = _spread(still, np.asarray(still.points, np.float64), count)
    parts, pieces = [part], [np.full(len(keep), -1)]
    if moving is not None and moving_count > 0:
        keep, *part = _spread_over_pieces(moving, moving_count)
        parts.append(part)
        pieces.append(moving.track[keep])
    piece = np.concatenate(pieces)
    points, colors, size = (np.concatenate(column) for column in zip(*parts, strict=True))
    features = initial_features(points, colors, piece, size, config, generator)
    model = AnchorModel(config, torch.from_numpy(points).float(), features, generator=generator)
    if moving is not None and can_teach(config, moving_count):
        teach_motion(model, motion_of(points, piece, moving), seed)
    return model


def can_teach(config: ModelConfig, anchors: int) -> bool:
    """Whether a new model is taught the ways of its ``anchors`` on what moves: F_omega must move and hide them."""
    return config.coarse and config.coarse_opacity and anchors > 0


def add_anchors(
    model: AnchorModel, append: Callable[[dict[str, Tensor]], None], moving: Movers, count: int, seed: int
) -> int:
    """Give a model that is being trained at most ``count`` anchors on what moves, and teach them their ways.

    Args:
        append: adds rows to the model's anchor tensors, by name, and to the mask of those that came to be in flight.
        seed: the run's, so that f_v is the function of place that it was for the first anchors.

    Returns:
        How many came to be.
    """
    keep, points, colors, size = _spread_over_pieces(moving, count)
    own = moving.track[keep]
    generator = torch.Generator().manual_seed(seed)
    features = initial_features(points, colors, own, size, model.config, generator)
    device = model.positions.device
    flies = torch.ones(len(own), dtype=torch.bool)
    rows = {"positions": torch.from_numpy(points).float(), **vars(features), "flies": flies}
    append({name: value.to(device) for name, value in rows.items()})
    everywhere = model.positions.detach().cpu().numpy().astype(np.float64)
    piece = np.concatenate([np.full(len(everywhere) - len(own), -1), own])
    model.cpu()  # where some thousand steps of a small network are soon done; parameters stay the optimiser's
    teach_motion(model, motion_of(everywhere, piece, moving), seed)
    model.to(device)
    return len(own)


def motion_of(points: NDArray[np.float64], piece: NDArray[np.int64], moving: Movers) -> Motion:
    """The ways of anchors at ``points`` (N, 3) on the pieces ``piece`` (N,); those of -1 rest."""
    count, instants = len(points), len(moving.times)
    moves = np.zeros((count, instants, 3))
    turns = np.tile([1.0, 0.0, 0.0, 0.0], (count, instants, 1))
    lives = np.full((count, 2), np.nan)
    on = np.flatnonzero(piece >= 0)
    rotations, shifts = moving.rotations[piece[on]], moving.shifts[piece[on]]
    moves[on] = np.einsum("ntij,nj->nti", rotations, points[on]) + shifts - points[on][:, None]
    turns[on] = _quaternions(moving.rotations)[piece[on]]
    lives[on] = moving.times[moving.lives[piece[on]]]
    return Motion(*(torch.from_numpy(a).float() for a in (moving.times, moves, turns, lives)))


def _quaternions(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """wxyz of (Q, T, 3, 3), (Q, T, 4); signs without jumps along T, though a piece may turn far."""
    from scipy.spatial.transform import Rotation

    xyzw = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat().reshape(*rotations.shape[:2], 4)
    found = np.roll(xyzw, 1, axis=2)
    agrees = np.sum(found[:, 1:] * found[:, :-1], axis=2) >= 0
    found[:, 1:] *= np.cumprod(np.where(agrees, 1, -1), axis=1)[..., None]
    straightest = np.take_along_axis(found[..., 0], np.abs(found[..., 0]).argmax(axis=1)[:, None], axis=1)
    return np.asarray(found * np.where(straightest < 0, -1, 1)[..., None])
