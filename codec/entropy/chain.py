"""The entropy model's networks and quantisation on a CPU: what ``chain_kernels`` need, and their place in autograd.

Imports numba.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..jit import run, thread_count
from ..vectors.arrays import CHUNKS, PaddedRows, concatenate, counter, flat, split, whole
from . import chain_kernels
from .chain_kernels import BLOCK
from .config import EntropyConfig

ATTRIBUTES = ("f_v", "sigma", "color", "f_g")
_INPUTS = len(ATTRIBUTES)


@dataclass(frozen=True)
class Plan:
    """What stays the same from call to call, but for the seeds.

    Attributes:
        f_g_order: (K * f_g,) places of f_g's columns, chunk by chunk.
    """

    config: EntropyConfig
    networks: NDArray[np.int64]
    components: NDArray[np.int64]
    contexts: int
    size: int
    f_g_order: NDArray[np.int64]

    @property
    def names(self) -> tuple[str, ...]:
        """The components but for the hyperprior."""
        return self.config.components[1:]

    def joined(self, values: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """One row of all components' columns, from each attribute's; f_g's is (f_g,) or (K, f_g)."""
        shape = (self.config.primitives, self.config.f_g)
        f_g = np.broadcast_to(values["f_g"], shape).reshape(-1)[self.f_g_order]
        return np.concatenate([values["f_v"], values["sigma"], values["color"], f_g])

    def by_attribute(self, row: NDArray[np.float32]) -> list[Tensor]:
        """The gradient of each attribute's columns from that of :meth:`joined`'s row, f_g's as (f_g,)."""
        config = self.config
        first, second, third = np.cumsum([config.f_v, config.sigma, config.color])
        f_g = np.empty_like(row[third:])
        f_g[self.f_g_order] = row[third:]
        f_g = f_g.reshape(config.primitives, config.f_g).sum(axis=0)
        return [torch.from_numpy(part) for part in (row[:first], row[first:second], row[second:third], f_g)]


def plan(config: EntropyConfig) -> Plan:
    """Where everything is; see the tables' columns in ``chain_kernels``."""
    context_width = config.f_v + (config.chunks - 1) * config.chunk_width
    networks, weights, out = [], 0, context_width
    starts: dict[str, int] = {}
    for name, inputs, outputs in config.network_shapes():
        networks.append((weights, inputs, outputs, out * BLOCK))
        starts[name] = out
        weights += (inputs + 1 + config.hidden + 1) * config.hidden + (config.hidden + 1) * outputs
        out += outputs
    first_factor = starts["attributes"] + 2 * (config.sigma + config.color)
    components, column = [], 0
    for index, name in enumerate(config.components[1:]):
        columns, chunk = config.width(name), index - 3
        if chunk < 0:
            table, place = index, (columns, 1, columns, 0, 0)
            context = 0 if name == "f_v" else -1
        else:
            width = config.f_g // config.chunks
            row = config.primitives * config.f_g
            table, place = 3, (row, config.primitives, width, config.f_g, chunk * width)
            context = config.f_v + chunk * config.chunk_width if chunk < config.chunks - 1 else -1
        start = starts[name] if name in starts else starts["attributes"]
        mean, sigma = (start + at for at in config.columns(name))
        factor = start + 2 * columns if name == "f_v" else first_factor + index - 1
        at = (mean * BLOCK, sigma * BLOCK, factor * BLOCK, max(context * BLOCK, -1))
        components.append((table, *place, column, *at, 0, 0))
        column += columns
    width = config.f_g // config.chunks
    order = np.arange(config.primitives * config.f_g).reshape(config.primitives, config.chunks, width)
    return Plan(
        config, np.array(networks, np.int64), np.array(components, np.int64), context_width, out * BLOCK,
        order.transpose(1, 0, 2).reshape(-1),
    )  # fmt: skip


@dataclass
class Coded:
    """What one pass gives.

    Attributes:
        values: f_v, sigma, colour, f_g, quantised.
        bits: of each component, but for the hyperprior; zero where they were not counted.
        means: of each component, (N, its columns); no gradient.
        factors: of each component, (N, 1); no gradient.
    """

    values: tuple[Tensor, Tensor, Tensor, Tensor]
    bits: tuple[Tensor, ...]
    means: dict[str, Tensor]
    factors: dict[str, Tensor]


@dataclass
class Request:
    """What a pass is to do besides its differentiable inputs.

    Attributes:
        statistics: running mean and deviation of each attribute.
        noisy: the components whose values get noise.
        smooth: whether the gradient of the bits is that of noisy values, of all components.
        gathered: further gradients of step factors, (N, 1) by component.
        adaptive: whether there are step factors at all.
        counting: whether bits are counted; their gradient is there in any case.
    """

    plan: Plan
    statistics: dict[str, tuple[Tensor, Tensor]]
    noisy: tuple[str, ...]
    smooth: bool
    gathered: dict[str, Tensor]
    adaptive: bool
    counting: bool


def code(request: Request, eta: Tensor, inputs: list[Tensor], log_q: list[Tensor], weights: list[Tensor]) -> Coded:
    """All components of N anchors.

    Args:
        eta: (N, hyper), scaled as the first network takes it.
        inputs: f_v, sigma, colour, f_g.
        log_q: logs of the steps of each of them.
        weights: of all context networks, each one's layers in turn.
    """
    wants_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (eta, *inputs, *log_q, *weights))
    *values, bits, means, factors = _Chain.apply(request, wants_gradient, eta, *inputs, *log_q, *weights)
    names, count = request.plan.names, len(eta)
    parts, at = {}, 0
    for name in names:
        columns = request.plan.config.width(name)
        parts[name] = means[at * factors.shape[1] :][: count * columns].view(count, columns)
        at += columns
    rows = {name: row[:count, None] for name, row in zip(names, factors.unbind(), strict=True)}
    return Coded(tuple(values), bits.unbind(), parts, rows)


def _constants(request: Request, log_q: list[Tensor]) -> NDArray[np.float32]:
    """The table of constants; copies, as running statistics move on."""
    found = request.plan
    logs = found.joined({name: flat(value) for name, value in zip(ATTRIBUTES, log_q, strict=True)})
    mean, deviation = (
        found.joined({name: pair[i].detach().numpy() for name, pair in request.statistics.items()}) for i in (0, 1)
    )
    step = np.exp(logs)
    scale = np.sqrt(deviation * deviation + step * step / np.float32(12.0))
    return np.concatenate([step, logs, mean, deviation, np.log(deviation), 1 / scale]).astype(np.float32)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, request: Request, keep: bool, eta: Tensor, *tensors: Tensor) -> Any:
        found, count = request.plan, len(eta)
        inputs, log_q, weights = tensors[:_INPUTS], tensors[_INPUTS : 2 * _INPUTS], tensors[2 * _INPUTS :]
        components = found.components.copy()
        components[:, chain_kernels.NOISY] = [request.smooth + (name in request.noisy) for name in found.names]
        if request.smooth:  # torch's generator, so that runs repeat
            components[:, chain_kernels.SEED] = torch.randint(0, 1 << 32, (len(found.names),)).numpy()
        empty, blocks = PaddedRows(count, BLOCK), -(-count // BLOCK)
        config, rows = found.config, empty.padded
        sizes = (config.hyper, config.hidden, found.contexts, found.size, max(map(config.width, found.names)), rows)
        ctx.request, ctx.keep = request, keep
        ctx.common = (
            concatenate(weights), found.networks, components, _constants(request, list(log_q)), sizes, count,
            request.adaptive,
        )  # fmt: skip
        ctx.states = np.empty(found.size * blocks if keep else 0, np.float32)
        values = [empty(*value.shape[1:]) for value in inputs]
        means, factors = torch.empty(rows * len(ctx.common[3]) // 6), torch.empty(len(found.names), rows)
        bits = np.zeros((blocks, len(found.names)), np.float32)
        run(
            chain_kernels.forward,
            (
                flat(eta), tuple(map(flat, inputs)), *ctx.common, request.counting, keep, counter(), ctx.states,
                tuple(map(whole, values)), flat(means), flat(factors), bits.reshape(-1),
            ),
            max(1, min(thread_count(), blocks)),
        )  # fmt: skip
        ctx.save_for_backward(eta, *tensors)
        ctx.mark_non_differentiable(means, factors)
        ctx.set_materialize_grads(False)
        return (*values, torch.from_numpy(bits.sum(axis=0, dtype=np.float64)).float(), means, factors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        request, (eta, *tensors) = ctx.request, ctx.saved_tensors
        found, count = request.plan, len(eta)
        inputs, weights = tensors[:_INPUTS], tensors[2 * _INPUTS :]
        by_values = [
            torch.zeros_like(value) if by is None else by for by, value in zip(gradients, inputs, strict=False)
        ]
        given = gradients[_INPUTS]
        by_bits = torch.zeros(len(found.names)) if given is None else given
        empty, blocks = PaddedRows(count, BLOCK), -(-count // BLOCK)
        gathered = np.zeros((len(found.names), empty.padded), np.float32)
        for row, name in zip(gathered, found.names, strict=True):
            if name in request.gathered:
                row[:count] = flat(request.gathered[name])
        by_eta, by_inputs = empty(eta.shape[1]), [empty(*value.shape[1:]) for value in inputs]
        chunks = max(1, min(CHUNKS, blocks))
        sums = np.zeros((chunks, len(ctx.common[0])), np.float32)
        by_q = np.zeros((chunks, len(ctx.common[3]) // 6), np.float32)
        run(
            chain_kernels.backward,
            (
                flat(eta), tuple(map(flat, inputs)), *ctx.common, counter(), ctx.states, tuple(map(flat, by_values)),
                flat(by_bits), gathered.reshape(-1), whole(by_eta), tuple(map(whole, by_inputs)), sums, by_q,
            ),
            min(thread_count(), chunks),
        )  # fmt: skip
        by_log_q = found.by_attribute(by_q.sum(axis=0))
        return (None, None, by_eta, *by_inputs, *by_log_q, *split(sums.sum(axis=0), weights))
