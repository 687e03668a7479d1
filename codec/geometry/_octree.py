"""The compiled tree walk behind :mod:`adcgs.geometry.positions`, encoder and decoder in one.

``bitstream_spec/POSITIONS.md`` states what is computed here, step by step and without the arrays. All
arithmetic is on integers; every intermediate value fits 64 bits (bounds are in the comments).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..jit import kernel

NEIGHBOURS = 16  # nodes that a node's list holds at most
NEAREST = 6  # the head of the list that the second, sharper fit uses
REACH = 8  # a list holds no node further away than this many cubes along an axis
SPLIT_INPUTS, SIDE_INPUTS = 16, 6
SPLIT_TABLES, SIDE_TABLES = 3, 3
TABLE_SIZE = 512
STEEPEST = 2047  # squash holds logits of -2047 / 256 to 2047 / 256

OK, TRUNCATED, MISCOUNTED = 0, 1, 2

_FLOOR = 164  # added to a variance: a fit is never flat. 1/6400 of a cube's squared size is 1
_PATIENCE = 60  # after this many decisions a table's entry forgets the oldest
_OVERRUN = 3  # bytes past its end that a complete stream makes the decoder read
_BYTES_PER_NODE = 4  # two decisions of at most 11.6 bits, rounded up

Function = TypeVar("Function", bound=Callable[..., Any])


def _kernel(function: Function) -> Function:
    return cast(Function, kernel(function, error_model="numpy"))


class Model(NamedTuple):
    """What the two decisions learn while a cloud is coded. Logits have 24 fractional bits."""

    squash: NDArray[np.int64]  # (4095,) probability of a one in 1/65536 by logit
    split_weights: NDArray[np.int64]  # (SPLIT_INPUTS,)
    split_bias: NDArray[np.int64]  # (SPLIT_TABLES, TABLE_SIZE)
    split_seen: NDArray[np.int64]  # same shape: decisions made in this context, up to _PATIENCE
    side_weights: NDArray[np.int64]  # (SIDE_INPUTS,)
    side_bias: NDArray[np.int64]  # (SIDE_TABLES, TABLE_SIZE)
    side_seen: NDArray[np.int64]


class Scratch(NamedTuple):
    """Memory for one node, made once."""

    offset: NDArray[np.int64]  # (NEIGHBOURS, 3) from the node's centre, in quarter cubes
    weight: NDArray[np.int64]  # (NEIGHBOURS,)
    split_input: NDArray[np.int64]  # (SPLIT_INPUTS,) 256 is one
    split_context: NDArray[np.int64]  # (SPLIT_TABLES,)
    side_input: NDArray[np.int64]
    side_context: NDArray[np.int64]


class Level(NamedTuple):
    """The nodes of one depth, in Morton order. Coordinates are doubled, so that centres are integers."""

    centre: NDArray[np.int32]  # (count, 3)
    neighbours: NDArray[np.int32]  # (count, NEIGHBOURS) indices of nodes of this level, nearest first
    degree: NDArray[np.uint8]  # (count,) how many of them there are
    history: NDArray[np.uint8]  # (count,) bit k: did the ancestor k + 1 levels up split?
    lonely: NDArray[np.uint8]  # (count,) levels since the list became empty, at most 255
    first: NDArray[np.int64]  # (count + 1,) the node's points; encoder only


# ---- arithmetic ------------------------------------------------------------------------------------------


@_kernel
def _log2(value: int) -> int:
    """log2 of a positive integer in 1/256, to about 1/100."""
    exponent = 0
    rest = value
    for step in (32, 16, 8, 4, 2, 1):
        if rest >> step:
            rest >>= step
            exponent += step
    mantissa = (value << 8 >> exponent if exponent <= 8 else value >> (exponent - 8)) - 256
    return (exponent << 8) + mantissa + (mantissa * (256 - mantissa) * 88 >> 16)


@_kernel
def _clip(value: int, low: int, high: int) -> int:
    return low if value < low else (high if value > high else value)


@_kernel
def _fit(offset: Any, weight: Any, count: int, axis: int) -> tuple[int, int, int, int]:
    """A Gaussian through weighted neighbours: what it says about a node at the origin.

    Returns:
        density: log2 of the fitted density at the node, in 1/256, up to a constant.
        pull: log odds of the upper half against the lower, in 1/256.
        spread: log2 of the variance along ``axis`` given the other axes, in 1/256, up to a constant.
        lean: the mean along ``axis`` in 1/64 cube.
    """
    # |offset| <= 4 * REACH + 1 = 33 and weight < 2^15, so sums of squares stay below 2^30.
    total = m0 = m1 = m2 = 0
    for k in range(count):
        w = weight[k]
        total += w
        m0 += w * offset[k, 0]
        m1 += w * offset[k, 1]
        m2 += w * offset[k, 2]
    # Moments about the rounded mean: about the node they would lose far clusters' small variances.
    c0, c1, c2 = (2 * m0 + total) // (2 * total), (2 * m1 + total) // (2 * total), (2 * m2 + total) // (2 * total)
    xx = xy = xz = yy = yz = zz = 0
    for k in range(count):
        w = weight[k]
        x, y, z = offset[k, 0] - c0, offset[k, 1] - c1, offset[k, 2] - c2
        xx += w * x * x
        xy += w * x * y
        xz += w * x * z
        yy += w * y * y
        yz += w * y * z
        zz += w * z * z
    d0 = (32 * (m0 - total * c0) + total) // (2 * total)
    d1 = (32 * (m1 - total * c1) + total) // (2 * total)
    d2 = (32 * (m2 - total * c2) + total) // (2 * total)
    xx, yy, zz = 256 * xx // total - d0 * d0, 256 * yy // total - d1 * d1, 256 * zz // total - d2 * d2
    xy, xz, yz = 256 * xy // total - d0 * d1, 256 * xz // total - d0 * d2, 256 * yz // total - d1 * d2
    xx, yy, zz = xx + _FLOOR, yy + _FLOOR, zz + _FLOOR
    u0, u1, u2 = 16 * c0 + d0, 16 * c1 + d1, 16 * c2 + d2
    # The adjugate; entries of the covariance stay below 2^18.2, these below 2^37.4, the determinant below 2^54.6.
    axx, axy, axz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    ayy, ayz, azz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    determinant = xx * axx + xy * axy + xz * axz
    g0, g1, g2 = axx * u0 + axy * u1 + axz * u2, axy * u0 + ayy * u1 + ayz * u2, axz * u0 + ayz * u1 + azz * u2
    along, minor, lean = g0, axx, u0
    if axis == 1:
        along, minor, lean = g1, ayy, u1
    elif axis == 2:
        along, minor, lean = g2, azz, u2
    distance = 16 * (g0 * u0 + g1 * u1 + g2 * u2) // determinant  # squared Mahalanobis, in 1/16
    log_determinant = _log2(determinant)
    density = _log2(total) - (log_determinant >> 1) - (distance * 185 >> 4) + 1536
    return density, 8192 * along // determinant, log_determinant - _log2(minor), lean


# ---- range coder -----------------------------------------------------------------------------------------


@_kernel
def _code_bit(decoding: bool, data: Any, coder: Any, probability: int, bit: int) -> int:
    """Codes one decision that is 1 with ``probability`` / 65536; returns it.

    ``coder`` is (low, range, position) of an encoder, (code - low, range, position) of a decoder.
    """
    bound = (coder[1] >> 16) * probability
    if decoding:
        bit = 1 if coder[0] < bound else 0
        if not bit:
            coder[0] -= bound
    elif not bit:
        coder[0] += bound
        if coder[0] >> 32:
            coder[0] &= 0xFFFFFFFF
            at = coder[2] - 1
            while data[at] == 255:
                data[at] = 0
                at -= 1
            data[at] += 1
    coder[1] = bound if bit else coder[1] - bound
    while coder[1] < 1 << 24:
        if decoding:
            byte = np.int64(data[coder[2]]) if coder[2] < len(data) else 0
            coder[0] = coder[0] << 8 | byte
        else:
            data[coder[2]] = coder[0] >> 24
            coder[0] = coder[0] << 8 & 0xFFFFFFFF
        coder[2] += 1
        coder[1] <<= 8
    return bit


@_kernel
def _finish(data: Any, coder: Any) -> None:
    """The one byte that places the code inside the final interval, whatever is read after it."""
    low = coder[0] + 0xFFFFFF
    if low >> 32:
        at = coder[2] - 1
        while data[at] == 255:
            data[at] = 0
            at -= 1
        data[at] += 1
    data[coder[2]] = low >> 24 & 255
    coder[2] += 1


# ---- learning --------------------------------------------------------------------------------------------


@_kernel
def _predict(squash: Any, weights: Any, inputs: Any, bias: Any, context: Any, sign: int) -> int:
    """Probability of a one in 1/65536. ``sign`` mirrors the tables, which know one direction only."""
    logit = 0
    for k in range(len(inputs)):
        logit += weights[k] * inputs[k]
    logit >>= 8
    for t in range(len(context)):
        logit += sign * bias[t, context[t]]
    return squash[_clip(logit >> 16, -STEEPEST, STEEPEST) + STEEPEST]


@_kernel
def _learn(weights: Any, inputs: Any, bias: Any, seen: Any, context: Any, sign: int, error: int) -> None:
    """One gradient step; ``error`` is decision minus probability, in 1/65536."""
    for k in range(len(inputs)):
        weights[k] += inputs[k] * error >> 10
    for t in range(len(context)):
        c = context[t]
        bias[t, c] += sign * ((error << 8) // (2 * seen[t, c] + 8))
        if seen[t, c] < _PATIENCE:
            seen[t, c] += 1


@_kernel
def _code_split(
    decoding: bool, data: Any, coder: Any, model: Any, scratch: Any, depth: int, node: Any, near: Any, wide: Any,
    bit: int,
) -> int:
    """Do both halves hold points? ``node`` is (degree, history, lonely, points left, nodes left)."""
    degree, history, lonely, points, nodes = node
    inputs, context = scratch.split_input, scratch.split_context
    axis = depth % 3
    for k in range(len(inputs)):
        inputs[k] = 0
    inputs[0] = 256
    if axis < 2:
        inputs[1 + axis] = 256
    for k in range(4):
        inputs[3 + k] = (history >> k & 1) * 256
    inputs[7] = _clip(_log2(points) - _log2(nodes), -2304, 2304) // 3
    pull = 0
    if degree == 0:
        inputs[8], inputs[9] = 256, 26 * min(lonely, 20)
        fine, coarse = 41 + min(lonely, 22), 21 + min(lonely, 10)
    else:
        pull = abs(wide[1])
        inputs[10], inputs[11] = _clip(wide[0], -2560, 2560) // 4, min(pull, 1536) // 3
        inputs[12] = (wide[2] - 3072) // 2
        inputs[13], inputs[14] = _clip(near[0], -2560, 2560) // 4, min(abs(near[1]), 1536) // 3
        inputs[15] = (near[2] - 3072) // 2
        fine, coarse = _clip(wide[0] >> 7, -20, 20) + 20, _clip(wide[0] >> 8, -10, 10) + 10
    context[0] = fine * 3 + axis
    context[1] = depth
    context[2] = coarse * 8 + min(pull >> 6, 7)
    probability = _predict(model.squash, model.split_weights, inputs, model.split_bias, context, 1)
    bit = _code_bit(decoding, data, coder, probability, bit)
    _learn(model.split_weights, inputs, model.split_bias, model.split_seen, context, 1, (bit << 16) - probability)
    return bit


@_kernel
def _code_side(
    decoding: bool, data: Any, coder: Any, model: Any, scratch: Any, depth: int, degree: int, near: Any, wide: Any,
    bit: int,
) -> int:
    """Which half holds the points? 1 is the upper one."""
    if degree == 0:
        return _code_bit(decoding, data, coder, 32768, bit)
    inputs, context = scratch.side_input, scratch.side_context
    sign = 1 if wide[1] >= 0 else -1
    mirrored = 1 if near[1] >= 0 else -1
    pull, near_pull = abs(wide[1]), abs(near[1])
    inputs[0] = _clip(wide[1], -1536, 1536) >> 1
    inputs[1] = sign * (_log2(256 + 4 * pull) - 2048 >> 1)
    inputs[2] = wide[3] * 4
    inputs[3] = _clip(near[1], -1536, 1536) >> 1
    inputs[4] = mirrored * (_log2(256 + 4 * near_pull) - 2048 >> 1)
    inputs[5] = near[3] * 4
    strength = min(_log2(64 + pull) - 1536 >> 6, 23)
    context[0] = strength * 3 + depth % 3
    context[1] = strength * 17 + degree
    context[2] = min(strength, 15) * 16 + _clip(wide[2] - 2048 >> 7, 0, 15)
    probability = _predict(model.squash, model.side_weights, inputs, model.side_bias, context, sign)
    bit = _code_bit(decoding, data, coder, probability, bit)
    _learn(model.side_weights, inputs, model.side_bias, model.side_seen, context, sign, (bit << 16) - probability)
    return bit


# ---- tree ------------------------------------------------------------------------------------------------


@_kernel
def _look_around(level: Any, known: Any, split: Any, node: int, shift: int, scratch: Any) -> None:
    """Fills ``scratch`` with where the node's neighbours are, as far as is known, and what they weigh."""
    for k in range(level.degree[node]):
        other = level.neighbours[node, k]
        square: Any = 0
        for a in range(3):
            away = np.int64(known[other, a] - level.centre[node, a]) >> shift
            scratch.offset[k, a] = away
            square += away * away
        scratch.weight[k] = (1 + split[other]) * (65536 // (8 + square))


@_kernel
def _code_level(
    decoding: bool, data: Any, coder: Any, points: Any, count: int, bits: int, depth: int, level: Any, model: Any,
    scratch: Any, children: Any,
) -> int:
    """Codes all decisions of one depth into ``children`` (nodes, 2): an index in the next level, or -1.

    Returns:
        The number of nodes in the next level, or -1 where the data ended before.
    """
    nodes = len(level.degree)
    axis, shift = depth % 3, bits - depth // 3 - 1
    quarter = 1 << shift  # of a cube's edge, in doubled coordinates
    known = level.centre.copy()  # moves to the child's centre once that is known
    split = np.zeros(nodes, np.int64)
    nothing = (0, 0, 0, 0)
    made = 0
    for i in range(nodes):
        degree: Any = np.int64(level.degree[i])
        wide = near = nothing
        if degree > 0:
            _look_around(level, known, split, i, shift, scratch)
            wide = _fit(scratch.offset, scratch.weight, degree, axis)
            near = _fit(scratch.offset, scratch.weight, min(degree, NEAREST), axis)
        upper = lower = 0
        if not decoding:
            upper = points[level.first[i + 1] - 1, axis] >> shift & 1
            lower = 1 - (points[level.first[i], axis] >> shift & 1)
        spare = count - made - (nodes - i)  # points that no node stands for yet
        both = 0
        if spare > 0:
            node = (degree, np.int64(level.history[i]), np.int64(level.lonely[i]), spare, nodes - i)
            both = _code_split(decoding, data, coder, model, scratch, depth, node, near, wide, upper & lower)
        if both:
            split[i] = 1
            children[i, 0], children[i, 1] = made, made + 1
            made += 2
        else:
            side = _code_side(decoding, data, coder, model, scratch, depth, degree, near, wide, upper)
            known[i, axis] += quarter if side else -quarter
            children[i, side] = made
            made += 1
        if decoding and coder[2] > len(data) + _OVERRUN:
            return -1
    return made


@_kernel
def _gather_neighbours(level: Any, children: Any, node: int, half: int, reach: int, following: Any) -> None:
    """The nearest nodes of the next level among the sibling and the children of the parent's neighbours."""
    me = children[node, half]
    found = 0
    squares = np.empty(NEIGHBOURS, np.int64)
    for k in range(-1, 2 * np.int64(level.degree[node])):
        other = children[node, 1 - half] if k < 0 else children[level.neighbours[node, k >> 1], k & 1]
        if other < 0:
            continue
        x = abs(np.int64(following.centre[other, 0] - following.centre[me, 0]))
        y = abs(np.int64(following.centre[other, 1] - following.centre[me, 1]))
        z = abs(np.int64(following.centre[other, 2] - following.centre[me, 2]))
        if max(x, y, z) > reach:
            continue
        square = x * x + y * y + z * z
        if found == NEIGHBOURS:
            if square >= squares[NEIGHBOURS - 1]:
                continue
        else:
            found += 1
        at = found - 1
        while at > 0 and squares[at - 1] > square:
            squares[at] = squares[at - 1]
            following.neighbours[me, at] = following.neighbours[me, at - 1]
            at -= 1
        squares[at] = square
        following.neighbours[me, at] = other
    following.degree[me] = found
    following.lonely[me] = 0 if found else min(level.lonely[node] + 1, 255)


@_kernel
def _descend(level: Any, children: Any, made: int, points: Any, bits: int, depth: int) -> Any:
    """The next level's nodes."""
    following = Level(
        np.empty((made, 3), np.int32), np.empty((made, NEIGHBOURS), np.int32), np.empty(made, np.uint8),
        np.empty(made, np.uint8), np.empty(made, np.uint8), np.empty(made + 1, np.int64),
    )
    axis, shift = depth % 3, bits - depth // 3 - 1
    for i in range(len(level.degree)):
        both = children[i, 0] >= 0 and children[i, 1] >= 0
        for half in range(2):
            me = children[i, half]
            if me < 0:
                continue
            for a in range(3):
                following.centre[me, a] = level.centre[i, a]
            following.centre[me, axis] += (2 * half - 1) << shift
            following.history[me] = (level.history[i] << 1 | both) & 15
            first = level.first[i]
            if both and half:
                while first < len(points) and not points[first, axis] >> shift & 1:
                    first += 1
            following.first[me] = first
    following.first[made] = len(points)
    reach = REACH << (bits - (depth + 1) // 3 + 1)
    for i in range(len(level.degree)):
        for half in range(2):
            if children[i, half] >= 0:
                _gather_neighbours(level, children, i, half, reach, following)
    return following


@_kernel
def code_tree(
    decoding: bool, data: NDArray[np.uint8], points: NDArray[np.int64], count: int, bits: int, model: Model
) -> tuple[int, int, NDArray[np.uint8], NDArray[np.int32]]:
    """Encodes or decodes ``count`` points.

    Args:
        data: the coder's bytes (decoder); anything (encoder).
        points: (count, 3) in Morton order (encoder); (0, 3) (decoder).
        bits: per axis, 1 to 21.
        model: as it stands before the first decision; left as it is after the last one.

    Returns:
        OK, TRUNCATED or MISCOUNTED; how many bytes were written or read (a decoder reads three past the
        end); the bytes; twice the points plus one (count, 3) in Morton order.
    """
    coder = np.zeros(3, np.int64)
    coder[1] = 0xFFFFFFFF
    if decoding:
        for k in range(4):
            coder[0] = coder[0] << 8 | (np.int64(data[k]) if k < len(data) else 0)
        coder[2] = 4
    scratch = Scratch(
        np.zeros((NEIGHBOURS, 3), np.int64), np.zeros(NEIGHBOURS, np.int64), np.zeros(SPLIT_INPUTS, np.int64),
        np.zeros(SPLIT_TABLES, np.int64), np.zeros(SIDE_INPUTS, np.int64), np.zeros(SIDE_TABLES, np.int64),
    )
    level = Level(
        np.full((1, 3), 1 << bits, np.int32), np.zeros((1, NEIGHBOURS), np.int32), np.zeros(1, np.uint8),
        np.zeros(1, np.uint8), np.zeros(1, np.uint8), np.zeros(2, np.int64),
    )
    level.first[1] = len(points)
    for depth in range(3 * bits):
        nodes = len(level.degree)
        if not decoding and len(data) < coder[2] + _BYTES_PER_NODE * nodes + 16:
            grown = np.zeros(2 * len(data) + _BYTES_PER_NODE * nodes + 16, np.uint8)
            for k in range(coder[2]):
                grown[k] = data[k]
            data = grown
        children = np.full((nodes, 2), -1, np.int32)
        made = _code_level(decoding, data, coder, points, count, bits, depth, level, model, scratch, children)
        if made < 0:
            return TRUNCATED, coder[2], data, level.centre
        level = _descend(level, children, made, points, bits, depth)
    if not decoding:
        _finish(data, coder)
    return OK if len(level.degree) == count else MISCOUNTED, coder[2], data, level.centre
