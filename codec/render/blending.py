"""Kernels that blend a tile's splats front to back, and that send the image's gradient back to them.

A tile is cut into strips LANES pixels wide; a splat is drawn strip by strip, down the rows of its bounding box.
Per strip and row a tile keeps one Vec of transmittance and one per channel, next to each other. A pixel that is
finished has a negative transmittance, so no mask is stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from . import layout as at_
from .jit import kernel
from .layout import TILE
from .simd import (
    LANES,
    add_channels,
    any_lane,
    at,
    dot_channels,
    exp2,
    fetch_add,
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
    store_channel_sums,
    zero_channels,
)
from .tiling import sort_tile

STRIPS = TILE // LANES
CHECK_EVERY = 64  # splats between two looks at whether a whole tile is finished


@njit
def pixel_span(low: float, high: float) -> tuple[int, int]:
    """First and past-the-end pixel of a tile whose centre is in [low, high], in tile coordinates."""
    first = max(np.float32(np.ceil(low - np.float32(0.5))), np.float32(0.0))
    end = min(np.float32(np.floor(high + np.float32(0.5))), np.float32(TILE))
    return np.intp(first), np.intp(end)


@njit
def clear_tile(state: Any, step: int, width: int, height: int) -> None:
    """No colour, and transmittance 1 for the width x height pixels that are in the image; others count as finished."""
    state[:] = np.float32(0.0)
    for strip in range(STRIPS):
        inside = lane_index() < splat(np.float32(width - strip * LANES))
        transmittance = select(inside, splat(1.0), splat(0.0))
        for row in range(min(TILE, height)):
            store(state, (strip * TILE + row) * step, transmittance)


@njit
def any_alive(state: Any, step: int) -> bool:
    """Whether any pixel of the tile still lets light through."""
    alive = load(state, 0)
    for block in range(1, STRIPS * TILE):
        here = load(state, block * step)
        alive = select(here > alive, here, alive)
    return any_lane(alive > splat(0.0))


@njit
def blend_splat(state: Any, rows: Any, row: int, origin_x: float, origin_y: float, table: Any, like: Any) -> float:
    """Draws one splat on a tile; returns its summed weight."""
    step = LANES * (1 + len(like))
    mean_x, mean_y = at(rows, row + at_.MEAN_X) - origin_x, at(rows, row + at_.MEAN_Y) - origin_y
    half_x, half_y = at(rows, row + at_.HALF_X), at(rows, row + at_.HALF_Y)
    x_0, x_1 = pixel_span(mean_x - half_x, mean_x + half_x)
    y_0, y_1 = pixel_span(mean_y - half_y, mean_y + half_y)
    r, q = splat(at(rows, row + at_.R)), splat(at(rows, row + at_.Q))
    p = at(rows, row + at_.P)
    p_vec, k = splat(p), splat(at(rows, row + at_.K))
    floor, ceiling = splat(at(table, at_.LOG_ALPHA_MIN)), splat(at(table, at_.ALPHA_MAX))
    stop = splat(at(table, at_.STOP))
    colors = splat_channels(rows, row + at_.COLOR, like)
    total = splat(0.0)
    for strip in range(x_0 // LANES, (x_1 + LANES - 1) // LANES):
        dx = lane_index() + splat(np.float32(strip * LANES) + np.float32(0.5) - mean_x)
        u = r * dx
        top = k - u * u
        v = fma(q, dx, splat(p * (np.float32(y_0) + np.float32(0.5) - mean_y)))
        place = (strip * TILE + y_0) * step
        for _ in range(y_0, y_1):
            power = top - v * v
            v = v + p_vec
            transmittance = load(state, place)
            alpha = select(power >= floor, minimum(exp2(power), ceiling), splat(0.0))
            weight = alpha * transmittance
            after = transmittance - weight
            stopped = after <= stop
            store(state, place, select(stopped, negative_of(transmittance), after))
            weight = select(stopped, splat(0.0), weight)
            add_channels(state, place + LANES, weight, colors)
            total = total + weight
            place += step
    return lane_sum(total)


@njit
def write_tile(
    state: Any, image: Any, alphas: Any, channels: int, background: Any, x: int, y: int, width: int, height: int
) -> None:
    """Composes a finished tile over the background, into the image and the alpha plane."""
    step = LANES * (1 + len(background))
    for row in range(min(TILE, height - y)):
        for column in range(min(TILE, width - x)):
            place = ((column // LANES) * TILE + row) * step + column % LANES
            transmittance = abs(at(state, place))
            pixel = (y + row) * width + x + column
            alphas[pixel] = np.float32(1.0) - transmittance
            for channel in range(channels):
                color = at(state, place + (1 + channel) * LANES)
                image[pixel * channels + channel] = color + transmittance * background[channel]


@kernel
def blend(
    rows: Any, stride: int, table: Any, channels: int, background: Any, width: int, height: int, tiles_x: int,
    counter: Any, schedule: Any, tile_starts: Any, entries: Any, order: Any, image: Any, alphas: Any, weights: Any,
) -> None:
    """Every thread's share of the forward pass: sorts and blends tiles.

    Args:
        background: a tuple of float32; its length is the number of channels with their padding.
        counter: (>= 1,) int64, zero.
        schedule: (tiles,) the tiles, the longest lists first.
        order: (pairs, 2) int32, out: each tile's splat and pair, front to back.
        image, alphas: (H W C,) and (H W,), out.
        weights: (pairs,) out, each pair's summed weight.
    """
    step = LANES * (1 + len(background))
    state = np.empty(STRIPS * TILE * step, np.float32)
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
            sort_tile(entries, start, end, order, items, spare, histogram)
        clear_tile(state, step, width - x, height - y)
        for i in range(start, end):
            prefetch(rows, np.intp(order[min(i + 8, end - 1), 0]) * stride)
            row = np.intp(order[i, 0]) * stride
            weights[order[i, 1]] = blend_splat(
                state, rows, row, np.float32(x), np.float32(y), table, background
            )
            if (i - start) % CHECK_EVERY == CHECK_EVERY - 1 and not any_alive(state, step):
                for rest in range(i + 1, end):
                    weights[order[rest, 1]] = np.float32(0.0)
                break
        write_tile(state, image, alphas, channels, background, x, y, width, height)


@njit
def blend_splat_gradient(
    state: Any, rows: Any, row: int, origin_x: float, origin_y: float, table: Any, like: Any, out: Any, place_out: int
) -> None:
    """Redraws one splat and writes its gradient row: sums over the tile's pixels, in the whitened axes u and v.

    With h = dL/d(ln alpha) at a pixel, the row is h, h u, h v, h u^2, h u v, h v^2, then dL/d(colour).
    ``state`` holds transmittance, what of dL is still to come from behind, and dL/d(image) per channel.
    """
    step = LANES * (2 + len(like))
    mean_x, mean_y = at(rows, row + at_.MEAN_X) - origin_x, at(rows, row + at_.MEAN_Y) - origin_y
    half_x, half_y = at(rows, row + at_.HALF_X), at(rows, row + at_.HALF_Y)
    x_0, x_1 = pixel_span(mean_x - half_x, mean_x + half_x)
    y_0, y_1 = pixel_span(mean_y - half_y, mean_y + half_y)
    r, q = splat(at(rows, row + at_.R)), splat(at(rows, row + at_.Q))
    p = at(rows, row + at_.P)
    p_vec, k = splat(p), splat(at(rows, row + at_.K))
    floor, ceiling = splat(at(table, at_.LOG_ALPHA_MIN)), splat(at(table, at_.ALPHA_MAX))
    stop, zero, one = splat(at(table, at_.STOP)), splat(0.0), splat(1.0)
    colors = splat_channels(rows, row + at_.COLOR, like)
    color_sums = zero_channels(like)
    h_1, h_u, h_v, h_uu, h_uv, h_vv = zero, zero, zero, zero, zero, zero
    for strip in range(x_0 // LANES, (x_1 + LANES - 1) // LANES):
        dx = lane_index() + splat(np.float32(strip * LANES) + np.float32(0.5) - mean_x)
        u = r * dx
        top = k - u * u
        v = fma(q, dx, splat(p * (np.float32(y_0) + np.float32(0.5) - mean_y)))
        place = (strip * TILE + y_0) * step
        s_1, s_v, s_vv = zero, zero, zero
        for _ in range(y_0, y_1):
            power = top - v * v
            transmittance, behind = load(state, place), load(state, place + LANES)
            gradient = load_channels(state, place + 2 * LANES, like)
            raw = exp2(power)
            alpha = select(power >= floor, minimum(raw, ceiling), zero)
            weight = alpha * transmittance
            after = transmittance - weight
            stopped = after <= stop
            weight = select(stopped, zero, weight)
            here = dot_channels(gradient, colors)
            behind = behind - weight * here
            color_sums = fma_channels(weight, gradient, color_sums)
            h = fma(weight, here, zero - alpha * behind / (one - alpha))
            h = select(stopped, zero, select(raw > ceiling, zero, h))
            s_1 = s_1 + h
            hv = h * v
            s_v = s_v + hv
            s_vv = fma(hv, v, s_vv)
            store(state, place, select(stopped, negative_of(transmittance), after))
            store(state, place + LANES, behind)
            v = v + p_vec
            place += step
        su = s_1 * u
        h_1, h_u, h_v = h_1 + s_1, h_u + su, h_v + s_v
        h_uu, h_uv, h_vv = fma(su, u, h_uu), fma(s_v, u, h_uv), h_vv + s_vv
    out[place_out], out[place_out + 1], out[place_out + 2] = lane_sum(h_1), lane_sum(h_u), lane_sum(h_v)
    out[place_out + 3], out[place_out + 4] = lane_sum(h_uu), lane_sum(h_uv)
    out[place_out + 5] = lane_sum(h_vv)
    store_channel_sums(out, place_out + 6, color_sums)


@njit
def load_tile(
    state: Any, image: Any, alphas: Any, image_gradient: Any, alpha_gradient: Any, channels: int, background: Any,
    x: int, y: int, width: int, height: int,
) -> None:
    """Prepares a tile for the backward pass.

    Per pixel the loss is linear in the light that arrives: g . image + g_alpha alpha. All of it is still to come:
    what the splats bring is g . (image - T background), what the background brings T (g . background - g_alpha).
    """
    step = LANES * (2 + len(background))
    for row in range(min(TILE, height - y)):
        for column in range(min(TILE, width - x)):
            place = ((column // LANES) * TILE + row) * step + column % LANES
            pixel = (y + row) * width + x + column
            behind = -alpha_gradient[pixel] * (np.float32(1.0) - alphas[pixel])
            for channel in range(channels):
                gradient = image_gradient[pixel * channels + channel]
                behind += gradient * image[pixel * channels + channel]
                state[place + (2 + channel) * LANES] = gradient
            state[place] = np.float32(1.0)
            state[place + LANES] = behind


@kernel
def blend_gradient(
    rows: Any, stride: int, table: Any, channels: int, background: Any, width: int, height: int, tiles_x: int,
    counter: Any, schedule: Any, tile_starts: Any, order: Any, image: Any, alphas: Any,
    image_gradient: Any, alpha_gradient: Any, out: Any, out_stride: int,
) -> None:
    """Every thread's share of the backward pass: the gradient row of every pair.

    Args:
        counter: (>= 1,) int64, zero.
        out: (pairs * out_stride,) out; see :func:`blend_splat_gradient`.
    """
    step = LANES * (2 + len(background))
    state = np.empty(STRIPS * TILE * step, np.float32)
    while True:
        turn = fetch_add(counter, 0, 1)
        if turn >= schedule.size:
            break
        tile = schedule[turn]
        start, end = tile_starts[tile], tile_starts[tile + 1]
        if end == start:
            continue
        x, y = tile % tiles_x * TILE, tile // tiles_x * TILE
        state[:] = np.float32(0.0)
        load_tile(state, image, alphas, image_gradient, alpha_gradient, channels, background, x, y, width, height)
        for i in range(start, end):
            prefetch(rows, np.intp(order[min(i + 8, end - 1), 0]) * stride)
            row = np.intp(order[i, 0]) * stride
            place_out = np.intp(order[i, 1]) * out_stride
            blend_splat_gradient(
                state, rows, row, np.float32(x), np.float32(y), table, background, out, place_out
            )
            if (i - start) % CHECK_EVERY == CHECK_EVERY - 1 and not any_alive(state, step):
                for rest in range(i + 1, end):
                    first = np.intp(order[rest, 1]) * out_stride
                    for column in range(out_stride):
                        out[first + column] = np.float32(0.0)
                break
