"""Morton codes: the canonical order of the points of a cloud.

Bit ``3 * i + 2`` of the code is bit ``i`` of x, ``3 * i + 1`` of y and ``3 * i`` of z: x is the most
significant axis. With 21 bits per axis a code fills 63 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import AdcError

MAX_BITS = 21

# Steps that move bit i of a 21-bit number to bit 3 i: (left shift, what may stay set afterwards).
_SPREAD = (
    (32, 0x001F00000000FFFF),
    (16, 0x001F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)
_LOW_BITS = (1 << MAX_BITS) - 1


class PositionError(AdcError, ValueError):
    """Positions that cannot be coded: wrong shape or type, too large, none at all, or duplicates."""


def _spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Moves bit i to bit 3 i."""
    for shift, mask in _SPREAD:
        values = (values | (values << np.uint64(shift))) & np.uint64(mask)
    return values


def _gather(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The inverse of :func:`_spread`; bits between are dropped."""
    values = codes & np.uint64(_SPREAD[-1][1])
    for i in range(len(_SPREAD) - 1, -1, -1):
        mask = _SPREAD[i - 1][1] if i > 0 else _LOW_BITS
        values = (values | (values >> np.uint64(_SPREAD[i][0]))) & np.uint64(mask)
    return values


def checked_positions(xyz: NDArray[np.integer]) -> NDArray[np.uint64]:
    """``xyz`` as (N, 3) uint64, or a refusal.

    Raises:
        PositionError: ``positions-shape``, ``positions-type`` or ``positions-range``.
    """
    xyz = np.asarray(xyz)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise PositionError("positions-shape", f"positions: shape {xyz.shape} is not (N, 3); pass one row per point")
    if xyz.dtype.kind not in "ui":
        raise PositionError("positions-type", f"positions: {xyz.dtype} are no grid indices; round to unsigned integers")
    if xyz.size and (int(xyz.min()) < 0 or int(xyz.max()) > _LOW_BITS):
        raise PositionError(
            "positions-range",
            f"positions: values {int(xyz.min())} to {int(xyz.max())} leave [0, 2^{MAX_BITS}); "
            "shift the origin or enlarge the voxel",
        )
    return xyz.astype(np.uint64)


def morton_codes(xyz: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Morton codes (N,) of grid points (N, 3), values in [0, 2^21), x most significant.

    Raises:
        PositionError: ``positions-shape``, ``positions-type`` or ``positions-range``.
    """
    points = checked_positions(xyz)
    x, y, z = (_spread(points[:, axis]) for axis in range(3))
    return (x << np.uint64(2)) | (y << np.uint64(1)) | z


def morton_points(codes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Grid points (N, 3) of Morton codes (N,): the inverse of :func:`morton_codes`."""
    codes = np.asarray(codes, np.uint64)
    columns = [_gather(codes >> np.uint64(shift)) for shift in (2, 1, 0)]
    return np.stack(columns, axis=1).astype(np.uint32)


def morton_order(xyz: NDArray[np.integer]) -> NDArray[np.int64]:
    """The permutation (N,) that sorts points (N, 3) by Morton code, ties in input order.

    Raises:
        PositionError: ``positions-shape``, ``positions-type`` or ``positions-range``.
    """
    return np.argsort(morton_codes(xyz), kind="stable").astype(np.int64)
