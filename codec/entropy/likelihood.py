"""Differentiable bits of quantised values: the training side of the Gaussian tables and of eta's prior."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .tables import LEVELS, SIGMA_MIN, SIGMA_RATIO, TOTAL

LOG_SIGMA_MIN = math.log(SIGMA_MIN)
LOG_SIGMA_MAX = LOG_SIGMA_MIN + (LEVELS - 1) * math.log(SIGMA_RATIO)
# What the floor of the frequencies and the escape do for a residual d far outside: about 16 + 2 log2|d / 8| bits.
_TAIL = 1.0 / TOTAL
_TAIL_WIDTH = 8.0


class QuantiseAndRate(torch.autograd.Function):
    """One component's quantised values (Eq. 6) and their bits under a Gaussian (Eq. 7, 8), with gradients by hand.

    With step = exp(log_q + log_factor), mu = m + s * mean and d = (f - mu) / step + u, the value is f + u * step and its bits are
    -log2(Phi((d + 1/2) / sigma) - Phi((d - 1/2) / sigma)), sigma = s * exp(log_sigma) / step within the table's scales. u is
    uniform noise, or what rounds d to an integer; either way it is a constant to the gradient, so the step is pulled by
    the distortion of the values, sum(u * dL/dvalue), as well as by the rate.
    """

    @staticmethod
    def forward(
        ctx: Any,
        f: Tensor,  # (N, C)
        mean: Tensor,  # (N, C) in units of s around m
        log_sigma: Tensor,  # (N, C) log of the standard deviation in units of s
        log_factor: Tensor,  # (N, 1) log of 1 + tanh(.)
        log_q: Tensor,  # (C,)
        m: Tensor,  # (C,) running mean of f
        s: Tensor,  # (C,) running deviation of f
        noise: bool,
    ) -> tuple[Tensor, Tensor]:
        """Returns values (N, C) and bits ()."""
        log_step = log_q + log_factor
        step = log_step.exp()
        d0 = torch.addcmul(f - m, mean, s, value=-1.0).div_(step)
        u = torch.rand_like(f).sub_(0.5) if noise else torch.round(d0).sub_(d0)
        values = torch.addcmul(f, u, step)
        d = d0 + u

        log_scale = (log_sigma + s.log()).sub_(log_step)
        inverse = log_scale.clamp(LOG_SIGMA_MIN, LOG_SIGMA_MAX).neg_().exp_()
        upper = (d + 0.5).mul_(inverse)
        lower = (d - 0.5).mul_(inverse)
        tail_place = d / _TAIL_WIDTH
        tail = torch.addcmul(torch.ones_like(d), tail_place, tail_place).reciprocal_().mul_(_TAIL)
        p = torch.erf(upper * math.sqrt(0.5)).sub_(torch.erf(lower * math.sqrt(0.5))).mul_(0.5).add_(tail)
        bits = -p.log2().sum()

        # d(bits)/dd and d(bits)/d log sigma, kept instead of everything above.
        p.mul_(-math.log(2.0)).reciprocal_()
        density_upper = (upper * upper).mul_(-0.5).exp_().mul_(1.0 / math.sqrt(2.0 * math.pi))
        density_lower = (lower * lower).mul_(-0.5).exp_().mul_(1.0 / math.sqrt(2.0 * math.pi))
        by_d = (density_upper - density_lower).mul_(inverse)
        by_d.addcmul_(tail * tail, d, value=-2.0 / (_TAIL * _TAIL_WIDTH**2)).mul_(p)
        by_sigma = density_lower.mul_(lower).sub_(density_upper.mul_(upper)).mul_(p)
        # Beyond the ends of the scale table only a gradient that leads back inside may pass.
        stuck = ((log_scale < LOG_SIGMA_MIN) & (by_sigma > 0)) | ((log_scale > LOG_SIGMA_MAX) & (by_sigma < 0))
        by_sigma.masked_fill_(stuck, 0.0)
        ctx.save_for_backward(u, step, d0, by_d, by_sigma, s)
        return values, bits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of f, mean, log_sigma, log_factor and log_q."""
        g_values, g_bits = grads
        u, step, d0, by_d, by_sigma, s = ctx.saved_tensors
        by_f = (by_d / step).mul_(g_bits)
        g_sigma = by_sigma * g_bits
        g_mean = by_f * -s
        g_step = torch.addcmul(by_sigma, by_d, d0).mul_(-g_bits)
        g_step.add_((g_values * u).mul_(step))
        return g_values + by_f, g_mean, g_sigma, g_step.sum(1, keepdim=True), g_step.sum(0), None, None, None


def quantise_and_rate(
    f: Tensor, mean: Tensor, log_sigma: Tensor, log_factor: Tensor, log_q: Tensor, m: Tensor, s: Tensor, noise: bool
) -> tuple[Tensor, Tensor]:
    """``QuantiseAndRate`` with its arguments: values (N, C) and their bits ()."""
    values, bits = QuantiseAndRate.apply(f, mean, log_sigma, log_factor, log_q, m, s, noise)
    return values, bits


class LogisticMixture(nn.Module):
    """Factorised prior of eta: one mixture of logistics per channel, independent of everything else."""

    def __init__(self, channels: int, parts: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, parts))
        self.centre = nn.Parameter(torch.linspace(-1.0, 1.0, parts).repeat(channels, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, parts))

    def probability(self, eta: Tensor) -> Tensor:
        """Mass of (eta - 1/2, eta + 1/2), shape of eta: (N, C)."""
        offset = eta[..., None] - self.centre
        inverse = torch.exp(-self.log_scale)
        mass = torch.sigmoid((offset + 0.5) * inverse) - torch.sigmoid((offset - 0.5) * inverse)
        return (F.softmax(self.weight, dim=1) * mass).sum(-1)

    def bits(self, eta: Tensor) -> Tensor:
        """Total bits of eta (N, C), with the same floor as the tables."""
        return -torch.log2(self.probability(eta) + _TAIL).sum()
