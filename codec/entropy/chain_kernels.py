"""All context networks and components of a block of anchors in one pass over memory, forward and backward.

It is what ``MultiDimensionEntropyModel._code_plain`` says in torch: network, quantisation, bits, and the rounded values
as context of the next network, for f_v, sigma and colour, and one chunk of f_g after the other. A block of anchors goes
through all of them as columns (a feature is ``BLOCK`` floats), so a context is never gathered, copied or concatenated:
a network reads the first rows of the block's contexts. Noise is a hash of seed and place, which the backward pass
computes again. Gradients of weights and steps are summed over a fixed number of chunks of blocks, so no bit depends on
the number of threads.

A block's state is its contexts, then every network's outputs; the gradients of a state have its layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..jit import enlist, kernel, take
from ..vectors.layers import (
    add_bounded,
    add_row_sums,
    columns_from_rows,
    gate_leaky,
    layer,
    leaky_layer,
    pull_back,
    pull_back_added,
    pull_back_leaky,
    rows_from_columns,
    weight_gradient,
)
from ..vectors.vector import LANES, Code, Flag, Floats, Vec, Whole, emitted
from ..vectors.vector_math import clamp, existing, exp, log2, nearest, normal_density, tanh, uniform, upper_tail
from .likelihood import FACTOR_TANH_MAX, FACTOR_TANH_MIN, LOG_SIGMA_MAX, LOG_SIGMA_MIN, TAIL_MASS, TAIL_WIDTH
from .network_kernels import BLOCK, layout
from .networks import HIDDEN_LIMIT, INPUT_LIMIT, SLOPE

# Rows of the table of constants, each with all components' columns: the step and its log, mean, deviation and its log,
# and what a context is multiplied with.
STEP, LOG_STEP, MEAN, DEVIATION, LOG_DEVIATION, PER_CONTEXT = range(6)
# A network: where its weights begin, how many inputs and outputs, where in the state its outputs begin.
WEIGHTS, INPUTS, OUTPUTS, OUT = range(4)
# A component: which of the four inputs it is; that one's columns; the component's own as groups of a width, how far
# from group to group, and where the first begins; the same for the constants and the means; where in the state are its
# means, log deviations, raw step factors and contexts (-1: it is none); whether it gets noise (0: none; 1: the gradient
# of its bits alone; 2: its values too), and that one's seed.
TABLE, STRIDE, GROUPS, WIDTH, GROUP_STRIDE, OFFSET, COLUMN = range(7)
MEAN_AT, SIGMA_AT, FACTOR_AT, CONTEXT, NOISY, SEED = range(7, 13)
_PER_LN2 = 1.4426950408889634
_SLOPE, _LIMIT, _FREE = np.float32(SLOPE), np.float32(HIDDEN_LIMIT), np.float32(np.inf)


def _noise(code: Code, first: Whole, columns: Whole, j: Whole, seed: Whole) -> Vec:
    """What is added to column j of the anchors from ``first`` on."""
    return uniform((first * columns + j).to_bits() + code.lane_bits() * columns.to_bits(), seed.to_bits())


def _edges(distance: Vec, inverse: Vec) -> tuple[Vec, Vec]:
    """The two ends of a residual's interval, in deviations, of which the second is farther out."""
    size = distance.magnitude()
    return (size - 0.5) * inverse, (size + 0.5) * inverse


def _tail(distance: Vec) -> Vec:
    """The mass that the floor of the frequencies and the escape give."""
    place = distance * (1.0 / TAIL_WIDTH)
    return TAIL_MASS * 1.0 / (place * place + 1.0)


def _log(x: Vec) -> Vec:
    return log2(x) * (1.0 / _PER_LN2)


@emitted
def code_block(
    code: Code, table: Floats, stride: Whole, groups: Whole, width: Whole, group_stride: Whole, offset: Whole,
    state: Floats, mean_at: Whole, sigma_at: Whole, factor_at: Whole, constants: Floats, column: Whole, columns: Whole,
    begin: Whole, count: Whole, adaptive: Flag, noisy: Flag, seed: Whole, counting: Flag,
    values: Floats, means: Floats, means_at: Whole, factors: Floats, factors_at: Whole,
    contexts: Floats, context_at: Whole, bits: Floats, bits_at: Whole,
) -> None:  # fmt: skip
    """A component's values, means, step factors and contexts; what the rounded ones cost, if that is wanted."""
    own = groups * width
    (total,) = code.zeros(1)
    with code.loop(BLOCK, step=LANES) as v:
        first = begin + v
        raw = clamp(state.load(factor_at + v), FACTOR_TANH_MIN, FACTOR_TANH_MAX)
        factor = adaptive.select(tanh(raw) + 1.0, code.number(1.0))
        factor_log = _log(factor)
        factors.store(factors_at + first, factor)
        there = existing(code, first, count)
        with code.loop(groups) as group, code.loop(width) as i:
            j = group * width + i
            place, at = offset + group * group_stride + i, column + j
            step = constants.everywhere(at) * factor
            value = table.gather(first, count - 1, stride, place)
            mean = constants.everywhere(at + columns * MEAN)
            mu = constants.everywhere(at + columns * DEVIATION) * state.load(mean_at + j * BLOCK + v) + mean
            d = (value - mu) * (1.0 / step)
            whole = nearest(d)
            rounding = whole - d
            u = noisy.select(_noise(code, first, own, j, seed), rounding)
            values.scatter(first, stride, place, value + u * step)
            means.scatter(first, own, means_at + j, mu)
            context = (value + rounding * step - mean) * constants.everywhere(at + columns * PER_CONTEXT)
            contexts.store(context_at + j * BLOCK + v, clamp(context, -INPUT_LIMIT, INPUT_LIMIT))
            with code.when(counting):
                log_scale = state.load(sigma_at + j * BLOCK + v) + constants.everywhere(at + columns * LOG_DEVIATION)
                log_scale = log_scale - constants.everywhere(at + columns * LOG_STEP) - factor_log
                near, far = _edges(whole, exp(-clamp(log_scale, LOG_SIGMA_MIN, LOG_SIGMA_MAX)))
                mass = upper_tail(near, normal_density(near)) - upper_tail(far, normal_density(far))
                total.add(-log2(mass.at_least(0.0) + _tail(whole)) * there)
    bits.add_sums(bits_at, [total.value])


@emitted
def pull_back_block(
    code: Code, table: Floats, stride: Whole, groups: Whole, width: Whole, group_stride: Whole, offset: Whole,
    state: Floats, base: Whole, mean_at: Whole, sigma_at: Whole, factor_at: Whole,
    constants: Floats, column: Whole, columns: Whole, begin: Whole, count: Whole,
    adaptive: Flag, noisy: Flag, smooth: Flag, seed: Whole, contexts: Floats, context_at: Whole,
    by_values: Floats, by_bits: Vec, by_contexts: Floats, by_context_at: Whole, gathered: Floats, factors_at: Whole,
    by_f: Floats, by_state: Floats, by_q: Floats,
) -> None:  # fmt: skip
    """Gradients of :func:`code_block`'s inputs; ``by_q`` is added to. ``base`` is where the block's state begins."""
    own = groups * width
    with code.loop(BLOCK, step=LANES) as v:
        first = begin + v
        there = existing(code, first, count)
        raw = state.load(base + factor_at + v)
        bent = tanh(clamp(raw, FACTOR_TANH_MIN, FACTOR_TANH_MAX))
        factor = adaptive.select(bent + 1.0, code.number(1.0))
        factor_log = _log(factor)
        weight_of_bits = by_bits * there
        (by_log,) = code.zeros(1)
        with code.loop(groups) as group, code.loop(width) as i:
            j = group * width + i
            place, at = offset + group * group_stride + i, column + j
            step = constants.everywhere(at) * factor
            per_step = 1.0 / step
            deviation = constants.everywhere(at + columns * DEVIATION)
            mu = deviation * state.load(base + mean_at + j * BLOCK + v) + constants.everywhere(at + columns * MEAN)
            d = (table.gather(first, count - 1, stride, place) - mu) * per_step
            rounding = nearest(d) - d
            noise = _noise(code, first, own, j, seed)
            u = noisy.select(noise, rounding)
            distance = d + smooth.select(noise, rounding)

            log_scale = state.load(base + sigma_at + j * BLOCK + v) + constants.everywhere(at + columns * LOG_DEVIATION)
            log_scale = log_scale - constants.everywhere(at + columns * LOG_STEP) - factor_log
            inverse = exp(-clamp(log_scale, LOG_SIGMA_MIN, LOG_SIGMA_MAX))
            near, far = _edges(distance, inverse)
            at_near, at_far = normal_density(near), normal_density(far)
            tail = _tail(distance)
            mass = (upper_tail(near, at_near) - upper_tail(far, at_far)).at_least(0.0) + tail
            weight = weight_of_bits * _PER_LN2 * (1.0 / mass)
            slope = (at_near - at_far) * inverse
            by_tail = tail * tail * distance * (2.0 / (TAIL_WIDTH * TAIL_WIDTH * TAIL_MASS))
            by_d = weight * ((distance > 0.0).select(slope, -slope) + by_tail)
            by_scale = weight * (at_far * far - at_near * near)
            low, high = log_scale < LOG_SIGMA_MIN, log_scale > LOG_SIGMA_MAX
            outward = (low & (by_scale > 0.0)) | (high & (by_scale < 0.0))
            by_scale = outward.select(0.0, by_scale)

            g = by_values.gather(first, count - 1, stride, place) * there
            inside = contexts.load(context_at + j * BLOCK + v).magnitude() < INPUT_LIMIT
            h = by_contexts.load(by_context_at + j * BLOCK + v) * constants.everywhere(at + columns * PER_CONTEXT)
            h = inside.select(h, 0.0) * there
            by_value = by_d * per_step
            by_f.scatter(first, stride, place, g + h + by_value)
            by_state.store(mean_at + j * BLOCK + v, -by_value * deviation)
            by_state.store(sigma_at + j * BLOCK + v, by_scale)
            by_step = (g * u + h * rounding) * step - by_d * d - by_scale
            by_log.add(by_step)
            by_q.add_sums(at, [by_step])
        # factor = 1 + tanh(raw), of whose log the gradient is by_log, and of itself what is gathered.
        by_raw = (by_log.value + gathered.load(factors_at + first) * there * factor) * (1.0 - bent)
        free = (raw >= FACTOR_TANH_MIN) & (raw <= FACTOR_TANH_MAX)
        by_state.store(factor_at + v, adaptive.select(free.select(by_raw, 0.0), code.number(0.0)))


@register_jitable
def hidden_layers(
    xs: Any, x: int, weights: Any, w: int, inputs: int, hidden: int, first: Any, added: Any, second: Any
) -> None:
    """The first layer's result, and the second's before and after the first is added, from columns at xs[x]."""
    first_bias, second_weight, second_bias, _, _ = layout(inputs, hidden, 0)
    leaky_layer(weights, w, w + first_bias, hidden, inputs, xs, x, first, 0, BLOCK, BLOCK, _SLOPE, _LIMIT)
    leaky_layer(
        weights, w + second_weight, w + second_bias, hidden, hidden, first, 0, added, 0, BLOCK, BLOCK, _SLOPE, _FREE
    )
    add_bounded(second, first, added, BLOCK, hidden, BLOCK, _LIMIT)


@register_jitable
def first_component(network: int) -> int:
    """Of a network; the second network has two components, all others one."""
    return network if network < 2 else network + 1


@kernel
def forward(
    eta: Any, inputs: Any, weights: Any, networks: Any, components: Any, constants: Any, sizes: Any, count: int,
    adaptive: bool, counting: bool, keep: bool, counter: Any, states: Any, values: Any, means: Any, factors: Any,
    bits: Any,
) -> None:  # fmt: skip
    """Every thread's share of the values and bits of (count,) anchors.

    Args:
        eta: (count, hyper), scaled as the first network takes it.
        inputs: f_v, sigma, colour, f_g, as rows.
        networks, components: tables; see their columns' names. The first component's context begins at 0.
        constants: (6, columns of all components).
        sizes: of eta, the hidden layers, the contexts, a state, the widest component, and rows of whole blocks.
        states: a state per block, out, if ``keep``.
        values: like ``inputs``, in whole blocks of rows; out.
        means: every component's (rows, its columns), one after the other; out.
        factors: (components, rows) of step factors; out.
        bits: (blocks, components), zeros; out.
    """
    hyper, hidden, _, size, widest, rows = sizes
    columns = constants.size // 6
    xs, spare = np.empty(hyper * BLOCK, np.float32), np.empty(widest * BLOCK, np.float32)
    first, added, second = (
        np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32)
    )  # fmt: skip
    own_state = np.empty(0 if keep else size, np.float32)
    blocks = -(-count // BLOCK)
    rank = enlist(counter)
    number = take(counter, rank, blocks)
    while number < blocks:
        begin = number * BLOCK
        state = states[number * size : (number + 1) * size] if keep else own_state
        columns_from_rows(eta, begin, count - 1, hyper, 0, hyper, xs, 0, BLOCK, BLOCK)
        for network in range(networks.shape[0]):
            w, n_in = networks[network, WEIGHTS], networks[network, INPUTS]
            n_out, out = networks[network, OUTPUTS], networks[network, OUT]
            _, _, _, last, last_bias = layout(n_in, hidden, n_out)
            source = xs if network == 0 else state
            hidden_layers(source, 0, weights, w, n_in, hidden, first, added, second)
            layer(weights, w + last, w + last_bias, n_out, hidden, second, 0, state, out, BLOCK, BLOCK, -_FREE)
            for c in range(first_component(network), first_component(network + 1)):
                one = components[c]
                is_context = one[CONTEXT] >= 0
                code_block(
                    inputs[one[TABLE]], one[STRIDE], one[GROUPS], one[WIDTH], one[GROUP_STRIDE], one[OFFSET],
                    state, one[MEAN_AT], one[SIGMA_AT], one[FACTOR_AT], constants, one[COLUMN], columns,
                    begin, count, adaptive, one[NOISY] > 1, one[SEED], counting,
                    values[one[TABLE]], means, rows * one[COLUMN], factors, rows * c,
                    state if is_context else spare, max(one[CONTEXT], 0), bits, number * components.shape[0] + c,
                )  # fmt: skip
        number = take(counter, rank, blocks)


@kernel
def backward(
    eta: Any, inputs: Any, weights: Any, networks: Any, components: Any, constants: Any, sizes: Any, count: int,
    adaptive: bool, counter: Any, states: Any, by_values: Any, by_bits: Any, gathered: Any,
    by_eta: Any, by_inputs: Any, sums: Any, by_q: Any,
) -> None:  # fmt: skip
    """Every thread's share of the gradients.

    Args:
        by_values, by_inputs: like ``inputs``; the latter in whole blocks of rows, out.
        by_bits: (components,).
        gathered: (components, rows) further gradients of the step factors.
        by_eta: whole blocks of rows; out.
        sums: (chunks, weights), zeros; out.
        by_q: (chunks, columns of all components), zeros; out: of the log steps.
    """
    hyper, hidden, contexts, size, widest, rows = sizes
    columns = constants.size // 6
    xs, nothing = np.empty(hyper * BLOCK, np.float32), np.zeros(widest * BLOCK, np.float32)
    first, added, second = (
        np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32)
    )  # fmt: skip
    by_sum, by_added = np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32)
    by_state = np.empty(size, np.float32)
    blocks, chunks = -(-count // BLOCK), sums.shape[0]
    rank = enlist(counter)
    chunk = take(counter, rank, chunks)
    while chunk < chunks:
        total = sums[chunk]
        for number in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            begin, base = number * BLOCK, number * size
            by_state[: contexts * BLOCK] = np.float32(0.0)
            columns_from_rows(eta, begin, count - 1, hyper, 0, hyper, xs, 0, BLOCK, BLOCK)
            for network in range(networks.shape[0] - 1, -1, -1):
                for c in range(first_component(network), first_component(network + 1)):
                    one = components[c]
                    is_context = one[CONTEXT] >= 0
                    # Before the call: numba takes no branches between so many arguments.
                    contexts_in, contexts_out = (states, by_state) if is_context else (nothing, nothing)
                    context_base = base + one[CONTEXT] if is_context else 0
                    pull_back_block(
                        inputs[one[TABLE]], one[STRIDE], one[GROUPS], one[WIDTH], one[GROUP_STRIDE], one[OFFSET],
                        states, base, one[MEAN_AT], one[SIGMA_AT], one[FACTOR_AT], constants, one[COLUMN], columns,
                        begin, count, adaptive, one[NOISY] > 1, one[NOISY] > 0, one[SEED],
                        contexts_in, context_base, by_values[one[TABLE]], by_bits[c],
                        contexts_out, max(one[CONTEXT], 0), gathered, rows * c,
                        by_inputs[one[TABLE]], by_state, by_q[chunk],
                    )  # fmt: skip
                w, n_in = networks[network, WEIGHTS], networks[network, INPUTS]
                n_out, out = networks[network, OUTPUTS], networks[network, OUT]
                first_bias, second_weight, second_bias, last, last_bias = layout(n_in, hidden, n_out)
                source = xs if network == 0 else states
                hidden_layers(source, 0 if network == 0 else base, weights, w, n_in, hidden, first, added, second)
                add_row_sums(by_state, out, BLOCK, n_out, BLOCK, total, w + last_bias)
                weight_gradient(by_state, out, BLOCK, n_out, second, 0, BLOCK, hidden, BLOCK, total, w + last)
                pull_back(weights, w + last, n_out, hidden, by_state, out, by_sum, 0, BLOCK, BLOCK)

                gate_leaky(by_sum, by_added, second, added, BLOCK, hidden, BLOCK, _SLOPE, _LIMIT)
                add_row_sums(by_added, 0, BLOCK, hidden, BLOCK, total, w + second_bias)
                weight_gradient(by_added, 0, BLOCK, hidden, first, 0, BLOCK, hidden, BLOCK, total, w + second_weight)
                by_first = by_sum
                pull_back_leaky(
                    weights, w + second_weight, hidden, hidden, by_added, 0, by_first, 0, first, 0, BLOCK, BLOCK,
                    _SLOPE, _LIMIT,
                )  # fmt: skip

                add_row_sums(by_first, 0, BLOCK, hidden, BLOCK, total, w + first_bias)
                x = 0 if network == 0 else base
                weight_gradient(by_first, 0, BLOCK, hidden, source, x, BLOCK, n_in, BLOCK, total, w)
                if network == 0:
                    pull_back(weights, w, hidden, n_in, by_first, 0, xs, 0, BLOCK, BLOCK)
                    rows_from_columns(xs, 0, BLOCK, BLOCK, by_eta, begin, hyper, 0, hyper)
                else:
                    pull_back_added(weights, w, hidden, n_in, by_first, 0, by_state, 0, BLOCK, BLOCK)
        chunk = take(counter, rank, chunks)
