"""Compiled L1 + SSIM with its gradient: what :func:`adcgs.training.losses.l1_dssim` runs on a CPU.

An (H, W, C) image is handled as an (H, W C) plane whose horizontal taps are C apart, so channels need no
unpacking. Two passes over row pairs: the first filters the image (columns, then rows) and leaves the derivatives
of SSIM with respect to the three filtered moments that depend on ``x``; the second filters those back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..jit import enlist, kernel, take
from ..render.simd import LANES, absolute, at, fma, load, put, select, splat, store

RADIUS = 5
TAPS = 2 * RADIUS + 1
C1, C2 = 0.01**2, 0.03**2
PLANES = 4  # filtered: x, y, x^2 + y^2, x y


@njit
def copy_row(source: Any, start: int, out: Any, to: int, size: int) -> None:
    """A slice, in a loop: numba takes a second to compile each slice's assignment."""
    for i in range(size):
        put(out, to + i, at(source, start + i))


@njit
def row_taps(y: int, height: int, window: Any, index: Any, first: Any, second: Any) -> None:
    """Input rows of output rows y and y + 1, with each one's weights; rows outside the image weigh nothing."""
    for tap in range(TAPS + 1):
        row = y - RADIUS + tap
        inside = 0 <= row < height
        index[tap] = min(max(row, 0), height - 1)
        first[tap] = window[tap] if inside and tap < TAPS else np.float32(0.0)
        second[tap] = window[tap - 1] if inside and tap > 0 else np.float32(0.0)


@njit
def filter_columns(
    x: Any, y: Any, width: int, index: Any, first: Any, second: Any, out: Any, stride: int, pad: int
) -> None:
    """The vertical filter of two output rows, all four planes: out[2 plane + row] at ``pad``."""
    column = 0
    while column < width:
        column = min(column, width - LANES)  # the last vector overlaps its neighbour
        zero = splat(0.0)
        x_0, y_0, s_0, p_0, x_1, y_1, s_1, p_1 = zero, zero, zero, zero, zero, zero, zero, zero
        for tap in range(TAPS + 1):
            place = at(index, tap) * width + column
            u, v = load(x, place), load(y, place)
            squares, product = fma(u, u, v * v), u * v
            weight = splat(at(first, tap))
            x_0, y_0 = fma(u, weight, x_0), fma(v, weight, y_0)
            s_0, p_0 = fma(squares, weight, s_0), fma(product, weight, p_0)
            weight = splat(at(second, tap))
            x_1, y_1 = fma(u, weight, x_1), fma(v, weight, y_1)
            s_1, p_1 = fma(squares, weight, s_1), fma(product, weight, p_1)
        place = pad + column
        store(out, place, x_0)
        store(out, place + stride, x_1)
        store(out, place + 2 * stride, y_0)
        store(out, place + 3 * stride, y_1)
        store(out, place + 4 * stride, s_0)
        store(out, place + 5 * stride, s_1)
        store(out, place + 6 * stride, p_0)
        store(out, place + 7 * stride, p_1)
        column += LANES


@njit
def filter_row(row: Any, place: int, channels: int, window: Any) -> Any:
    """The horizontal filter at one place of a padded row."""
    total = load(row, place) * splat(at(window, RADIUS))
    for tap in range(RADIUS):
        reach = (RADIUS - tap) * channels
        total = fma(load(row, place - reach) + load(row, place + reach), splat(at(window, tap)), total)
    return total


@kernel
def ssim_forward(
    x: Any,
    y: Any,
    weights: Any,
    height: int,
    width: int,
    channels: int,
    window: Any,
    share: float,
    counter: Any,
    derivatives: Any,
    plane_stride: int,
    sums: Any,
) -> None:
    """Every thread's share of the first pass.

    Args:
        x, y: (H W C,) image and target; ``width`` is W C >= LANES.
        weights: (H W C,), or empty for ones everywhere.
        share: the weight of 1 - SSIM; L1 has the rest.
        counter: (>= 1,) int64, zero.
        derivatives: (3, H, plane_stride) flattened, out: of the weighted SSIM with respect to the filtered x,
            x^2 and x y, per pixel; plane_stride is W C rounded up to LANES.
        sums: (H,) float64, out: each row's summed loss.
    """
    pad = RADIUS * channels
    stride = plane_stride + 2 * pad
    columns = np.zeros(2 * PLANES * stride + LANES, np.float32)
    index = np.empty(TAPS + 1, np.intp)
    first, second = np.empty(TAPS + 1, np.float32), np.empty(TAPS + 1, np.float32)
    near, far = np.zeros(plane_stride, np.float32), np.zeros(plane_stride, np.float32)
    weight_row = np.zeros(plane_stride, np.float32)
    for column in range(width):  # and 0 beyond the image, for what the filters spill there
        weight_row[column] = np.float32(1.0)
    plane = height * plane_stride
    one, two = splat(1.0), splat(2.0)
    c1, c2 = splat(C1), splat(C2)
    dssim, l1 = splat(share), splat(np.float32(1.0) - share)
    rank = enlist(counter)
    while True:
        top = 2 * take(counter, rank, (height + 1) // 2)
        if top >= height:
            break
        row_taps(top, height, window, index, first, second)
        filter_columns(x, y, width, index, first, second, columns, stride, pad)
        for row in range(top, min(top + 2, height)):
            copy_row(x, row * width, near, 0, width)
            copy_row(y, row * width, far, 0, width)
            if weights.size > 0:
                copy_row(weights, row * width, weight_row, 0, width)
            total = splat(0.0)
            for column in range(0, plane_stride, LANES):
                place = (row - top) * stride + pad + column
                mu_x = filter_row(columns, place, channels, window)
                mu_y = filter_row(columns, place + 2 * stride, channels, window)
                squares = filter_row(columns, place + 4 * stride, channels, window)
                product = filter_row(columns, place + 6 * stride, channels, window)
                mu_xy, mu_sq = mu_x * mu_y, fma(mu_x, mu_x, mu_y * mu_y)
                n_1, n_2 = fma(two, mu_xy, c1), fma(two, product - mu_xy, c2)
                d_1, d_2 = mu_sq + c1, squares - mu_sq + c2
                inverse = one / (d_1 * d_2)
                ssim = n_1 * n_2 * inverse
                weight = load(weight_row, column)
                by_mean = two * inverse * fma(mu_y, n_2 - n_1, mu_x * ssim * (d_1 - d_2))
                out = row * plane_stride + column
                store(derivatives, out, weight * by_mean)
                store(derivatives, out + plane, splat(0.0) - weight * ssim * d_1 * inverse)
                store(derivatives, out + 2 * plane, weight * two * n_1 * inverse)
                error = absolute(load(near, column) - load(far, column))
                total = fma(weight, fma(l1, error, dssim * (one - ssim)), total)
            store(near, 0, total)  # summed in double, lane by lane
            row_sum = 0.0
            for lane in range(LANES):
                row_sum += near[lane]
            sums[row] = row_sum


@njit
def filter_derivatives(
    planes: Any, plane: int, plane_stride: int, index: Any, first: Any, second: Any, out: Any, stride: int, pad: int
) -> None:
    """The vertical filter of two output rows of the three derivative planes."""
    for column in range(0, plane_stride, LANES):
        zero = splat(0.0)
        a_0, b_0, c_0, a_1, b_1, c_1 = zero, zero, zero, zero, zero, zero
        for tap in range(TAPS + 1):
            place = at(index, tap) * plane_stride + column
            a, b, c = load(planes, place), load(planes, place + plane), load(planes, place + 2 * plane)
            weight = splat(at(first, tap))
            a_0, b_0, c_0 = fma(a, weight, a_0), fma(b, weight, b_0), fma(c, weight, c_0)
            weight = splat(at(second, tap))
            a_1, b_1, c_1 = fma(a, weight, a_1), fma(b, weight, b_1), fma(c, weight, c_1)
        place = pad + column
        store(out, place, a_0)
        store(out, place + stride, a_1)
        store(out, place + 2 * stride, b_0)
        store(out, place + 3 * stride, b_1)
        store(out, place + 4 * stride, c_0)
        store(out, place + 5 * stride, c_1)


@kernel
def ssim_backward(
    x: Any,
    y: Any,
    weights: Any,
    height: int,
    width: int,
    channels: int,
    window: Any,
    share: float,
    counter: Any,
    derivatives: Any,
    plane_stride: int,
    scale: float,
    gradient: Any,
) -> None:
    """Every thread's share of the second pass: gradient = scale * dL/dx, (H W C,). See :func:`ssim_forward`."""
    pad = RADIUS * channels
    stride = plane_stride + 2 * pad
    columns = np.zeros(6 * stride + LANES, np.float32)
    index = np.empty(TAPS + 1, np.intp)
    first, second = np.empty(TAPS + 1, np.float32), np.empty(TAPS + 1, np.float32)
    near, far = np.zeros(plane_stride, np.float32), np.zeros(plane_stride, np.float32)
    weight_row = np.zeros(plane_stride, np.float32)
    for column in range(width):  # and 0 beyond the image, for what the filters spill there
        weight_row[column] = np.float32(1.0)
    plane = height * plane_stride
    two, zero = splat(2.0), splat(0.0)
    by_ssim, by_l1 = splat(-scale * share), splat(scale * (np.float32(1.0) - share))
    rank = enlist(counter)
    while True:
        top = 2 * take(counter, rank, (height + 1) // 2)
        if top >= height:
            break
        row_taps(top, height, window, index, first, second)
        filter_derivatives(derivatives, plane, plane_stride, index, first, second, columns, stride, pad)
        for row in range(top, min(top + 2, height)):
            copy_row(x, row * width, near, 0, width)
            copy_row(y, row * width, far, 0, width)
            if weights.size > 0:
                copy_row(weights, row * width, weight_row, 0, width)
            for column in range(0, plane_stride, LANES):
                place = (row - top) * stride + pad + column
                a = filter_row(columns, place, channels, window)
                b = filter_row(columns, place + 2 * stride, channels, window)
                c = filter_row(columns, place + 4 * stride, channels, window)
                u, v = load(near, column), load(far, column)
                sign = select(u > v, by_l1, select(u < v, zero - by_l1, zero))
                total = by_ssim * fma(two * u, b, fma(v, c, a))
                store(near, column, fma(sign, load(weight_row, column), total))
            copy_row(near, 0, gradient, row * width, width)
