"""Compiled kernels of :mod:`.stereo`: matching by plane sweep, and the views' votes on each other's depths.

Images of all sizes lie one after the other in flat arrays; image i has ``sizes[i]`` = (height, width) and starts at
``starts[i]``. ``maps[i, j]`` and ``shifts[i, j]`` take a pixel p = (x, y, 1) of i at depth d to image j: with
q = d * (maps[i, j] @ p) + shifts[i, j] the pixel is (q_x / q_z, q_y / q_z) and the depth there q_z.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..jit import fetch_add, kernel

FLAT = np.float32(2e-5)  # added to variances: noise in flat surroundings is no texture


def _box_sums(values: Any, height: int, width: int, radius: int, rows: Any, out: Any) -> None:
    """Sums over (2 radius + 1)^2 windows, cut at the border, by running sums; ``rows`` is scratch."""
    for y in range(height):
        total = np.float32(0.0)
        for x in range(min(radius, width)):
            total += values[y, x]
        for x in range(width):
            if x + radius < width:
                total += values[y, x + radius]
            if x - radius - 1 >= 0:
                total -= values[y, x - radius - 1]
            rows[y, x] = total
    for x in range(width):
        out[0, x] = np.float32(0.0)
    for y in range(min(radius, height)):
        for x in range(width):
            out[0, x] += rows[y, x]
    for y in range(height):
        if y > 0:
            for x in range(width):
                out[y, x] = out[y - 1, x]
        if y + radius < height:
            for x in range(width):
                out[y, x] += rows[y + radius, x]
        if y - radius - 1 >= 0:
            for x in range(width):
                out[y, x] -= rows[y - radius - 1, x]


box_sums = kernel(_box_sums)


def _warp(
    pixels: Any, start: int, size: Any, matrix: Any, shift: Any, depth: float, height: int, width: int,
    values: Any, inside: Any,
) -> None:  # fmt: skip
    """Another image as the reference would see it on the plane at ``depth``; ``inside`` is 0 where it has no pixel."""
    other_height, other_width = size[0], size[1]
    for y in range(height):
        for x in range(width):
            u, v = x + 0.5, y + 0.5
            qz = depth * (matrix[2, 0] * u + matrix[2, 1] * v + matrix[2, 2]) + shift[2]
            values[y, x] = inside[y, x] = np.float32(0.0)
            if qz < 1e-3:
                continue
            px = (depth * (matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2]) + shift[0]) / qz - 0.5
            py = (depth * (matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2]) + shift[1]) / qz - 0.5
            if px < 0.0 or py < 0.0 or px > other_width - 1.0 or py > other_height - 1.0:
                continue
            left, top = min(int(px), other_width - 2), min(int(py), other_height - 2)
            a, b = np.float32(px - left), np.float32(py - top)
            at = start + top * other_width + left
            upper = pixels[at] * (np.float32(1.0) - a) + pixels[at + 1] * a
            lower = pixels[at + other_width] * (np.float32(1.0) - a) + pixels[at + other_width + 1] * a
            values[y, x] = upper * (np.float32(1.0) - b) + lower * b
            inside[y, x] = np.float32(1.0)


warp = kernel(_warp)


def _correlate(
    image: Any, mean: Any, spread: Any, values: Any, inside: Any, radius: int, scratch: Any, scores: Any
) -> None:
    """Zero-mean normalised cross-correlation over windows, (H, W); -1 where a window is not wholly ``inside``."""
    height, width = image.shape
    rows, sums, squares, products, counts = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    area = np.float32((2 * radius + 1) ** 2)
    box_sums(inside, height, width, radius, rows, counts)
    box_sums(values, height, width, radius, rows, sums)
    for y in range(height):
        for x in range(width):
            scratch[5, y, x] = values[y, x] * values[y, x]
    box_sums(scratch[5], height, width, radius, rows, squares)
    for y in range(height):
        for x in range(width):
            scratch[5, y, x] = values[y, x] * image[y, x]
    box_sums(scratch[5], height, width, radius, rows, products)
    for y in range(height):
        for x in range(width):
            if counts[y, x] < area - np.float32(0.5):
                scores[y, x] = np.float32(-1.0)
                continue
            average = sums[y, x] / area
            variance = max(squares[y, x] / area - average * average, np.float32(0.0)) + FLAT
            covariance = products[y, x] / area - average * mean[y, x]
            scores[y, x] = covariance / np.sqrt(variance * spread[y, x])


correlate = kernel(_correlate)


def _match_all(
    pixels: Any, starts: Any, sizes: Any, maps: Any, shifts: Any, neighbours: Any, planes: Any, radius: int,
    counter: Any, depths: Any, scores: Any,
) -> None:  # fmt: skip
    """For every pixel of every image the plane that its neighbours agree on best, and how well.

    Args:
        neighbours: (images, most) indices, -1 where there are fewer.
        planes: (images, planes) depths.
        counter: (1,) int64, shared by the threads.
        depths, scores: flat, out; the score is the mean correlation with the better half of the neighbours.
    """
    while True:
        index = fetch_add(counter, 0, 1)
        if index >= len(starts):
            return
        height, width = sizes[index, 0], sizes[index, 1]
        start = starts[index]
        image = pixels[start : start + height * width].reshape(height, width)
        best = scores[start : start + height * width].reshape(height, width)
        depth = depths[start : start + height * width].reshape(height, width)
        best[:] = np.float32(-1.0)
        count = 0
        while count < neighbours.shape[1] and neighbours[index, count] >= 0:
            count += 1
        if count == 0:
            depth[:] = planes[index, 0]
            continue
        half = max(min(2, count), count // 2)
        scratch = np.zeros((6, height, width), np.float32)
        values, inside = np.zeros((height, width), np.float32), np.ones((height, width), np.float32)
        mean, spread = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        area = np.float32((2 * radius + 1) ** 2)
        box_sums(image, height, width, radius, scratch[0], mean)
        for y in range(height):
            for x in range(width):
                mean[y, x] /= area
                values[y, x] = image[y, x] * image[y, x]
        box_sums(values, height, width, radius, scratch[0], spread)
        for y in range(height):
            for x in range(width):
                spread[y, x] = max(spread[y, x] / area - mean[y, x] * mean[y, x], np.float32(0.0)) + FLAT
        found = np.zeros((count, height, width), np.float32)
        sorted_scores = np.zeros(count, np.float32)
        for plane in range(planes.shape[1]):
            for n in range(count):
                other = neighbours[index, n]
                warp(
                    pixels, starts[other], sizes[other], maps[index, other], shifts[index, other],
                    planes[index, plane], height, width, values, inside,
                )  # fmt: skip
                correlate(image, mean, spread, values, inside, radius, scratch, found[n])
            for y in range(height):
                for x in range(width):
                    for n in range(count):  # insertion sort, best first
                        value, k = found[n, y, x], n
                        while k > 0 and sorted_scores[k - 1] < value:
                            sorted_scores[k] = sorted_scores[k - 1]
                            k -= 1
                        sorted_scores[k] = value
                    total = np.float32(0.0)
                    for n in range(half):
                        total += sorted_scores[n]
                    if total / half > best[y, x]:
                        best[y, x] = total / half
                        depth[y, x] = planes[index, plane]


match_all = kernel(_match_all)


def _vote(
    points: Any, projections: Any, starts: Any, sizes: Any, depths: Any, known: Any, front: float, near: float,
    counter: Any, votes: Any,
) -> None:  # fmt: skip
    """Which views know the depth where a point falls, which see through it, and which confirm it.

    Args:
        points: (P, 3). projections: (images, 3, 4) K [R | t].
        depths, known: flat; the views' depth maps, and where they count.
        front: a point nearer than (1 - front) of the view's depth stands in front of what the view sees.
        near: a point within this share of the view's depth is what the view sees.
        votes: (P, 3) int32, out: views that know, that see through it, that confirm it.
    """
    block = 1024
    while True:
        first = fetch_add(counter, 0, block)
        if first >= len(points):
            return
        for p in range(first, min(first + block, len(points))):
            x, y, z = points[p, 0], points[p, 1], points[p, 2]
            for i in range(len(starts)):
                m = projections[i]
                qz = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                if qz < 1e-3:
                    continue
                u = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / qz
                v = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / qz
                if u < 0.0 or v < 0.0 or u >= sizes[i, 1] or v >= sizes[i, 0]:
                    continue
                at = starts[i] + int(v) * sizes[i, 1] + int(u)
                if not known[at]:
                    continue
                votes[p, 0] += 1
                votes[p, 1] += qz < (1.0 - front) * depths[at]
                votes[p, 2] += abs(qz - depths[at]) < near * depths[at]


vote = kernel(_vote)
