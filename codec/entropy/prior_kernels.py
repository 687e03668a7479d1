"""Bits of the factorised prior and their gradient in one pass over memory: what ``FactorisedPrior.bits_plain`` says.

Each channel has a cumulative distribution: the logistic function of five small matrices applied to a number in turn,
each but the last followed by x + tanh(a) tanh(x) (Balle et al. 2018, appendix 6.1). Its parameters come as one row,
matrices after softplus and factors a after tanh, layer by layer: matrix, bias, factor.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ..jit import fetch_add, kernel
from ..vectors.vector import LANES, Code, Flag, Floats, Variable, Vec, Whole, emitted
from ..vectors.vector_math import dot, existing, log2, nearest, sigmoid, tanh, uniform

FILTERS = (1, 3, 3, 3, 3, 1)
BLOCK = 512  # anchors that a thread takes at a time
_LEAST = 1e-9  # CompressAI's lower bound of a likelihood
_PER_LN2 = 1.4426950408889634


def _offsets() -> tuple[list[int], int]:
    """Where each layer's parameters begin in a channel's row, and how many there are."""
    begins, at = [], 0
    for layer, (inputs, outputs) in enumerate(pairwise(FILTERS)):
        begins.append(at)
        at += outputs * inputs + outputs * (1 if layer == len(FILTERS) - 2 else 2)
    return begins, at


_BEGINS, PARAMETERS = _offsets()


def _logit(row: list[Vec], x: Vec) -> tuple[Vec, list[tuple[list[Vec], list[Vec]]]]:
    """The cumulative distribution's logit at x, and every layer's inputs and tanhs (none for the last)."""
    values, kept = [x], []
    for layer, begin in enumerate(_BEGINS):
        inputs, outputs = FILTERS[layer], FILTERS[layer + 1]
        bias = begin + outputs * inputs
        sums = [
            dot(row[begin + i * inputs : begin + (i + 1) * inputs], values) + row[bias + i] for i in range(outputs)
        ]
        bent = [] if layer == len(_BEGINS) - 1 else [tanh(value) for value in sums]
        kept.append((values, bent))
        values = [value + row[bias + outputs + i] * bent[i] if bent else value for i, value in enumerate(sums)]
    return values[0], kept


def _pull_back(row: list[Vec], kept: list[tuple[list[Vec], list[Vec]]], by_logit: Vec, totals: list[Variable]) -> Vec:
    """From the gradient of :func:`_logit`'s result to that of x; those of the parameters are added to ``totals``."""
    g = [by_logit]
    for layer in reversed(range(len(_BEGINS))):
        values, bent = kept[layer]
        begin, inputs, outputs = _BEGINS[layer], FILTERS[layer], FILTERS[layer + 1]
        bias = begin + outputs * inputs
        for i, t in enumerate(bent):
            factor = bias + outputs + i
            totals[factor].add(g[i] * t)
            g[i] = g[i] + g[i] * row[factor] * (1.0 - t * t)
        for i in range(outputs):
            totals[bias + i].add(g[i])
            for k in range(inputs):
                totals[begin + i * inputs + k].add(g[i] * values[k])
        g = [dot([row[begin + i * inputs + k] for i in range(outputs)], g) for k in range(inputs)]
    return g[0]


@emitted
def block_bits(
    code: Code, eta: Floats, parameters: Floats, channels: Whole, begin: Whole, end: Whole, count: Whole, sums: Floats
) -> None:
    """sums[0] += the bits of anchors begin .. end, rounded."""
    with code.loop(channels) as c:
        row = [parameters.everywhere(c * PARAMETERS + i) for i in range(PARAMETERS)]
        (total,) = code.zeros(1)
        with code.loop(end, start=begin, step=LANES) as first:
            x = nearest(eta.gather(first, count - 1, channels, c))
            mass = sigmoid(_logit(row, x + 0.5)[0]) - sigmoid(_logit(row, x - 0.5)[0])
            total.add(-log2(mass.at_least(_LEAST)) * existing(code, first, count))
        sums.add_sums(0, [total.value])


@kernel
def forward(eta: Any, parameters: Any, channels: int, count: int, counter: Any, sums: Any) -> None:
    """Every thread's share of ``sums`` (chunks,): bits of round(eta), eta (count, channels)."""
    blocks, chunks = -(-count // BLOCK), sums.size
    bits = np.zeros(1, np.float32)
    chunk = fetch_add(counter, 0, 1)
    while chunk < chunks:
        for number in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            bits[0] = np.float32(0.0)
            block_bits(eta, parameters, channels, number * BLOCK, (number + 1) * BLOCK, count, bits)
            sums[chunk] += float(bits[0])
        chunk = fetch_add(counter, 0, 1)


@emitted
def block_gradient(
    code: Code, eta: Floats, parameters: Floats, channels: Whole, begin: Whole, end: Whole, count: Whole,
    noise: Flag, seed: Whole, by_bits: Vec, by_eta: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Gradients of by_bits times the bits of anchors begin .. end, noisy or rounded."""
    with code.loop(channels) as c:
        row = [parameters.everywhere(c * PARAMETERS + i) for i in range(PARAMETERS)]
        totals = code.zeros(PARAMETERS)
        with code.loop(end, start=begin, step=LANES) as first:
            x = eta.gather(first, count - 1, channels, c)
            place = (first * channels + c).to_bits() + code.lane_bits() * channels.to_bits()
            x = noise.select(x + uniform(place, seed.to_bits()), nearest(x))
            (upper, above), (lower, below) = _logit(row, x + 0.5), _logit(row, x - 0.5)
            p, q = sigmoid(upper), sigmoid(lower)
            by_mass = by_bits * -_PER_LN2 * (1.0 / (p - q).at_least(_LEAST)) * existing(code, first, count)
            by_x = _pull_back(row, above, by_mass * p * (1.0 - p), totals)
            by_x = by_x + _pull_back(row, below, by_mass * q * (q - 1.0), totals)
            by_eta.scatter(first, channels, c, by_x)
        for i, total in enumerate(totals):
            sums.add_sums(c * PARAMETERS + i, [total.value])


@kernel
def backward(
    eta: Any, parameters: Any, channels: int, count: int, counter: Any, noise: bool, seed: int, by_bits: Any,
    by_eta: Any, sums: Any,
) -> None:  # fmt: skip
    """Every thread's share of ``by_eta`` (whole blocks of rows), and ``sums`` (chunks, parameters), zeros at first."""
    blocks, chunks = -(-count // BLOCK), sums.shape[0]
    chunk = fetch_add(counter, 0, 1)
    while chunk < chunks:
        for number in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            block_gradient(
                eta, parameters, channels, number * BLOCK, (number + 1) * BLOCK, count, noise, seed, by_bits, by_eta,
                sums[chunk],
            )  # fmt: skip
        chunk = fetch_add(counter, 0, 1)
