"""Voxelised positions to bytes and back: lossless, integer-only, the same bytes on every machine.

A stream is

    1 byte    bits per axis, 1 to 21
    varint    number of points N, at least 1 (LEB128, shortest form)
    rest      the range coder's bytes; zeros are appended until there is a bit for each point

The points are the leaves of a binary tree that halves the cube along x, y, z in turn. Depth by depth, each
node says whether both halves hold points and, where not, which one does. The probabilities come from a
Gaussian fitted to the nearest nodes, by a logistic model that learns as it goes. ``bitstream_spec/POSITIONS.md``
is the definition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError
from .morton import MAX_BITS, PositionError, morton_codes, morton_points

_OVERRUN = 3  # a decoder keeps four bytes in hand, of which the encoder writes the first


def encode_positions(xyz: NDArray[np.unsignedinteger]) -> bytes:
    """Codes a set of grid points losslessly.

    Args:
        xyz: (N, 3) integers in [0, 2^21), N >= 1, no two rows equal, in any order.

    Returns:
        The stream; the same for any order of the rows.

    Raises:
        PositionError: ``positions-shape``, ``positions-type``, ``positions-range``, ``positions-empty`` or
            ``positions-duplicate``.
    """
    codes = np.sort(morton_codes(xyz))
    if not len(codes):
        raise PositionError("positions-empty", "positions: there are no points; a cloud needs at least one")
    if (codes[1:] == codes[:-1]).any():
        raise PositionError("positions-duplicate", "positions: some points coincide; merge them before coding")

    from ._octree import code_tree
    from .logistic import new_model

    bits = max(1, -(-int(codes[-1]).bit_length() // 3))
    points = morton_points(codes).astype(np.int64)
    _, length, data, _ = code_tree(False, np.zeros(4 * len(codes), np.uint8), points, len(codes), bits, new_model())
    payload = data[:length].tobytes().ljust(_least_bytes(len(codes)), b"\0")
    return bytes([bits]) + _varint(len(codes)) + payload


def decode_positions(data: bytes, *, max_points: int | None = None) -> NDArray[np.uint32]:
    """The points of a stream of :func:`encode_positions`.

    Memory is at most some 250 bytes for each declared point, of which there are at most 8 for each byte of
    ``data``; time is linear in their number. Damage that leaves a decodable stream is not noticed here: the
    container's checksum does that.

    Args:
        data: one whole stream.
        max_points: refuse more than this many, before anything is allocated.

    Returns:
        (N, 3) uint32, distinct, in Morton order with x as the most significant axis.

    Raises:
        BitstreamError: ``positions-truncated``, ``positions-malformed``, ``count-exceeds-data`` or
            ``limit-exceeded``.
    """
    bits, count, start = _header(data)
    payload = np.frombuffer(data, np.uint8)[start:].copy()
    if max_points is not None and count > max_points:
        raise BitstreamError(
            "limit-exceeded", f"positions: {count} points, at most {max_points} are allowed; is this the right file?"
        )
    if count > 1 << 3 * bits or _least_bytes(count) > len(payload):
        raise BitstreamError(
            "count-exceeds-data",
            f"positions: {count} points cannot stand in {len(payload)} bytes at {bits} bits per axis; "
            "get the file again",
        )

    from ._octree import MISCOUNTED, TRUNCATED, code_tree
    from .logistic import new_model

    status, position, _, centres = code_tree(True, payload, np.zeros((0, 3), np.int64), count, bits, new_model())
    length = position - _OVERRUN
    if status == TRUNCATED or length > len(payload):
        raise BitstreamError("positions-truncated", "positions: the stream ends before its points; get the file again")
    if status == MISCOUNTED:
        raise BitstreamError("positions-malformed", f"positions: the tree has not {count} leaves; get the file again")
    if len(payload) != max(length, _least_bytes(count)) or payload[length:].any():
        raise BitstreamError(
            "positions-malformed",
            f"positions: {len(payload) - length} bytes follow the last point; get the file again",
        )
    return (centres >> 1).astype(np.uint32)


def _least_bytes(count: int) -> int:
    """A stream has at least one bit for each point, so that a short one cannot announce many."""
    return (count + 7) // 8


def _varint(value: int) -> bytes:
    """LEB128, shortest form."""
    groups = bytearray()
    while value >= 128:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _header(data: bytes) -> tuple[int, int, int]:
    """Bits per axis, number of points, where the payload starts."""
    truncated = BitstreamError("positions-truncated", "positions: the stream ends in its header; get the file again")
    if not data:
        raise truncated
    if not 1 <= data[0] <= MAX_BITS:
        raise BitstreamError("positions-malformed", f"positions: {data[0]} bits per axis, must be 1 to {MAX_BITS}")
    count = 0
    for k, byte in enumerate(data[1:11]):
        count |= (byte & 127) << 7 * k
        if byte < 128:
            if count == 0 or (byte == 0 and k > 0):
                raise BitstreamError("positions-malformed", "positions: the point count is 0 or not in shortest form")
            return data[0], count, k + 2
    if len(data) > 10:
        raise BitstreamError("positions-malformed", "positions: the point count takes more than ten bytes")
    raise truncated
