"""Adam's update of many tensors in one pass over memory, compiled.

The tensors stay where they are: a kernel gets their addresses, as their number and their shapes change during a run.
Every float is updated by itself, so that no result depends on the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from ..jit import enlist, kernel, take
from ..render.simd import LANES, at, load, put, splat, square_root, store

PIECE = 8192  # floats that a thread takes at a time; with its moments and its gradient such a piece is 128 KiB
PARAMETER, GRADIENT, MEAN, SQUARE, SIZE = range(5)  # columns of the table of addresses
STEP_SIZE, SHRINK = range(2)  # columns of the table of rates


@intrinsic
def pointer(typingctx: Any, address: Any) -> Any:
    """The address as a pointer to float32."""
    if not isinstance(address, types.Integer):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return types.CPointer(types.float32)(types.int64), codegen


@njit
def move(
    parameter: Any, gradient: Any, mean: Any, square: Any, size: int, decay: Any, decay_square: Any,
    step_size: Any, shrink: Any, epsilon: Any,
) -> None:  # fmt: skip
    """torch.optim.Adam's arithmetic, on ``size`` floats."""
    rest, rest_square = np.float32(1.0) - decay, np.float32(1.0) - decay_square
    whole = size // LANES * LANES
    for i in range(0, whole, LANES):
        g, m_0 = load(gradient, i), load(mean, i)
        m_1 = m_0 + splat(rest) * (g - m_0)
        v_1 = load(square, i) * splat(decay_square) + splat(rest_square) * g * g
        store(mean, i, m_1)
        store(square, i, v_1)
        way = splat(step_size) * m_1 / (square_root(v_1) * splat(shrink) + splat(epsilon))
        store(parameter, i, load(parameter, i) - way)
    for i in range(whole, size):
        g, m = at(gradient, i), at(mean, i)
        m = m + rest * (g - m)
        v = at(square, i) * decay_square + rest_square * g * g
        put(mean, i, m)
        put(square, i, v)
        put(parameter, i, at(parameter, i) - step_size * m / (np.sqrt(v) * shrink + epsilon))


@kernel
def update(
    tensors: Any, rates: Any, owners: Any, begins: Any, decay: float, decay_square: float, epsilon: float, counter: Any
) -> None:
    """Every thread's share of the pieces.

    Args:
        tensors: (T, 5) int64: addresses of each tensor's floats, of its gradient and its moments, and their number.
        rates: (T, 2) float32: the learning rate over the mean's bias, and one over the root of the square's.
        owners, begins: (pieces,) int64: each piece's tensor, and its first float there.
        counter: (8,) int64, zero.
    """
    rank = enlist(counter)
    piece = take(counter, rank, owners.size)
    while piece < owners.size:
        tensor, begin = owners[piece], begins[piece]
        size = min(PIECE, tensors[tensor, SIZE] - begin)
        move(
            carray(pointer(tensors[tensor, PARAMETER] + 4 * begin), (size,)),
            carray(pointer(tensors[tensor, GRADIENT] + 4 * begin), (size,)),
            carray(pointer(tensors[tensor, MEAN] + 4 * begin), (size,)),
            carray(pointer(tensors[tensor, SQUARE] + 4 * begin), (size,)),
            size, np.float32(decay), np.float32(decay_square), rates[tensor, STEP_SIZE], rates[tensor, SHRINK],
            np.float32(epsilon),
        )  # fmt: skip
        piece = take(counter, rank, owners.size)
