"""Which splats touch which tiles: exact culling, and a counting sort into tiles.

Tiles hold lists of (splat, pair) sorted by depth. A pair is one splat in one tile; pairs are numbered splat by
splat, so that the gradient rows which tiles write come out grouped by splat.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numba import njit

from . import layout as at_
from .jit import kernel
from .layout import CHUNKS, TILE
from .simd import LANES, fetch_add


@njit
def chunk_bounds(chunk: int, count: int) -> tuple[int, int]:
    """First and past-the-end primitive of a chunk; the first is a multiple of LANES."""
    size = ((count + CHUNKS - 1) // CHUNKS + LANES - 1) // LANES * LANES
    return min(chunk * size, count), min((chunk + 1) * size, count)


@njit
def tile_span(low: float, high: float, tiles: int) -> tuple[int, int]:
    """First and past-the-end tile with a pixel centre in [low, high]."""
    first, last = max(low - 0.5, 0.0), min(high - 0.5, tiles * TILE - 1.0)
    if last < first:
        return 0, 0
    return int(np.ceil(first)) // TILE, int(last) // TILE + 1


@njit
def band_columns(rows: Any, row: int, tile_y: int, tiles_x: int) -> tuple[int, int]:
    """The tiles of tile row ``tile_y`` that the splat's ellipse touches: a span, as an ellipse is convex.

    In units of the half box the ellipse's right edge is rho t + rho_c sqrt(1 - t^2) at height t, which is
    largest, 1, at t = rho; over a band of heights it is largest where the band comes closest to that.
    """
    half_y = rows[row + at_.HALF_Y]
    offset = tile_y * TILE + np.float32(0.5) - rows[row + at_.MEAN_Y]
    top = min(max(offset / half_y, np.float32(-1.0)), np.float32(1.0))
    bottom = min(max((offset + (TILE - 1)) / half_y, np.float32(-1.0)), np.float32(1.0))
    rho, rho_c = rows[row + at_.RHO], rows[row + at_.RHO_C]
    t = min(max(rho, top), bottom)
    right = rho * t + rho_c * np.float32(sqrt(max(np.float32(0.0), 1 - t * t)))
    t = min(max(-rho, top), bottom)
    left = rho * t - rho_c * np.float32(sqrt(max(np.float32(0.0), 1 - t * t)))
    mean, half = rows[row + at_.MEAN_X], rows[row + at_.HALF_X]
    slack = np.float32(0.02) + np.float32(1e-5) * half
    return tile_span(mean + half * left - slack, mean + half * right + slack, tiles_x)


@njit
def count_tiles(
    rows: Any, stride: int, start: int, end: int, tiles_x: int, tiles_y: int, tile_counts: Any
) -> int:
    """Adds the splats from ``start`` to ``end`` to the counts of the tiles they touch; returns how many were added."""
    total = 0
    for i in range(start, end):
        row = i * stride
        half_y = rows[row + at_.HALF_Y]
        if half_y > 0.0:
            mean_y = rows[row + at_.MEAN_Y]
            y_0, y_1 = tile_span(mean_y - half_y, mean_y + half_y, tiles_y)
            for tile_y in range(y_0, y_1):
                x_0, x_1 = band_columns(rows, row, tile_y, tiles_x)
                for tile in range(tile_y * tiles_x + x_0, tile_y * tiles_x + x_1):
                    tile_counts[tile] += 1
                total += max(x_1 - x_0, 0)
    return total


@kernel
def prefix_sums(tile_counts: Any, pair_counts: Any, tile_starts: Any, pair_starts: Any) -> None:
    """Turns counts into the places where each chunk writes: tile by tile, chunks in order.

    Args:
        tile_counts: (CHUNKS, tiles) int32, replaced by each chunk's cursor in each tile.
        tile_starts: (tiles + 1,) int64, out.
        pair_starts: (CHUNKS + 1,) int64, out.
    """
    position = 0
    for tile in range(tile_starts.size - 1):
        tile_starts[tile] = position
        for chunk in range(CHUNKS):
            size = tile_counts[chunk, tile]
            tile_counts[chunk, tile] = position
            position += size
    tile_starts[tile_starts.size - 1] = position
    position = 0
    for chunk in range(CHUNKS):
        pair_starts[chunk] = position
        position += pair_counts[chunk]
    pair_starts[CHUNKS] = position


@kernel
def fill_tiles(
    rows: Any, stride: int, keys: Any, count: int, tiles_x: int, tiles_y: int,
    counter: Any, cursors: Any, pair_starts: Any, pair_bounds: Any, entries: Any,
) -> None:
    """Every thread's share of writing the pairs into their tiles, in the order of the splats.

    Args:
        keys: (>= count,) int32, the bits of positive depths, which sort like the depths.
        counter: (>= 1,) int64, zero.
        cursors: (CHUNKS, tiles) int32 from :func:`prefix_sums`; consumed.
        pair_bounds: (count + 1,) int32, out: splat i has the pairs from [i] to [i + 1].
        entries: (pairs, 4) int32, out: key, splat, pair, nothing.
    """
    while True:
        chunk = fetch_add(counter, 0, 1)
        if chunk >= CHUNKS:
            break
        start, end = chunk_bounds(chunk, count)
        pair = pair_starts[chunk]
        cursor = cursors[chunk]
        for i in range(start, end):
            pair_bounds[i] = pair
            row = i * stride
            half_y = rows[row + at_.HALF_Y]
            if half_y > 0.0:
                mean_y = rows[row + at_.MEAN_Y]
                y_0, y_1 = tile_span(mean_y - half_y, mean_y + half_y, tiles_y)
                for tile_y in range(y_0, y_1):
                    x_0, x_1 = band_columns(rows, row, tile_y, tiles_x)
                    for tile in range(tile_y * tiles_x + x_0, tile_y * tiles_x + x_1):
                        place = cursor[tile]
                        cursor[tile] = place + 1
                        entries[place, 0], entries[place, 1], entries[place, 2] = keys[i], i, pair
                        pair += 1


@njit
def sort_tile(entries: Any, start: int, end: int, order: Any, items: Any, spare: Any, histogram: Any) -> None:
    """Writes a tile's (splat, pair) front to back into ``order``; equal depths stay in the splats' order.

    A radix sort of (key, place) by the bytes in which the keys differ, least significant first.

    Args:
        order: (pairs, 2) int32, out.
        items, spare: (>= end - start,) uint64 scratch.
        histogram: (256,) int64 scratch.
    """
    size = end - start
    lowest, highest = entries[start, 0], entries[start, 0]
    for i in range(start, end):
        lowest, highest = min(lowest, entries[i, 0]), max(highest, entries[i, 0])
    for i in range(size):
        items[i] = (np.uint64(entries[start + i, 0] - lowest) << np.uint64(32)) | np.uint64(i)
    shift, remaining = np.uint64(32), np.int64(highest) - np.int64(lowest)
    while remaining > 0:
        histogram[:] = 0
        for i in range(size):
            histogram[(items[i] >> shift) & np.uint64(255)] += 1
        total = 0
        for digit in range(256):
            here = histogram[digit]
            histogram[digit] = total
            total += here
        for i in range(size):
            digit = (items[i] >> shift) & np.uint64(255)
            spare[histogram[digit]] = items[i]
            histogram[digit] += 1
        items, spare = spare, items
        shift += np.uint64(8)
        remaining >>= 8
    for i in range(size):
        place = start + np.int64(items[i] & np.uint64(0xFFFFFFFF))
        order[start + i, 0], order[start + i, 1] = entries[place, 1], entries[place, 2]


@kernel
def sum_pairs(counter: Any, pair_bounds: Any, values: Any, sums: Any) -> None:
    """Every thread's share of sums[i] = the values of splat i's pairs, added in order."""
    while True:
        chunk = fetch_add(counter, 0, 1)
        if chunk >= CHUNKS:
            break
        start, end = chunk_bounds(chunk, sums.size)
        for i in range(start, end):
            total = np.float32(0.0)
            for pair in range(pair_bounds[i], pair_bounds[i + 1]):
                total += values[pair]
            sums[i] = total
