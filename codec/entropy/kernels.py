"""One pass over memory for what ``likelihood.py`` says in torch: quantisation, bits and their gradients.

Eight anchors at a time, a lane each, so that a component may have any number of columns. Noise is a hash of seed and
place, which the backward pass computes again; so it does the rest, and nothing but the inputs is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy import float32, int32, uint32

from ..jit import fetch_add, kernel
from ..vectors.vector import LANES, Code, Flag, Floats, Vec, Whole, emitted
from ..vectors.vector_math import clamp, existing, exp, log2, nearest, normal_density, uniform, upper_tail

BLOCK = 32 * LANES  # anchors that a thread takes at a time
# Rows of the table of constants, each with a component's columns: step and its log, mean, deviation and its log.
STEP, LOG_STEP, MEAN, DEVIATION, LOG_DEVIATION = range(5)
# The limits: of the log scales, then the mass of the floor's tail and one over its width.
LOW, HIGH, TAIL_MASS, PER_TAIL_WIDTH = range(4)
_PER_LN2 = 1.4426950408889634


def _noise(code: Code, first: Whole, columns: Whole, j: Whole, seed: Whole) -> Vec:
    """What is added to column j of the anchors from ``first`` on."""
    return uniform((first * columns + j).to_bits() + code.lane_bits() * columns.to_bits(), seed.to_bits())


def _edges(distance: Vec, inverse: Vec) -> tuple[Vec, Vec]:
    """The two ends of a residual's interval, in deviations, of which the second is farther out."""
    size = distance.magnitude()
    return (size - 0.5) * inverse, (size + 0.5) * inverse


def _tail(distance: Vec, limits: Floats) -> Vec:
    """The mass that the floor of the frequencies and the escape give."""
    place = distance * limits.everywhere(PER_TAIL_WIDTH)
    return limits.everywhere(TAIL_MASS) * (1.0 / (place * place + 1.0))


@emitted
def code_anchors(
    code: Code, f: Floats, out: Floats, width: Whole, mean_at: Whole, sigma_at: Whole, log_factor: Floats,
    constants: Floats, limits: Floats, columns: Whole, first: Whole, count: Whole, noisy: Flag, seed: Whole,
    values: Floats, rounded: Floats, bits: Floats,
) -> None:  # fmt: skip
    """Values and rounded values of LANES anchors; what the rounded ones cost is added to bits[0]."""
    last = count - 1
    factor_log = log_factor.gather(first, last, 1, 0)
    factor = exp(factor_log)
    (total,) = code.zeros(1)
    with code.loop(columns) as j:

        def constant(row: int) -> Vec:
            return constants.everywhere(j + columns * row)

        step = constant(STEP) * factor
        value = f.gather(first, last, columns, j)
        mean = out.gather(first, last, width, mean_at + j)
        d = (value - constant(MEAN) - constant(DEVIATION) * mean) * (1.0 / step)
        whole = nearest(d)
        rounding = whole - d
        u = noisy.select(_noise(code, first, columns, j, seed), rounding)
        values.scatter(first, columns, j, value + u * step)
        rounded.scatter(first, columns, j, value + rounding * step)

        log_scale = out.gather(first, last, width, sigma_at + j) + constant(LOG_DEVIATION)
        log_scale = log_scale - constant(LOG_STEP) - factor_log
        inverse = exp(-clamp(log_scale, limits.everywhere(LOW), limits.everywhere(HIGH)))
        near, far = _edges(whole, inverse)
        mass = upper_tail(near, normal_density(near)) - upper_tail(far, normal_density(far))
        total.add(-log2(mass.at_least(0.0) + _tail(whole, limits)))
    bits.add_sums(0, [total.value * existing(code, first, count)])


@kernel
def forward(
    f: Any, out: Any, width: int, mean_at: int, sigma_at: int, log_factor: Any, constants: Any, limits: Any,
    columns: int, count: int, noisy: bool, seed: int, counter: Any, values: Any, rounded: Any, bits: Any,
) -> None:  # fmt: skip
    """Every thread's share of ``likelihood.quantise_and_rate``.

    Args:
        f, out: (count, columns) and (count, width).
        values, rounded: like f, in whole blocks of rows; out.
        bits: (blocks,) out: what each block's rounded values cost.
    """
    total = np.empty(1, np.float32)
    block = fetch_add(counter, 0, 1)
    while block < bits.size:
        bits[block] = 0.0
        for first in range(block * BLOCK, min((block + 1) * BLOCK, count), LANES):
            total[0] = np.float32(0.0)
            code_anchors(
                f, out, width, mean_at, sigma_at, log_factor, constants, limits, columns, first, count, noisy, seed,
                values, rounded, total,
            )  # fmt: skip
            bits[block] += float(total[0])
        block = fetch_add(counter, 0, 1)


@emitted
def pull_back_anchors(
    code: Code, f: Floats, out: Floats, width: Whole, mean_at: Whole, sigma_at: Whole, log_factor: Floats,
    constants: Floats, limits: Floats, columns: Whole, first: Whole, count: Whole, noisy: Flag, seed: Whole,
    by_values: Floats, by_rounded: Floats, by_bits: Vec, by_f: Floats, by_out: Floats, by_factor: Floats, by_q: Floats,
) -> None:  # fmt: skip
    """Gradients of LANES anchors from those of values, rounded values and bits; ``by_q`` is added to."""
    last = count - 1
    factor_log = log_factor.gather(first, last, 1, 0)
    factor = exp(factor_log)
    there = existing(code, first, count)
    low, high = limits.everywhere(LOW), limits.everywhere(HIGH)
    (by_all,) = code.zeros(1)
    with code.loop(columns) as j:

        def constant(row: int) -> Vec:
            return constants.everywhere(j + columns * row)

        step = constant(STEP) * factor
        per_step = 1.0 / step
        mean = out.gather(first, last, width, mean_at + j)
        d = (f.gather(first, last, columns, j) - constant(MEAN) - constant(DEVIATION) * mean) * per_step
        rounding = nearest(d) - d
        u = noisy.select(_noise(code, first, columns, j, seed), rounding)
        distance = d + u

        log_scale = out.gather(first, last, width, sigma_at + j) + constant(LOG_DEVIATION)
        log_scale = log_scale - constant(LOG_STEP) - factor_log
        inverse = exp(-clamp(log_scale, low, high))
        near, far = _edges(distance, inverse)
        at_near, at_far = normal_density(near), normal_density(far)
        tail = _tail(distance, limits)
        mass = (upper_tail(near, at_near) - upper_tail(far, at_far)).at_least(0.0) + tail
        weight = by_bits * _PER_LN2 * (1.0 / mass)
        slope = (at_near - at_far) * inverse
        per_width = limits.everywhere(PER_TAIL_WIDTH)
        by_tail = tail * tail * distance * (per_width * per_width * 2.0) * (1.0 / limits.everywhere(TAIL_MASS))
        by_d = weight * ((distance > 0.0).select(slope, -slope) + by_tail)
        by_scale = weight * (at_far * far - at_near * near)
        outward = ((log_scale < low) & (by_scale > 0.0)) | ((log_scale > high) & (by_scale < 0.0))
        by_scale = outward.select(0.0, by_scale)

        g, h = by_values.gather(first, last, columns, j), by_rounded.gather(first, last, columns, j)
        by_value = by_d * per_step
        by_f.scatter(first, columns, j, g + h + by_value)
        by_out.scatter(first, width, mean_at + j, -by_value * constant(DEVIATION))
        by_out.scatter(first, width, sigma_at + j, by_scale)
        by_step = (g * u + h * rounding) * step - by_d * d - by_scale
        by_all.add(by_step)
        by_q.add_sums(j, [by_step * there])
    by_factor.scatter(first, 1, 0, by_all.value)


@kernel
def backward(
    f: Any, out: Any, width: int, mean_at: int, sigma_at: int, log_factor: Any, constants: Any, limits: Any,
    columns: int, count: int, noisy: bool, seed: int, counter: Any, by_values: Any, by_rounded: Any, by_bits: Any,
    by_f: Any, by_out: Any, by_factor: Any, by_q: Any,
) -> None:  # fmt: skip
    """Every thread's share of the gradients of ``forward``.

    Args:
        by_f, by_out, by_factor: like f, out and log_factor, in whole blocks of rows; out. ``by_out`` holds zeros.
        by_q: (chunks, columns), zeros; out: of the log steps, summed over fixed chunks of blocks.
    """
    blocks, chunks = -(-count // BLOCK), by_q.shape[0]
    chunk = fetch_add(counter, 0, 1)
    while chunk < chunks:
        begin, end = chunk * blocks // chunks * BLOCK, (chunk + 1) * blocks // chunks * BLOCK
        total = by_q[chunk]
        for first in range(begin, min(end, count), LANES):
            pull_back_anchors(
                f, out, width, mean_at, sigma_at, log_factor, constants, limits, columns, first, count, noisy, seed,
                by_values, by_rounded, by_bits, by_f, by_out, by_factor, total,
            )  # fmt: skip
        chunk = fetch_add(counter, 0, 1)


@njit(nogil=True, forceinline=True)
def _uniform(place: Any, seed: Any) -> Any:
    """``vector_math.uniform`` of one number, in a form that LLVM turns into vector code by itself."""
    x = uint32(place) + uint32(seed)
    x = uint32(uint32(x ^ (x >> uint32(16))) * uint32(0x7FEB352D))
    x = uint32(uint32(x ^ (x >> uint32(15))) * uint32(0x846CA68B))
    x = uint32(x ^ (x >> uint32(16)))
    return float32(int32(x >> uint32(8))) * float32(2.0**-24) - float32(0.5)


@kernel
def add_noise(f: Any, step: Any, seed: Any, values: Any) -> None:
    """values = f + u * step: f (N, R, C), step (N, C), u uniform noise. Too quick to wake another thread for."""
    rows, repeats, columns = f.shape
    for i in range(rows):
        for r in range(repeats):
            first = uint32((i * repeats + r) * columns)
            for j in range(columns):
                values[i, r, j] = f[i, r, j] + _uniform(first + uint32(j), seed) * step[i, j]


@kernel
def pull_back_noise(by_values: Any, seed: Any, by_step: Any) -> None:
    """The gradient of step in :func:`add_noise`, (N, C), zeros at first: the same noise, times that of the values."""
    rows, repeats, columns = by_values.shape
    for i in range(rows):
        for r in range(repeats):
            first = uint32((i * repeats + r) * columns)
            for j in range(columns):
                by_step[i, j] += by_values[i, r, j] * _uniform(first + uint32(j), seed)
