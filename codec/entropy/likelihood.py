"""Differentiable bits of quantised values: the training side of the Gaussian tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .tables import FACTOR_INDEX_ONE, FACTOR_INDEX_UNIT, LEVELS, SIGMA_MIN, SIGMA_RATIO, TOTAL

LOG_SIGMA_MIN = math.log(SIGMA_MIN)
LOG_SIGMA_MAX = LOG_SIGMA_MIN + (LEVELS - 1) * math.log(SIGMA_RATIO)
# What the floor of the frequencies and the escape do for a residual d far outside: about 16 + 2 log2|d / 8| bits.
TAIL_MASS = 1.0 / TOTAL
TAIL_WIDTH = 8.0
# The argument of tanh in a step factor, within the table of factors.
FACTOR_TANH_MIN = -FACTOR_INDEX_ONE / FACTOR_INDEX_UNIT
FACTOR_TANH_MAX = (FACTOR_INDEX_ONE - 1) / FACTOR_INDEX_UNIT


@dataclass
class Gaussian:
    """What the entropy model says about one component of C columns.

    Attributes:
        out: (N, O) output of the component's network.
        mean_at: first of the C columns of ``out`` that hold means, in units of ``s`` around ``m``.
        sigma_at: first of the C columns that hold log deviations, in units of ``s``.
        log_factor: (N, 1) log of the step factor 1 + tanh(.) of Eq. 6.
        log_q: (C,) log of Q.
        m, s: (C,) running mean and deviation of the values; constants.
    """

    out: Tensor
    mean_at: int
    sigma_at: int
    log_factor: Tensor
    log_q: Tensor
    m: Tensor
    s: Tensor


def quantise_and_rate(
    f: Tensor, model: Gaussian, noise: Tensor | None, rounds: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Quantised values (N, C) of ``f`` (Eq. 6), rounded values (N, C), bits () under the model (Eq. 7 and 8).

    With step = exp(log_q + log_factor), mu = m + s * mean and d = (f - mu) / step + u, the value is f + u * step
    and costs -log2(Phi((d + 1/2) / sigma) - Phi((d - 1/2) / sigma)) bits; sigma = s * exp(log deviation) / step,
    kept within the scales of the tables. u is the uniform ``noise`` (N, C), or what rounds d to an integer where there
    is none. Either way it is a constant to the gradient, so that Q is pulled by the distortion of the values,
    sum(u * dL/dvalue), as well as by the rate. With noise, the gradient is that of the noisy values' bits, but the
    number is what rounding would cost: below two bits a value the noisy one is too large, by half at half a bit. The
    rounded values are what a decoder will have as contexts; without noise they are the values.

    With ``rounds`` the values are rounded, and the gradient of the bits is still that of noisy ones (the mixed
    quantisation of Minnen and Singh, ICIP 2020): bits of rounded residuals are flat where most of them lie, at zero,
    and what nothing holds there drifts away and costs bits.

    This is the definition, and the way of other devices; on a CPU ``chain_kernels`` does it.
    """
    columns = f.shape[1]
    mean = model.out[:, model.mean_at : model.mean_at + columns]
    log_deviation = model.out[:, model.sigma_at : model.sigma_at + columns]
    log_step = model.log_q + model.log_factor
    step = log_step.exp()
    d = (f - model.m - model.s * mean) / step
    rounding = (torch.round(d) - d).detach()
    noise = rounding if noise is None else noise
    rounded = f + rounding * step
    values = rounded if rounds else f + noise * step
    noisy = d + noise

    sigma = _Bound.apply(log_deviation + model.s.log() - log_step, LOG_SIGMA_MIN, LOG_SIGMA_MAX).exp()
    bits = _bits(noisy, sigma)
    return values, rounded, bits + (_bits(d + rounding, sigma) - bits).detach()


def _bits(d: Tensor, sigma: Tensor) -> Tensor:
    """Bits of the residuals d, in steps, under zero-mean Gaussians; upper tails, as they lose no digits."""
    size = d.abs()
    mass = _upper_tail((size - 0.5) / sigma) - _upper_tail((size + 0.5) / sigma)
    tail = TAIL_MASS / (1.0 + (d / TAIL_WIDTH) ** 2)
    return -torch.log2(mass + tail).sum()


def add_noise(f: Tensor, step: Tensor) -> Tensor:
    """f + u * step with fresh uniform noise u: f (N, R, C), step (N, C)."""
    if f.device.type == "cpu" and f.dtype == torch.float32:
        noisy: Tensor = _FusedNoise.apply(f, step)
        return noisy
    return torch.addcmul(f, torch.rand_like(f).sub_(0.5), step[:, None, :])


def _upper_tail(z: Tensor) -> Tensor:
    return 0.5 * torch.erfc(z * math.sqrt(0.5))


def _seed() -> int:
    """A 32-bit seed of a kernel's noise, from torch's generator so that runs repeat."""
    return int(torch.randint(0, 1 << 32, ()))


class _Bound(torch.autograd.Function):
    """Clamp; beyond the bounds only a gradient that leads back inside passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        (gradient,) = gradients
        low, high = ctx.bounds
        outward = ((x < low) & (gradient > 0)) | ((x > high) & (gradient < 0))
        return gradient.masked_fill(outward, 0.0), None, None


class _FusedNoise(torch.autograd.Function):
    """``add_noise`` by ``kernels.add_noise`` and ``kernels.pull_back_noise``."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, step: Tensor) -> Tensor:
        import numpy as np

        from ..jit import run
        from ..vectors.arrays import counter
        from . import kernels

        f, step = f.contiguous(), step.contiguous()
        values, ctx.seed = torch.empty_like(f), np.uint32(_seed())
        arguments = (f.detach().numpy(), step.detach().numpy(), ctx.seed, counter(), values.numpy())
        run(kernels.add_noise, arguments, _threads(f))
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        from ..jit import run
        from ..vectors.arrays import counter
        from . import kernels

        (by_values,) = gradients
        rows, _, columns = by_values.shape
        by_step = torch.zeros(rows, columns)
        arguments = (by_values.contiguous().numpy(), ctx.seed, counter(), by_step.numpy())
        run(kernels.pull_back_noise, arguments, _threads(by_values))
        return by_values, by_step


def _threads(values: Tensor) -> int:
    from ..jit import thread_count
    from .kernels import WORTH_A_THREAD

    return max(1, min(thread_count(), values.numel() // WORTH_A_THREAD))
