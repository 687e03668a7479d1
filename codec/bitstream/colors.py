"""The camera_colors section: how the colours of each known camera differ from those of the scene.

Layout::

    varint     cameras, at most 2^16, of at least 25 bytes each
    per camera, by ascending id:
      varint   camera id, below 2^20, as the cameras section has it
      12 x f16 row by row a 3 x 4 matrix (D | b), each number within +- 8

A pixel p of that camera, display-referred red, green, blue over the background, becomes p + D p + b. Cameras without a
row, and all new viewpoints, show the scene as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .cameras import MAX_CAMERA_ID, MAX_VIEWS
from .cursor import Cursor, varint

MAX_DIFFERENCE = 8.0
_ROW_BYTES = 25

ColorRow = NDArray[np.float32]
"""(3, 4): D and b."""


def pack_colors(rows: Mapping[int, NDArray[np.floating]]) -> bytes:
    """Camera id to (3, 4) differences, as bytes.

    Raises:
        ValueError: an id, a number or a shape that :func:`unpack_colors` would refuse.
    """
    out = varint(len(rows))
    for camera_id in sorted(rows):
        row = np.asarray(rows[camera_id], dtype="<f2")
        fits = row.shape == (3, 4) and bool((np.abs(row) <= MAX_DIFFERENCE).all())
        if not fits or not 0 <= camera_id < MAX_CAMERA_ID:
            raise ValueError(f"the colours of camera {camera_id} cannot be stored")
        out += varint(camera_id) + row.tobytes()
    return out


def unpack_colors(data: bytes, source: str = "camera_colors") -> dict[int, ColorRow]:
    """The inverse of :func:`pack_colors`.

    Raises:
        BitstreamError: any damage.
    """
    cursor = Cursor(data, source)
    rows: dict[int, ColorRow] = {}
    previous = -1
    for _ in range(cursor.count("number of cameras", MAX_VIEWS, _ROW_BYTES)):
        camera_id = cursor.varint("camera id", 0, MAX_CAMERA_ID - 1)
        if camera_id <= previous:
            raise cursor.fail("bad-index", "camera id", f"is {camera_id} after {previous}")
        previous = camera_id
        row = np.frombuffer(cursor.take(24, "colours"), dtype="<f2").astype(np.float32).reshape(3, 4)
        if not np.isfinite(row).all():
            raise cursor.fail("not-finite", f"colours of camera {camera_id}", "hold a NaN or an infinity")
        if np.abs(row).max() > MAX_DIFFERENCE:
            raise cursor.fail("bad-camera", f"colours of camera {camera_id}", "are further off than any camera's")
        rows[camera_id] = row
    cursor.finish()
    return rows
