"""Eq. 1 in one pass over memory, forward and backward: what ``AnchorModel.predict_plain`` says in torch.

Anchors go through in blocks; column k * block + a of a block's matrices is primitive k of its anchor a. The backward
pass computes the layers again: keeping them would take longer, by the time that memory takes. Gradients of the weights are summed over a fixed
number of chunks of anchors, each in a fixed order, so they do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..jit import enlist, kernel, take
from ..vectors.layers import (
    COLUMNS,
    add_layer,
    add_row_sums,
    columns_from_rows,
    gate_residual,
    layer,
    pull_back,
    pull_back_residual,
    residual_layer,
    rows_from_columns,
    weight_gradient,
)  # fmt: skip
from ..vectors.vector import LANES, Code, Floats, Vec, Whole, emitted
from ..vectors.vector_math import add, clamp, existing, exp, unit, unit_gradient, within

HEADS = 14  # rows of the last layer: offset 3, log scale 3, quaternion 4, colour 3, logit 1
_LOG_SCALE, _QUATERNION, _COLOR, _LOGIT = 3, 6, 10, 13
_NO_FLOOR = -np.inf


def block_anchors(primitives: int) -> int:
    """Anchors of a block: some 160 columns, which with the usual widths fit a second-level cache."""
    return COLUMNS * max(1, 160 // (COLUMNS * primitives))


def leading(columns: int) -> int:
    """Floats from row to row: not a multiple of 256 bytes, which few sets of a cache would have to hold."""
    return columns + COLUMNS if columns % (4 * COLUMNS) == 0 else columns


@register_jitable
def layout(n_v: int, n_g: int, primitives: int, width: int) -> Any:
    """Where in the flat weights: shared weight and bias, own, slots, hidden weight and bias, heads and their bias."""
    shared_bias = width * n_v
    own = shared_bias + width
    slots = own + width * n_g
    hidden = slots + primitives * width
    hidden_bias = hidden + width * width
    heads = hidden_bias + width
    return 0, shared_bias, own, slots, hidden, hidden_bias, heads, heads + HEADS * width


@emitted
def add_slots(
    code: Code, common: Floats, block: Whole, weights: Floats, slots: Whole, k: Whole, width: Whole, first: Floats, ld: Whole
) -> None:  # fmt: skip
    """Primitive k's columns of ``first``: what its anchor's primitives share, and its slot's own bias."""
    with code.loop(width) as i:
        slot = weights.everywhere(slots + k * width + i)
        with code.loop(block, step=LANES) as v:
            first.store(i * ld + k * block + v, common.load(i * block + v) + slot)


@emitted
def write_primitives(
    code: Code, out: Floats, ld: Whole, begin: Whole, last: Whole, block: Whole, primitives: Whole,
    low: Vec, high: Vec, sigma: Floats, color: Floats, offsets: Floats, log_scales: Floats, quaternions: Floats,
    inverse_lengths: Floats, colors: Floats, logits: Floats,
) -> None:  # fmt: skip
    """The heads' raw outputs, with what their anchors share, to the rows of ``Primitives``."""
    with code.loop(block, step=LANES) as v:
        anchor = begin + v
        bounded = [clamp(sigma.gather(anchor, last, 6, i), low, high) for i in range(6)]
        size, base = [exp(x) for x in bounded[:3]], bounded[3:]
        shade = [color.gather(anchor, last, 3, i) for i in range(3)]
        with code.loop(primitives) as k:

            def head(first: int, count: int) -> list[Vec]:
                return [out.load((first + i) * ld + k * block + v) for i in range(count)]

            def write(table: Floats, values: list[Vec]) -> None:
                for i, value in enumerate(values):
                    table.scatter(anchor, primitives * len(values), k * len(values) + i, value)

            write(offsets, [x * y for x, y in zip(head(0, 3), size, strict=True)])
            write(log_scales, add(head(_LOG_SCALE, 3), base))
            quaternion, inverse = unit(add(head(_QUATERNION, 4), [code.number(x) for x in (1.0, 0.0, 0.0, 0.0)]))
            write(quaternions, quaternion)
            write(inverse_lengths, [inverse])
            write(colors, add(head(_COLOR, 3), shade))
            write(logits, head(_LOGIT, 1))


@register_jitable
def first_layer(
    f_v: Any, f_g: Any, weights: Any, sizes: Any, begin: int, last: int, block: int, ld: int,
    references: Any, common: Any, residuals: Any, first: Any,
) -> None:  # fmt: skip
    """ReLU of the layer over f_v, f_g and slots: the block's inputs as columns, and its (width, block * K) result."""
    n_v, n_g, primitives, width = sizes
    shared, shared_bias, own, slots, _, _, _, _ = layout(n_v, n_g, primitives, width)
    columns_from_rows(f_v, begin, last, n_v, 0, n_v, references, 0, block, block)
    layer(weights, shared, shared_bias, width, n_v, references, 0, common, 0, block, block, _NO_FLOOR)
    for k in range(primitives):
        columns_from_rows(f_g, begin, last, primitives * n_g, k * n_g, n_g, residuals, k * block, ld, block)
        add_slots(common, block, weights, slots, k, width, first, ld)
    add_layer(weights, own, width, n_g, residuals, 0, first, 0, ld, primitives * block)


@kernel
def predict(
    f_v: Any, f_g: Any, sigma: Any, color: Any, weights: Any, sizes: Any, bounds: Any, count: int, block: int, ld: int,
    counter: Any, offsets: Any, log_scales: Any, quaternions: Any, inverse_lengths: Any, colors: Any, logits: Any,
) -> None:  # fmt: skip
    """All blocks."""
    n_v, n_g, primitives, width = sizes
    _, _, _, _, hidden, hidden_bias, heads, heads_bias = layout(n_v, n_g, primitives, width)
    columns = primitives * block
    references, common = np.empty(n_v * block, np.float32), np.empty(width * block, np.float32)
    residuals, first = np.empty(n_g * ld, np.float32), np.empty(width * ld, np.float32)
    second, out = np.empty(width * ld, np.float32), np.empty(HEADS * ld, np.float32)
    blocks = -(-count // block)
    rank = enlist(counter)
    number = take(counter, rank, blocks)
    while number < blocks:
        begin = number * block
        first_layer(f_v, f_g, weights, sizes, begin, count - 1, block, ld, references, common, residuals, first)
        residual_layer(weights, hidden, hidden_bias, width, first, 0, second, 0, ld, columns)
        layer(weights, heads, heads_bias, HEADS, width, second, 0, out, 0, ld, columns, _NO_FLOOR)
        write_primitives(
            out, ld, begin, count - 1, block, primitives, bounds[0], bounds[1], sigma, color,
            offsets, log_scales, quaternions, inverse_lengths, colors, logits,
        )  # fmt: skip
        number = take(counter, rank, blocks)


@emitted
def read_gradients(
    code: Code, out: Floats, ld: Whole, begin: Whole, count: Whole, block: Whole, primitives: Whole,
    low: Vec, high: Vec, sigma: Floats, offsets: Floats, quaternions: Floats, inverse_lengths: Floats,
    by_offsets: Floats, by_log_scales: Floats, by_quaternions: Floats, by_colors: Floats, by_logits: Floats,
    by_sigma: Floats, by_color: Floats,
) -> None:  # fmt: skip
    """From gradients of ``Primitives`` to those of the heads' raw outputs (zero beyond ``count``), sigma and colour."""
    last = count - 1
    with code.loop(block, step=LANES) as v:
        anchor = begin + v
        there = existing(code, anchor, count)
        raw = [sigma.gather(anchor, last, 6, i) for i in range(6)]
        size = [exp(clamp(x, low, high)) for x in raw[:3]]
        by_raw, by_shade = code.zeros(6), code.zeros(3)
        with code.loop(primitives) as k:

            def read(table: Floats, width: int) -> list[Vec]:
                return [table.gather(anchor, last, primitives * width, k * width + i) for i in range(width)]

            def write(first: int, values: list[Vec]) -> None:
                for i, value in enumerate(values):
                    out.store((first + i) * ld + k * block + v, value * there)

            for i, (offset, g) in enumerate(zip(read(offsets, 3), read(by_offsets, 3), strict=True)):
                by_raw[i].add(offset * g)
                write(i, [g * size[i]])
            for i, g in enumerate(read(by_log_scales, 3)):
                by_raw[3 + i].add(g)
                write(_LOG_SCALE + i, [g])
            for i, g in enumerate(read(by_colors, 3)):
                by_shade[i].add(g)
                write(_COLOR + i, [g])
            (inverse,) = read(inverse_lengths, 1)
            write(_QUATERNION, unit_gradient(read(quaternions, 4), inverse, read(by_quaternions, 4)))
            write(_LOGIT, read(by_logits, 1))
        for i, (x, g) in enumerate(zip(raw, by_raw, strict=True)):
            by_sigma.scatter(anchor, 6, i, within(x, low, high, g.value))
        for i, g in enumerate(by_shade):
            by_color.scatter(anchor, 3, i, g.value)


@emitted
def sum_primitives(
    code: Code, g: Floats, ld: Whole, block: Whole, primitives: Whole, width: Whole, common: Floats, sums: Floats, slots: Whole
) -> None:  # fmt: skip
    """Gradients of the first layer's sum: over primitives to ``common`` (width, block), over anchors to the slots."""
    with code.loop(width) as i:
        with code.loop(block, step=LANES) as v:
            common.store(i * block + v, code.number(0.0))
        with code.loop(primitives) as k:
            (total,) = code.zeros(1)
            with code.loop(block, step=LANES) as v:
                value = g.load(i * ld + k * block + v)
                total.add(value)
                common.store(i * block + v, common.load(i * block + v) + value)
            sums.add_sums(slots + k * width + i, [total.value])


@kernel
def predict_gradient(
    f_v: Any, f_g: Any, sigma: Any, weights: Any, sizes: Any, bounds: Any, count: int, block: int, ld: int,
    counter: Any, offsets: Any, quaternions: Any, inverse_lengths: Any,
    by_offsets: Any, by_log_scales: Any, by_quaternions: Any, by_colors: Any, by_logits: Any,
    by_f_v: Any, by_f_g: Any, by_sigma: Any, by_color: Any, sums: Any,
) -> None:  # fmt: skip
    """Gradients of all inputs; those of the weights into ``sums`` (chunks, weights), which holds zeros."""
    n_v, n_g, primitives, width = sizes
    shared, shared_bias, own, slots, hidden, hidden_bias, heads, heads_bias = layout(n_v, n_g, primitives, width)
    columns = primitives * block
    references, common = np.empty(n_v * block, np.float32), np.empty(width * block, np.float32)
    residuals, first = np.empty(n_g * ld, np.float32), np.empty(width * ld, np.float32)
    by_second, by_hidden = np.empty(width * ld, np.float32), np.empty(width * ld, np.float32)
    second, out = np.empty(width * ld, np.float32), np.empty(HEADS * ld, np.float32)
    blocks, chunks = -(-count // block), sums.shape[0]
    rank = enlist(counter)
    chunk = take(counter, rank, chunks)
    while chunk < chunks:
        total = sums[chunk]
        for number in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            begin = number * block
            first_layer(f_v, f_g, weights, sizes, begin, count - 1, block, ld, references, common, residuals, first)
            residual_layer(weights, hidden, hidden_bias, width, first, 0, second, 0, ld, columns)
            read_gradients(
                out, ld, begin, count, block, primitives, bounds[0], bounds[1], sigma, offsets, quaternions,
                inverse_lengths, by_offsets, by_log_scales, by_quaternions, by_colors, by_logits, by_sigma, by_color,
            )  # fmt: skip
            add_row_sums(out, 0, ld, HEADS, columns, total, heads_bias)
            weight_gradient(out, 0, ld, HEADS, second, 0, ld, width, columns, total, heads)
            pull_back(weights, heads, HEADS, width, out, 0, by_second, 0, ld, columns)

            gate_residual(by_hidden, by_second, second, 0, first, ld, width, columns)
            add_row_sums(by_hidden, 0, ld, width, columns, total, hidden_bias)
            weight_gradient(by_hidden, 0, ld, width, first, 0, ld, width, columns, total, hidden)
            by_first = by_second
            pull_back_residual(weights, hidden, width, by_hidden, 0, by_first, 0, first, 0, ld, columns)

            weight_gradient(by_first, 0, ld, width, residuals, 0, ld, n_g, columns, total, own)
            sum_primitives(by_first, ld, block, primitives, width, common, total, slots)
            pull_back(weights, own, width, n_g, by_first, 0, residuals, 0, ld, columns)
            for k in range(primitives):
                rows_from_columns(residuals, k * block, ld, block, by_f_g, begin, primitives * n_g, k * n_g, n_g)

            add_row_sums(common, 0, block, width, block, total, shared_bias)
            weight_gradient(common, 0, block, width, references, 0, block, n_v, block, total, shared)
            pull_back(weights, shared, width, n_v, common, 0, references, 0, block, block)
            rows_from_columns(references, 0, block, block, by_f_v, begin, n_v, 0, n_v)
        chunk = take(counter, rank, chunks)
