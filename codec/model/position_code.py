"""f_p of Eq. 4: sinusoids of a position (Vaswani et al., 2017), 3 axes x frequencies x (sin, cos)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..constants import constant

# Wavelengths from the whole box down to 1/32 of it. Finer ones turn a slowly moving anchor into a flickering one.
_OCTAVES = 5.0


def frequencies(count: int) -> Tensor:
    """Radians per unit of length, (count,) float64."""
    return math.pi * torch.exp2(torch.linspace(0, _OCTAVES, count, dtype=torch.float64))


def position_code(positions: Tensor, count: int) -> Tensor:
    """Positions (N, 3) in the normalised space, content within about [-1, 1], to (N, 6 * count)."""
    angles = (positions[:, :, None] * constant(tuple(frequencies(count).tolist()), positions)).flatten(1)  # (N, 3 * count)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
