"""The networks section: weight arrays, whose names and shapes both sides derive from the configuration.

Arrays come in a fixed order and are grouped by what precedes the first dot of their name
(``predict.hidden.weight`` is of group ``predict``). Layout::

    u8         kind: 0 float32, 1 float16, 2 int8
    varint     number of groups
    per group: u8 id from :data:`GROUPS`, or 0 and a string; varint length
    the groups' bytes, in the same order

float32 and float16: the arrays' elements in C order, nothing between. int8: see :mod:`.quantised`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError
from .cursor import Cursor, text, varint
from .quantised import Rounded, pack_int8, unpack_int8

Kind = Literal["fp32", "fp16", "int8"]
KINDS: tuple[Kind, ...] = ("fp32", "fp16", "int8")

GROUPS: dict[str, int] = {
    "predict": 1,
    "coarse": 2,
    "fine": 3,
}
"""Registered groups of arrays: one byte in the file instead of a name. Added to, never renumbered."""

MAX_GROUPS = 255
MAX_WEIGHTS = 1 << 26
_MAX_NAME = 32
MAX_DIRECTORY = 4 + MAX_GROUPS * (1 + 1 + _MAX_NAME + 10)
_RAW: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}

Float32 = NDArray[np.float32]


LEVELS = 127  # of int8, on either side of zero


def pack_arrays(
    arrays: Mapping[str, NDArray[np.floating]],
    kind: Kind = "fp32",
    levels: int = LEVELS,
    rounded: Mapping[str, Rounded] | None = None,
) -> bytes:
    """Arrays to the section's bytes, in the order given.

    Args:
        arrays: name to array.
        kind: ``"fp32"`` is lossless for float32; ``"fp16"`` rounds; ``"int8"`` rounds matrices to ``levels``
        steps
            on either side of zero per row (output channel) and vectors to float16.
        levels: 1 to 127, for int8; fewer are smaller and coarser.
        rounded: for int8, matrices among the arrays whose symbols are chosen already.

    Raises:
        BitstreamError: ``not-finite`` for a NaN, an infinity, or a value that overflows float16.
        ValueError: an unknown kind or a bad number of levels.
    """
    if kind not in KINDS or not 1 <= levels <= 127:
        raise ValueError(f"no way to store arrays: kind {kind!r}, {levels} levels")
    for name in arrays:
        _require_finite(np.asarray(arrays[name], np.float32), kind, name)
    chosen = rounded or {}
    groups = {
        group: [chosen.get(name, np.asarray(arrays[name], np.float32)) for name in names]
        for group, names in _grouped(arrays).items()
    }
    bodies = [_pack_group(members, kind, levels) for members in groups.values()]
    out = bytes([KINDS.index(kind)]) + varint(len(groups))
    for name, body in zip(groups, bodies, strict=True):
        out += (bytes([GROUPS[name]]) if name in GROUPS else b"\0" + text(name)) + varint(len(body))
    return out + b"".join(bodies)


def unpack_arrays(data: bytes, expected: Mapping[str, tuple[int, ...]], source: str = "networks") -> dict[str, Float32]:
    """The section's arrays as float32.

    Args:
        data: the section's bytes.
        expected: name to shape, in file order.
        source: what to call the section in messages.

    Raises:
        BitstreamError: ``length-mismatch`` where sizes differ from what ``expected`` needs, ``not-finite``,
        others.
    """
    kind, directory, cursor = _read_directory(data, source, len(data))
    groups = _grouped(expected)
    if list(groups) != [name for name, _ in directory]:
        raise cursor.fail(
            "bad-networks", "groups", f"are {[name for name, _ in directory]}, the model has {list(groups)}"
        )
    total = sum(math.prod(shape) for shape in expected.values())
    cursor.within(total, "number of weights", 0, MAX_WEIGHTS)
    arrays: dict[str, Float32] = {}
    for name, length in directory:
        body = Cursor(cursor.take(length, f"network '{name}'"), f"{source}: network '{name}'")
        shapes = {member: expected[member] for member in groups[name]}
        arrays |= _unpack_group(body, shapes, kind)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise cursor.fail("not-finite", f"array '{name}'", "holds a NaN or an infinity")
    return {name: arrays[name] for name in expected}


def array_sizes(data: bytes, length: int | None = None, source: str = "networks") -> tuple[Kind, dict[str, int]]:
    """Kind and bytes by group, without decoding; the rest of the section is its directory.

    Args:
        data: the section, or its first :data:`MAX_DIRECTORY` bytes.
        length: bytes of the whole section, where ``data`` is its beginning.
        source: what to call the section in messages.

    Raises:
        BitstreamError: the directory is damaged.
    """
    kind, directory, _ = _read_directory(data, source, len(data) if length is None else length)
    return kind, dict(directory)


def _grouped(names: Mapping[str, object]) -> dict[str, list[str]]:
    """Group to its arrays' names, both in order of appearance."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.split(".", 1)[0], []).append(name)
    return groups


def _require_finite(array: Float32, kind: Kind, name: str) -> None:
    with np.errstate(over="ignore"):
        stored = array.astype(np.float16) if kind == "fp16" or (kind == "int8" and array.ndim < 2) else array
    if not np.isfinite(stored).all():
        raise BitstreamError(
            "not-finite", f"network array '{name}' holds a NaN or a value too large for {kind}; train again"
        )


def _read_directory(data: bytes, source: str, length: int) -> tuple[Kind, list[tuple[str, int]], Cursor]:
    """Kind, (group, bytes) in order, and the cursor at the first group; lengths sum to the rest of the
    data.
    """
    cursor = Cursor(data, source)
    kind = cursor.u8("kind of weights")
    if kind >= len(KINDS):
        raise cursor.fail("bad-networks", "kind of weights", f"is the unknown {kind}")
    registered = {number: name for name, number in GROUPS.items()}
    directory: list[tuple[str, int]] = []
    for _ in range(cursor.count("number of networks", MAX_GROUPS, bytes_each=2)):
        number = cursor.u8("network")
        name = cursor.text("network's name", _MAX_NAME) if number == 0 else registered.get(number, f"group-{number}")
        directory.append((name, cursor.varint(f"length of network '{name}'")))
    if len({name for name, _ in directory}) != len(directory):
        raise cursor.fail("bad-networks", "directory", "lists a network twice")
    total = sum(length for _, length in directory)
    available = length - cursor.position
    if total > available:
        raise cursor.fail("count-exceeds-data", "networks", f"claim {total} bytes of {available}")
    if total < available:
        raise cursor.fail("trailing-garbage", "networks", f"are followed by {available - total} bytes")
    return KINDS[kind], directory, cursor


def _pack_group(arrays: Sequence[Any], kind: Kind, levels: int) -> bytes:
    if kind == "int8":
        return pack_int8(arrays, levels)
    return b"".join(array.astype(_RAW[kind]).tobytes() for array in arrays)


def _unpack_group(cursor: Cursor, shapes: Mapping[str, tuple[int, ...]], kind: Kind) -> dict[str, Float32]:
    if kind == "int8":
        return unpack_int8(cursor, shapes)
    dtype = _RAW[kind]
    needed = dtype.itemsize * sum(math.prod(shape) for shape in shapes.values())
    if needed != cursor.remaining:
        raise cursor.fail(
            "length-mismatch", "weights", f"are {cursor.remaining} bytes, the configuration needs {needed}"
        )
    arrays: dict[str, Float32] = {}
    for name, shape in shapes.items():
        raw = np.frombuffer(cursor.take(dtype.itemsize * math.prod(shape), name), dtype=dtype)
        arrays[name] = raw.astype(np.float32).reshape(shape)
    return arrays
