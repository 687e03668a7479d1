"""The entropy model's networks and prior on a CPU: the compiled kernels, and their place in autograd. Imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..jit import run, thread_count
from ..vectors.arrays import CHUNKS, PaddedRows, concatenate, counter, flat, split, whole
from . import network_kernels, prior_kernels


def context_network(x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """``ContextNetwork.plain`` of x (N, inputs), with the three layers' weights and biases in turn."""
    found: Tensor = _ContextNetwork.apply(x, *weights)
    return found


def prior_bits(eta: Tensor, parameters: Tensor, noise: bool, count: bool = True) -> Tensor:
    """``FactorisedPrior.bits_plain`` of eta (N, C), zero if not to ``count``.

    Args:
        parameters: (C, ``prior_kernels.PARAMETERS``).
    """
    seed = int(torch.randint(0, 1 << 32, ())) if noise else 0  # torch's generator, so that runs repeat
    found: Tensor = _PriorBits.apply(eta, parameters, noise, seed, count)
    return found


class _ContextNetwork(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        count = len(x)
        hidden, inputs = weights[0].shape
        ctx.sizes = (inputs, hidden, len(weights[-1]))
        ctx.flat_weights = concatenate(weights)
        out = PaddedRows(count, network_kernels.BLOCK)(ctx.sizes[-1])
        blocks = -(-count // network_kernels.BLOCK)
        arguments = (flat(x), ctx.flat_weights, ctx.sizes, count, counter(), whole(out))
        run(network_kernels.forward, arguments, max(1, min(thread_count(), blocks)))
        ctx.save_for_backward(x, *weights)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_out: Tensor) -> Any:
        x, *weights = ctx.saved_tensors
        count = len(x)
        by_x = PaddedRows(count, network_kernels.BLOCK)(x.shape[1])
        chunks = max(1, min(CHUNKS, -(-count // network_kernels.BLOCK)))
        sums = np.zeros((chunks, len(ctx.flat_weights)), np.float32)
        arguments = (flat(x), ctx.flat_weights, ctx.sizes, count, counter(), flat(by_out), whole(by_x), sums)
        run(network_kernels.backward, arguments, min(thread_count(), chunks))
        return (by_x, *split(sums.sum(axis=0), weights))


class _PriorBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, eta: Tensor, parameters: Tensor, noise: bool, seed: int, count: bool) -> Tensor:
        ctx.save_for_backward(eta, parameters)
        ctx.noise, ctx.seed = noise, seed
        sums = np.zeros(_chunks(eta))
        arguments = (flat(eta), flat(parameters), eta.shape[1], len(eta), counter(), sums)
        if count:
            run(prior_kernels.forward, arguments, min(thread_count(), len(sums)))
        return eta.new_tensor(sums.sum())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_bits: Tensor) -> Any:
        eta, parameters = ctx.saved_tensors
        count, channels = eta.shape
        by_eta = PaddedRows(count, prior_kernels.BLOCK)(channels)
        sums = np.zeros((_chunks(eta), parameters.numel()), np.float32)
        arguments = (
            flat(eta), flat(parameters), channels, count, counter(), ctx.noise, ctx.seed, np.float32(by_bits),
            whole(by_eta), sums,
        )  # fmt: skip
        run(prior_kernels.backward, arguments, min(thread_count(), len(sums)))
        by_parameters = torch.from_numpy(sums.sum(axis=0)).view_as(parameters)
        return by_eta if ctx.noise else torch.zeros_like(eta), by_parameters, None, None, None


def _chunks(eta: Tensor) -> int:
    return max(1, min(CHUNKS, -(-len(eta) // prior_kernels.BLOCK)))
