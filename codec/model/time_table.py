"""Time embedding (Eq. 3): a table of knots, linearly interpolated at t.

The embedding f_t enters the first layer of the deformation networks linearly, and interpolation is linear too, so
``W Interp(Z, t) = Interp(Z W^T, t)``. The networks therefore look up rows of the product ``Z W^T``; that product, one
short row per knot, is all that the file stores and all that a decoder has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def interpolate(table: Tensor, time: float) -> Tensor:
    """Row of ``table`` (knots, D) at ``time`` in [0, 1], linear between knots; (D,)."""
    position = min(max(time, 0.0), 1.0) * (table.shape[0] - 1)
    left = min(int(position), max(table.shape[0] - 2, 0))
    weight = position - left
    if weight == 0.0:
        return table[left]
    return torch.lerp(table[left], table[left + 1], weight)


def initial_knots(knots: int, dim: int, generator: torch.Generator, bandwidth: float = 2.0) -> Tensor:
    """Starting values of Z, (knots, dim): random smooth functions of time.

    Neighbouring instants start alike, so what one frame teaches reaches the frames around it.

    Args:
        bandwidth: standard deviation of the frequencies, in cycles per clip.
    """
    t = torch.linspace(0, 1, knots)[:, None]
    frequency = torch.randn(1, dim, generator=generator) * bandwidth
    phase = torch.rand(1, dim, generator=generator) * 2 * math.pi
    return torch.sin(2 * math.pi * frequency * t + phase)
