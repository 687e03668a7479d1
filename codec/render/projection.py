"""Kernels that bring primitives to the image plane, and gradients back, LANES primitives at a time.

The mathematics is that of :mod:`adcgs.render.reference`, but no covariance is formed in three dimensions: with
the 2x3 matrix M = J W R S (Jacobian, view, rotation, scale) the projected covariance is M M^T + blur, and its
determinant a sum of squares (Cauchy-Binet), free of cancellation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..jit import enlist, kernel, take
from . import layout as at_
from .layout import CHUNKS, TILE, WHITEN
from .layout import padded_channels as _padded_channels
from .simd import (
    LANES,
    absolute,
    at,
    floor,
    fma,
    gather,
    load,
    log2,
    maximum,
    minimum,
    prefetch,
    put,
    scatter,
    select,
    splat,
    store,
)
from .simd import square_root as sqrt
from .tiling import chunk_bounds, pack_box, touched_columns, unpack_box
from .types import MAX_SCALE

padded_channels = njit(_padded_channels)
AHEAD = 24  # pairs between a gradient row's prefetch and its use


@njit
def cam(table: Any, index: int) -> Any:
    """One entry of the packed camera, in every lane."""
    return splat(at(table, index))


@njit
def columns(table: Any, first: int, last: int) -> Any:
    """The three columns of an (M, 3) table, for one block of primitives."""
    return gather(table, first, last, 3, 0), gather(table, first, last, 3, 1), gather(table, first, last, 3, 2)


@njit
def to_camera(means: Any, first: int, last: int, table: Any) -> Any:
    """Camera-space centre, a tuple of three."""
    x, y, z = columns(means, first, last)
    out_x = fma(cam(table, 0), x, fma(cam(table, 1), y, fma(cam(table, 2), z, cam(table, at_.TRANSLATION))))
    out_y = fma(cam(table, 3), x, fma(cam(table, 4), y, fma(cam(table, 5), z, cam(table, at_.TRANSLATION + 1))))
    out_z = fma(cam(table, 6), x, fma(cam(table, 7), y, fma(cam(table, 8), z, cam(table, at_.TRANSLATION + 2))))
    return out_x, out_y, out_z


@njit
def unit_quaternion(quaternions: Any, first: int, last: int) -> Any:
    """w, x, y, z of unit length, and one over the length; a zero quaternion is the identity, with 0 for the latter.

    The last is the length in units of the largest component: NaN where one is not finite.
    """
    w, x = gather(quaternions, first, last, 4, 0), gather(quaternions, first, last, 4, 1)
    y, z = gather(quaternions, first, last, 4, 2), gather(quaternions, first, last, 4, 3)
    largest = maximum(maximum(absolute(w), absolute(x)), maximum(absolute(y), absolute(z)))
    shrink = splat(1.0) / maximum(largest, splat(1e-30))  # squares of the longest would overflow
    w, x, y, z = w * shrink, x * shrink, y * shrink, z * shrink
    length = sqrt(fma(w, w, fma(x, x, fma(y, y, z * z))))
    present = largest * length >= splat(1e-12)
    inverse = select(present, splat(1.0) / length, splat(0.0))
    return select(present, w * inverse, splat(1.0)), x * inverse, y * inverse, z * inverse, inverse * shrink, length


@njit
def rotate_rows(v: Any, w: Any, x: Any, y: Any, z: Any) -> Any:
    """The row vector v times the rotation matrix of a unit quaternion."""
    two, one = splat(2.0), splat(1.0)
    out_0 = v[0] * (one - two * fma(y, y, z * z)) + v[1] * (two * fma(x, y, w * z)) + v[2] * (two * (x * z - w * y))
    out_1 = v[0] * (two * (x * y - w * z)) + v[1] * (one - two * fma(x, x, z * z)) + v[2] * (two * fma(y, z, w * x))
    out_2 = v[0] * (two * fma(x, z, w * y)) + v[1] * (two * (y * z - w * x)) + v[2] * (one - two * fma(x, x, y * y))
    return out_0, out_1, out_2


@njit
def view_rows(slope_x: Any, slope_y: Any, inverse_z: Any, table: Any) -> Any:
    """The two rows of J W: how the pixel position moves with the world position."""
    scale_x, scale_y = cam(table, at_.FX) * inverse_z, cam(table, at_.FY) * inverse_z
    row_x = (
        scale_x * (cam(table, 0) - slope_x * cam(table, 6)),
        scale_x * (cam(table, 1) - slope_x * cam(table, 7)),
        scale_x * (cam(table, 2) - slope_x * cam(table, 8)),
    )
    row_y = (
        scale_y * (cam(table, 3) - slope_y * cam(table, 6)),
        scale_y * (cam(table, 4) - slope_y * cam(table, 7)),
        scale_y * (cam(table, 5) - slope_y * cam(table, 8)),
    )
    return row_x, row_y


@njit
def clamped(s: Any) -> Any:
    """The three scales, at most MAX_SCALE."""
    low, high = splat(-MAX_SCALE), splat(MAX_SCALE)
    return clamp(s[0], low, high), clamp(s[1], low, high), clamp(s[2], low, high)


@njit
def moderate(m_x: Any, m_y: Any) -> Any:
    """M over a number, and the number: 1, or more where a splat is so many pixels wide that squares would overflow."""
    wide = maximum(maximum(absolute(m_x[0]), absolute(m_x[1])), absolute(m_x[2]))
    high = maximum(maximum(absolute(m_y[0]), absolute(m_y[1])), absolute(m_y[2]))
    unit = maximum(maximum(wide, high) * splat(1e-4), splat(1.0))
    inverse = splat(1.0) / unit
    m_x = m_x[0] * inverse, m_x[1] * inverse, m_x[2] * inverse
    return m_x, (m_y[0] * inverse, m_y[1] * inverse, m_y[2] * inverse), inverse, unit


@njit
def copy_colors(colors: Any, first: int, last: int, channels: int, rows: Any, stride: int) -> Any:
    """Fills the colour columns of LANES rows, zeros behind the last channel; their sum with each times zero."""
    nothing = splat(0.0)
    for channel in range(channels):
        color = gather(colors, first, last, channels, channel)
        nothing = fma(color, splat(0.0), nothing)
        scatter(rows, first, stride, at_.COLOR + channel, color)
    for channel in range(channels, padded_channels(channels)):
        scatter(rows, first, stride, at_.COLOR + channel, splat(0.0))
    return nothing


@njit
def covariance(m_x: Any, m_y: Any, blur: Any) -> Any:
    """a, b, c and determinant of M M^T + blur."""
    a = fma(m_x[0], m_x[0], fma(m_x[1], m_x[1], m_x[2] * m_x[2]))
    b = fma(m_x[0], m_y[0], fma(m_x[1], m_y[1], m_x[2] * m_y[2]))
    c = fma(m_y[0], m_y[0], fma(m_y[1], m_y[1], m_y[2] * m_y[2]))
    minor_0 = m_x[1] * m_y[2] - m_x[2] * m_y[1]
    minor_1 = m_x[2] * m_y[0] - m_x[0] * m_y[2]
    minor_2 = m_x[0] * m_y[1] - m_x[1] * m_y[0]
    minors = fma(minor_0, minor_0, fma(minor_1, minor_1, minor_2 * minor_2))
    return a + blur, b, c + blur, fma(blur, a + c + blur, minors)


@njit
def clamp(value: Any, lower: Any, upper: Any) -> Any:
    return minimum(maximum(value, lower), upper)


@njit
def tile_span(low: Any, high: Any, tiles: int, drawn: Any, spans: Any, column: int) -> None:
    """First and past-the-end tile with a pixel centre in [low, high]; 0 and 0 if there is none."""
    zero, half, one, tile = splat(0.0), splat(0.5), splat(1.0), splat(1.0 / TILE)
    first = zero - floor(zero - maximum(low - half, zero))  # the ceiling
    last = floor(minimum(high - half, splat(np.float32(tiles * TILE - 1))))
    drawn = drawn & (first <= last)
    scatter(spans, 0, 4, column, select(drawn, floor(first * tile), zero))
    scatter(spans, 0, 4, column + 1, select(drawn, floor(last * tile) + one, zero))


@njit
def project_block(
    first: int, last: int, means: Any, quaternions: Any, scales: Any, opacities: Any, colors: Any, channels: int,
    table: Any, rows: Any, stride: int, depths: Any, tiles_x: int, tiles_y: int, spans: Any,
) -> None:
    """Fills LANES rows, their depths, and each box's tiles (x, end, y, end) in ``spans``."""
    x, y, z = to_camera(means, first, last, table)
    inverse_z = splat(1.0) / z
    mean_x = fma(cam(table, at_.FX), x * inverse_z, cam(table, at_.CX))
    mean_y = fma(cam(table, at_.FY), y * inverse_z, cam(table, at_.CY))
    slope_x = clamp(x * inverse_z, cam(table, at_.MIN_X), cam(table, at_.MAX_X))
    slope_y = clamp(y * inverse_z, cam(table, at_.MIN_Y), cam(table, at_.MAX_Y))
    row_x, row_y = view_rows(slope_x, slope_y, inverse_z, table)

    qw, qx, qy, qz, _, length = unit_quaternion(quaternions, first, last)
    u_x, u_y = rotate_rows(row_x, qw, qx, qy, qz), rotate_rows(row_y, qw, qx, qy, qz)
    raw = columns(scales, first, last)
    s_0, s_1, s_2 = clamped(raw)
    m_x, m_y = (u_x[0] * s_0, u_x[1] * s_1, u_x[2] * s_2), (u_y[0] * s_0, u_y[1] * s_1, u_y[2] * s_2)
    # Lengths are in units of ``unit`` pixels from here to where it comes back in.
    m_x, m_y, per_unit, unit = moderate(m_x, m_y)
    a, b, c, determinant = covariance(m_x, m_y, cam(table, at_.BLUR) * per_unit * per_unit)

    opacity = gather(opacities, first, last, 1, 0)
    k = log2(maximum(opacity, splat(1e-30)))
    reach = maximum(k - cam(table, at_.LOG_ALPHA_MIN), splat(0.0))
    slack = splat(1.0002)
    half_x = fma(sqrt(reach * a) * splat(1.0 / WHITEN) * unit, slack, splat(0.01))
    half_y = fma(sqrt(reach * c) * splat(1.0 / WHITEN) * unit, slack, splat(0.01))

    # A value times zero is NaN where the value is not finite, and comparisons are false for NaN.
    zero = splat(0.0)
    nothing = copy_colors(colors, first, last, channels, rows, stride)
    nothing = fma(x, zero, fma(y, zero, fma(z, zero, fma(length, zero, fma(opacity, zero, nothing)))))
    nothing = fma(raw[0], zero, fma(raw[1], zero, fma(raw[2], zero, nothing)))
    huge = splat(1e30)
    drawn = (z >= cam(table, at_.NEAR)) & (opacity >= cam(table, at_.ALPHA_MIN))
    drawn = drawn & (determinant > splat(1e-30)) & (half_x < huge) & (half_y < huge) & (determinant < splat(1e36))
    drawn = drawn & (nothing <= splat(0.0))
    drawn = drawn & (mean_x + half_x > splat(0.0)) & (mean_x - half_x < cam(table, at_.WIDTH))
    drawn = drawn & (mean_y + half_y > splat(0.0)) & (mean_y - half_y < cam(table, at_.HEIGHT))

    tile_span(mean_x - half_x, mean_x + half_x, tiles_x, drawn, spans, 0)
    tile_span(mean_y - half_y, mean_y + half_y, tiles_y, drawn, spans, 2)
    r = splat(WHITEN) / sqrt(a) * per_unit
    p = splat(WHITEN) * sqrt(a / determinant) * per_unit
    inverse_ac = splat(1.0) / (sqrt(a) * sqrt(c))
    scatter(rows, first, stride, at_.MEAN_X, mean_x)
    scatter(rows, first, stride, at_.MEAN_Y, mean_y)
    scatter(rows, first, stride, at_.R, r)
    scatter(rows, first, stride, at_.P, p)
    scatter(rows, first, stride, at_.Q, splat(0.0) - p * b / a)
    scatter(rows, first, stride, at_.K, k)
    scatter(rows, first, stride, at_.HALF_X, select(drawn, half_x, splat(0.0)))
    scatter(rows, first, stride, at_.HALF_Y, select(drawn, half_y, splat(0.0)))
    scatter(rows, first, stride, at_.RHO, b * inverse_ac)
    scatter(rows, first, stride, at_.RHO_C, sqrt(determinant) * inverse_ac)
    store(depths, first, z)


@kernel
def project(
    means: Any, quaternions: Any, scales: Any, opacities: Any, colors: Any, channels: int, table: Any,
    counter: Any, rows: Any, stride: int, depths: Any, radii: Any, means2d: Any, boxes: Any,
    tiles_x: int, tiles_y: int, tile_counts: Any, pair_counts: Any,
) -> None:
    """Every thread's share of the projection, and of counting the tiles that each splat touches.

    Args:
        means, quaternions, scales, opacities, colors: the primitives, each flattened.
        counter: (8,) int64, zero.
        rows: (M + LANES) rows of :mod:`layout`, out.
        depths: (M + LANES,), out.
        radii: (M,) int32, out.
        means2d: (2 M,), out.
        boxes: (M,) int64, out: the tiles of each splat's bounding box; see :func:`tiling.pack_box`.
        tile_counts: (CHUNKS, tiles) int32, zero, out: splats of the chunk that touch the tile.
        pair_counts: (CHUNKS,) int64, out: the sum over tiles.
    """
    count = opacities.size
    spans = np.zeros(4 * LANES, np.float32)
    rank = enlist(counter)
    while True:
        chunk = take(counter, rank, CHUNKS)
        if chunk >= CHUNKS:
            break
        start, end = chunk_bounds(chunk, count)
        counts, pairs = tile_counts[chunk], 0
        for first in range(start, end, LANES):
            project_block(
                first, count - 1, means, quaternions, scales, opacities, colors, channels, table,
                rows, stride, depths, tiles_x, tiles_y, spans,
            )  # fmt: skip
            for i in range(first, min(first + LANES, end)):
                row = i * stride
                put(means2d, 2 * i, at(rows, row + at_.MEAN_X))
                put(means2d, 2 * i + 1, at(rows, row + at_.MEAN_Y))
                radius = max(at(rows, row + at_.HALF_X), at(rows, row + at_.HALF_Y))
                put(radii, i, np.int32(min(np.ceil(radius), np.float32(2**30))))
                place = 4 * (i - first)
                x, x_end = np.int64(at(spans, place)), np.int64(at(spans, place + 1))
                y, y_end = np.int64(at(spans, place + 2)), np.int64(at(spans, place + 3))
                box = pack_box(x, y, x_end - x, y_end - y)
                put(boxes, i, box)
                _, y, _, height = unpack_box(box)
                for tile_y in range(y, y + height):
                    x_0, x_1 = touched_columns(rows, row, box, tile_y, tiles_x)
                    for tile in range(tile_y * tiles_x + x_0, tile_y * tiles_x + x_1):
                        put(counts, tile, np.int32(at(counts, tile) + 1))
                    pairs += x_1 - x_0
        pair_counts[chunk] = pairs


@njit
def outer_row(a: Any, u: Any, b: Any, v: Any) -> Any:
    """a u + b v, for tuples of three u and v."""
    return fma(a, u[0], b * v[0]), fma(a, u[1], b * v[1]), fma(a, u[2], b * v[2])


@njit
def pull_back_block(
    first: int, last: int, means: Any, quaternions: Any, scales: Any, opacities: Any, table: Any,
    rows: Any, stride: int, sums: Any, sum_stride: int,
    g_means: Any, g_quaternions: Any, g_scales: Any, g_opacities: Any, g_means2d: Any,
) -> None:
    """From the summed gradient rows of LANES primitives (in ``sums``) to gradients of their attributes."""
    x, y, z = to_camera(means, first, last, table)
    inverse_z = splat(1.0) / z
    tangent_x, tangent_y = x * inverse_z, y * inverse_z
    slope_x = clamp(tangent_x, cam(table, at_.MIN_X), cam(table, at_.MAX_X))
    slope_y = clamp(tangent_y, cam(table, at_.MIN_Y), cam(table, at_.MAX_Y))
    row_x, row_y = view_rows(slope_x, slope_y, inverse_z, table)
    qw, qx, qy, qz, inverse_length, _ = unit_quaternion(quaternions, first, last)
    u_x, u_y = rotate_rows(row_x, qw, qx, qy, qz), rotate_rows(row_y, qw, qx, qy, qz)
    raw = columns(scales, first, last)
    s_0, s_1, s_2 = clamped(raw)
    m_x, m_y = (u_x[0] * s_0, u_x[1] * s_1, u_x[2] * s_2), (u_y[0] * s_0, u_y[1] * s_1, u_y[2] * s_2)

    r, p = gather(rows, first, last, stride, at_.R), gather(rows, first, last, stride, at_.P)
    q = gather(rows, first, last, stride, at_.Q)
    drawn = gather(rows, first, last, stride, at_.HALF_X) > splat(0.0)
    end = LANES - 1
    h_1, h_u = gather(sums, 0, end, sum_stride, 0), gather(sums, 0, end, sum_stride, 1)
    h_v, h_uu = gather(sums, 0, end, sum_stride, 2), gather(sums, 0, end, sum_stride, 3)
    h_uv, h_vv = gather(sums, 0, end, sum_stride, 4), gather(sums, 0, end, sum_stride, 5)

    # With L = ((r, 0), (q, p)) the inverse covariance is L^T L / s^2: dL/d(mean2d) = L^T (h_u, h_v) / s^2.
    scale = splat(1.0 / WHITEN**2)
    g_x, g_y = fma(r, h_u, q * h_v) * scale, (p * h_v) * scale
    # dL/dM = 2 dL/dCov M = L^T H (L M) / s^4, with H the second moments; L M is of order s, so nothing cancels.
    scale = splat(1.0 / WHITEN**4)
    lu = (r * m_x[0], r * m_x[1], r * m_x[2])
    lv = (fma(q, m_x[0], p * m_y[0]), fma(q, m_x[1], p * m_y[1]), fma(q, m_x[2], p * m_y[2]))
    hu = (fma(h_uu, lu[0], h_uv * lv[0]), fma(h_uu, lu[1], h_uv * lv[1]), fma(h_uu, lu[2], h_uv * lv[2]))
    hv = (fma(h_uv, lu[0], h_vv * lv[0]), fma(h_uv, lu[1], h_vv * lv[1]), fma(h_uv, lu[2], h_vv * lv[2]))
    g_m_x = (fma(r, hu[0], q * hv[0]) * scale, fma(r, hu[1], q * hv[1]) * scale, fma(r, hu[2], q * hv[2]) * scale)
    g_m_y = (p * hv[0] * scale, p * hv[1] * scale, p * hv[2] * scale)

    zero = splat(0.0)
    scatter(g_opacities, first, 1, 0, select(drawn, h_1 / gather(opacities, first, last, 1, 0), zero))
    bound = splat(MAX_SCALE)
    free_0, free_1, free_2 = absolute(raw[0]) <= bound, absolute(raw[1]) <= bound, absolute(raw[2]) <= bound
    scatter(g_scales, first, 3, 0, select(drawn & free_0, fma(g_m_x[0], u_x[0], g_m_y[0] * u_y[0]), zero))
    scatter(g_scales, first, 3, 1, select(drawn & free_1, fma(g_m_x[1], u_x[1], g_m_y[1] * u_y[1]), zero))
    scatter(g_scales, first, 3, 2, select(drawn & free_2, fma(g_m_x[2], u_x[2], g_m_y[2] * u_y[2]), zero))
    scatter(g_means2d, first, 2, 0, select(drawn, g_x, zero))
    scatter(g_means2d, first, 2, 1, select(drawn, g_y, zero))

    g_u_x, g_u_y = (g_m_x[0] * s_0, g_m_x[1] * s_1, g_m_x[2] * s_2), (g_m_y[0] * s_0, g_m_y[1] * s_1, g_m_y[2] * s_2)

    # u = row R, so dL/dR = row^T dL/du, and dL/drow = R dL/du: rotation by the conjugate quaternion.
    two = splat(2.0)
    g_row_x = rotate_rows(g_u_x, qw, zero - qx, zero - qy, zero - qz)
    g_row_y = rotate_rows(g_u_y, qw, zero - qx, zero - qy, zero - qz)
    r_00, r_01, r_02 = outer_row(row_x[0], g_u_x, row_y[0], g_u_y)
    r_10, r_11, r_12 = outer_row(row_x[1], g_u_x, row_y[1], g_u_y)
    r_20, r_21, r_22 = outer_row(row_x[2], g_u_x, row_y[2], g_u_y)
    g_w = two * (qx * (r_21 - r_12) + qy * (r_02 - r_20) + qz * (r_10 - r_01))
    g_qx = two * (qy * (r_01 + r_10) + qz * (r_02 + r_20) + qw * (r_21 - r_12) - two * qx * (r_11 + r_22))
    g_qy = two * (qx * (r_01 + r_10) + qz * (r_12 + r_21) + qw * (r_02 - r_20) - two * qy * (r_00 + r_22))
    g_qz = two * (qx * (r_02 + r_20) + qy * (r_12 + r_21) + qw * (r_10 - r_01) - two * qz * (r_00 + r_11))
    along = qw * g_w + qx * g_qx + qy * g_qy + qz * g_qz
    drawn_turn = select(drawn, inverse_length, zero)
    scatter(g_quaternions, first, 4, 0, select(drawn, drawn_turn * (g_w - along * qw), zero))
    scatter(g_quaternions, first, 4, 1, select(drawn, drawn_turn * (g_qx - along * qx), zero))
    scatter(g_quaternions, first, 4, 2, select(drawn, drawn_turn * (g_qy - along * qy), zero))
    scatter(g_quaternions, first, 4, 3, select(drawn, drawn_turn * (g_qz - along * qz), zero))

    # row_x = f_x / z (W_0 - slope_x W_2) and mean_x = f_x tangent_x + c_x; the slope is the clamped tangent.
    f_x, f_y = cam(table, at_.FX) * inverse_z, cam(table, at_.FY) * inverse_z
    back_x = cam(table, 6) * g_row_x[0] + cam(table, 7) * g_row_x[1] + cam(table, 8) * g_row_x[2]
    back_y = cam(table, 6) * g_row_y[0] + cam(table, 7) * g_row_y[1] + cam(table, 8) * g_row_y[2]
    whole_x = row_x[0] * g_row_x[0] + row_x[1] * g_row_x[1] + row_x[2] * g_row_x[2]
    whole_y = row_y[0] * g_row_y[0] + row_y[1] * g_row_y[1] + row_y[2] * g_row_y[2]
    g_tangent_x = cam(table, at_.FX) * g_x - select((slope_x >= tangent_x) & (slope_x <= tangent_x), f_x * back_x, zero)
    g_tangent_y = cam(table, at_.FY) * g_y - select((slope_y >= tangent_y) & (slope_y <= tangent_y), f_y * back_y, zero)
    g_local_x, g_local_y = g_tangent_x * inverse_z, g_tangent_y * inverse_z
    g_local_z = zero - (g_local_x * tangent_x + g_local_y * tangent_y + (whole_x + whole_y) * inverse_z)
    for axis in range(3):
        gradient = cam(table, axis) * g_local_x + cam(table, 3 + axis) * g_local_y + cam(table, 6 + axis) * g_local_z
        scatter(g_means, first, 3, axis, select(drawn, gradient, zero))


@kernel
def pull_back(
    means: Any, quaternions: Any, scales: Any, opacities: Any, channels: int, table: Any,
    counter: Any, rows: Any, stride: int, pair_bounds: Any, places: Any, pair_rows: Any, pair_stride: int,
    g_means: Any, g_quaternions: Any, g_scales: Any, g_opacities: Any, g_colors: Any, g_means2d: Any,
) -> None:
    """Every thread's share of summing the pairs' gradient rows and pulling them back to the attributes.

    Args:
        counter: (8,) int64, zero.
        pair_bounds, places: (M + 1,) and (pairs,) int32: the pairs of each splat, and their places.
        pair_rows: (pairs * pair_stride,) by place, from :func:`blending.blend_gradient`.
        g_...: gradients like the attributes, with room for M + LANES rows; out.
    """
    count = opacities.size
    sums = np.zeros(LANES * pair_stride, np.float32)
    rank = enlist(counter)
    while True:
        chunk = take(counter, rank, CHUNKS)
        if chunk >= CHUNKS:
            break
        start, end = chunk_bounds(chunk, count)
        for first in range(start, end, LANES):
            for lane in range(min(LANES, end - first)):
                i = first + lane
                pair_start, pair_end = np.intp(at(pair_bounds, i)), np.intp(at(pair_bounds, i + 1))
                for part in range(0, pair_stride, LANES):
                    total = splat(0.0)
                    for pair in range(pair_start, pair_end):
                        total = total + load(pair_rows, np.intp(at(places, pair)) * pair_stride + part)
                    store(sums, lane * pair_stride + part, total)
                for pair in range(pair_end + AHEAD, min(pair_end + AHEAD + pair_end - pair_start, places.size)):
                    prefetch(pair_rows, np.intp(at(places, pair)) * pair_stride)
                for channel in range(channels):
                    g_colors[i * channels + channel] = sums[lane * pair_stride + 6 + channel]
            pull_back_block(
                first, count - 1, means, quaternions, scales, opacities, table, rows, stride,
                sums, pair_stride, g_means, g_quaternions, g_scales, g_opacities, g_means2d,
            )
