"""Prediction and deformation on a CPU: the compiled kernels, and their place in autograd.

``AnchorModel`` defines in torch what is computed; here the same is computed four times as fast. Imports numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..jit import run, thread_count
from ..vectors.arrays import CHUNKS, PaddedRows, concatenate, counter, flat, split, whole
from . import deform_kernels, predict_kernels
from .config import ModelConfig
from .position_code import frequencies

Bounds = tuple[float, float]
Rows = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def predict(config: ModelConfig, bounds: Bounds, inputs: tuple[Tensor, ...]) -> Rows:
    """``AnchorModel.predict``: offsets (N, K, 3), log scales (N, K, 3), quaternions (N, K, 4), colours (N, K, 3), logits (N, K).

    Args:
        bounds: of log extents and log scales.
        inputs: f_v, f_g, sigma, color, then ``PredictionNetwork.weights``.
    """
    sizes = (config.reference_dim, config.residual_dim, config.primitives, config.prediction_width)
    found: Rows = _Predict.apply(_wants_gradient(inputs), sizes, bounds, *inputs)
    return found


def deform(config: ModelConfig, bounds: Bounds, inputs: tuple[Tensor, ...]) -> Rows:
    """``AnchorModel.deform``: means (NK, 3), quaternions (NK, 4), scales (NK, 3), opacities (NK,), colours (NK, 3).

    Args:
        inputs: f_v, positions, the five of ``Primitives``, then ``TimedMLP.weights`` of the networks that are there.
    """
    sizes = (config.reference_dim, config.primitives, config.deformation_width)
    switches = (config.coarse, config.fine, config.rotate_offsets, config.coarse_opacity)
    scales = frequencies(config.position_frequencies).float().numpy()
    found: Rows = _Deform.apply(_wants_gradient(inputs), sizes, switches, bounds, scales, *inputs)
    return found


def _wants_gradient(tensors: tuple[Tensor, ...]) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


class _Predict(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, keep: bool, sizes: tuple[int, ...], bounds: Bounds,
        f_v: Tensor, f_g: Tensor, sigma: Tensor, color: Tensor, *weights: Tensor,
    ) -> Rows:  # fmt: skip
        count, primitives = len(f_v), sizes[2]
        block = predict_kernels.block_anchors(primitives)
        ld, blocks = predict_kernels.leading(block * primitives), -(-count // block)
        empty = PaddedRows(count, block)
        offsets, log_scales, quaternions = empty(primitives, 3), empty(primitives, 3), empty(primitives, 4)
        inverse_lengths, colors, logits = empty(primitives), empty(primitives, 3), empty(primitives)
        ctx.weights = concatenate(weights)
        ctx.common = sizes, bounds, count, block, ld
        run(
            predict_kernels.predict,
            (
                *map(flat, (f_v, f_g, sigma, color)), ctx.weights, *ctx.common, counter(),
                *map(whole, (offsets, log_scales, quaternions, inverse_lengths, colors, logits)),
            ),
            min(thread_count(), blocks),
        )  # fmt: skip
        if keep:
            ctx.save_for_backward(f_v, f_g, sigma, offsets, quaternions, inverse_lengths, *weights)
        return offsets, log_scales, quaternions, colors, logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        f_v, f_g, sigma, offsets, quaternions, inverse_lengths, *weights = ctx.saved_tensors
        _, _, count, block, _ = ctx.common
        empty = PaddedRows(count, block)
        by_inputs = empty(f_v.shape[1]), empty(*f_g.shape[1:]), empty(6), empty(3)
        chunks = min(CHUNKS, -(-count // block))
        sums = np.zeros((chunks, len(ctx.weights)), np.float32)
        run(
            predict_kernels.predict_gradient,
            (
                *map(flat, (f_v, f_g, sigma)), ctx.weights, *ctx.common, counter(),
                *map(flat, (offsets, quaternions, inverse_lengths, *gradients)), *map(whole, by_inputs), sums,
            ),
            min(thread_count(), chunks),
        )  # fmt: skip
        return (None, None, None, *by_inputs, *split(sums.sum(axis=0), tuple(weights)))


class _Deform(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, keep: bool, sizes: tuple[int, ...], switches: tuple[bool, ...], bounds: Bounds,
        frequencies: NDArray[np.float32], f_v: Tensor, positions: Tensor, *tensors: Tensor,
    ) -> Rows:  # fmt: skip
        rows, weights = tensors[:5], tensors[5:]
        count, (_, primitives, width) = len(positions), sizes
        block = deform_kernels.BLOCK
        blocks, empty = -(-count // block), PaddedRows(count, block)
        found = empty(primitives, 3), empty(primitives, 4), empty(primitives, 3), empty(primitives), empty(primitives, 3)
        size = deform_kernels.state_layout(width, 6 * len(frequencies), *switches[:2])[-1]
        states = torch.empty(blocks * size if keep else 0)
        parts = weights[: 6 * switches[0]], weights[6 * switches[0] :]
        ctx.flat_weights = tuple(map(concatenate, parts))
        ctx.common = frequencies, sizes, switches, bounds, count
        run(
            deform_kernels.deform,
            (
                flat(f_v), flat(positions), *ctx.flat_weights, *ctx.common, counter(), keep, flat(states),
                *map(flat, rows), *map(whole, found),
            ),
            min(thread_count(), blocks),
        )  # fmt: skip
        means, rotations, scales, opacities, shades = (tensor.flatten(0, 1) for tensor in found)
        if keep:
            offsets, log_scales, quaternions, _, _ = rows
            ctx.save_for_backward(f_v, states, offsets, log_scales, quaternions, scales, opacities, shades, *weights)
        return means, rotations, scales, opacities, shades

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        f_v, states, *saved = ctx.saved_tensors
        weights = saved[6:]
        _, (n_v, primitives, _), (coarse, _, _, _), _, count = ctx.common
        empty = PaddedRows(count, deform_kernels.BLOCK)
        by_rows = empty(primitives, 3), empty(primitives, 3), empty(primitives, 4), empty(primitives, 3), empty(primitives)
        by_positions, by_f_v = empty(3), empty(n_v) if coarse else None
        chunks = min(CHUNKS, -(-count // deform_kernels.BLOCK))
        sums = np.zeros((chunks, sum(map(len, ctx.flat_weights))), np.float32)
        run(
            deform_kernels.deform_gradient,
            (
                flat(f_v), *ctx.flat_weights, *ctx.common, counter(), *map(flat, (states, *saved[:6], *gradients)),
                *map(whole, (*by_rows, by_positions)), np.empty(0, np.float32) if by_f_v is None else whole(by_f_v), sums,
            ),
            min(thread_count(), chunks),
        )  # fmt: skip
        return (None, None, None, None, None, by_f_v, by_positions, *by_rows, *split(sums.sum(axis=0), tuple(weights)))
