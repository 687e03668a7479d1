"""Voxelised positions to bytes and back, lossless and integer-only.

Layout: one byte with the bits per axis (1 to 21), the number of points as a LEB128 varint, then the range
coder's bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError
from ._numba import kernel
from .morton import MAX_BITS, PositionError, morton_codes, morton_points

_TOP = 1 << 24
_OVERRUN = 4  # bytes a decoder may read past the end: the encoder drops trailing zeros
_MIN_BITS_PER_POINT = 1


@kernel
def _encode_bit(out, state, probability, bit):  # type: ignore[no-untyped-def]
    """state: low, range, length. probability (of a 1) in (0, 65536)."""
    bound = (state[1] >> 16) * probability
    if bit:
        state[1] = bound
    else:
        state[0] += bound
        state[1] -= bound
        if state[0] >> 32:
            state[0] &= 0xFFFFFFFF
            at = state[2] - 1
            while out[at] == 255:
                out[at] = 0
                at -= 1
            out[at] += 1
    while state[1] < 1 << 24:
        out[state[2]] = state[0] >> 24
        state[2] += 1
        state[0] = (state[0] << 8) & 0xFFFFFFFF
        state[1] <<= 8


@kernel
def _decode_bit(data, state, probability):  # type: ignore[no-untyped-def]
    """state: code - low, range, position."""
    bound = (state[1] >> 16) * probability
    if state[0] < bound:
        state[1] = bound
        bit = 1
    else:
        state[0] -= bound
        state[1] -= bound
        bit = 0
    while state[1] < 1 << 24:
        byte = np.int64(data[state[2]]) if state[2] < len(data) else 0
        state[0] = (state[0] << 8) | byte
        state[1] <<= 8
        state[2] += 1
    return bit


@kernel
def _code_tree(decoding, buffer, state, codes, bits):  # type: ignore[no-untyped-def]
    n = len(codes)
    prefix = np.zeros(n, np.uint64)
    starts = np.zeros(n + 1, np.int64)
    parent_both = np.zeros(n, np.uint8)
    neighbours = np.full((n, 6), -1, np.int32)
    starts[1] = n
    count = 1
    probabilities = np.full((2, 3, 3, 5, 2, 3), 32768, np.int64)
    hits = np.zeros(probabilities.shape, np.int64)
    for level in range(3 * bits):
        axis = level % 3
        shift = np.uint64(3 * bits - 1 - level)
        new_prefix = np.zeros(n, np.uint64)
        new_starts = np.zeros(n + 1, np.int64)
        new_both = np.zeros(n, np.uint8)
        child = np.full((count, 2), -1, np.int32)
        made = 0
        for i in range(count):
            low, high = neighbours[i, 2 * axis] >= 0, neighbours[i, 2 * axis + 1] >= 0
            others = 0
            for k in range(6):
                if k >> 1 != axis and neighbours[i, k] >= 0:
                    others += 1
            both = False
            split = starts[i]
            if not decoding:
                while split < starts[i + 1] and not (codes[split] >> shift) & np.uint64(1):
                    split += 1
            if made + count - i < n:
                c = (0, axis, np.int64(low) + np.int64(high), others, parent_both[i], 0)
                p = min(max(probabilities[c], 64), 65472)
                if decoding:
                    both = _decode_bit(buffer, state, p) == 1
                else:
                    both = starts[i] < split < starts[i + 1]
                    _encode_bit(buffer, state, p, both)
                hits[c] = min(hits[c] + 1, 60)
                probabilities[c] += ((65536 if both else 0) - probabilities[c]) // (hits[c] + 1)
            if both:
                halves = 3
            else:
                seen = 0
                if low and child[neighbours[i, 2 * axis], 1] >= 0:
                    seen = 1
                c = (1, axis, 1 + np.int64(high) - np.int64(low), others, parent_both[i], seen)
                p = min(max(probabilities[c], 64), 65472)
                if decoding:
                    upper = _decode_bit(buffer, state, p) == 1
                else:
                    upper = split == starts[i]
                    _encode_bit(buffer, state, p, upper)
                hits[c] = min(hits[c] + 1, 60)
                probabilities[c] += ((65536 if upper else 0) - probabilities[c]) // (hits[c] + 1)
                halves = 2 if upper else 1
            if decoding and state[2] > len(buffer) + 4:
                return -1
            for half in range(2):
                if halves >> half & 1:
                    child[i, half] = made
                    new_prefix[made] = prefix[i] << np.uint64(1) | np.uint64(half)
                    new_starts[made] = starts[i] if half == 0 else split
                    new_both[made] = both
                    made += 1
        new_starts[made] = n
        new_neighbours = np.full((n, 6), -1, np.int32)
        for i in range(count):
            for half in range(2):
                j = child[i, half]
                if j < 0:
                    continue
                for k in range(6):
                    other = neighbours[i, k]
                    if k >> 1 == axis:
                        if k & 1 != half:
                            new_neighbours[j, k] = child[i, 1 - half]
                        elif other >= 0:
                            new_neighbours[j, k] = child[other, 1 - half]
                    elif other >= 0:
                        new_neighbours[j, k] = child[other, half]
        prefix, starts, parent_both, neighbours, count = new_prefix, new_starts, new_both, new_neighbours, made
    if decoding:
        if count != n:
            return -2
        codes[:] = prefix
    return 0


def encode_positions(xyz: NDArray[np.unsignedinteger]) -> bytes:
    """Codes a set of grid points losslessly.

    Args:
        xyz: (N, 3) unsigned integers below 2^21, N >= 1, no two rows equal, in any order.

    Raises:
        PositionError: ``positions-shape``, ``positions-type``, ``positions-range``, ``positions-empty`` or
            ``positions-duplicate``.
    """
    codes = np.sort(morton_codes(xyz))
    if not len(codes):
        raise PositionError("positions-empty", "positions: no points; a cloud needs at least one")
    if (codes[1:] == codes[:-1]).any():
        raise PositionError("positions-duplicate", "positions: some points coincide; merge them before coding")
    bits = max(1, -(-int(codes[-1]).bit_length() // 3))
    buffer = np.zeros(16 + 10 * len(codes) + 2 * bits * 3, np.uint8)
    state = np.array([0, 0xFFFFFFFF, 0], np.int64)
    _code_tree(False, buffer, state, codes, bits)
    low, length = int(state[0]), int(state[2])
    payload = buffer[:length].tobytes() + low.to_bytes(4, "big")
    payload = payload.rstrip(b"\0")
    payload += bytes(max(0, -(-len(codes) * _MIN_BITS_PER_POINT // 8) - len(payload)))
    count = bytearray()
    rest = len(codes)
    while rest >= 128:
        count.append(rest & 127 | 128)
        rest >>= 7
    count.append(rest)
    return bytes([bits]) + bytes(count) + payload


def decode_positions(data: bytes, *, max_points: int | None = None) -> NDArray[np.uint32]:
    """The points (N, 3) uint32 that ``encode_positions`` coded, in Morton order (x most significant).

    Raises:
        BitstreamError: ``positions-truncated``, ``positions-malformed`` or ``count-exceeds-data``.
    """
    if len(data) < 2:
        raise BitstreamError("positions-truncated", "positions: the stream ends in its header; get the file again")
    bits = data[0]
    if not 1 <= bits <= MAX_BITS:
        raise BitstreamError("positions-malformed", f"positions: {bits} bits per axis is not 1 to {MAX_BITS}")
    count, at = 0, 1
    while True:
        if at >= len(data) or at > 5:
            raise BitstreamError("positions-truncated", "positions: the point count does not end")
        count |= (data[at] & 127) << (7 * (at - 1))
        at += 1
        if data[at - 1] < 128:
            break
    payload = np.frombuffer(data, np.uint8)[at:].copy()
    limit = 8 * len(payload) // _MIN_BITS_PER_POINT
    if not 1 <= count <= min(limit, 1 << 3 * bits) or (max_points is not None and count > max_points):
        raise BitstreamError("count-exceeds-data", f"positions: {count} points cannot stand in {len(payload)} bytes")
    start = bytes(payload[:4]).ljust(4, b"\0")
    state = np.array([int.from_bytes(start, "big"), 0xFFFFFFFF, 4], np.int64)
    codes = np.zeros(count, np.uint64)
    status = _code_tree(True, payload, state, codes, bits)
    if status == -1:
        raise BitstreamError("positions-truncated", "positions: the stream ends before its points; get the file again")
    if status == -2:
        raise BitstreamError("positions-malformed", "positions: the tree does not hold the declared number of points")
    return morton_points(codes)
