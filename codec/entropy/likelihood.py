"""Differentiable bits of quantised values: the training side of the Gaussian tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .tables import LEVELS, SIGMA_MIN, SIGMA_RATIO, TOTAL

LOG_SIGMA_MIN = math.log(SIGMA_MIN)
LOG_SIGMA_MAX = LOG_SIGMA_MIN + (LEVELS - 1) * math.log(SIGMA_RATIO)
# What the floor of the frequencies and the escape do for a residual d far outside: about 16 + 2 log2|d / 8| bits.
TAIL_MASS = 1.0 / TOTAL
TAIL_WIDTH = 8.0


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


def quantise_and_rate(f: Tensor, model: Gaussian, noise: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Quantised values (N, C) of ``f`` (Eq. 6), rounded values (N, C), bits () under the model (Eq. 7 and 8).

    With step = exp(log_q + log_factor), mu = m + s * mean and d = (f - mu) / step + u, the value is f + u * step
    and costs -log2(Phi((d + 1/2) / sigma) - Phi((d - 1/2) / sigma)) bits; sigma = s * exp(log deviation) / step,
    kept within the scales of the tables. u is uniform noise, or what rounds d to an integer. Either way it is a
    constant to the gradient, so that Q is pulled by the distortion of the values, sum(u * dL/dvalue), as well as
    by the rate. With noise, the gradient is that of the noisy values' bits, but the number is what rounding would
    cost: below two bits a value the noisy one is too large, by half at half a bit. The rounded values are what
    a decoder will have as contexts; without noise they are the values.
    """
    if f.device.type == "cpu" and f.dtype == torch.float32:
        arguments = (model.out, model.log_factor, model.log_q, model.m, model.s, model.mean_at, model.sigma_at, noise)
        values, rounded, bits = _Fused.apply(f, *arguments)
        return values, rounded, bits
    return quantise_and_rate_reference(f, model, torch.rand_like(f) - 0.5 if noise else None)


def quantise_and_rate_reference(f: Tensor, model: Gaussian, u: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """``quantise_and_rate`` in plain torch: the oracle of the fused kernel, and the way of other devices.

    ``u`` (N, C) is the noise, or None to round.
    """
    columns = f.shape[1]
    mean = model.out[:, model.mean_at : model.mean_at + columns]
    log_deviation = model.out[:, model.sigma_at : model.sigma_at + columns]
    log_step = model.log_q + model.log_factor
    step = log_step.exp()
    d = (f - model.m - model.s * mean) / step
    rounding = (torch.round(d) - d).detach()
    u = rounding if u is None else u
    values = f + u * step
    rounded = f + rounding * step
    d = d + u

    sigma = _Bound.apply(log_deviation + model.s.log() - log_step, LOG_SIGMA_MIN, LOG_SIGMA_MAX).exp()
    bits = _bits(d, sigma)
    return values, rounded, bits + (_bits(torch.round(d - u), sigma) - bits).detach()


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


class _Fused(torch.autograd.Function):
    """``quantise_and_rate_reference`` by ``kernels.forward`` and ``kernels.backward``."""

    @staticmethod
    def forward(
        ctx: Any,
        f: Tensor,
        out: Tensor,
        log_factor: Tensor,
        log_q: Tensor,
        m: Tensor,
        s: Tensor,
        mean_at: int,
        sigma_at: int,
        noise: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        import numpy as np

        from ..jit import run, thread_count
        from ..vectors.arrays import PaddedRows, counter, flat, whole
        from . import kernels

        count, columns = f.shape
        constants = torch.stack([log_q.exp(), log_q, m, s, s.log()])
        limits = np.array([LOG_SIGMA_MIN, LOG_SIGMA_MAX, TAIL_MASS, 1.0 / TAIL_WIDTH], np.float32)
        rows = PaddedRows(count, kernels.BLOCK)
        values, rounded, bits = rows(columns), rows(columns), np.empty(-(-count // kernels.BLOCK))
        seed = _seed() if noise else 0
        tables = (flat(log_factor), flat(constants), limits)
        ctx.common = (out.shape[1], mean_at, sigma_at, *tables, columns, count, noise, seed)
        run(
            kernels.forward,
            (flat(f), flat(out), *ctx.common, counter(), whole(values), whole(rounded), bits),
            max(1, min(thread_count(), bits.size)),
        )
        ctx.save_for_backward(f, out)
        return values, rounded, f.new_tensor(bits.sum())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        import numpy as np

        from ..jit import run, thread_count
        from ..vectors.arrays import CHUNKS, PaddedRows, counter, flat, whole
        from . import kernels

        by_values, by_rounded, by_bits = gradients
        f, out = ctx.saved_tensors
        count, columns = f.shape
        rows = PaddedRows(count, kernels.BLOCK)
        by_f, by_factor = rows(columns), rows()
        by_out = torch.zeros(rows.padded, out.shape[1])[:count]
        by_q = np.zeros((max(1, min(CHUNKS, rows.padded // kernels.BLOCK)), columns), np.float32)
        run(
            kernels.backward,
            (
                flat(f), flat(out), *ctx.common, counter(), flat(by_values), flat(by_rounded), np.float32(by_bits),
                *map(whole, (by_f, by_out, by_factor)), by_q,
            ),
            min(thread_count(), len(by_q)),
        )  # fmt: skip
        by_log_q = torch.from_numpy(by_q.sum(axis=0))
        return by_f, by_out, by_factor[:, None], by_log_q, None, None, None, None, None


class _FusedNoise(torch.autograd.Function):
    """``add_noise`` by ``kernels.add_noise`` and ``kernels.pull_back_noise``."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, step: Tensor) -> Tensor:
        import numpy as np

        from . import kernels

        f, step = f.contiguous(), step.contiguous()
        values, ctx.seed = torch.empty_like(f), np.uint32(_seed())
        kernels.add_noise(f.detach().numpy(), step.detach().numpy(), ctx.seed, values.numpy())
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        from . import kernels

        (by_values,) = gradients
        rows, _, columns = by_values.shape
        by_step = torch.zeros(rows, columns)
        kernels.pull_back_noise(by_values.contiguous().numpy(), ctx.seed, by_step.numpy())
        return by_values, by_step
