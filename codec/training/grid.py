"""The grid that positions are rounded to, its voxel chosen by what it costs in bytes and in image quality.

A bit more per axis costs three bits an anchor; how much it shows depends on the scene: on how large its primitives
are and how near its cameras stand. So each voxel is tried, with the very coder and the very loss of Eq. 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import OptionError
from ..evenly import evenly
from ..features import Features
from ..geometry import encode_positions
from ..geometry.morton import MAX_BITS
from ..render import render
from .config import RATE_UNIT
from .losses import l1_dssim

if TYPE_CHECKING:
    from .trainer import Trainer

VOXELS = tuple(2.0**-k for k in range(7, 12))  # 1/128 to 1/2048 of the normalised space's unit, coarse to fine
_VIEWS = 8  # of the training views, evenly spread: over them the voxel is chosen


@dataclass(frozen=True)
class Grid:
    """Positions on a grid: ``origin + voxel * cells``.

    Attributes:
        voxel: float32 exactly, since the file keeps no more.
        origin: (3,) float32.
        cells: (M, 3) int64, not negative, no two rows equal.
        keep: (M,) which of the anchors they are; of those that meet in a cell, the first.
    """

    voxel: float
    origin: Tensor
    cells: Tensor
    keep: Tensor

    @property
    def positions(self) -> Tensor:
        """(M, 3) float32, as a decoder computes them."""
        return self.origin + self.voxel * self.cells

    @property
    def bits(self) -> int:
        """What the position coder needs for the cells."""
        return 8 * len(encode_positions(self.cells.cpu().numpy().astype(np.uint32)))


def snap(positions: Tensor, origin: Tensor, voxel: float) -> Tensor:
    """Positions (N, 3) to integer grid coordinates (N, 3), int64; the position of cell i is origin + i * voxel."""
    return torch.round((positions - origin) / voxel).to(torch.int64)


def on_grid(positions: Tensor, origin: Tensor, voxel: float) -> Grid:
    """Put anchors (N, 3) on a grid near ``origin``, which moves by whole voxels until no cell is negative."""
    voxel = float(np.float32(voxel))
    origin = origin + voxel * snap(positions, origin, voxel).amin(dim=0).clamp_max(0)
    cells = snap(positions, origin, voxel)
    _, first = np.unique(cells.cpu().numpy(), axis=0, return_index=True)
    keep = torch.from_numpy(np.sort(first)).to(positions.device)
    return Grid(voxel, origin, cells[keep], keep)


def addressable(grid: Grid) -> Grid:
    """The grid, if the position coder can address its cells.

    Raises:
        OptionError: ``voxel-too-small``, with the smallest that would do.
    """
    cells = int(grid.cells.max()) + 1 if len(grid.cells) else 0
    if cells > 1 << MAX_BITS:
        least = grid.voxel * cells / (1 << MAX_BITS)
        problem = f"--voxel {grid.voxel:g}: anchors are {cells} cells apart; give {least:.2g} or more"
        raise OptionError("voxel-too-small", problem)
    return grid


def choose_grid(
    positions: Tensor,
    origin: Tensor,
    distortion: Callable[[Grid], float],
    price: float,
    anchor_bits: float,
    voxels: Sequence[float] = VOXELS,
) -> Grid:
    """The grid of the least distortion + price * bits; of equals, the coarser.

    Args:
        positions: (N, 3) of the anchors as they are.
        distortion: the loss over some views with the anchors of a grid in place of these.
        price: of a bit.
        anchor_bits: what an anchor costs besides its position: those that meet in a cell are not paid for twice.
        voxels: to choose from; the first, where the coder can address the cells of none.
    """
    grids = [on_grid(positions, origin, voxel) for voxel in voxels]
    possible = [grid for grid in grids if int(grid.cells.max()) < 1 << MAX_BITS]
    if len(possible) < 2:
        return (possible or grids)[0]
    return min(possible, key=lambda grid: distortion(grid) + price * (grid.bits + anchor_bits * len(grid.keep)))


@torch.no_grad()
def trained_grid(trainer: Trainer) -> Grid:
    """The configuration's grid for a run's anchors, or the one that rate and distortion ask for; reproducible."""
    positions, config = trainer.model.positions.detach(), trainer.config
    if config.voxel is not None:
        return addressable(on_grid(positions, trainer.origin, config.voxel))
    features = trainer.rounded()
    chosen = evenly(len(trainer.frames), _VIEWS)
    frames = [trainer.frames[i] for i in chosen]
    background = torch.tensor(trainer.scene.background, dtype=torch.float32, device=trainer.device)
    targets = [torch.from_numpy(trainer.scene.target(frame)).to(trainer.device) for frame in frames]

    def distortion(grid: Grid) -> float:
        kept = Features(*(getattr(features, field.name)[grid.keep] for field in fields(Features)))
        primitives = trainer.model.predict(kept)
        total = 0.0
        for frame, target in zip(frames, targets, strict=True):
            gaussians = trainer.model.deform(kept, primitives, frame.time, grid.positions)
            gaussians = trainer.model.seen_from(frame.camera, gaussians, kept)
            image = render(gaussians, frame.camera, background, trainer.raster).image
            total += float(l1_dssim(trainer.seen_by(frame, image), target, config.ssim_weight))
        return total / len(frames)

    anchor_bits = (trainer.bits or 0.0) / len(positions)
    return choose_grid(positions, trainer.origin, distortion, trainer.rate_lambda / RATE_UNIT, anchor_bits)
