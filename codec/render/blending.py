"""Kernels that blend a tile's splats front to back, and that send the image's gradient back to them.

A splat is drawn in two sweeps over the rows of the strips that its bounding box touches. The first computes alphas
into a small buffer, the second blends them into the tile. One sweep would be shorter but slower: its chain of
dependent operations is longer than a processor can look ahead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..jit import fetch_add, kernel
from . import layout as at_
from .layout import TILE
from .simd import (
    LANES,
    add_channels,
    at,
    dot_channels,
    exp2,
    fma,
    fma_channels,
    lane_index,
    lane_sum,
    load,
    load_channels,
    minimum,
    negative_of,
    prefetch,
    select,
    splat,
    splat_channels,
    store,
    store_lane_sums,
    zero_channels,
)
from .tiles import PITCH, STRIPS, any_alive, block, clear_tile, load_tile, write_tile
from .tiling import sort_tile

CHECK_EVERY = 64  # splats between two looks at whether a whole tile is finished
AHEAD = 8  # splats between a row's prefetch and its use


@njit
def pixel_span(low: float, high: float) -> Any:
    """First and past-the-end pixel of a tile whose centre is in [low, high], in tile coordinates."""
    first = max(np.float32(np.ceil(low - np.float32(0.5))), np.float32(0.0))
    end = min(np.float32(np.floor(high + np.float32(0.5))), np.float32(TILE))
    return np.intp(first), np.intp(end)


@njit
def extent(rows: Any, row: int, x: int, y: int) -> Any:
    """The strips and rows of the tile at (x, y) that a splat's box touches: first and end of either."""
    mean, half = at(rows, row + at_.MEAN_X) - np.float32(x), at(rows, row + at_.HALF_X)
    x_0, x_1 = pixel_span(mean - half, mean + half)
    mean, half = at(rows, row + at_.MEAN_Y) - np.float32(y), at(rows, row + at_.HALF_Y)
    y_0, y_1 = pixel_span(mean - half, mean + half)
    return x_0 // LANES, (x_1 + LANES - 1) // LANES, y_0, y_1


@njit
def axes(rows: Any, row: int, x: int, y: int, strip: int, top: int) -> Any:
    """The whitened coordinates u and v of a strip's pixels, at row ``top`` of the tile at (x, y)."""
    dx = lane_index() + splat(np.float32(x + strip * LANES) + np.float32(0.5) - at(rows, row + at_.MEAN_X))
    dy = splat(np.float32(y + top) + np.float32(0.5) - at(rows, row + at_.MEAN_Y))
    v = fma(splat(at(rows, row + at_.Q)), dx, splat(at(rows, row + at_.P)) * dy)
    return splat(at(rows, row + at_.R)) * dx, v


@njit
def blend_splat(state: Any, alphas: Any, rows: Any, row: int, x: int, y: int, table: Any, like: Any) -> Any:
    """Draws one splat on a tile; returns its summed weight, lane by lane."""
    step = LANES * (1 + len(like))
    strip_0, strip_1, top, bottom = extent(rows, row, x, y)
    floor, ceiling = splat(at(table, at_.LOG_ALPHA_MIN)), splat(at(table, at_.ALPHA_MAX))
    zero, k, p = splat(0.0), splat(at(rows, row + at_.K)), splat(at(rows, row + at_.P))
    cell = 0
    for strip in range(strip_0, strip_1):
        u, v = axes(rows, row, x, y, strip, top)
        k_u = k - u * u
        for _ in range(top, bottom):
            power = k_u - v * v
            store(alphas, cell, select(power >= floor, minimum(exp2(power), ceiling), zero))
            v = v + p
            cell += LANES

    stop = splat(at(table, at_.STOP))
    colors = splat_channels(rows, row + at_.COLOR, like)
    total = zero
    cell = 0
    for strip in range(strip_0, strip_1):
        place = block(strip, top, step)
        for _ in range(top, bottom):
            transmittance = load(state, place)
            weight = load(alphas, cell) * transmittance
            after = transmittance - weight
            stopped = after <= stop
            store(state, place, select(stopped, negative_of(transmittance), after))
            weight = select(stopped, zero, weight)
            add_channels(state, place + LANES, weight, colors)
            total = total + weight
            place += step
            cell += LANES
    return total


@kernel
def blend(
    rows: Any, stride: int, table: Any, channels: int, background: Any, width: int, height: int, tiles_x: int,
    counter: Any, schedule: Any, tile_starts: Any, entries: Any, splats: Any, places: Any,
    image: Any, alphas: Any, weights: Any,
) -> None:
    """Every thread's share of the forward pass: sorts and blends tiles.

    Args:
        background: a tuple of float32; its length is the number of channels with their padding.
        counter: (>= 1,) int64, zero.
        schedule: (tiles,) the tiles, the longest lists first.
        splats, places: (pairs,) int32, out; see :func:`sort_tile`.
        image, alphas: (H W C,) and (H W,), out.
        weights: (pairs,) out, each pair's summed weight, by place; empty if not wanted.
    """
    step = LANES * (1 + len(background))
    state = np.empty(STRIPS * PITCH * step, np.float32)
    cells = np.empty(STRIPS * TILE * LANES, np.float32)
    longest = tile_starts[schedule[0] + 1] - tile_starts[schedule[0]]
    items, spare = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    histogram = np.empty(256, np.int64)
    while True:
        turn = fetch_add(counter, 0, 1)
        if turn >= schedule.size:
            break
        tile = schedule[turn]
        start, end = tile_starts[tile], tile_starts[tile + 1]
        x, y = tile % tiles_x * TILE, tile // tiles_x * TILE
        if end > start:
            sort_tile(entries, start, end, splats, places, items, spare, histogram)
        clear_tile(state, step, width - x, height - y)
        for i in range(start, end):
            prefetch(rows, np.intp(at(splats, min(i + AHEAD, end - 1))) * stride)
            weight = blend_splat(state, cells, rows, np.intp(at(splats, i)) * stride, x, y, table, background)
            if weights.size > 0:
                weights[i] = lane_sum(weight)
            if (i - start) % CHECK_EVERY == CHECK_EVERY - 1 and not any_alive(state, step):
                if weights.size > 0:
                    weights[i + 1 : end] = np.float32(0.0)
                break
        write_tile(state, image, alphas, channels, background, x, y, width, height)


@njit
def blend_splat_gradient(
    state: Any, cells: Any, rows: Any, row: int, x: int, y: int, table: Any, like: Any, out: Any, place_out: int
) -> None:
    """Redraws one splat and writes its gradient row: sums over the tile's pixels, in the whitened axes u and v.

    With h = dL/d(ln alpha) at a pixel, the row is h, h u, h v, h u^2, h u v, h v^2, then dL/d(colour). A running
    number per pixel, ``behind``, is what of dL is still to come from behind the splat:
    dL/d(alpha) = T (g . colour) - behind / (1 - alpha).
    """
    step = LANES * (2 + len(like))
    strip_0, strip_1, top, bottom = extent(rows, row, x, y)
    floor, ceiling = splat(at(table, at_.LOG_ALPHA_MIN)), splat(at(table, at_.ALPHA_MAX))
    zero, one = splat(0.0), splat(1.0)
    k, p = splat(at(rows, row + at_.K)), splat(at(rows, row + at_.P))
    cell = 0
    for strip in range(strip_0, strip_1):
        u, v = axes(rows, row, x, y, strip, top)
        k_u = k - u * u
        for _ in range(top, bottom):
            power = k_u - v * v
            raw = exp2(power)
            alpha = select(power >= floor, minimum(raw, ceiling), zero)
            store(cells, cell, alpha)
            # Zero as well where alpha is clamped: no gradient passes there.
            store(cells, cell + LANES, select(raw > ceiling, zero, alpha) / (one - alpha))
            v = v + p
            cell += 2 * LANES

    stop = splat(at(table, at_.STOP))
    colors = splat_channels(rows, row + at_.COLOR, like)
    color_sums = zero_channels(like)
    h_1, h_u, h_v, h_uu, h_uv, h_vv = zero, zero, zero, zero, zero, zero
    cell = 0
    for strip in range(strip_0, strip_1):
        u, v = axes(rows, row, x, y, strip, top)
        place = block(strip, top, step)
        s_1, s_v, s_vv = zero, zero, zero
        for _ in range(top, bottom):
            transmittance, behind = load(state, place), load(state, place + LANES)
            gradient = load_channels(state, place + 2 * LANES, like)
            odds = load(cells, cell + LANES)
            weight = load(cells, cell) * transmittance
            after = transmittance - weight
            stopped = after <= stop
            weight = select(stopped, zero, weight)
            here = weight * dot_channels(gradient, colors)
            behind = behind - here
            color_sums = fma_channels(weight, gradient, color_sums)
            h = select(stopped, zero, select(odds > zero, here - odds * behind, zero))
            s_1 = s_1 + h
            hv = h * v
            s_v = s_v + hv
            s_vv = fma(hv, v, s_vv)
            store(state, place, select(stopped, negative_of(transmittance), after))
            store(state, place + LANES, behind)
            v = v + p
            place += step
            cell += 2 * LANES
        su = s_1 * u
        h_1, h_u, h_v = h_1 + s_1, h_u + su, h_v + s_v
        h_uu, h_uv, h_vv = fma(su, u, h_uu), fma(s_v, u, h_uv), h_vv + s_vv
    store_lane_sums(out, place_out, (h_1, h_u, h_v, h_uu, h_uv, h_vv, *color_sums))


@kernel
def blend_gradient(
    rows: Any, stride: int, table: Any, channels: int, background: Any, width: int, height: int, tiles_x: int,
    counter: Any, schedule: Any, tile_starts: Any, splats: Any, image: Any, alphas: Any,
    image_gradient: Any, alpha_gradient: Any, out: Any, out_stride: int,
) -> None:
    """Every thread's share of the backward pass: the gradient row of every pair.

    Args:
        counter: (>= 1,) int64, zero.
        splats: (pairs,) int32 from :func:`blend`.
        out: (pairs * out_stride,) out, by place; see :func:`blend_splat_gradient`.
    """
    step = LANES * (2 + len(background))
    state = np.empty(STRIPS * PITCH * step, np.float32)
    cells = np.empty(2 * STRIPS * TILE * LANES, np.float32)
    while True:
        turn = fetch_add(counter, 0, 1)
        if turn >= schedule.size:
            break
        tile = schedule[turn]
        start, end = tile_starts[tile], tile_starts[tile + 1]
        if end == start:
            continue
        x, y = tile % tiles_x * TILE, tile // tiles_x * TILE
        load_tile(state, image, alphas, image_gradient, alpha_gradient, channels, background, x, y, width, height)
        for i in range(start, end):
            prefetch(rows, np.intp(at(splats, min(i + AHEAD, end - 1))) * stride)
            row = np.intp(at(splats, i)) * stride
            blend_splat_gradient(state, cells, rows, row, x, y, table, background, out, i * out_stride)
            if (i - start) % CHECK_EVERY == CHECK_EVERY - 1 and not any_alive(state, step):
                out[(i + 1) * out_stride : end * out_stride] = np.float32(0.0)
                break
