"""Which splats touch which tiles: exact culling, and a counting sort into tiles.

A tile holds a list of splats, front to back. A pair is one splat in one tile; it has a number, counted splat by
splat, and a place in its tile's list, counted tile by tile. Tiles write what they find out about their pairs by
place, one after the other; whoever sums over a splat's pairs goes by their numbers and looks the places up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..jit import enlist, kernel, take
from . import layout as at_
from .layout import CHUNKS, TILE
from .simd import LANES, at, put


@njit
def chunk_bounds(chunk: int, count: int) -> tuple[int, int]:
    """First and past-the-end primitive of a chunk; the first is a multiple of LANES."""
    size = ((count + CHUNKS - 1) // CHUNKS + LANES - 1) // LANES * LANES
    return min(chunk * size, count), min((chunk + 1) * size, count)


@njit
def pack_box(x: int, y: int, columns: int, height: int) -> int:
    """The tiles of a splat's box: first column and row, and how many of each; 16 bits apiece. 0 if it is empty."""
    if columns == 0 or height == 0:
        return 0
    return x | y << 16 | columns << 32 | height << 48


@njit
def unpack_box(box: int) -> tuple[int, int, int, int]:
    """The inverse of :func:`pack_box`."""
    return box & 0xFFFF, box >> 16 & 0xFFFF, box >> 32 & 0xFFFF, box >> 48


@njit
def band_columns(rows: Any, row: int, tile_y: int, tiles_x: int) -> tuple[int, int]:
    """The tiles of tile row ``tile_y`` that the splat's ellipse touches: a span, as an ellipse is convex.

    In units of the half box the ellipse's right edge is rho t + rho_c sqrt(1 - t^2) at height t, which is
    largest, 1, at t = rho; over a band of heights it is largest where the band comes closest to that.
    """
    one, half = np.float32(1.0), np.float32(0.5)
    half_x, half_y = at(rows, row + at_.HALF_X), at(rows, row + at_.HALF_Y)
    offset = np.float32(tile_y * TILE) + half - at(rows, row + at_.MEAN_Y)
    top = min(max(offset / half_y, -one), one)
    bottom = min(max((offset + np.float32(TILE - 1)) / half_y, -one), one)
    rho, rho_c = at(rows, row + at_.RHO), at(rows, row + at_.RHO_C)
    t = min(max(rho, top), bottom)
    right = rho * t + rho_c * np.sqrt(max(one - t * t, np.float32(0.0)))
    t = min(max(-rho, top), bottom)
    left = rho * t - rho_c * np.sqrt(max(one - t * t, np.float32(0.0)))
    mean, slack = at(rows, row + at_.MEAN_X), np.float32(0.02) + np.float32(1e-5) * half_x
    first = max(mean + half_x * left - slack - half, np.float32(0.0))
    last = min(mean + half_x * right + slack - half, np.float32(tiles_x * TILE - 1))
    if not first <= last:
        return 0, 0
    return np.int64(np.ceil(first)) // TILE, np.int64(last) // TILE + 1


@njit
def touched_columns(rows: Any, row: int, box: int, tile_y: int, tiles_x: int) -> tuple[int, int]:
    """First and past-the-end tile of tile row ``tile_y`` that a splat touches; counting and filling share this."""
    x, _, columns, height = unpack_box(box)
    if columns == 1 or height == 1:  # an ellipse touches all of a box that is one tile wide
        return x, x + columns
    return band_columns(rows, row, tile_y, tiles_x)


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


@njit
def enter(entries: Any, cursor: Any, tile: int, key: int, splat: int, pair: int) -> None:
    """Appends a pair to a tile's list."""
    place = np.intp(at(cursor, tile))
    put(cursor, tile, np.int32(place + 1))
    put(entries, 4 * place, np.int32(key))
    put(entries, 4 * place + 1, np.int32(splat))
    put(entries, 4 * place + 2, np.int32(pair))


@kernel
def fill_tiles(
    rows: Any, stride: int, keys: Any, boxes: Any, tiles_x: int,
    counter: Any, cursors: Any, pair_starts: Any, pair_bounds: Any, entries: Any,
) -> None:
    """Every thread's share of writing the pairs into their tiles, in the order of the splats.

    Args:
        keys: (>= M,) int32, the bits of positive depths, which sort like the depths.
        boxes: (M,) int64; see :func:`pack_box`.
        counter: (8,) int64, zero.
        cursors: (CHUNKS, tiles) int32 from :func:`prefix_sums`; consumed.
        pair_bounds: (M + 1,) int32, out: splat i has the pairs from [i] to [i + 1].
        entries: (4 pairs,) int32, out: key, splat, pair, nothing.
    """
    rank = enlist(counter)
    while True:
        chunk = take(counter, rank, CHUNKS)
        if chunk >= CHUNKS:
            break
        start, end = chunk_bounds(chunk, boxes.size)
        pair = pair_starts[chunk]
        cursor = cursors[chunk]
        for i in range(start, end):
            put(pair_bounds, i, np.int32(pair))
            box = at(boxes, i)
            _, y, _, height = unpack_box(box)
            for tile_y in range(y, y + height):
                x_0, x_1 = touched_columns(rows, i * stride, box, tile_y, tiles_x)
                for tile in range(tile_y * tiles_x + x_0, tile_y * tiles_x + x_1):
                    enter(entries, cursor, tile, at(keys, i), i, pair)
                    pair += 1


@njit
def sort_tile(
    entries: Any, start: int, end: int, splats: Any, places: Any, items: Any, spare: Any, histogram: Any
) -> None:
    """Writes a tile's splats front to back, and where each pair got to; equal depths stay in the splats' order.

    A radix sort of (key, place) by the bytes in which the keys differ, least significant first.

    Args:
        splats: (pairs,) int32, out: the splat at each place of the lists.
        places: (pairs,) int32, out: the place of each pair; empty if not wanted.
        items, spare: (>= end - start,) uint64 scratch.
        histogram: (256,) int64 scratch.
    """
    size = end - start
    lowest, highest = at(entries, 4 * start), at(entries, 4 * start)
    for i in range(start, end):
        lowest, highest = min(lowest, at(entries, 4 * i)), max(highest, at(entries, 4 * i))
    for i in range(size):
        items[i] = (np.uint64(at(entries, 4 * (start + i)) - lowest) << np.uint64(32)) | np.uint64(i)
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
        put(splats, start + i, at(entries, 4 * place + 1))
        if places.size > 0:
            put(places, np.intp(at(entries, 4 * place + 2)), np.int32(start + i))


@kernel
def sum_pairs(counter: Any, pair_bounds: Any, places: Any, values: Any, sums: Any) -> None:
    """Every thread's share of sums[i] = the values at the places of splat i's pairs, added in order."""
    rank = enlist(counter)
    while True:
        chunk = take(counter, rank, CHUNKS)
        if chunk >= CHUNKS:
            break
        start, end = chunk_bounds(chunk, sums.size)
        for i in range(start, end):
            total = np.float32(0.0)
            for pair in range(pair_bounds[i], pair_bounds[i + 1]):
                total += values[places[pair]]
            sums[i] = total
