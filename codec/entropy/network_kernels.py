"""The context networks in one pass over memory, forward and backward: what ``ContextNetwork.plain`` says in torch.

Anchors go through in blocks of columns. The backward pass computes the layers again: that is cheaper than keeping them.
Gradients of the weights are summed over a fixed number of chunks of blocks, so no bit depends on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..jit import fetch_add, kernel
from ..vectors.layers import (
    add_bounded,
    add_row_sums,
    columns_from_rows,
    gate_leaky,
    layer,
    leaky_layer,
    pull_back,
    pull_back_leaky,
    rows_from_columns,
    weight_gradient,
)
from .networks import HIDDEN_LIMIT, SLOPE

BLOCK = 160  # anchors that go through together; also the floats from row to row
_SLOPE, _LIMIT, _FREE = np.float32(SLOPE), np.float32(HIDDEN_LIMIT), np.float32(np.inf)


@register_jitable
def layout(inputs: int, hidden: int, outputs: int) -> Any:
    """Where in the flat weights: the first layer's bias, the second's weight and bias, the last's weight and bias."""
    first_bias = hidden * inputs
    second = first_bias + hidden
    second_bias = second + hidden * hidden
    last = second_bias + hidden
    return first_bias, second, second_bias, last, last + outputs * hidden


@register_jitable
def hidden_layers(
    x: Any, weights: Any, sizes: Any, begin: int, last: int, xs: Any, first: Any, added: Any, second: Any
) -> None:
    """A block's inputs as columns, the first layer's result, and the second's before and after the first is added."""
    inputs, hidden, outputs = sizes
    first_bias, w, bias, _, _ = layout(inputs, hidden, outputs)
    columns_from_rows(x, begin, last, inputs, 0, inputs, xs, 0, BLOCK, BLOCK)
    leaky_layer(weights, 0, first_bias, hidden, inputs, xs, 0, first, 0, BLOCK, BLOCK, _SLOPE, _LIMIT)
    leaky_layer(weights, w, bias, hidden, hidden, first, 0, added, 0, BLOCK, BLOCK, _SLOPE, _FREE)
    add_bounded(second, first, added, BLOCK, hidden, BLOCK, _LIMIT)


@kernel
def forward(x: Any, weights: Any, sizes: Any, count: int, counter: Any, out: Any) -> None:
    """Every thread's share of ``out`` (whole blocks of rows) from x (count, inputs)."""
    inputs, hidden, outputs = sizes
    _, _, _, last, last_bias = layout(inputs, hidden, outputs)
    xs, out_columns = np.empty(inputs * BLOCK, np.float32), np.empty(outputs * BLOCK, np.float32)
    first, added, second = (
        np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32)
    )  # fmt: skip
    blocks = -(-count // BLOCK)
    number = fetch_add(counter, 0, 1)
    while number < blocks:
        begin = number * BLOCK
        hidden_layers(x, weights, sizes, begin, count - 1, xs, first, added, second)
        layer(weights, last, last_bias, outputs, hidden, second, 0, out_columns, 0, BLOCK, BLOCK, -_FREE)
        rows_from_columns(out_columns, 0, BLOCK, BLOCK, out, begin, outputs, 0, outputs)
        number = fetch_add(counter, 0, 1)


@kernel
def backward(
    x: Any, weights: Any, sizes: Any, count: int, counter: Any, by_out: Any, by_x: Any, sums: Any
) -> None:
    """Every thread's share of ``by_x`` (whole blocks of rows) and ``sums`` (chunks, weights), which holds zeros."""
    inputs, hidden, outputs = sizes
    first_bias, w, bias, last, last_bias = layout(inputs, hidden, outputs)
    xs, g = np.empty(inputs * BLOCK, np.float32), np.empty(outputs * BLOCK, np.float32)
    first, added, second = (
        np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32)
    )  # fmt: skip
    by_sum, by_added = np.empty(hidden * BLOCK, np.float32), np.empty(hidden * BLOCK, np.float32)
    blocks, chunks = -(-count // BLOCK), sums.shape[0]
    chunk = fetch_add(counter, 0, 1)
    while chunk < chunks:
        total = sums[chunk]
        for number in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            begin = number * BLOCK
            hidden_layers(x, weights, sizes, begin, count - 1, xs, first, added, second)
            columns_from_rows(by_out, begin, count - 1, outputs, 0, outputs, g, 0, BLOCK, BLOCK)
            if begin + BLOCK > count:
                for row in range(outputs):
                    g[row * BLOCK + count - begin : (row + 1) * BLOCK] = np.float32(0.0)
            add_row_sums(g, 0, BLOCK, outputs, BLOCK, total, last_bias)
            weight_gradient(g, 0, BLOCK, outputs, second, 0, BLOCK, hidden, BLOCK, total, last)
            pull_back(weights, last, outputs, hidden, g, 0, by_sum, 0, BLOCK, BLOCK)

            gate_leaky(by_sum, by_added, second, added, BLOCK, hidden, BLOCK, _SLOPE, _LIMIT)
            add_row_sums(by_added, 0, BLOCK, hidden, BLOCK, total, bias)
            weight_gradient(by_added, 0, BLOCK, hidden, first, 0, BLOCK, hidden, BLOCK, total, w)
            by_first = by_sum
            pull_back_leaky(
                weights, w, hidden, hidden, by_added, 0, by_first, 0, first, 0, BLOCK, BLOCK, _SLOPE, _LIMIT
            )

            add_row_sums(by_first, 0, BLOCK, hidden, BLOCK, total, first_bias)
            weight_gradient(by_first, 0, BLOCK, hidden, xs, 0, BLOCK, inputs, BLOCK, total, 0)
            pull_back(weights, 0, hidden, inputs, by_first, 0, xs, 0, BLOCK, BLOCK)
            rows_from_columns(xs, 0, BLOCK, BLOCK, by_x, begin, inputs, 0, inputs)
        chunk = fetch_add(counter, 0, 1)
