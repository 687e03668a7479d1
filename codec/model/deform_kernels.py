"""Eq. 2 to 5 in one pass over memory, forward and backward: what ``AnchorModel.deform_plain`` says in torch.

Anchors go through in blocks of BLOCK; a column of a block's matrices is an anchor. Without a network its output is
zero, which changes nothing. Gradients of the weights are summed over a fixed number of chunks of anchors, each in a
fixed order, so they do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..jit import enlist, kernel, take
from ..vectors.layers import (
    COLUMNS,
    add_row_sums,
    clear,
    columns_from_rows,
    layer,
    pull_back,
    pull_back_gated,
    rows_from_columns,
    weight_gradient,
)  # fmt: skip
from ..vectors.vector import LANES, Code, Flag, Floats, Vec, Whole, emitted
from ..vectors.vector_math import (
    add,
    clamp,
    conjugate,
    dot,
    existing,
    exp,
    hamilton,
    rotation_gradient,
    rotation_matrix,
    sigmoid,
    sine_cosine,
    unit,
    unit_gradient,
    within,
)  # fmt: skip

BLOCK = 8 * COLUMNS
LD = BLOCK + COLUMNS  # a power of two would crowd into few sets of a cache
COARSE = 14  # rows of the coarse output: offset 3, log scale 3, quaternion 4, colour 3, logit 1
_LOG_SCALE, _QUATERNION, _COLOR, _LOGIT = 3, 6, 10, 13
FINE = 4  # rows of the fine output per primitive: logit 1, colour 3
_NO_FLOOR = -np.inf


@register_jitable
def timed_layout(inputs: int, width: int, outputs: int) -> Any:
    """Where in a network's flat weights: weight and bias (time row included) of each of three layers."""
    first_bias = width * inputs
    second = first_bias + width
    second_bias = second + width * width
    final = second_bias + width
    return 0, first_bias, second, second_bias, final, final + outputs * width


@register_jitable
def timed_mlp(
    weights: Any, inputs: int, width: int, outputs: int, xs: Any, x: int, hidden: Any, first: int, second: int,
    outs: Any, out: int,
) -> None:  # fmt: skip
    """The columns of x through the network; both hidden layers go to ``hidden`` at ``first`` and ``second``."""
    w1, b1, w2, b2, w3, b3 = timed_layout(inputs, width, outputs)
    layer(weights, w1, b1, width, inputs, xs, x, hidden, first, LD, BLOCK, 0.0)
    layer(weights, w2, b2, width, width, hidden, first, hidden, second, LD, BLOCK, 0.0)
    layer(weights, w3, b3, outputs, width, hidden, second, outs, out, LD, BLOCK, _NO_FLOOR)


@register_jitable
def timed_mlp_gradient(
    weights: Any, inputs: int, width: int, outputs: int, xs: Any, x: int, hidden: Any, first: int, second: int,
    by_out: Any, g: Any, sums: Any, base: int,
) -> None:  # fmt: skip
    """Adds the weights' gradients to sums[base ...] and leaves the first layer's in ``g`` (2, width, LD)."""
    w1, b1, w2, b2, w3, b3 = timed_layout(inputs, width, outputs)
    by_second = width * LD
    add_row_sums(by_out, 0, LD, outputs, BLOCK, sums, base + b3)
    weight_gradient(by_out, 0, LD, outputs, hidden, second, LD, width, BLOCK, sums, base + w3)
    pull_back_gated(weights, w3, outputs, width, by_out, 0, g, by_second, hidden, second, LD, BLOCK)

    add_row_sums(g, by_second, LD, width, BLOCK, sums, base + b2)
    weight_gradient(g, by_second, LD, width, hidden, first, LD, width, BLOCK, sums, base + w2)
    pull_back_gated(weights, w2, width, width, g, by_second, g, 0, hidden, first, LD, BLOCK)

    add_row_sums(g, 0, LD, width, BLOCK, sums, base + b1)
    weight_gradient(g, 0, LD, width, xs, x, LD, inputs, BLOCK, sums, base + w1)


@emitted
def move_anchors(
    code: Code, positions: Floats, begin: Whole, last: Whole, state: Floats, coarse: Whole, anchors: Whole
) -> None:
    """Anchors (3, LD): positions, moved by the first rows of the coarse output."""
    with code.loop(BLOCK, step=LANES) as v:
        for i in range(3):
            position = positions.gather(begin + v, last, 3, i)
            state.store(anchors + i * LD + v, position + state.load(coarse + i * LD + v))


@emitted
def encode_positions(
    code: Code, state: Floats, anchors: Whole, scales: Floats, count: Whole, to: Whole
) -> None:
    """f_p of anchors (3, LD), as ``position_code``: the sines of all axes and frequencies, then the cosines."""
    with code.loop(count) as f:
        scale = scales.everywhere(f)
        for axis in range(3):
            with code.loop(BLOCK, step=LANES) as v:
                sine, cosine = sine_cosine(state.load(anchors + axis * LD + v) * scale)
                row = count * axis + f
                state.store(to + row * LD + v, sine)
                state.store(to + (row + count * 3) * LD + v, cosine)


@emitted
def write_gaussians(
    code: Code, state: Floats, coarse: Whole, anchors: Whole, fine: Floats, begin: Whole, last: Whole, primitives: Whole,
    low: Vec, high: Vec, rotate: Flag, fade: Flag,
    offsets: Floats, log_scales: Floats, quaternions: Floats, colors: Floats, logits: Floats,
    means: Floats, rotations: Floats, scales: Floats, opacities: Floats, shades: Floats,
) -> None:  # fmt: skip
    """A block's primitives and its networks' outputs to activated Gaussians."""
    with code.loop(BLOCK, step=LANES) as v:
        anchor = begin + v
        delta = [state.load(coarse + i * LD + v) for i in range(COARSE)]
        grow, tint = delta[_LOG_SCALE:_QUATERNION], delta[_COLOR:_LOGIT]
        turn, _ = unit(turned(code, delta))
        matrix = rotation_matrix(turn)
        place = [state.load(anchors + i * LD + v) for i in range(3)]
        dim = fade.select(delta[_LOGIT], code.number(0.0))
        with code.loop(primitives) as k:

            def read(table: Floats, width: int) -> list[Vec]:
                return [table.gather(anchor, last, primitives * width, k * width + i) for i in range(width)]

            def write(table: Floats, values: list[Vec]) -> None:
                for i, value in enumerate(values):
                    table.scatter(anchor, primitives * len(values), k * len(values) + i, value)

            detail = [fine.load((k * FINE + i) * LD + v) for i in range(FINE)]
            offset = read(offsets, 3)
            offset = [rotate.select(dot(row, offset), x) for row, x in zip(matrix, offset, strict=True)]
            write(means, add(offset, place))
            write(rotations, hamilton(turn, read(quaternions, 4)))
            write(scales, [exp(clamp(x, low, high)) for x in add(read(log_scales, 3), grow)])
            write(opacities, [sigmoid(read(logits, 1)[0] + dim + detail[0])])
            write(shades, [sigmoid(x) for x in add(add(read(colors, 3), tint), detail[1:])])


def turned(code: Code, delta: list[Vec]) -> list[Vec]:
    """The coarse output's quaternion, a difference from the identity."""
    return add(delta[_QUATERNION:_COLOR], [code.number(x) for x in (1.0, 0.0, 0.0, 0.0)])


@register_jitable
def state_layout(width: int, code: int, coarse: bool, fine: bool) -> Any:
    """Where in a block's state: coarse output, deformed anchors, coarse hidden layers, code, fine hidden layers; the end."""
    coarse_hidden = COARSE + 3
    code_at = coarse_hidden + (2 * width if coarse else 0)
    fine_hidden = code_at + (code if fine else 0)
    end = fine_hidden + (2 * width if fine else 0)
    return 0, COARSE * LD, coarse_hidden * LD, code_at * LD, fine_hidden * LD, end * LD


@kernel
def deform(
    f_v: Any, positions: Any, coarse_weights: Any, fine_weights: Any, frequencies: Any, sizes: Any, switches: Any,
    bounds: Any, count: int, counter: Any, keep: bool, states: Any,
    offsets: Any, log_scales: Any, quaternions: Any, colors: Any, logits: Any,
    means: Any, rotations: Any, scales: Any, opacities: Any, shades: Any,
) -> None:  # fmt: skip
    """All blocks; ``states`` takes what the backward pass reads, ``state_layout`` of each block, if ``keep``."""
    n_v, primitives, width = sizes
    coarse, fine, rotate, fade = switches
    code = 6 * len(frequencies)
    out, anchors, coarse_hidden, code_at, fine_hidden, size = state_layout(width, code, coarse, fine)
    references, detail = np.empty(n_v * LD, np.float32), np.zeros(FINE * primitives * LD, np.float32)
    scratch = states if keep else np.empty(size, np.float32)
    blocks = -(-count // BLOCK)
    rank = enlist(counter)
    number = take(counter, rank, blocks)
    while number < blocks:
        begin, s = number * BLOCK, number * size if keep else 0
        if coarse:
            h = s + coarse_hidden
            columns_from_rows(f_v, begin, count - 1, n_v, 0, n_v, references, 0, LD, BLOCK)
            timed_mlp(coarse_weights, n_v, width, COARSE, references, 0, scratch, h, h + width * LD, scratch, s + out)
        else:
            clear(scratch, s + out, LD, COARSE, BLOCK)
        move_anchors(positions, begin, count - 1, scratch, s + out, s + anchors)
        if fine:
            h, x = s + fine_hidden, s + code_at
            encode_positions(scratch, s + anchors, frequencies, len(frequencies), x)
            timed_mlp(fine_weights, code, width, FINE * primitives, scratch, x, scratch, h, h + width * LD, detail, 0)
        write_gaussians(
            scratch, s + out, s + anchors, detail, begin, count - 1, primitives, bounds[0], bounds[1], rotate, fade,
            offsets, log_scales, quaternions, colors, logits, means, rotations, scales, opacities, shades,
        )  # fmt: skip
        number = take(counter, rank, blocks)


@emitted
def read_gradients(
    code: Code, state: Floats, coarse: Whole, begin: Whole, count: Whole, primitives: Whole,
    low: Vec, high: Vec, rotate: Flag, fade: Flag,
    offsets: Floats, log_scales: Floats, quaternions: Floats, scales: Floats, opacities: Floats, shades: Floats,
    by_means: Floats, by_rotations: Floats, by_scales: Floats, by_opacities: Floats, by_shades: Floats,
    by_offsets: Floats, by_log_scales: Floats, by_quaternions: Floats, by_colors: Floats, by_logits: Floats,
    by_positions: Floats, by_coarse: Floats, by_fine: Floats,
) -> None:  # fmt: skip
    """From gradients of Gaussians to those of primitives, positions, and both networks' outputs (zero beyond ``count``)."""
    last = count - 1
    with code.loop(BLOCK, step=LANES) as v:
        anchor = begin + v
        there = existing(code, anchor, count)
        delta = [state.load(coarse + i * LD + v) for i in range(COARSE)]
        turn, inverse = unit(turned(code, delta))
        matrix = rotation_matrix(turn)
        by_place, by_grow, by_turn, by_tint = code.zeros(3), code.zeros(3), code.zeros(4), code.zeros(3)
        (by_dim,), by_matrix = code.zeros(1), [code.zeros(3) for _ in range(3)]
        with code.loop(primitives) as k:

            def read(table: Floats, width: int) -> list[Vec]:
                return [table.gather(anchor, last, primitives * width, k * width + i) for i in range(width)]

            def write(table: Floats, values: list[Vec]) -> None:
                for i, value in enumerate(values):
                    table.scatter(anchor, primitives * len(values), k * len(values) + i, value)

            def write_fine(i: int, value: Vec) -> None:
                by_fine.store((k * FINE + i) * LD + v, value * there)

            offset, g = read(offsets, 3), read(by_means, 3)
            for i in range(3):
                by_place[i].add(g[i])
                for j in range(3):
                    by_matrix[i][j].add(g[i] * offset[j])
            write(by_offsets, [rotate.select(dot([row[j] for row in matrix], g), g[j]) for j in range(3)])

            g = read(by_rotations, 4)
            write(by_quaternions, hamilton(conjugate(turn), g))
            for total, x in zip(by_turn, hamilton(g, conjugate(read(quaternions, 4))), strict=True):
                total.add(x)

            g = [x * y for x, y in zip(read(scales, 3), read(by_scales, 3), strict=True)]
            raw = add(read(log_scales, 3), delta[_LOG_SCALE:_QUATERNION])
            g = [within(x, low, high, y) for x, y in zip(raw, g, strict=True)]
            write(by_log_scales, g)
            for total, x in zip(by_grow, g, strict=True):
                total.add(x)

            pairs = zip(read(shades, 3), read(by_shades, 3), strict=True)
            g = [y * x * (1.0 - x) for x, y in pairs]
            write(by_colors, g)
            for i, x in enumerate(g):
                by_tint[i].add(x)
                write_fine(1 + i, x)

            (opacity,), (x,) = read(opacities, 1), read(by_opacities, 1)
            x = x * opacity * (1.0 - opacity)
            write(by_logits, [x])
            by_dim.add(x)
            write_fine(0, x)

        values = {name: [total.value for total in totals] for name, totals in (("place", by_place), ("turn", by_turn))}
        for i, x in enumerate(values["place"]):
            by_positions.scatter(anchor, 3, i, x)
        spin = rotation_gradient(turn, [[total.value for total in row] for row in by_matrix])
        spin = [rotate.select(x, code.number(0.0)) for x in spin]
        out = [
            *values["place"], *(total.value for total in by_grow),
            *unit_gradient(turn, inverse, add(values["turn"], spin)),
            *(total.value for total in by_tint), fade.select(by_dim.value, code.number(0.0)),
        ]  # fmt: skip
        for i, x in enumerate(out):
            by_coarse.store(v + i * LD, x * there)


@kernel
def deform_gradient(
    f_v: Any, coarse_weights: Any, fine_weights: Any, frequencies: Any, sizes: Any, switches: Any, bounds: Any,
    count: int, counter: Any, states: Any,
    offsets: Any, log_scales: Any, quaternions: Any, scales: Any, opacities: Any, shades: Any,
    by_means: Any, by_rotations: Any, by_scales: Any, by_opacities: Any, by_shades: Any,
    by_offsets: Any, by_log_scales: Any, by_quaternions: Any, by_colors: Any, by_logits: Any, by_positions: Any,
    by_f_v: Any, sums: Any,
) -> None:  # fmt: skip
    """Gradients of all inputs; those of the weights (coarse, then fine) into ``sums`` (chunks, weights), which holds zeros."""
    n_v, primitives, width = sizes
    coarse, fine, rotate, fade = switches
    code = 6 * len(frequencies)
    out, _, coarse_hidden, code_at, fine_hidden, size = state_layout(width, code, coarse, fine)
    references, g = np.empty(n_v * LD, np.float32), np.empty(2 * width * LD, np.float32)
    by_coarse, by_fine = np.empty(COARSE * LD, np.float32), np.empty(FINE * primitives * LD, np.float32)
    blocks, chunks = -(-count // BLOCK), sums.shape[0]
    rank = enlist(counter)
    chunk = take(counter, rank, chunks)
    while chunk < chunks:
        total = sums[chunk]
        for number in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            begin, s = number * BLOCK, number * size
            read_gradients(
                states, s + out, begin, count, primitives, bounds[0], bounds[1], rotate, fade,
                offsets, log_scales, quaternions, scales, opacities, shades,
                by_means, by_rotations, by_scales, by_opacities, by_shades,
                by_offsets, by_log_scales, by_quaternions, by_colors, by_logits, by_positions, by_coarse, by_fine,
            )  # fmt: skip
            if fine:
                h = s + fine_hidden
                timed_mlp_gradient(
                    fine_weights, code, width, FINE * primitives, states, s + code_at, states, h, h + width * LD,
                    by_fine, g, total, len(coarse_weights),
                )  # fmt: skip
            if coarse:
                h = s + coarse_hidden
                columns_from_rows(f_v, begin, count - 1, n_v, 0, n_v, references, 0, LD, BLOCK)
                timed_mlp_gradient(
                    coarse_weights, n_v, width, COARSE, references, 0, states, h, h + width * LD, by_coarse, g, total, 0
                )
                pull_back(coarse_weights, 0, width, n_v, g, 0, references, 0, LD, BLOCK)
                rows_from_columns(references, 0, LD, BLOCK, by_f_v, begin, n_v, 0, n_v)
        chunk = take(counter, rank, chunks)
