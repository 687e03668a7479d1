"""One pass over memory for what ``likelihood.py`` says in a dozen torch calls: quantisation, bits and their gradients.

Written so that LLVM turns the inner loops into vector code: no calls, no branches; exp and log2 are made from their
bits and a polynomial, the normal tail by a rational approximation (Abramowitz and Stegun 26.2.17, error under 1e-7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy import float32, int32, uint32

from ..jit import kernel

_NORMAL = float32(0.3989422804014327)  # 1 / sqrt(2 pi)
_PER_LN2 = float32(1.4426950408889634)


_OPTIONS = {"fastmath": {"reassoc", "contract", "arcp", "nsz"}, "error_model": "numpy"}


def _kernel(function: Callable[..., Any]) -> Any:
    return kernel(function, **_OPTIONS)


def _inline(function: Callable[..., Any]) -> Any:
    """Part of the kernels that call it: a loop with a call in it is no vector code."""
    return njit(forceinline=True, nogil=True, **_OPTIONS)(function)


@_inline
def _exp(x: Any) -> Any:
    """exp of a float32 in -87 .. 87, to 2e-7: 2^round(y) * 2^fraction, y = x log2(e)."""
    y = max(min(x, float32(87.0)), float32(-87.0)) * float32(1.4426950408889634)
    whole = np.floor(y + float32(0.5))
    f = y - whole
    p = float32(0.00015403530393381608)
    p = p * f + float32(0.0013333558146428443)
    p = p * f + float32(0.009618129107628477)
    p = p * f + float32(0.05550410866482158)
    p = p * f + float32(0.2402265069591007)
    p = p * f + float32(0.6931471805599453)
    p = p * f + float32(1.0)
    return p * int32((int32(whole) + int32(127)) << int32(23)).view(np.float32)


@_inline
def _log2(x: Any) -> Any:
    """log2 of a positive normal float32: exponent + log2 of a mantissa in [sqrt(1/2), sqrt(2))."""
    bits = float32(x).view(np.int32)
    exponent = (bits - int32(0x3F3504F3)) >> int32(23)
    m = int32(bits - int32(exponent << int32(23))).view(np.float32)
    s = (m - float32(1.0)) / (m + float32(1.0))
    q = s * s
    p = float32(2.0 / 9.0)
    p = p * q + float32(2.0 / 7.0)
    p = p * q + float32(2.0 / 5.0)
    p = p * q + float32(2.0 / 3.0)
    p = p * q + float32(2.0)
    return float32(exponent) + s * p * float32(1.4426950408889634)


@_inline
def _uniform(place: Any, seed: Any) -> Any:
    """Uniform in [-1/2, 1/2): a hash of 32 bits, so any thread can make any element's noise."""
    x = uint32(place) + uint32(seed)
    x = uint32(uint32(x ^ (x >> uint32(16))) * uint32(0x7FEB352D))
    x = uint32(uint32(x ^ (x >> uint32(15))) * uint32(0x846CA68B))
    x = uint32(x ^ (x >> uint32(16)))
    return float32(int32(x >> uint32(8))) * float32(2.0**-24) - float32(0.5)


@_kernel
def add_noise(f: Any, step: Any, seed: Any, values: Any, noise: Any) -> None:
    """values = f + noise * step for f (N, R, C) and step (N, C), with noise (N, R, C) uniform in [-1/2, 1/2)."""
    rows, repeats, columns = f.shape
    for i in range(rows):
        for r in range(repeats):
            first = uint32((i * repeats + r) * columns)
            for j in range(columns):
                u = _uniform(first + uint32(j), seed)
                noise[i, r, j] = u
                values[i, r, j] = f[i, r, j] + u * step[i, j]


@_inline
def _upper_tail(z: Any, density: Any) -> Any:
    """1 - Phi(z) of the standard normal, given its density at z."""
    t = float32(1.0) / (float32(1.0) + float32(0.2316419) * abs(z))
    p = float32(1.330274429)
    p = p * t + float32(-1.821255978)
    p = p * t + float32(1.781477937)
    p = p * t + float32(-0.356563782)
    p = p * t + float32(0.319381530)
    tail = density * t * p
    return float32(1.0) - tail if z < float32(0.0) else tail


@_inline
def _bits(d: Any, inverse: Any, tail: Any) -> Any:
    """-log2 of the mass of (d - 1/2, d + 1/2) under the normal of deviation 1 / inverse, and of the floor's tail."""
    half = float32(0.5)
    size = abs(d)
    a = (size - half) * inverse
    b = (size + half) * inverse
    upper = _upper_tail(a, _NORMAL * _exp(-half * a * a)) - _upper_tail(b, _NORMAL * _exp(-half * b * b))
    return -_log2(max(upper, float32(0.0)) + tail)


@_kernel
def forward(
    f: Any,
    out: Any,
    mean_at: int,
    sigma_at: int,
    log_factor: Any,
    log_q: Any,
    m: Any,
    s: Any,
    log_s: Any,
    constants: Any,
    noise: bool,
    seed: Any,
    values: Any,
    rounded: Any,
    by_f: Any,
    by_sigma: Any,
    by_step: Any,
) -> float:
    """``likelihood.quantise_and_rate``; returns the bits.

    Fills ``values`` and ``rounded``, and in ``by_f``, ``by_sigma`` and ``by_step`` the gradients of the bits by f,
    log deviation and log step, all (N, C). ``constants`` are the log scales' bounds, then the mass and width of the
    floor's tail.
    """
    rows, columns = f.shape
    low, high, tail_mass, tail_width = constants[0], constants[1], constants[2], constants[3]
    one, half, zero = float32(1.0), float32(0.5), float32(0.0)
    per_width = one / tail_width
    per_mass = float32(2.0) * per_width * per_width / tail_mass
    total = 0.0
    for i in range(rows):
        mean = out[i, mean_at : mean_at + columns]
        raw = out[i, sigma_at : sigma_at + columns]
        factor = log_factor[i]
        start = uint32(i * columns)
        row = zero
        for j in range(columns):
            log_step = log_q[j] + factor
            step = _exp(log_step)
            per_step = one / step
            d0 = (f[i, j] - m[j] - s[j] * mean[j]) * per_step
            whole = np.floor(d0 + half)
            u = _uniform(start + uint32(j), seed) if noise else whole - d0
            values[i, j] = f[i, j] + u * step
            rounded[i, j] = f[i, j] + (whole - d0) * step
            d = d0 + u

            log_scale = raw[j] + log_s[j] - log_step
            inverse = _exp(-min(max(log_scale, low), high))
            size = abs(d)
            a = (size - half) * inverse
            b = (size + half) * inverse
            density_a = _NORMAL * _exp(-half * a * a)
            density_b = _NORMAL * _exp(-half * b * b)
            place = d * per_width
            tail = tail_mass / (one + place * place)
            p = max(_upper_tail(a, density_a) - _upper_tail(b, density_b), zero) + tail
            weight = _PER_LN2 / p
            slope = (density_a - density_b) * inverse
            by_d = weight * ((slope if d > zero else -slope) + per_mass * tail * tail * d)
            by_scale = weight * (density_a * a - density_b * b) * float32(-1.0)
            outward = (log_scale < low and by_scale > zero) or (log_scale > high and by_scale < zero)
            by_scale = zero if outward else by_scale
            by_f[i, j] = by_d * per_step
            by_sigma[i, j] = by_scale
            by_step[i, j] = -(by_d * d0 + by_scale)
            place = whole * per_width
            row += _bits(whole, inverse, tail_mass / (one + place * place))
        total += float(row)
    return total


@_kernel
def backward(
    g_values: Any,
    g_rounded: Any,
    g_bits: Any,
    error: Any,
    rounding: Any,
    by_f: Any,
    by_sigma: Any,
    by_step: Any,
    s: Any,
    mean_at: int,
    sigma_at: int,
    g_f: Any,
    g_out: Any,
    g_factor: Any,
    g_q: Any,
) -> None:
    """Gradients of ``forward`` from those of values and bits; ``g_q`` comes in as zeros.

    ``error`` is values - f, ``rounding`` is rounded - f.
    """
    rows, columns = error.shape
    for i in range(rows):
        mean = g_out[i, mean_at : mean_at + columns]
        raw = g_out[i, sigma_at : sigma_at + columns]
        row = float32(0.0)
        for j in range(columns):
            by = g_bits * by_f[i, j]
            g_f[i, j] = g_values[i, j] + g_rounded[i, j] + by
            mean[j] = -s[j] * by
            raw[j] = g_bits * by_sigma[i, j]
            step = g_bits * by_step[i, j] + g_values[i, j] * error[i, j] + g_rounded[i, j] * rounding[i, j]
            row += step
            g_q[j] += step
        g_factor[i] = row
