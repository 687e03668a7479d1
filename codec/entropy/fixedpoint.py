"""Networks of integers: the same outputs on every processor, library, thread count and batch size.

A network has two hidden layers, the second with a skip connection, and a linear output:

    h1 = sat16(leaky(affine1(x)));  h2 = sat16(h1 + leaky(affine2(h1)));  y = affine3(h2)
    affine(x) = ((W x + 2^(s-1)) >> s) + b          (rounding shift; s is 0 .. 40, one per row)
    leaky(a)  = max(a, a >> 3);  sat16 clamps to -32767 .. 32767

W and x are 16-bit integers of at most 32767 in magnitude and a row has at most 2^12 of them, so every partial sum stays
below 2^42. Matrix products are therefore done in float64, where sums of integers below 2^53 are exact in any order.
All other steps below are exact in float64 too: halves, floors and products with powers of two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INT16 = 32767
MAX_INPUTS = 1 << 12
MAX_SHIFT = 40
MAX_BIAS = 1 << 31

Floats = NDArray[np.float64]  # holding integers
Products = Callable[[Floats, Floats], Floats]  # (n, inputs) x (inputs, rows) -> (n, rows)


@dataclass(frozen=True)
class IntegerLayer:
    """One affine map. Attributes: weight (rows, inputs), shift (rows,), bias (rows,), all int64."""

    weight: NDArray[np.int64]
    shift: NDArray[np.int64]
    bias: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check the ranges that exactness rests on. Raises: ValueError."""
        rows, inputs = self.weight.shape
        if inputs > MAX_INPUTS or self.shift.shape != (rows,) or self.bias.shape != (rows,):
            raise ValueError("layer of a wrong shape")
        if int(np.abs(self.weight).max()) > INT16:
            raise ValueError("weight beyond 16 bits")
        if int(self.shift.min()) < 0 or int(self.shift.max()) > MAX_SHIFT:
            raise ValueError("shift out of range")
        if int(np.abs(self.bias).max()) > MAX_BIAS:
            raise ValueError("bias out of range")
        columns = np.ascontiguousarray(self.weight.T.astype(np.float64))
        half = _half(self.shift)
        object.__setattr__(self, "_columns", columns)
        object.__setattr__(self, "_half", half)
        object.__setattr__(self, "_scale", np.ldexp(1.0, -self.shift))
        object.__setattr__(self, "_bias", self.bias.astype(np.float64))

    def __call__(self, x: Floats, products: Products) -> Floats:
        """(n, inputs) -> (n, rows)."""
        total = products(x, self._columns)  # type: ignore[attr-defined]
        total += self._half  # type: ignore[attr-defined]
        total *= self._scale  # type: ignore[attr-defined]
        np.floor(total, out=total)
        total += self._bias  # type: ignore[attr-defined]
        return total


@dataclass(frozen=True)
class IntegerNetwork:
    """Two hidden layers and an output layer, evaluated exactly."""

    layers: tuple[IntegerLayer, IntegerLayer, IntegerLayer]

    def __call__(self, x: Floats, products: Products | None = None) -> Floats:
        """Integer inputs of at most 16 bits, (n, inputs) float64, to integer outputs, (n, outputs) float64."""
        multiply = products or np.matmul
        first, second, last = self.layers
        h1 = saturate(_leaky(first(x, multiply)), INT16)
        h2 = saturate(h1 + _leaky(second(h1, multiply)), INT16)
        return last(h2, multiply)


def _leaky(x: Floats) -> Floats:
    return np.maximum(x, np.floor(x * 0.125))


def saturate(x: Floats, limit: int) -> Floats:
    """Clamp to -limit .. limit."""
    return np.clip(x, -float(limit), float(limit))


def shift_right(x: Floats, bits: NDArray[np.int64]) -> Floats:
    """Rounding shift of each column: floor((x + 2^(bits-1)) / 2^bits), and x itself where bits is 0."""
    shifted: Floats = np.floor((x + _half(bits)) * np.ldexp(1.0, -bits))
    return shifted


def _half(bits: NDArray[np.int64]) -> Floats:
    return np.where(bits > 0, np.ldexp(1.0, bits - 1), 0.0)


def torch_products(device: str = "cpu") -> Products:
    """Matrix products by torch instead of numpy, on any device with float64: the same integers."""
    import torch

    def multiply(x: Floats, columns: Floats) -> Floats:
        product = torch.from_numpy(np.ascontiguousarray(x)).to(device) @ torch.from_numpy(columns).to(device)
        return np.asarray(product.cpu().numpy())

    return multiply
