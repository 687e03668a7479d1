"""A tile's pixels while splats are drawn on it, in an order that suits vectors.

A tile is cut into strips LANES pixels wide. Per strip and row there are a few Vecs next to each other: first the
transmittance, then what the pass needs (``step`` floats in all). A pixel that is finished, or outside the image,
has a transmittance of zero or less, so no mask is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .layout import TILE
from .simd import (
    LANES,
    absolute,
    any_lane,
    at,
    fma,
    lane_index,
    load,
    load_rgb,
    maximum,
    put,
    select,
    splat,
    store,
    store_rgb,
)

STRIPS = TILE // LANES
PITCH = TILE + 1  # rows from strip to strip: a power of two would send neighbours to the same cache sets


@njit
def block(strip: int, row: int, step: int) -> int:
    """Where the Vecs of a strip's row begin."""
    return (strip * PITCH + row) * step


@njit
def clear_tile(state: Any, step: int, width: int, height: int) -> None:
    """All zero, but transmittance 1 for the width x height pixels that are in the image."""
    state[:] = np.float32(0.0)
    for strip in range(STRIPS):
        inside = lane_index() < splat(np.float32(width - strip * LANES))
        transmittance = select(inside, splat(1.0), splat(0.0))
        for row in range(min(TILE, height)):
            store(state, block(strip, row, step), transmittance)


@njit
def any_alive(state: Any, step: int) -> bool:
    """Whether any pixel of the tile still lets light through."""
    most = splat(0.0)
    for place in range(0, STRIPS * PITCH * step, step):
        most = maximum(load(state, place), most)
    return any_lane(most > splat(0.0))


@njit
def write_tile(
    state: Any, image: Any, alphas: Any, channels: int, background: Any, x: int, y: int, width: int, height: int
) -> None:
    """Composes a finished tile over the background, into the image and the alpha plane."""
    step = LANES * (1 + len(background))
    for row in range(min(TILE, height - y)):
        for strip in range(min(STRIPS, (width - x + LANES - 1) // LANES)):
            place, pixel = block(strip, row, step), (y + row) * width + x + strip * LANES
            left = min(LANES, width - x - strip * LANES)
            if channels == 3 and left == LANES:
                rest = absolute(load(state, place))
                store(alphas, pixel, splat(1.0) - rest)
                red = fma(rest, splat(background[0]), load(state, place + LANES))
                green = fma(rest, splat(background[1]), load(state, place + 2 * LANES))
                blue = fma(rest, splat(background[2]), load(state, place + 3 * LANES))
                store_rgb(image, 3 * pixel, red, green, blue)
            else:
                for lane in range(left):
                    one_rest = abs(at(state, place + lane))
                    put(alphas, pixel + lane, np.float32(1.0) - one_rest)
                    for channel in range(channels):
                        color = at(state, place + (1 + channel) * LANES + lane)
                        put(image, (pixel + lane) * channels + channel, fma(one_rest, background[channel], color))


@njit
def load_tile(
    state: Any, image: Any, alphas: Any, image_gradient: Any, alpha_gradient: Any, channels: int, background: Any,
    x: int, y: int, width: int, height: int,
) -> None:
    """Prepares a tile for the backward pass: transmittance, what is still to come of dL, and dL/d(image).

    Per pixel the loss is linear in the light that arrives, g . image + g_alpha alpha, and at first all of it is
    still to come: from the splats g . (image - T background), from behind them T (g . background - g_alpha).
    """
    step = LANES * (2 + len(background))
    state[:] = np.float32(0.0)
    one = splat(1.0)
    for row in range(min(TILE, height - y)):
        for strip in range(min(STRIPS, (width - x + LANES - 1) // LANES)):
            place, pixel = block(strip, row, step), (y + row) * width + x + strip * LANES
            left = min(LANES, width - x - strip * LANES)
            if channels == 3 and left == LANES:
                g, c = load_rgb(image_gradient, 3 * pixel), load_rgb(image, 3 * pixel)
                behind = load(alpha_gradient, pixel) * (load(alphas, pixel) - one)
                store(state, place, one)
                store(state, place + LANES, fma(g[0], c[0], fma(g[1], c[1], fma(g[2], c[2], behind))))
                store(state, place + 2 * LANES, g[0])
                store(state, place + 3 * LANES, g[1])
                store(state, place + 4 * LANES, g[2])
            else:
                for lane in range(left):
                    rest = at(alpha_gradient, pixel + lane) * (at(alphas, pixel + lane) - np.float32(1.0))
                    for channel in range(channels):
                        gradient = at(image_gradient, (pixel + lane) * channels + channel)
                        rest = fma(gradient, at(image, (pixel + lane) * channels + channel), rest)
                        put(state, place + (2 + channel) * LANES + lane, gradient)
                    put(state, place + lane, np.float32(1.0))
                    put(state, place + LANES + lane, rest)
