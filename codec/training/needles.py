"""Primitives are no needles: one camera an instant cannot tell a long thin splat, seen end on, from a small round one.

Such splats show their training views well and stick out of the scene from anywhere else. The penalty is on the longest
axis over the middle one, so that flat discs, which surfaces are made of, cost nothing (after PhysGaussian's limit of
anisotropy: Xie et al. 2024).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Axes may differ that much for free: edges and limbs are longer than wide.
_FREE = math.log(4.0)


def needle_penalty(log_scales: Tensor) -> Tensor:
    """Mean of what the log ratio of the longest to the middle axis exceeds 4 by; a scalar, 0 for discs.

    Args:
        log_scales: (..., 3) logarithms of the standard deviations along the axes.
    """
    ordered = log_scales.sort(dim=-1).values
    return torch.relu(ordered[..., 2] - ordered[..., 1] - _FREE).mean()
