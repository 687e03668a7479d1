"""The three networks of the model: prediction (Eq. 1), coarse (Eq. 2) and fine (Eq. 4) deformation.

First layers never see a concatenation: a layer over (a, b) is a layer over a plus a layer over b, so what all
primitives of an anchor share is multiplied once per anchor, and what all anchors share at an instant once per instant.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import ModelConfig
from .time_table import initial_knots, interpolate

OFFSET, SCALE, ROTATION, COLOR, OPACITY = 3, 3, 4, 3, 1


class PredictionNetwork(nn.Module):
    """F_theta (Eq. 1): a two-layer residual MLP with four heads, over f_v per anchor and f_g per primitive."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.prediction_width
        self.shared = nn.Linear(config.reference_dim, width)
        self.own = nn.Linear(config.residual_dim, width, bias=False)
        # Primitives of one anchor differ before f_g says anything: the mean of f_g over anchors, in effect.
        slots = torch.empty(config.primitives, width)
        # Where there are shapes alone and nothing to fill, torch would import half a second of itself to do so.
        self.slots = nn.Parameter(slots if slots.is_meta else slots.normal_())
        self.hidden = nn.Linear(width, width)
        self.position = nn.Linear(width, OFFSET)
        self.covariance = nn.Linear(width, SCALE + ROTATION)
        self.color = nn.Linear(width, COLOR)
        self.opacity = nn.Linear(width, OPACITY)
        with torch.no_grad():
            for head, gain in ((self.covariance, 0.1), (self.color, 0.1), (self.opacity, 0.1)):
                head.weight.mul_(gain)
                head.bias.zero_()

    def weights(self) -> list[Tensor]:
        """What compiled kernels take, in their order; the heads' weights lie one after the other, then their biases."""
        heads = (self.position, self.covariance, self.color, self.opacity)
        layers = [self.shared.weight, self.shared.bias, self.own.weight, self.slots, self.hidden.weight, self.hidden.bias]
        return [*layers, *(head.weight for head in heads), *(head.bias for head in heads)]

    def forward(self, f_v: Tensor, f_g: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(N, N_v) and (N, K, N_g) to offsets (N, K, 3), log scales (N, K, 3), quaternions (N, K, 4), colours (N, K, 3), logits (N, K)."""
        n, k, _ = f_g.shape
        common = self.shared(f_v)[:, None, :] + self.slots  # (N, K, W)
        first = F.relu(torch.addmm(common.flatten(0, 1), f_g.flatten(0, 1), self.own.weight.t()))
        second = first + F.relu(self.hidden(first))
        heads = (self.position, self.covariance, self.color, self.opacity)
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([head.bias for head in heads])
        out = F.linear(second, weight, bias).view(n, k, len(bias))
        offset, scale, rotation, color, opacity = out.split([OFFSET, SCALE, ROTATION, COLOR, OPACITY], dim=-1)
        return offset, scale, rotation, color, opacity.squeeze(-1)


class TimedMLP(nn.Module):
    """A three-layer MLP over (x, f_t), the form of F_omega and F_varpi. Its output is exactly zero at initialisation.

    In training the time rows are Z W^T; in a decoder (``folded``) that product is itself the parameter.

    Args:
        gain: on the first layer's initial weights for x.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, knots: int, time_dim: int, folded: bool, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, outputs)
        with torch.no_grad():
            self.first.weight.mul_(gain)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        if folded:
            self.rows = nn.Parameter(torch.zeros(knots, width))
        else:
            self.time_weight = nn.Parameter(torch.randn(width, time_dim) / math.sqrt(time_dim))

    def fold(self, z: Tensor) -> None:
        """Make the product of a time table and the first layer's time weights the parameter, as a decoder has it."""
        self.rows = nn.Parameter(self.time_rows(z).detach())
        del self.time_weight

    def time_rows(self, z: Tensor | None) -> Tensor:
        """The first layer's contribution of every knot, (knots, width)."""
        return self.rows if z is None else z @ self.time_weight.t()

    def time_row(self, time: float, z: Tensor | None) -> Tensor:
        """The first layer's contribution of an instant, (width,)."""
        if z is None:
            return interpolate(self.rows, time)
        # Not a library's matrix product: its last bits depend on the number of threads.
        return (self.time_weight * interpolate(z, time)).sum(dim=1)

    def weights(self, time: float, z: Tensor | None) -> list[Tensor]:
        """What compiled kernels take, in their order; the time row is a part of the first layer's bias."""
        first, second, last = self.first, self.second, self.last
        return [first.weight, first.bias + self.time_row(time, z), second.weight, second.bias, last.weight, last.bias]

    def forward(self, x: Tensor, time: float, z: Tensor | None) -> Tensor:
        """x (N, inputs) at one instant to (N, outputs); ``z`` is None when folded."""
        hidden = F.relu(F.linear(x, self.first.weight, self.first.bias + self.time_row(time, z)))
        return self.last(F.relu(self.second(hidden)))


def knot_parameter(config: ModelConfig, generator: torch.Generator) -> nn.Parameter:
    """Z of Eq. 3, (knots, time_dim)."""
    return nn.Parameter(initial_knots(config.knots, config.time_dim, generator))
