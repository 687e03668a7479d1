"""The view_colors section: how an anchor's colours change with the direction from which it is seen.

Layout::

    varint        V, the size of f_v
    9 V x f16     row by row a matrix (9, V)
    9 x f16       a vector

The matrix times f_v plus the vector is, row by row, an anchor's slope (3, 3), of red, green and blue along x, y and z.
Section 7.3 of the specification says what is done with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cursor import Cursor, varint

SLOPES = 9  # of three colours along three axes

Linear = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weight (9, V) and bias (9,)."""


def pack_view_colors(weight: NDArray[np.floating], bias: NDArray[np.floating]) -> bytes:
    """A layer from f_v to slopes as bytes.

    Raises:
        ValueError: a shape or a number that :func:`unpack_view_colors` would refuse.
    """
    parts = np.asarray(weight, dtype="<f2"), np.asarray(bias, dtype="<f2")
    fits = parts[0].shape == (SLOPES, parts[0].size // SLOPES) and parts[1].shape == (SLOPES,)
    if not fits or not all(np.isfinite(part).all() for part in parts):
        raise ValueError("these view-dependent colours cannot be stored")
    return varint(parts[0].shape[1]) + b"".join(part.tobytes() for part in parts)


def unpack_view_colors(data: bytes, reference_dim: int, source: str = "view_colors") -> Linear:
    """The inverse of :func:`pack_view_colors`.

    Args:
        reference_dim: V, as the header has it.

    Raises:
        BitstreamError: any damage.
    """
    cursor = Cursor(data, source)
    cursor.varint("size of f_v", reference_dim, reference_dim)
    size = 2 * SLOPES * (reference_dim + 1)
    values = np.frombuffer(cursor.take(size, "weights"), dtype="<f2").astype(np.float32)
    if not np.isfinite(values).all():
        raise cursor.fail("not-finite", "weights", "hold a NaN or an infinity")
    cursor.finish()
    return values[:-SLOPES].reshape(SLOPES, reference_dim), values[-SLOPES:]
