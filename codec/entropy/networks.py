"""The context networks in training: float twins of ``fixedpoint.IntegerNetwork``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..vectors.dispatch import fusable

INPUT_LIMIT = 16.0  # the smallest real value at which a 16-bit input saturates
HIDDEN_UNIT = 1024  # fixed-point 1.0 of a hidden activation
HIDDEN_LIMIT = 32767.0 / HIDDEN_UNIT
SLOPE = 0.125


class ContextNetwork(nn.Module):
    """Two hidden layers, the second residual, and a linear output. Starts near zero: mu = mean, sigma = deviation."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, outputs)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            self.last.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs), about unit scale, to (N, outputs). On a CPU compiled kernels compute :meth:`plain`."""
        weights = self.weights()
        if not fusable([self], (x, *weights)):
            return self.plain(x)
        from . import fused

        return fused.context_network(x, weights)

    def weights(self) -> tuple[Tensor, ...]:
        """Weight and bias of each layer, as the kernels take them."""
        return tuple(value for layer in (self.first, self.second, self.last) for value in (layer.weight, layer.bias))

    def plain(self, x: Tensor) -> Tensor:
        """The definition of :meth:`forward`, in torch: any device, any float type."""
        h1 = _hidden(nn.functional.leaky_relu(self.first(x), SLOPE))
        h2 = _hidden(h1 + nn.functional.leaky_relu(self.second(h1), SLOPE))
        out: Tensor = self.last(h2)
        return out


class AnalysisNetwork(nn.Module):
    """f_v to the hyperprior eta, in units of eta's step. The encoder's alone, so it stays in floats."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.last = nn.Linear(hidden, outputs)
        self.gain = 4.0  # several steps of spread from the start, or noise hides eta from its decoder

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs), about unit scale, to (N, outputs)."""
        out: Tensor = self.gain * self.last(nn.functional.leaky_relu(self.first(x), SLOPE))
        return out


def _hidden(x: Tensor) -> Tensor:
    return x.clamp(-HIDDEN_LIMIT, HIDDEN_LIMIT)
