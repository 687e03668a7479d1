"""A flat dictionary of settings as tagged values: how the model's configuration is stored.

Layout: varint count, then per setting a key and a value. Keys in ascending order, each once: first
registered keys (u8 from :data:`KEYS`), then free ones (u8 0 and a string). A value is a u8 type and

====  ==================  =======================================
type  value               payload
====  ==================  =======================================
0, 1  False, True         none
2     integer             signed varint
3     float               float32, where that is exact
4     float               float64
5     string              varint length, UTF-8
6     list of integers    varint count, signed varints
7     list of floats      varint count, float64 each
====  ==================  =======================================
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping

from .cursor import Cursor, signed, text, varint

Setting = bool | int | float | str | list[int] | list[float]

KEYS: dict[str, int] = {
    "primitives": 1,
    "reference_dim": 2,
    "residual_dim": 3,
    "prediction_width": 4,
    "deformation_width": 5,
    "time_dim": 6,
    "knots": 7,
    "position_frequencies": 8,
    "coarse": 9,
    "fine": 10,
    "rotate_offsets": 11,
    "coarse_opacity": 12,
    "chunks": 13,
    "hyper": 14,
    "hidden": 15,
}
"""Registered keys: one byte in the file instead of a name. Added to, never renumbered."""

MAX_SETTINGS = 255
MAX_LIST = 4096
MAX_NAME = 64
_FREE = 0
_NAME = re.compile(r"[a-z][a-z0-9_.]*")
_FALSE, _TRUE, _INTEGER, _FLOAT32, _FLOAT64, _TEXT, _INTEGERS, _FLOATS = range(8)


def pack_settings(settings: Mapping[str, Setting]) -> bytes:
    """Settings to bytes; equal dictionaries give equal bytes, whatever their order.

    Raises:
        ValueError: a name, type or number that the format cannot hold.
    """
    if len(settings) > MAX_SETTINGS:
        raise ValueError(f"{len(settings)} settings, the format holds {MAX_SETTINGS}")
    out = varint(len(settings))
    for name in sorted(settings, key=lambda name: (KEYS.get(name, 256), name)):
        if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
            raise ValueError(f"{name!r} is no name for a setting")
        out += bytes([KEYS[name]]) if name in KEYS else bytes([_FREE]) + text(name)
        out += _pack_value(name, settings[name])
    return out


def _pack_value(name: str, value: Setting) -> bytes:
    if isinstance(value, bool):
        return bytes([_TRUE if value else _FALSE])
    if isinstance(value, int):
        return bytes([_INTEGER]) + signed(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"setting {name!r} is {value}")
        short = struct.pack("<f", value) if abs(value) < 3e38 else b""
        if short and struct.unpack("<f", short)[0] == value:
            return bytes([_FLOAT32]) + short
        return bytes([_FLOAT64]) + struct.pack("<d", value)
    if isinstance(value, str):
        return bytes([_TEXT]) + text(value)
    if len(value) > MAX_LIST:
        raise ValueError(f"setting {name!r} has {len(value)} items, the format holds {MAX_LIST}")
    if all(isinstance(item, int) for item in value):
        return bytes([_INTEGERS]) + varint(len(value)) + b"".join(signed(int(item)) for item in value)
    if not all(math.isfinite(item) for item in value):
        raise ValueError(f"setting {name!r} holds a number that is not finite")
    return bytes([_FLOATS]) + varint(len(value)) + struct.pack(f"<{len(value)}d", *value)


def read_settings(cursor: Cursor) -> dict[str, Setting]:
    """The inverse of :func:`pack_settings`; BitstreamError for anything that it would not write."""
    count = cursor.count("number of settings", MAX_SETTINGS, bytes_each=2)
    names = {key: name for name, key in KEYS.items()}
    settings: dict[str, Setting] = {}
    previous: tuple[int, str] = (0, "")
    for _ in range(count):
        key = cursor.u8("setting's key")
        if key == _FREE:
            name = cursor.text("setting's name", MAX_NAME)
            if not _NAME.fullmatch(name) or name in KEYS:
                raise cursor.fail("bad-header", f"setting '{name}'", "has no name that may be spelled out")
        elif key in names:
            name = names[key]
        else:
            # A newer minor version may register keys that this reader has no name for.
            name = f"key.{key}"
        order = (key or 256, name)
        if order <= previous:
            raise cursor.fail("bad-header", f"setting '{name}'", "is out of order or appears twice")
        previous = order
        settings[name] = _read_value(cursor, f"setting '{name}'")
    return settings


def _read_value(cursor: Cursor, field: str) -> Setting:
    kind = cursor.u8(field)
    if kind in (_FALSE, _TRUE):
        return kind == _TRUE
    if kind == _INTEGER:
        return cursor.signed(field)
    if kind == _FLOAT32:
        return cursor.f32(field)
    if kind == _FLOAT64:
        return cursor.f64(field)
    if kind == _TEXT:
        return cursor.text(field)
    if kind == _INTEGERS:
        return [cursor.signed(field) for _ in range(cursor.count(field, MAX_LIST))]
    if kind == _FLOATS:
        return [cursor.f64(field) for _ in range(cursor.count(field, MAX_LIST, bytes_each=8))]
    raise cursor.fail("bad-header", field, f"has the unknown type {kind}")
