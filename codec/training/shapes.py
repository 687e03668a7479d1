"""What primitives should not become: needles before one camera, and strangers to their anchor.

One camera an instant cannot tell a long thin splat, seen end on, from a small round one. Such splats show their
training views well and stick out of the scene from anywhere else.

Primitives that are transparent have no gradient, but share the prediction network's weights with the others: what
those ask for carries their scales off, to exp(-50) of the anchor's. The anchor's own scale, coded for all, grows to
make up for it, until splats as large as the scene blot out whole views.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Logarithm of the largest extent or scale an anchor may have, in the normalised space, whose content is two units wide.
LARGEST = 0.0
# Axes may differ that much for free: edges and limbs are longer than wide.
_FREE = math.log(4.0)

# A primitive's axes may be so much longer or shorter than its anchor's for free.
_APART = math.log(12.0)


def needle_penalty(log_scales: Tensor) -> Tensor:
    """Mean of what the log ratio of the longest to the middle axis exceeds log 4 by; a scalar, 0 for discs.

    Flat discs, which surfaces are made of, cost nothing (after PhysGaussian's limit of anisotropy: Xie et al. 2024).

    Args:
        log_scales: (..., 3) logarithms of the standard deviations along the axes.
    """
    ordered = log_scales.sort(dim=-1).values
    return torch.relu(ordered[..., 2] - ordered[..., 1] - _FREE).mean()


def residual_penalty(log_scales: Tensor, base: Tensor) -> Tensor:
    """Mean square of what log scales differ from their anchor's by more than log 12; a scalar, 0 where none does.

    Args:
        log_scales: (N, K, 3) of primitives.
        base: (N, 3) of their anchors.
    """
    return torch.relu((log_scales - base[:, None]).abs() - _APART).square().mean()
