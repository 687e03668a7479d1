"""Noise of half a step either way, for calls without rate, and its gradient.

Noise is a hash of seed and place, which the backward pass computes again: it is not kept.
"""

from __future__ import annotations

from typing import Any

from numba import njit
from numpy import float32, int32, uint32

from ..jit import enlist, kernel, take

BLOCK = 128  # anchors that a thread takes at a time
WORTH_A_THREAD = 300_000  # values: fewer are done before another thread is awake


@njit(nogil=True, forceinline=True)
def _uniform(place: Any, seed: Any) -> Any:
    """``vector_math.uniform`` of one number, in a form that LLVM turns into vector code by itself."""
    x = uint32(place) + uint32(seed)
    x = uint32(uint32(x ^ (x >> uint32(16))) * uint32(0x7FEB352D))
    x = uint32(uint32(x ^ (x >> uint32(15))) * uint32(0x846CA68B))
    x = uint32(x ^ (x >> uint32(16)))
    return float32(int32(x >> uint32(8))) * float32(2.0**-24) - float32(0.5)


@kernel
def add_noise(f: Any, step: Any, seed: Any, counter: Any, values: Any) -> None:
    """Every thread's share of values = f + u * step: f (N, R, C), step (N, C), u uniform noise."""
    rows, repeats, columns = f.shape
    blocks, rank = -(-rows // BLOCK), enlist(counter)
    block = take(counter, rank, blocks)
    while block < blocks:
        for i in range(block * BLOCK, min((block + 1) * BLOCK, rows)):
            for r in range(repeats):
                first = uint32((i * repeats + r) * columns)
                for j in range(columns):
                    values[i, r, j] = f[i, r, j] + _uniform(first + uint32(j), seed) * step[i, j]
        block = take(counter, rank, blocks)


@kernel
def pull_back_noise(by_values: Any, seed: Any, counter: Any, by_step: Any) -> None:
    """The gradient of step in :func:`add_noise`, (N, C), zeros at first: the same noise, times that of the values."""
    rows, repeats, columns = by_values.shape
    blocks, rank = -(-rows // BLOCK), enlist(counter)
    block = take(counter, rank, blocks)
    while block < blocks:
        for i in range(block * BLOCK, min((block + 1) * BLOCK, rows)):
            for r in range(repeats):
                first = uint32((i * repeats + r) * columns)
                for j in range(columns):
                    by_step[i, j] += by_values[i, r, j] * _uniform(first + uint32(j), seed)
        block = take(counter, rank, blocks)
