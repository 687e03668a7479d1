"""The fixed numbers of the position coder: its squash table, and the weights that a cloud starts with."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ._octree import SIDE_TABLES, SPLIT_TABLES, STEEPEST, TABLE_SIZE, Model

_ONE = 1 << 62

# Learned by benchmarks/position_weights.py from clouds that it makes up; 1 is 2^24. A cloud that differs
# costs some bytes until the coder has adapted, never correctness.
SPLIT_WEIGHTS = (
    -17544 << 12, 5788 << 12, 2550 << 12, 463 << 12, 311 << 12, 621 << 12, -302 << 12, 1211 << 12,
    -8937 << 12, -2969 << 12, 6663 << 12, -2348 << 12, 63 << 12, -281 << 12, -1219 << 12, -170 << 12,
)  # fmt: skip
SIDE_WEIGHTS = (456 << 12, -56 << 12, -50 << 12, -301 << 12, 248 << 12, 81 << 12)


def _exponential_of_minus_one_256th() -> int:
    """exp(-1/256) in units of 2^-62, by its alternating series in integers."""
    total, term, k = 0, _ONE, 0
    while term:
        total += term if k % 2 == 0 else -term
        k += 1
        term //= 256 * k
    return total


@cache
def squash_table() -> NDArray[np.int64]:
    """(4095,) int64: entry 2047 + t is 65536 / (1 + exp(-t / 256)), from 22 to 65514, made of integers alone."""
    table = np.empty(2 * STEEPEST + 1, np.int64)
    decay, power = _exponential_of_minus_one_256th(), _ONE
    for t in range(STEEPEST + 1):
        probability = (_ONE << 16) // (_ONE + power)
        table[STEEPEST + t], table[STEEPEST - t] = probability, 65536 - probability
        power = power * decay >> 62
    table.setflags(write=False)
    return table


def new_model() -> Model:
    """A model as both sides have it before the first decision."""
    return Model(
        squash=squash_table().copy(),
        split_weights=np.array(SPLIT_WEIGHTS, np.int64),
        split_bias=np.zeros((SPLIT_TABLES, TABLE_SIZE), np.int64),
        split_seen=np.zeros((SPLIT_TABLES, TABLE_SIZE), np.int64),
        side_weights=np.array(SIDE_WEIGHTS, np.int64),
        side_bias=np.zeros((SIDE_TABLES, TABLE_SIZE), np.int64),
        side_seen=np.zeros((SIDE_TABLES, TABLE_SIZE), np.int64),
    )
