"""Integer networks against Python's own unbounded integers, for any batch and any library."""

import numpy as np
import pytest
import torch
from adcgs.entropy.fixedpoint import (
    INT16,
    MAX_BIAS,
    MAX_SHIFT,
    IntegerLayer,
    IntegerNetwork,
    shift_right,
    torch_products,
)


def layer(rng: np.random.Generator, rows: int, inputs: int, limit: int = INT16) -> IntegerLayer:
    return IntegerLayer(
        rng.integers(-limit, limit + 1, size=(rows, inputs)),
        rng.integers(0, 25, size=rows),
        rng.integers(-(1 << 20), 1 << 20, size=rows),
    )


def network(seed: int, limit: int = INT16) -> IntegerNetwork:
    rng = np.random.default_rng(seed)
    return IntegerNetwork((layer(rng, 13, 7, limit), layer(rng, 13, 13, limit), layer(rng, 5, 13, limit)))


def affine(one: IntegerLayer, x: list[int]) -> list[int]:
    out = []
    for weights, shift, bias in zip(one.weight.tolist(), one.shift.tolist(), one.bias.tolist(), strict=True):
        total = sum(w * v for w, v in zip(weights, x, strict=True))
        out.append(((total + (1 << shift >> 1)) >> shift) + bias)
    return out


def by_hand(net: IntegerNetwork, x: list[int]) -> list[int]:
    def clamp(v: int) -> int:
        return max(-INT16, min(INT16, v))

    def leaky(v: int) -> int:
        return max(v, v >> 3)

    first, second, last = net.layers
    h1 = [clamp(leaky(v)) for v in affine(first, x)]
    h2 = [clamp(h + leaky(v)) for h, v in zip(h1, affine(second, h1), strict=True)]
    return affine(last, h2)


@pytest.mark.parametrize("limit", [7, 127, INT16])
def test_float64_gives_the_integers_of_the_definition(limit: int):
    net = network(limit, limit)
    x = np.random.default_rng(1).integers(-INT16, INT16 + 1, size=(40, 7))
    expected = [by_hand(net, row) for row in x.tolist()]
    np.testing.assert_array_equal(net(x.astype(np.float64)), expected)


def test_largest_sums_are_exact():
    """4096 inputs at the limit: the sum is 2^42 and every bit of it counts."""
    ends = np.full((1, 4096), INT16)
    one = IntegerLayer(ends, np.zeros(1, np.int64), np.array([1]))
    x = ends.astype(np.float64)
    x[0, 17] = INT16 - 1
    assert int(one(x, np.matmul)[0, 0]) == 4096 * INT16**2 - INT16 + 1


def test_batches_and_libraries_agree():
    net = network(3)
    x = np.random.default_rng(2).integers(-INT16, INT16 + 1, size=(301, 7)).astype(np.float64)
    whole = net(x)
    for size in (1, 37):
        parts = [net(x[i : i + size]) for i in range(0, 301, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(net(x, torch_products()), whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees():
    net = network(3)
    x = np.random.default_rng(2).integers(-INT16, INT16 + 1, size=(301, 7)).astype(np.float64)
    np.testing.assert_array_equal(net(x, torch_products("cuda")), net(x))


def test_shift_rounds_halves_up():
    x = np.array([[-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 6.0]])
    shifted = shift_right(x, np.full(8, 2))
    assert shifted.tolist() == [[-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0]]
    assert shift_right(x, np.zeros(8, np.int64)).tolist() == x.tolist()


@pytest.mark.parametrize(
    ("weight", "shift", "bias"),
    [(INT16 + 1, 0, 0), (-INT16 - 1, 0, 0), (1, -1, 0), (1, MAX_SHIFT + 1, 0), (1, 0, MAX_BIAS + 1)],
)
def test_what_could_break_exactness_is_refused(weight: int, shift: int, bias: int):
    with pytest.raises(ValueError, match=r"beyond|range"):
        IntegerLayer(np.array([[weight]]), np.array([shift]), np.array([bias]))
