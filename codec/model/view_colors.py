"""Colours that change with the direction from which a primitive is seen; a switch, off by default.

Linear in the direction: what spherical harmonics of the first degree are, so that splats in the usual formats can hold
it as it is. An anchor's slope is linear in its reference feature f_v; its primitives share it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..camera import Camera
from ..gaussians import Gaussians

COLORS, AXES = 3, 3


class ViewColors(nn.Module):
    """From f_v to the slope of an anchor's colours along the three axes of the normalised space; zero at first."""

    def __init__(self, reference_dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(reference_dim, COLORS * AXES)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    @staticmethod
    def from_arrays(weight: Tensor, bias: Tensor) -> ViewColors:
        """The module of a layer's weight (9, V) and bias (9,), as a file has them."""
        module = ViewColors(weight.shape[1])
        with torch.no_grad():
            module.layer.weight.copy_(weight)
            module.layer.bias.copy_(bias)
        return module

    @torch.no_grad()
    def round(self) -> None:
        """Make weights what a file holds, half floats, and keep them within those."""
        largest = torch.finfo(torch.float16).max
        for part in (self.layer.weight, self.layer.bias):
            part.copy_(part.clamp(-largest, largest).half())

    def seen_from(self, camera: Camera, gaussians: Gaussians, f_v: Tensor) -> Gaussians:
        """The primitives in the colours that a camera sees, none of them below zero.

        Args:
            gaussians: N x K primitives, anchor by anchor.
            f_v: (N, V) reference features.
        """
        center = torch.as_tensor(camera.center, dtype=f_v.dtype).to(f_v.device)
        # The direction's own gradient would move primitives to where their colour suits.
        directions = F.normalize(gaussians.means.detach() - center, dim=1).unflatten(0, (len(f_v), -1))  # (N, K, 3)
        slopes = self.layer(f_v).unflatten(1, (COLORS, AXES))  # (N, 3, 3)
        change = torch.bmm(directions, slopes.transpose(1, 2)).flatten(0, 1)
        return replace(gaussians, colors=(gaussians.colors + change).clamp_min(0.0))
