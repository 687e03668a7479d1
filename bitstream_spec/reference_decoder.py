"""A decoder of .adc files, straight from SPEC.md, ENTROPY.md and POSITIONS.md: one file, numpy alone, slow and plain.

    python reference_decoder.py FILE                                  # prints the digest of the decoded values
    python reference_decoder.py FILE --partial                        # the same of a file that was cut
    python reference_decoder.py FILE --render VIEW TIME -o frame.png  # draws; VIEW is a view's name or its number

It shares no code with adcgs, so that each of the two checks the other. Headings and docstrings name the sections that
they follow; symbols are decoded one at a time in Python's integers, and numpy serves where a matrix is meant.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import struct
import sys
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]


class Refused(Exception):  # noqa: N818
    """A file is not as specified.

    Attributes:
        code: one of SPEC.md, section 8.
    """

    def __init__(self, code: str, what: str = "") -> None:
        super().__init__(f"{code}: {what}" if what else code)
        self.code = code


def clamp(a: int, low: int, high: int) -> int:
    return low if a < low else high if a > high else a


# ------------------------------------------------------------------------------------------------ SPEC 1: conventions


class Reader:
    """Takes fields off the front of some bytes.

    Args:
        only: the one code of every refusal; None: those that section 1 names.
        longest: bytes of a varint.
    """

    def __init__(self, data: bytes, only: str | None = None, longest: int = 10) -> None:
        self.data, self.only, self.longest = data, only, longest

    def refuse(self, code: str, what: str) -> NoReturn:
        raise Refused(self.only or code, what)

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            self.refuse("truncated", f"{size} bytes are needed, {len(self.data)} are left")
        part, self.data = self.data[:size], self.data[size:]
        return part

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def number(self, form: str) -> float:
        """``"e"``, ``"f"`` or ``"d"``: a finite f16, f32 or f64."""
        (value,) = struct.unpack("<" + form, self.take(struct.calcsize(form)))
        if not math.isfinite(value):
            self.refuse("not-finite", "a NaN or an infinity")
        return float(value)

    def varint(self, least: int = 0, most: int = 2**64 - 1) -> int:
        value = 0
        for place in range(self.longest):
            byte = self.u8()
            value += (byte & 127) << 7 * place
            if byte < 128:
                if (byte == 0 and place > 0) or value >= 2**64:
                    break
                if not least <= value <= most:
                    self.refuse("limit-exceeded", f"{value} is not in {least} .. {most}")
                return value
        self.refuse("bad-number", "a varint is too long or not in its shortest form")

    def svarint(self) -> int:
        v = self.varint()
        return v // 2 if v % 2 == 0 else -(v + 1) // 2

    def count(self, most: int, bytes_each: int) -> int:
        """A varint that counts things, each of which takes at least so many of the bytes that follow."""
        value = self.varint()
        if value * bytes_each > len(self.data):
            self.refuse("count-exceeds-data", f"{value} things in {len(self.data)} bytes")
        if value > most:
            self.refuse("limit-exceeded", f"{value} things, at most {most} are allowed")
        return value

    def text(self, most: int) -> str:
        size = self.count(most, 1)
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            self.refuse("bad-name", "text is not UTF-8")

    def string(self, most: int) -> str:
        text = self.text(most)
        if not text or not printable(text):
            self.refuse("bad-name", "a string is empty or not printable")
        return text

    def end(self) -> None:
        if self.data:
            self.refuse("trailing-garbage", f"{len(self.data)} bytes are left over")


UNPRINTABLE = [(0x00, 0x1F), (0x7F, 0xA0), (0xAD, 0xAD), (0x61C, 0x61C), (0x1680, 0x1680), (0x180E, 0x180E),
    (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x206F), (0x3000, 0x3000), (0xD800, 0xF8FF), (0xFEFF, 0xFEFF),
    (0xFFF0, 0xFFFB), (0xFFFE, 0xFFFF), (0xE0000, 0xE007F), (0xF0000, 0x10FFFF)]  # fmt: skip


def printable(text: str) -> bool:
    return not any(low <= ord(letter) <= high for letter in text for low, high in UNPRINTABLE)


# -------------------------------------------------------------------------------------------------- SPEC 2: container

MAGIC = bytes.fromhex("89 41 44 43 0D 0A 1A 0A")
MAJOR, MINOR = 2, 1
KINDS = {
    0x01: "header",
    0x02: "networks",
    0x03: "entropy",
    0x81: "cameras",
    0x82: "camera_colors",
    0x83: "view_colors",
    0x04: "positions",
    0x05: "hyper",
    0x06: "f_v",
    0x07: "sigma",
    0x08: "color",
    **{0x20 + m: f"f_g_{m}" for m in range(64)},
}


@dataclass
class Container:
    """A file taken apart.

    Attributes:
        minor: version.
        sections: by name, those of known kinds.
        missing: names of sections that are listed but cut off, wholly or in part.
    """

    minor: int
    sections: dict[str, bytes]
    missing: list[str]

    def need(self, name: str) -> bytes:
        if name not in self.sections:
            raise Refused("truncated" if name in self.missing else "missing-section", name)
        return self.sections[name]


def read_container(data: bytes, partial: bool) -> Container:
    reader = Reader(data)
    if data[:8] != MAGIC[: len(data)]:
        raise Refused("bad-magic")
    reader.take(8)
    major, minor, flags, count = (reader.u8() for _ in range(4))
    if major != MAJOR or flags != 0:
        raise Refused("unsupported-version", f"version {major}.{minor}, flags {flags}")
    if count == 0:
        raise Refused("missing-section", "there are no sections")
    rows = [(reader.u8(), reader.varint(), reader.u32()) for _ in range(count)]
    table = data[: len(data) - len(reader.data)]
    if reader.u32() != zlib.crc32(table):
        raise Refused("crc-mismatch", "table of contents")

    for kind, length, _ in rows:
        if kind not in KINDS and kind < 128:
            raise Refused("unknown-section", f"kind {kind:02x}")
        if length >= 2**31:
            raise Refused("limit-exceeded", f"a section of {length} bytes")
    if len({kind for kind, _, _ in rows}) != count:
        raise Refused("duplicate-section")
    if KINDS.get(rows[0][0]) != "header":
        raise Refused("missing-section", "the first section is no header")

    total = sum(length for _, length, _ in rows)
    if total < len(reader.data):
        raise Refused("trailing-garbage", "bytes follow the last section")
    if total > len(reader.data) and not partial:
        raise Refused("truncated", "the last sections are cut off")

    container = Container(minor, {}, [])
    for kind, length, crc in rows:
        name = KINDS.get(kind, f"optional-{kind:02x}")
        content, reader.data = reader.data[:length], reader.data[length:]
        if len(content) < length:
            container.missing.append(name)
        elif kind in KINDS:
            if zlib.crc32(content) != crc:
                raise Refused("crc-mismatch", name)
            container.sections[name] = content
    return container


# ----------------------------------------------------------------------------------------------------- SPEC 3: header

SETTINGS = {
    1: "primitives",
    2: "reference_dim",
    3: "residual_dim",
    4: "prediction_width",
    5: "deformation_width",
    6: "time_dim",
    7: "knots",
    8: "position_frequencies",
    9: "coarse",
    10: "fine",
    11: "rotate_offsets",
    12: "coarse_opacity",
    13: "chunks",
    14: "hyper",
    15: "hidden",
}
RANGES = {
    "primitives": (1, 64),
    "reference_dim": (1, 128),
    "residual_dim": (1, 64),
    "prediction_width": (4, 1024),
    "deformation_width": (4, 1024),
    "time_dim": (1, 4096),
    "knots": (1, 65536),
    "position_frequencies": (1, 64),
}
SWITCHES = ("coarse", "fine", "rotate_offsets", "coarse_opacity")


@dataclass
class Header:
    """Section 3. ``settings`` has those with a registered key alone, by name."""

    anchors: int
    frames: int
    rate: float
    scale: float
    center: list[float]
    background: list[float]
    origin: list[float]
    voxel: float
    near: float
    blur: float
    coder: str
    encoder: str
    settings: dict[str, Any]


def read_header(data: bytes, minor: int) -> Header:
    reader = Reader(data)

    def numbers(form: str, count: int, low: float, high: float) -> list[float]:
        values = [reader.number(form) for _ in range(count)]
        if not all(low <= value <= high for value in values):
            raise Refused("bad-header", f"{values} are not in {low} .. {high}")
        return values

    anchors, frames = reader.varint(1, 2**22), reader.varint(1, 2**20)
    (rate,), (scale,) = numbers("d", 1, 1e-12, 1e6), numbers("d", 1, 1e-12, 1e12)
    center, background, origin = numbers("d", 3, -1e12, 1e12), numbers("f", 3, 0, 1), numbers("f", 3, -1e6, 1e6)
    (voxel, near), (blur,) = numbers("f", 2, 1e-12, 1e6), numbers("f", 1, 2**-10, 2**10)
    coder = reader.u8()
    if coder > 1:
        raise Refused("bad-header", f"coder {coder}")
    encoder = reader.string(64)
    settings = read_settings(reader)
    if minor <= MINOR:
        reader.end()
    name = ("constriction", "torchac")[coder]
    return Header(anchors, frames, rate, scale, center, background, origin, voxel, near, blur, name, encoder, settings)


def read_settings(reader: Reader) -> dict[str, Any]:
    """Section 3.1."""
    settings = {}
    previous = (0, "")
    for _ in range(reader.count(255, 2)):
        key = reader.u8()
        name = reader.string(64) if key == 0 else ""
        if key == 0 and (not re.fullmatch("[a-z][a-z0-9_.]*", name) or name in SETTINGS.values()):
            raise Refused("bad-header", f"a setting is called {name}")
        place = (key or 256, name)
        if place <= previous:
            raise Refused("bad-header", "settings are out of order")
        previous = place
        value = read_value(reader)
        if key in SETTINGS:
            settings[SETTINGS[key]] = value
    for name in SETTINGS.values():
        value, switch = settings.get(name), name in SWITCHES
        if not isinstance(value, int) or isinstance(value, bool) != switch:
            raise Refused("bad-header", f"{name} is {value}")
        low, high = RANGES.get(name, (value, value))
        if not low <= value <= high:
            raise Refused("bad-header", f"{name} is {value}")
    return settings


def read_value(reader: Reader) -> object:
    kind = reader.u8()
    if kind in (0, 1):
        return kind == 1
    if kind == 2:
        return reader.svarint()
    if kind in (3, 4):
        return reader.number("f" if kind == 3 else "d")
    if kind == 5:
        return reader.string(255)
    if kind == 6:
        return [reader.svarint() for _ in range(reader.count(4096, 1))]
    if kind == 7:
        return [reader.number("d") for _ in range(reader.count(4096, 8))]
    raise Refused("bad-header", f"a setting has type {kind}")


# --------------------------------------------------------------------------------------------------- SPEC 4: networks

GROUPS = {1: "predict", 2: "coarse", 3: "fine"}


def network_shapes(settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The table of section 4."""
    k, v, g, p, d, t, q = (
        settings[name]
        for name in (
            "primitives",
            "reference_dim",
            "residual_dim",
            "prediction_width",
            "deformation_width",
            "knots",
            "position_frequencies",
        )
    )
    shapes: dict[str, tuple[int, ...]] = {
        "predict.slots": (k, p),
        "predict.shared.weight": (p, v),
        "predict.shared.bias": (p,),
        "predict.own.weight": (p, g),
        "predict.hidden.weight": (p, p),
        "predict.hidden.bias": (p,),
    }
    for head, outputs in (("position", 3), ("covariance", 7), ("color", 3), ("opacity", 1)):
        shapes |= {f"predict.{head}.weight": (outputs, p), f"predict.{head}.bias": (outputs,)}
    for name, inputs, outputs in (("coarse", v, 14), ("fine", 6 * q, 4 * k)):
        if settings[name]:
            shapes |= {f"{name}.first.weight": (d, inputs), f"{name}.first.bias": (d,)}
            shapes |= {f"{name}.second.weight": (d, d), f"{name}.second.bias": (d,)}
            shapes |= {f"{name}.last.weight": (outputs, d), f"{name}.last.bias": (outputs,)}
            shapes |= {f"{name}.rows": (t, d)}
    return shapes


def read_networks(data: bytes, settings: dict[str, Any]) -> dict[str, Floats32]:
    shapes = network_shapes(settings)
    if sum(math.prod(shape) for shape in shapes.values()) > 2**26:
        raise Refused("limit-exceeded", "too many weights")
    reader = Reader(data)
    kind = reader.u8()
    if kind > 2:
        raise Refused("bad-networks", f"kind {kind}")
    directory = []
    for _ in range(reader.count(255, 2)):
        number = reader.u8()
        name = reader.string(32) if number == 0 else GROUPS.get(number, f"unknown {number}")
        directory.append((name, reader.varint()))
    total = sum(length for _, length in directory)
    if total != len(reader.data):
        raise Refused("count-exceeds-data" if total > len(reader.data) else "trailing-garbage", "lengths of networks")
    if [name for name, _ in directory] != list(dict.fromkeys(name.split(".")[0] for name in shapes)):
        raise Refused("bad-networks", "other networks than the configuration has")

    arrays: dict[str, Floats32] = {}
    for name, length in directory:
        own = {array: shape for array, shape in shapes.items() if array.startswith(name + ".")}
        arrays |= (read_eight_bit if kind == 2 else read_floats)(reader.take(length), own, kind)
    for array in arrays.values():
        if not np.isfinite(array).all():
            raise Refused("not-finite", "weights")
    return arrays


def read_floats(data: bytes, shapes: dict[str, tuple[int, ...]], kind: int) -> dict[str, Floats32]:
    form = ("<f4", "<f2")[kind]
    if len(data) != np.dtype(form).itemsize * sum(math.prod(shape) for shape in shapes.values()):
        raise Refused("length-mismatch", "weights")
    values = np.frombuffer(data, form).astype(np.float32)
    arrays = {}
    for name, shape in shapes.items():
        arrays[name], values = values[: math.prod(shape)].reshape(shape), values[math.prod(shape) :]
    return arrays


def read_eight_bit(data: bytes, shapes: dict[str, tuple[int, ...]], _: int) -> dict[str, Floats32]:
    """Section 4.1."""
    if len(data) < 2 * sum(shape[0] for shape in shapes.values()):
        raise Refused("length-mismatch", "weights")
    reader = Reader(data)
    arrays: dict[str, Floats32] = {}
    for name, shape in shapes.items():
        raw = reader.take(2 * shape[0])
        if len(shape) == 1:
            arrays[name] = np.frombuffer(raw, "<f2").astype(np.float32)
        else:
            arrays[name] = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)  # one scale a row
    matrices = [name for name, shape in shapes.items() if len(shape) == 2]
    count = reader.count(2**26, 4)
    words = reader.take(4 * count)
    reader.end()
    if sum(math.prod(shapes[name]) for name in matrices) > 32 * count:
        raise Refused("count-exceeds-data", "weights")

    decoder = RangeDecoder(words, "bad-stream")
    counts = np.zeros(255, np.int64)
    for name in matrices:
        counts //= 4
        symbols: list[int] = []
        while len(symbols) < math.prod(shapes[name]):
            table = Table(weight_frequencies(counts), bits=24)
            block = [decoder.symbol(table) for _ in range(min(64, math.prod(shapes[name]) - len(symbols)))]
            for symbol in block:
                counts[symbol] += 1
            symbols += block
        scaled = (np.array(symbols) - 127).astype(np.float32).reshape(shapes[name])
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
            arrays[name] = arrays[name][:, None] * scaled
    decoder.finish()
    return {name: arrays[name] for name in shapes}


def weight_frequencies(counts: Integers) -> list[int]:
    h = [1 + 2 * sum((4 - abs(d)) * int(counts[s + d]) for d in range(-3, 4) if 0 <= s + d <= 254) for s in range(255)]
    total = sum(h)
    frequencies = [1 + (2**24 - 255) * value // total for value in h]
    frequencies[127] += 2**24 - sum(frequencies)
    return frequencies


class Table:
    """Frequencies of symbols 0, 1, ... that sum to 2^bits."""

    def __init__(self, frequencies: Sequence[int], bits: int = 16) -> None:
        self.frequencies, self.bits = list(frequencies), bits
        self.starts = [0, *accumulate(frequencies)]
        assert self.starts[-1] == 1 << bits

    def __len__(self) -> int:
        return len(self.frequencies)

    def find(self, q: int) -> int:
        """The symbol s with start(s) <= q < start(s) + frequency(s)."""
        return bisect_right(self.starts, q) - 1


class RangeDecoder:
    """SPEC 4.2 and ENTROPY 3.1; ``code`` is that of its refusals."""

    def __init__(self, data: bytes, code: str) -> None:
        if len(data) % 4:
            raise Refused(code, "no whole number of words")
        self.code = code
        self.words = list(struct.unpack(f"<{len(data) // 4}I", data))
        self.read = 0
        self.low = 0
        self.range = 2**64 - 1
        self.point = self.word() << 32
        self.point += self.word()

    def word(self) -> int:
        self.read += 1
        return self.words[self.read - 1] if self.read <= len(self.words) else 0

    def symbol(self, table: Table) -> int:
        scale = self.range // 2**24
        q = (self.point - self.low) % 2**64 // scale
        if q >= 2**24:
            raise Refused(self.code, "no symbol")
        wider = 24 - table.bits
        s = table.find(q >> wider)
        self.low = (self.low + scale * (table.starts[s] << wider)) % 2**64
        self.range = scale * (table.frequencies[s] << wider)
        if self.range < 2**32:
            self.low = self.low * 2**32 % 2**64
            self.range *= 2**32
            self.point = self.point * 2**32 % 2**64 + self.word()
        return s

    def finish(self) -> None:
        """SPEC 4.2: nothing but what was needed is there."""
        if self.read < len(self.words) or (self.point - self.low) % 2**64 >= 2**33 - 1:
            raise Refused(self.code, "words are left over")


# ---------------------------------------------------------------------------------------------------- SPEC 5: cameras

SPLITS = ("train", "val", "test")


@dataclass
class Camera:
    """Section 5: a point x is seen at (fx X/Z + cx, fy Y/Z + cy) pixels, (X, Y, Z) = rotation x + translation."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    rotation: Floats  # (3, 3)
    translation: Floats  # (3,)


@dataclass
class View:
    """One of the capture's views; ``camera_id`` is -1 for a camera that moves."""

    name: str
    split: str
    camera_id: int
    time: float
    camera: Camera


def read_cameras(data: bytes, frames: int) -> list[View]:
    reader = Reader(data)
    bits = reader.u8(), reader.u8()
    if max(bits) > 36:
        raise Refused("limit-exceeded", "fraction bits")
    lenses = [read_intrinsics(reader) for _ in range(reader.count(2**16, 18))]
    count = reader.varint(0, 2**16)
    columns = [read_column(reader, count, -(2**40), 2**40) for _ in range(6)]
    rows = zip(*columns, strict=True)
    poses = [pose([m / 2 ** bits[0] for m in row[:3]], [x / 2 ** bits[1] for x in row[3:]]) for row in rows]
    views: list[View] = []
    for split in SPLITS:
        n = reader.varint(0, 2**16 - len(views))
        if n == 0:
            continue
        times = read_times(reader, n, frames)
        ids = read_column(reader, n, 0, 2**20)
        lens_of = read_column(reader, n, 0, len(lenses) - 1)
        pose_of = read_column(reader, n, 0, len(poses) - 1)
        names = read_names(reader, n)
        for k in range(n):
            camera = Camera(*lenses[lens_of[k]], *poses[pose_of[k]])
            views.append(View(names[k], split, ids[k] - 1, times[k], camera))
    reader.end()
    return views


def read_camera_colors(data: bytes) -> dict[int, Floats]:
    """SPEC 5.3: camera id to (3, 4)."""
    reader = Reader(data)
    colors: dict[int, Floats] = {}
    for _ in range(reader.count(2**16, 25)):
        camera_id = reader.varint(0, 2**20 - 1)
        if any(camera_id <= other for other in colors):
            raise Refused("bad-index", f"camera {camera_id} is out of order")
        numbers = [reader.number("e") for _ in range(12)]
        if max(map(abs, numbers)) > 8:
            raise Refused("bad-camera", f"colours of camera {camera_id}")
        colors[camera_id] = np.array(numbers).reshape(3, 4)
    reader.end()
    return colors


def read_view_colors(data: bytes, v: int) -> tuple[Floats, Floats]:
    """SPEC 5.4: (9, V) and (9,)."""
    reader = Reader(data)
    reader.varint(v, v)
    numbers = np.array([reader.number("e") for _ in range(9 * (v + 1))])
    reader.end()
    return numbers[:-9].reshape(9, v), numbers[-9:]


def read_intrinsics(reader: Reader) -> tuple[int, int, float, float, float, float]:
    width, height = reader.varint(), reader.varint()
    if not (1 <= width <= 2**14 and 1 <= height <= 2**14 and width * height <= 2**26):
        raise Refused("limit-exceeded", f"an image of {width} x {height}")
    fx, fy, cx, cy = (reader.number("f") for _ in range(4))
    if not (1e-4 <= fx <= 1e8 and 1e-4 <= fy <= 1e8 and abs(cx) <= 1e8 and abs(cy) <= 1e8):
        raise Refused("bad-camera", "intrinsics")
    return width, height, fx, fy, cx, cy


def pose(m: list[float], center: list[float]) -> tuple[Floats, Floats]:
    """R (3, 3) and t (3,)."""
    u = sum(x * x for x in m)
    rotation = rotation_matrix(np.array([1 - u, *(2 * x for x in m)]) / (1 + u))
    return rotation, -rotation @ np.array(center)


def read_times(reader: Reader, n: int, frames: int) -> list[float]:
    d = reader.varint(0, 10**9)
    if d == 1:
        times = list(struct.unpack(f"<{n}d", reader.take(8 * n)))
        if not all(0 <= time <= 1 for time in times):
            raise Refused("bad-camera", "times")
        return times
    steps = d - 1 if d > 0 else max(frames - 1, 1)
    return [k / steps for k in read_column(reader, n, 0, steps)]


def read_column(reader: Reader, n: int, low: int, high: int) -> list[int]:
    """Section 5.1: n integers in low .. high."""
    values = read_lagged(reader, n, max(n, 1) - 1)
    if not all(low <= value <= high for value in values):
        raise Refused("bad-index", f"a column holds values outside of {low} .. {high}")
    return values


def read_lagged(reader: Reader, n: int, longest_lag: int) -> list[int]:
    lag = reader.varint(0, longest_lag)
    if lag == 0:
        return read_run(reader, n)
    values = read_run(reader, 1) if lag == 1 else read_lagged(reader, lag, 1)
    for difference in read_run(reader, n - lag):
        values.append(values[-lag] + difference)
    return values


def read_run(reader: Reader, n: int) -> list[int]:
    base, width = reader.svarint(), reader.u8()
    if abs(base) > 2**40 or width > 40:
        raise Refused("limit-exceeded", "a run of a column")
    bits = int.from_bytes(reader.take((n * width + 7) // 8), "little")
    return [base + (bits >> j * width) % 2**width for j in range(n)]


def read_names(reader: Reader, n: int) -> list[str]:
    """Section 5.2."""
    templates = []
    for _ in range(reader.count(n, 2)):
        fields = reader.count(255, 1)
        texts = [reader.text(255) for _ in range(fields + 1)]
        widths = list(reader.take(fields))
        if not all(1 <= width <= 9 for width in widths):
            raise Refused("limit-exceeded", "digits of a name")
        if sum(map(len, texts)) + sum(widths) > 255:
            raise Refused("bad-name", "a template is too long")
        templates.append((texts, widths))
    chosen = read_column(reader, n, 0, len(templates) - 1)
    names = [templates[t][0][0] for t in chosen]
    for t, (texts, widths) in enumerate(templates):
        users = [k for k in range(n) if chosen[k] == t]
        for text, width in zip(texts[1:], widths, strict=True):
            for k, number in zip(users, read_column(reader, len(users), 0, 10**9 - 1), strict=True):
                names[k] += f"{number:0{width}d}{text}"
    for name in set(names):
        parts = name.split("/")
        if not printable(name) or re.search(r'[\\:*?"<>|]', name) or {"", ".", ".."} & set(parts):
            raise Refused("bad-name", repr(name))
        if len(name.encode("utf-8")) > 255:
            raise Refused("bad-name", "a name is too long")
    return names


# -------------------------------------------------------------------------------------------------- ENTROPY 1: tables

LEVELS = 64


def exp(x: float) -> float:
    y = x / 1024.0
    term = total = 1.0
    for k in range(1, 16):
        term = term * y / k
        total = total + term
    for _ in range(10):
        total = total * total
    return total


def half(z: float) -> float:
    if z > 7.0:
        return 0.5
    term = total = z
    k = 1
    while term > 1e-18 * total:
        k += 2
        term = term * (z * z) / k
        total = total + term
    return total * exp(-(z * z) / 2.0) * 0.3989422804014327


def series(y: float) -> float:
    r = (y - 1.0) / (y + 1.0)
    power = total = r
    for k in range(3, 60, 2):
        power = power * (r * r)
        total = total + power / k
    return 2.0 * total


def log(x: float) -> float:
    n = 0
    while x < 2.0 / 3.0:
        x, n = x * 2, n + 1
    while x >= 4.0 / 3.0:
        x, n = x / 2, n - 1
    return series(x) - n * (series(4.0 / 3.0) + series(1.5))


@cache
def gaussian_tables() -> list[Table]:
    """One for each level."""
    tables = []
    sigma = 0.11
    for _ in range(LEVELS):
        reach = 4
        while reach < 4.0 * sigma + 1.0:
            reach *= 2
        free = 65536 - (2 * reach + 2)
        edge = [half((k + 0.5) / sigma) for k in range(reach + 1)]
        c = [math.floor(free * e + 0.5) for e in edge]
        side = [1 + c[k] - c[k - 1] for k in range(1, reach + 1)]
        escape = 1 + math.floor(free * (1.0 - 2.0 * edge[reach]))
        tables.append(Table([*reversed(side), 65536 - 2 * sum(side) - escape, *side, escape]))
        sigma = sigma * 1.115
    return tables


@cache
def factor_tables() -> tuple[list[int], list[int]]:
    """FACTOR and LOG."""
    factor, logs = [], []
    for i in range(256):
        e = exp(2.0 * ((i - 128) / 64))
        factor.append(math.floor(4096 * (2.0 * e / (e + 1.0)) + 0.5))
        logs.append(math.floor(256 * log(factor[i] / 4096) / log(1.115) + 0.5))
    return factor, logs


LENGTH = Table([2**15 >> n for n in range(16)] + [1])
BIT = Table([2**15, 2**15])


# -------------------------------------------------------------------------------------- ENTROPY 2 and 3: the streams


class BitDecoder:
    """Section 3.2: one block of torchac's."""

    def __init__(self, data: bytes) -> None:
        self.bits = (byte >> k & 1 for byte in data for k in range(7, -1, -1))
        self.low = 0
        self.high = 2**32 - 1
        self.value = 0
        for _ in range(32):
            self.value = 2 * self.value + next(self.bits, 0)

    def symbol(self, table: Table) -> int:
        span = self.high - self.low + 1
        s = table.find(((self.value - self.low + 1) * 65536 - 1) // span)
        self.high = self.low + (span * table.starts[s + 1] >> 16) - 1
        self.low = self.low + (span * table.starts[s] >> 16)
        while True:
            if self.high < 2**31:
                d = 0
            elif self.low >= 2**31:
                d = 2**31
            elif self.low >= 2**30 and self.high < 3 * 2**30:
                d = 2**30
            else:
                return s
            self.low = 2 * (self.low - d)
            self.high = 2 * (self.high - d) + 1
            self.value = 2 * (self.value - d) + next(self.bits, 0)


class Stream:
    """The symbols of one stream, asked for group by group."""

    def __init__(self, coder: str, data: bytes) -> None:
        self.data = data
        self.whole = RangeDecoder(data, "corrupt-stream") if coder == "constriction" else None

    def group(self, tables: Sequence[Table]) -> list[int]:
        if self.whole is not None:
            return [self.whole.symbol(table) for table in tables]
        symbols: list[int] = []
        left, length = 0, -1
        for table in tables:
            if left == 0 or len(table) != length:
                block = self.block()
                left, length = 16384, len(table)
            symbols.append(block.symbol(table))
            left -= 1
        return symbols

    def block(self) -> BitDecoder:
        size = int.from_bytes(self.data[:4], "little") if len(self.data) >= 4 else 0
        if not 0 < size <= len(self.data) - 4:
            raise Refused("corrupt-stream", "a block ends outside of its stream")
        block, self.data = BitDecoder(self.data[4 : 4 + size]), self.data[4 + size :]
        return block


def read_residuals(coder: str, data: bytes, levels: Integers) -> Integers:
    """Section 2: residuals in the shape of ``levels``."""
    flat = levels.reshape(-1).tolist()
    order = sorted(range(len(flat)), key=lambda p: flat[p])  # a stable sort
    tables = [gaussian_tables()[flat[p]] for p in order]
    stream = Stream(coder, data)
    r = np.zeros(len(flat), np.int64)
    escapes = []
    for p, table, symbol in zip(order, tables, stream.group(tables), strict=True):
        reach = len(table) // 2 - 1
        r[p] = symbol - reach
        if symbol == 2 * reach + 1:
            escapes.append((p, reach))
    lengths = stream.group([LENGTH] * len(escapes))
    bits = iter(stream.group([BIT] * (sum(lengths) + len(lengths))))
    for (p, reach), n in zip(escapes, lengths, strict=True):
        negative, a = next(bits), 1
        for _ in range(n):
            a = 2 * a + next(bits)
        r[p] = -(reach + a) if negative else reach + a
    return r.reshape(levels.shape)


# ------------------------------------------------------------------------- ENTROPY 4 to 6: parameters, networks, values

VALUE_LIMIT = 2**30


def rounded(x: Integers, shift: Integers) -> Integers:
    """x / 2^shift, rounded."""
    return (x + (1 << shift >> 1)) >> shift


def sat16(x: Integers) -> Integers:
    return np.clip(x, -32767, 32767)


def leaky(a: Integers) -> Integers:
    return np.maximum(a, a >> 3)


def entropy_sizes(settings: dict[str, Any]) -> dict[str, int]:
    """The letters of ENTROPY.md."""
    letters = {"V": "reference_dim", "K": "primitives", "G": "residual_dim", "M": "chunks", "E": "hyper", "H": "hidden"}
    most = {"V": 128, "K": 64, "G": 64, "M": 16, "E": 32, "H": 256}
    sizes = {letter: settings[name] for letter, name in letters.items()}
    if not all(1 <= sizes[letter] <= most[letter] for letter in sizes):
        raise Refused("bad-entropy-config", str(sizes))
    if sizes["G"] % sizes["M"] or sizes["K"] * sizes["G"] > 2048:
        raise Refused("bad-entropy-config", str(sizes))
    return {**sizes, "S": 6, "C": 3}


class EntropyModel:
    """Section 4: what the entropy section says.

    Args:
        sizes: V, K, G, M, E, H, S, C.
        coder: ``"constriction"`` or ``"torchac"``.
    """

    def __init__(self, data: bytes, sizes: dict[str, int], coder: str) -> None:
        self.sizes, self.coder = sizes, coder
        v, g, m, e, h, s, c = (sizes[letter] for letter in "VGMEHSC")
        self.width = w = sizes["K"] * g // m
        reader = Reader(data, only="bad-entropy-parameters", longest=5)
        self.steps: dict[str, Floats32] = {}
        for name, count in (("f_v", v), ("sigma", s), ("color", c), ("f_g", g)):
            steps = np.frombuffer(reader.take(4 * count), "<f4")
            if not ((steps >= 2.0**-40) & (steps <= 2.0**40)).all():
                reader.refuse("", "steps")
            self.steps[name] = steps
        self.priors = [read_prior(reader) for _ in range(e)]

        contexts = [("f_v", v), *((f"f_g_{i}", w) for i in range(m - 1))]
        networks = {"f_v": (e, 2 * v + 1), "attributes": (v, 2 * (s + c) + 2 + m)}
        networks |= {f"f_g_{i}": (v + i * w, 2 * w) for i in range(m)}
        layers = {name: ((h, inputs), (h, h), (outputs, h)) for name, (inputs, outputs) in networks.items()}
        shapes: list[tuple[int, ...]] = [(columns,) for _, columns in contexts for _ in range(2)]
        for rows, inputs in (layer for three in layers.values() for layer in three):
            shapes += [(rows, inputs), (rows,), (rows,)]
        arrays = iter(self.read_arrays(reader, shapes, len(data)))
        self.contexts = {
            name: (bounded(next(arrays), -(2**31), 2**31), bounded(next(arrays), 0, 31)) for name, _ in contexts
        }
        self.networks = {
            name: [
                (
                    bounded(next(arrays), -32767, 32767),
                    bounded(next(arrays), 0, 40),
                    bounded(next(arrays), -(2**31), 2**31),
                )
                for _ in range(3)
            ]
            for name in layers
        }

    def read_arrays(self, reader: Reader, shapes: list[tuple[int, ...]], section: int) -> list[Integers]:
        counts = [math.prod(shape) for shape in shapes]
        if sum(counts) > 2**17 + 32 * section:
            reader.refuse("", "too many numbers for so few bytes")
        heads = [(reader.svarint(), reader.u8(), reader.u8()) for _ in shapes]
        if any(level >= LEVELS or k > 32 for _, level, k in heads):
            reader.refuse("", "head of an array")
        stream = reader.take(reader.varint())
        levels = np.repeat([level for _, level, _ in heads], counts)
        high = read_residuals(self.coder, stream, levels)
        widths = np.repeat([k for _, _, k in heads], counts).tolist()
        total = sum(widths)
        bits = int.from_bytes(reader.take((total + 7) // 8), "big")
        spare = -total % 8
        if bits % 2**spare:
            reader.refuse("", "bits are left over")
        reader.end()
        binary = f"{bits >> spare:0{total}b}" if total else ""
        ends = list(accumulate(widths))
        low = [int("0" + binary[end - k : end], 2) for k, end in zip(widths, ends, strict=True)]
        arrays, at = [], 0
        for (centre, _, k), count, shape in zip(heads, counts, shapes, strict=True):
            numbers = [centre + int(high[i]) * 2**k + low[i] for i in range(at, at + count)]
            arrays.append(np.array(numbers, np.int64).reshape(shape))
            at += count
        return arrays

    def outputs(self, name: str, x: Integers) -> Integers:
        """Section 5: a network's outputs (N, outputs) for inputs x (N, inputs)."""

        def affine(layer: tuple[Integers, Integers, Integers], x: Integers) -> Integers:
            weight, shift, bias = layer
            return rounded(x @ weight.T, shift) + bias

        first, second, last = self.networks[name]
        h1 = sat16(leaky(affine(first, x)))
        h2 = sat16(h1 + leaky(affine(second, h1)))
        return affine(last, h2)

    def context(self, name: str, values: Integers) -> Integers:
        offset, shift = self.contexts[name]
        return sat16(rounded(values - offset, shift))

    def decode(self, streams: dict[str, bytes], count: int) -> dict[str, Integers]:
        """Section 6: component -> (N, columns) integers, in coding order; streams of the last chunks may be missing."""
        v, m, e, s, c = (self.sizes[letter] for letter in "VMESC")
        w = self.width
        total = e + v + s + c + m * w
        always = ("hyper", "f_v", "sigma", "color")
        if count > 2**22:
            raise Refused("bad-count", f"{count} anchors")
        if count * total > 2**18 + 256 * sum(len(streams[name]) for name in always):
            raise Refused("count-exceeds-data", f"{count} anchors")
        factor, logs = (np.array(table) for table in factor_tables())
        values: dict[str, Integers] = {}

        symbols = Stream(self.coder, streams["hyper"]).group([table for _, table in self.priors for _ in range(count)])
        eta = np.array(symbols).reshape(e, count).T + [low for low, _ in self.priors]
        values["hyper"] = eta

        def component(name: str, mean: Integers, level: Integers, g: Integers) -> None:
            i = np.clip(g + 128, 0, 255)[:, None]
            mu = np.clip(mean, -VALUE_LIMIT, VALUE_LIMIT)
            levels = np.clip((level - logs[i] + 128) >> 8, 0, LEVELS - 1)
            r = read_residuals(self.coder, streams[name], levels) if name in streams else np.zeros_like(levels)
            values[name] = np.clip(r * factor[i] + mu, -VALUE_LIMIT, VALUE_LIMIT)

        out = self.outputs("f_v", sat16(256 * eta))
        component("f_v", out[:, :v], out[:, v : 2 * v], out[:, 2 * v])
        context = self.context("f_v", values["f_v"])
        out = self.outputs("attributes", context)
        means, levels, factors = np.split(out, [s + c, 2 * (s + c)], axis=1)
        component("sigma", means[:, :s], levels[:, :s], factors[:, 0])
        component("color", means[:, s:], levels[:, s:], factors[:, 1])
        for i in range(m):
            out = self.outputs(f"f_g_{i}", context)
            component(f"f_g_{i}", out[:, :w], out[:, w:], factors[:, 2 + i])
            if i < m - 1:
                context = np.concatenate([context, self.context(f"f_g_{i}", values[f"f_g_{i}"])], axis=1)
        return values

    def floats(self, values: dict[str, Integers]) -> dict[str, Floats32]:
        """f_v (N, V), sigma (N, 6), color (N, 3), f_g (N, K, G): float32(v) * (Q / 4096)."""
        unit = {name: steps * np.float32(2.0**-12) for name, steps in self.steps.items()}
        arrays = {name: values[name].astype(np.float32) * unit[name] for name in ("f_v", "sigma", "color")}
        k, g, m = (self.sizes[letter] for letter in "KGM")
        chunks = [values[f"f_g_{i}"].reshape(-1, k, g // m) for i in range(m)]
        arrays["f_g"] = np.concatenate(chunks, axis=2).astype(np.float32) * unit["f_g"]
        return arrays


def read_prior(reader: Reader) -> tuple[int, Table]:
    low, n = struct.unpack("<bB", reader.take(2))
    if n < 2 or low < -127 or low + n - 1 > 127:
        reader.refuse("", "range of a prior")
    frequencies = [reader.varint() for _ in range(n - 1)]
    frequencies.append(65536 - sum(frequencies))
    if min(frequencies) < 1:
        reader.refuse("", "frequencies of a prior")
    return low, Table(frequencies)


def bounded(array: Integers, low: int, high: int) -> Integers:
    if array.min() < low or array.max() > high:
        raise Refused("bad-entropy-parameters", f"numbers outside of {low} .. {high}")
    return array


def entropy_digest(values: dict[str, Integers]) -> str:
    """ENTROPY 6; ``values`` in coding order."""
    return hashlib.sha256(b"".join(array.astype("<i4").tobytes() for array in values.values())).hexdigest()


# ------------------------------------------------------------------------------------------------------------ POSITIONS

Point = tuple[int, int, int]
Fit = tuple[int, int, int, int]  # density, pull, spread, lean

SPLIT_WEIGHTS = (-17544, 5788, 2550, 463, 311, 621, -302, 1211, -8937, -2969, 6663, -2348, 63, -281, -1219, -170)
SIDE_WEIGHTS = (456, -56, -50, -301, 248, 81)


def make_squash() -> dict[int, int]:
    """Section 3: by t."""
    decay, term, k = 0, 1 << 62, 0
    while term > 0:
        decay += term if k % 2 == 0 else -term
        k += 1
        term //= 256 * k
    squash, power = {}, 1 << 62
    for t in range(2048):
        squash[t] = (1 << 78) // ((1 << 62) + power)
        squash[-t] = 65536 - squash[t]
        power = power * decay >> 62
    return squash


SQUASH = make_squash()


def positions_header(section: bytes, most: int | None) -> tuple[int, int, bytes]:
    """Section 1: bits per axis, number of points, payload."""
    if not section:
        raise Refused("positions-truncated")
    bits, count, end = section[0], 0, 1
    if not 1 <= bits <= 21:
        raise Refused("positions-malformed")
    while True:
        if end == 11:
            raise Refused("positions-malformed")
        if end == len(section):
            raise Refused("positions-truncated")
        byte = section[end]
        count += (byte & 127) << 7 * (end - 1)
        end += 1
        if byte < 128:
            break
    if count == 0 or (byte == 0 and end > 2):
        raise Refused("positions-malformed")
    if most is not None and count > most:
        raise Refused("limit-exceeded")
    if count > 2 ** (3 * bits) or len(section) - end < (count + 7) // 8:
        raise Refused("count-exceeds-data")
    return bits, count, section[end:]


class BinaryDecoder:
    """Section 2."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.read = 0
        self.code = 0
        self.range = 2**32 - 1
        for _ in range(4):
            self.code = self.code << 8 | self.byte()

    def byte(self) -> int:
        self.read += 1
        return self.payload[self.read - 1] if self.read <= len(self.payload) else 0

    def bit(self, p: int) -> int:
        bound = (self.range >> 16) * p
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        while self.range < 1 << 24:
            self.code = (256 * self.code + self.byte() + 2**63) % 2**64 - 2**63
            self.range *= 256
        return bit


class Logistic:
    """Section 3: what decides one kind of question."""

    def __init__(self, weights: tuple[int, ...]) -> None:
        self.weights = [4096 * weight for weight in weights]
        self.bias = [[0] * 512 for _ in range(3)]
        self.seen = [[0] * 512 for _ in range(3)]

    def decide(self, coder: BinaryDecoder, x: list[int], context: tuple[int, int, int], sign: int) -> int:
        z = sum(w * v for w, v in zip(self.weights, x, strict=True)) >> 8
        z += sign * sum(bias[c] for bias, c in zip(self.bias, context, strict=True))
        p = SQUASH[clamp(z >> 16, -2047, 2047)]
        answer = coder.bit(p)
        error = 65536 * answer - p
        for k, v in enumerate(x):
            self.weights[k] += v * error >> 10
        for bias, seen, c in zip(self.bias, self.seen, context, strict=True):
            bias[c] += sign * (256 * error // (2 * seen[c] + 8))
            seen[c] = min(seen[c] + 1, 60)
        return answer


@dataclass(eq=False)
class Node:
    """Section 4. ``known`` and ``both`` change while the node's level is decoded."""

    centre: Point
    history: int = 0
    loneliness: int = 0
    neighbours: list[Node] = field(default_factory=list)
    known: Point = (0, 0, 0)
    both: int = 0
    lower: Node | None = None
    upper: Node | None = None

    def __post_init__(self) -> None:
        self.known = self.centre

    @property
    def halves(self) -> list[Node]:
        return [half for half in (self.lower, self.upper) if half]


def moved(point: Point, axis: int, by: int) -> Point:
    x, y, z = (p + by * (b == axis) for b, p in enumerate(point))
    return x, y, z


def fill_list(child: Node, parent: Node, reach: int) -> None:
    """Section 4: the nearest of the child's candidates, and its loneliness."""
    candidates = [half for half in parent.halves if half is not child]
    for neighbour in parent.neighbours:
        candidates += neighbour.halves
    near = []
    for other in candidates:
        away = [abs(p - q) for p, q in zip(other.centre, child.centre, strict=True)]
        if max(away) <= reach:
            near.append((sum(p * p for p in away), other))
    near.sort(key=lambda pair: pair[0])  # a stable sort
    child.neighbours = [other for _, other in near[:16]]
    child.loneliness = 0 if near else min(255, parent.loneliness + 1)


def log2(v: int) -> int:
    n = v.bit_length() - 1
    m = (256 * v >> n) - 256
    return 256 * n + m + (88 * m * (256 - m) >> 16)


def fit(node: Node, neighbours: list[Node], quarter: int, axis: int) -> Fit:
    """Section 5: density, pull, spread, lean."""
    offsets = [[(p - q) // quarter for p, q in zip(j.known, node.centre, strict=True)] for j in neighbours]
    weights = [
        (1 + j.both) * (65536 // (8 + sum(o * o for o in offset)))
        for j, offset in zip(neighbours, offsets, strict=True)
    ]
    total = sum(weights)
    axes = range(3)
    first = [sum(w * o[b] for w, o in zip(weights, offsets, strict=True)) for b in axes]
    c = [(2 * first[b] + total) // (2 * total) for b in axes]
    e = [(32 * (first[b] - total * c[b]) + total) // (2 * total) for b in axes]
    u = [16 * c[b] + e[b] for b in axes]

    def covariance(b: int, d: int) -> int:
        second = sum(w * (o[b] - c[b]) * (o[d] - c[d]) for w, o in zip(weights, offsets, strict=True))
        return 256 * second // total - e[b] * e[d] + 164 * (b == d)

    xx, xy, xz = covariance(0, 0), covariance(0, 1), covariance(0, 2)
    yy, yz, zz = covariance(1, 1), covariance(1, 2), covariance(2, 2)
    a_xx, a_xy, a_xz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    a_yy, a_yz, a_zz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    determinant = xx * a_xx + xy * a_xy + xz * a_xz
    adjugate = ((a_xx, a_xy, a_xz), (a_xy, a_yy, a_yz), (a_xz, a_yz, a_zz))
    g = [sum(row[b] * u[b] for b in axes) for row in adjugate]
    distance = 16 * sum(g[b] * u[b] for b in axes) // determinant
    density = log2(total) - (log2(determinant) >> 1) - (185 * distance >> 4) + 1536
    spread = log2(determinant) - log2(adjugate[axis][axis])
    return density, 8192 * g[axis] // determinant, spread, u[axis]


def split_question(
    node: Node, depth: int, spare: int, left: int, wide: Fit, near: Fit
) -> tuple[list[int], tuple[int, int, int]]:
    """Section 6: inputs and context. ``left`` is n - i."""
    axis = depth % 3
    x = [0] * 16
    x[0], x[1], x[2] = 256, 256 * (axis == 0), 256 * (axis == 1)
    for k in range(4):
        x[3 + k] = 256 * (node.history >> k & 1)
    x[7] = clamp(log2(spare) - log2(left), -2304, 2304) // 3
    if not node.neighbours:
        x[8], x[9] = 256, 26 * min(node.loneliness, 20)
        strong, fine, rough = 0, 41 + min(node.loneliness, 22), 21 + min(node.loneliness, 10)
    else:
        for at, (density, pull, spread, _) in ((10, wide), (13, near)):
            x[at] = clamp(density, -2560, 2560) // 4
            x[at + 1] = min(abs(pull), 1536) // 3
            x[at + 2] = (spread - 3072) // 2
        strong = min(abs(wide[1]) >> 6, 7)
        fine, rough = 20 + clamp(wide[0] >> 7, -20, 20), 10 + clamp(wide[0] >> 8, -10, 10)
    return x, (3 * fine + axis, depth, 8 * rough + strong)


def side_question(node: Node, depth: int, wide: Fit, near: Fit) -> tuple[list[int], tuple[int, int, int], int]:
    """Section 7: inputs, context and sign."""
    x = []
    for _, pull, _, lean in (wide, near):
        sign = 1 if pull >= 0 else -1
        x += [clamp(pull, -1536, 1536) >> 1, sign * (log2(256 + 4 * abs(pull)) - 2048 >> 1), 4 * lean]
    _, pull, spread, _ = wide
    strength = min(log2(64 + abs(pull)) - 1536 >> 6, 23)
    context = (
        3 * strength + depth % 3,
        17 * strength + len(node.neighbours),
        16 * min(strength, 15) + clamp(spread - 2048 >> 7, 0, 15),
    )
    return x, context, 1 if pull >= 0 else -1


def decode_positions(section: bytes, most: int | None = None) -> list[Point]:
    """The points of a positions section, in canonical order.

    Args:
        most: the header's number of anchors.

    Raises:
        Refused: with the code that the specification names.
    """
    bits, count, payload = positions_header(section, most)
    coder = BinaryDecoder(payload)
    split, side = Logistic(SPLIT_WEIGHTS), Logistic(SIDE_WEIGHTS)
    level = [Node((2**bits, 2**bits, 2**bits))]
    for depth in range(3 * bits):
        axis, quarter = depth % 3, 2 ** (bits - 1 - depth // 3)
        made: list[Node] = []
        for i, node in enumerate(level):
            wide = near = (0, 0, 0, 0)
            if node.neighbours:
                wide = fit(node, node.neighbours, quarter, axis)
                near = fit(node, node.neighbours[:6], quarter, axis)
            left = len(level) - i
            spare = count - len(made) - left
            if spare > 0:
                node.both = split.decide(coder, *split_question(node, depth, spare, left, wide, near), 1)
            upper = 0
            if not node.both:
                if node.neighbours:
                    upper = side.decide(coder, *side_question(node, depth, wide, near))
                else:
                    upper = coder.bit(32768)
                node.known = moved(node.centre, axis, quarter if upper else -quarter)
            history = (2 * node.history + node.both) % 16
            if node.both or not upper:
                node.lower = Node(moved(node.centre, axis, -quarter), history)
            if node.both or upper:
                node.upper = Node(moved(node.centre, axis, quarter), history)
            made += node.halves
            if coder.read - 3 > len(payload):
                raise Refused("positions-truncated")
        for node in level:
            for half in node.halves:
                fill_list(half, node, 8 * 2 ** (bits + 1 - (depth + 1) // 3))
        level = made
    used = coder.read - 3
    if used > len(payload):
        raise Refused("positions-truncated")
    if len(level) != count or len(payload) != max(used, (count + 7) // 8) or any(payload[used:]):
        raise Refused("positions-malformed")
    points = ((x >> 1, y >> 1, z >> 1) for x, y, z in (node.centre for node in level))
    return list(points)


# ------------------------------------------------------------------------------------------------------- a whole file


@dataclass
class Scene:
    """What a file decodes to.

    Attributes:
        points: (N, 3) integer positions on the grid.
        values: component -> (N, columns) integers, in coding order.
        floats: the same as f_v (N, V), sigma (N, 6), color (N, 3), f_g (N, K, G), and ``positions`` (N, 3).
        weights: arrays of the networks, by the names of SPEC 4.
        missing: sections that a cut file lacks.
    """

    header: Header
    points: Integers
    values: dict[str, Integers]
    floats: dict[str, Floats32]
    weights: dict[str, Floats32]
    views: list[View]
    camera_colors: dict[int, Floats]
    view_colors: tuple[Floats, Floats] | None
    missing: list[str]

    def digest(self) -> str:
        """SPEC 6: SHA-256 of all decoded integers."""
        positions = self.points.astype("<u4").tobytes()
        return hashlib.sha256(positions + bytes.fromhex(entropy_digest(self.values))).hexdigest()


def decode(data: bytes, partial: bool = False) -> Scene:
    """A whole file; ``partial`` accepts one that was cut after its colours.

    Raises:
        Refused: with a code of SPEC 8.
    """
    container = read_container(data, partial)
    header = read_header(container.need("header"), container.minor)
    sizes = entropy_sizes(header.settings)
    components = ["hyper", "f_v", "sigma", "color", *(f"f_g_{m}" for m in range(sizes["M"]))]
    weights = read_networks(container.need("networks"), header.settings)
    points = np.array(decode_positions(container.need("positions"), header.anchors), np.int64)
    if len(points) != header.anchors:
        raise Refused("length-mismatch", f"{len(points)} points for {header.anchors} anchors")
    model = EntropyModel(container.need("entropy"), sizes, header.coder)
    there = [name for name in components if name in container.sections]
    needed = 4 if container.missing else len(components)  # of a cut file the last chunks may be missing
    if there != components[: len(there)] or len(there) < needed:
        raise Refused("missing-component")
    if any(name.startswith("f_g_") and name not in components for name in container.sections):
        raise Refused("unknown-component")
    values = model.decode({name: container.sections[name] for name in there}, header.anchors)
    h, o = np.float32(header.voxel), np.array(header.origin, np.float32)
    floats = {**model.floats(values), "positions": o + h * points.astype(np.float32)}
    views = read_cameras(container.sections["cameras"], header.frames) if "cameras" in container.sections else []
    colors = container.sections.get("camera_colors")
    camera_colors = {} if colors is None else read_camera_colors(colors)
    slopes = container.sections.get("view_colors")
    view_colors = None if slopes is None else read_view_colors(slopes, header.settings["reference_dim"])
    return Scene(header, points, values, floats, weights, views, camera_colors, view_colors, container.missing)


# -------------------------------------------------------------------------- SPEC 7: reconstruction, in double precision


@dataclass
class Primitives:
    """Gaussians at an instant, anchor by anchor: M = N K of them."""

    means: Floats  # (M, 3)
    quaternions: Floats  # (M, 4) wxyz
    scales: Floats  # (M, 3) standard deviations
    opacities: Floats  # (M,)
    colors: Floats  # (M, 3)


def relu(x: Floats) -> Floats:
    return np.maximum(x, 0.0)


def sigmoid(x: Floats) -> Floats:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def normalise(q: Floats) -> Floats:
    length = np.linalg.norm(q, axis=-1, keepdims=True)
    return q / np.where(length > 0.0, length, 1.0)


def quaternion_product(a: Floats, b: Floats) -> Floats:
    """Hamilton's: b, then a; (..., 4) wxyz."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def rotation_matrix(q: Floats) -> Floats:
    """Unit quaternions (..., 4) wxyz to (..., 3, 3)."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def primitives_at(scene: Scene, time: float) -> Primitives:
    """All primitives at ``time`` in 0 .. 1."""
    settings, weights = scene.header.settings, {n: w.astype(np.float64) for n, w in scene.weights.items()}
    f_v, f_g, sigma, color, anchors = (
        scene.floats[n].astype(np.float64) for n in ("f_v", "f_g", "sigma", "color", "positions")
    )

    def linear(name: str, x: Floats) -> Floats:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def deformation(name: str, x: Floats) -> Floats:
        rows = weights[f"{name}.rows"]
        place = time * (len(rows) - 1)
        left = min(int(place), max(len(rows) - 2, 0))
        right = min(left + 1, len(rows) - 1)
        row = rows[left] + (place - left) * (rows[right] - rows[left])
        hidden = relu(linear(f"{name}.first", x) + row)
        return linear(f"{name}.last", relu(linear(f"{name}.second", hidden)))

    one = np.array([1.0, 0.0, 0.0, 0.0])
    shared = linear("predict.shared", f_v)[:, None, :] + weights["predict.slots"]
    a = relu(shared + f_g @ weights["predict.own.weight"].T)
    b = a + relu(linear("predict.hidden", a))
    extent, base = np.split(np.clip(sigma, -14.0, 4.0)[:, None, :], 2, axis=-1)
    covariance = linear("predict.covariance", b)
    offsets = linear("predict.position", b) * np.exp(extent)  # (N, K, 3)
    log_scales = base + covariance[..., :3]
    quaternions = normalise(covariance[..., 3:] + one)
    colors = color[:, None, :] + linear("predict.color", b)
    logits = linear("predict.opacity", b)[..., 0]

    if settings["coarse"]:
        out = deformation("coarse", f_v)[:, None, :]
        move, grow, turn, tint, fade = np.split(out, [3, 6, 10, 13], axis=-1)
        anchors = anchors + move[:, 0]
        turn = normalise(turn + one)
        if settings["rotate_offsets"]:
            offsets = (rotation_matrix(turn) @ offsets[..., None])[..., 0]
        quaternions = quaternion_product(turn, quaternions)
        log_scales, colors = log_scales + grow, colors + tint
        if settings["coarse_opacity"]:
            logits = logits + fade[..., 0]
    if settings["fine"]:
        q = settings["position_frequencies"]
        w = np.pi * 2.0 ** (5.0 * np.arange(q) / max(q - 1, 1))
        angles = (anchors[:, :, None] * w).reshape(len(anchors), -1)
        out = deformation("fine", np.concatenate([np.sin(angles), np.cos(angles)], axis=1))
        out = out.reshape(*logits.shape, 4)
        logits, colors = logits + out[..., 0], colors + out[..., 1:]
    return Primitives(
        means=(anchors[:, None, :] + offsets).reshape(-1, 3),
        quaternions=quaternions.reshape(-1, 4),
        scales=np.exp(np.clip(log_scales, -14.0, 4.0)).reshape(-1, 3),
        opacities=sigmoid(logits).reshape(-1),
        colors=sigmoid(colors).reshape(-1, 3),
    )


def seen_from(scene: Scene, primitives: Primitives, camera: Camera) -> Primitives:
    """The primitives in the colours of a camera's direction, where the file has such."""
    if scene.view_colors is None:
        return primitives
    weight, bias = scene.view_colors
    slopes = (scene.floats["f_v"].astype(np.float64) @ weight.T + bias).reshape(-1, 1, 3, 3)
    directions = normalise(primitives.means + camera.rotation.T @ camera.translation)
    change = slopes @ directions.reshape(len(slopes), -1, 3, 1)
    return replace(primitives, colors=np.maximum(primitives.colors + change.reshape(-1, 3), 0.0))


def draw(primitives: Primitives, camera: Camera, header: Header) -> Floats:
    """(H, W, 3) in 0 .. 1."""
    local = primitives.means @ camera.rotation.T + camera.translation
    rotation = camera.rotation @ rotation_matrix(normalise(primitives.quaternions))
    factor = rotation * primitives.scales[:, None, :]  # (M, 3, 3); the covariance is factor factor^T

    x_of, y_of = np.arange(camera.width) + 0.5, (np.arange(camera.height) + 0.5)[:, None]
    image = np.zeros((camera.height, camera.width, 3))
    light = np.ones((camera.height, camera.width))
    done = np.zeros((camera.height, camera.width), bool)
    for i in np.argsort(local[:, 2], kind="stable"):
        x, y, z = local[i]
        if not z >= header.near or primitives.opacities[i] < 1 / 255:
            continue
        dx, dy = x_of - (camera.fx * x / z + camera.cx), y_of - (camera.fy * y / z + camera.cy)
        slope_x = within(x / z, -camera.cx / camera.fx, (camera.width - camera.cx) / camera.fx)
        slope_y = within(y / z, -camera.cy / camera.fy, (camera.height - camera.cy) / camera.fy)
        jacobian = np.array(
            [[camera.fx / z, 0.0, -camera.fx * slope_x / z], [0.0, camera.fy / z, -camera.fy * slope_y / z]]
        )
        projected = jacobian @ factor[i]
        (a, b), (_, c) = projected @ projected.T + header.blur * np.eye(2)
        power = 0.5 * (c * dx * dx - 2 * b * dx * dy + a * dy * dy) / (a * c - b * b)
        alpha = np.minimum(primitives.opacities[i] * np.exp(-power), 0.99)
        alpha[alpha < 1 / 255] = 0.0
        after = light * (1 - alpha)
        done |= after <= 1e-4
        image += np.where(done, 0.0, light * alpha)[..., None] * primitives.colors[i]
        light = np.where(done, light, after)
    return image + light[..., None] * np.array(header.background)


def within(slope: float, low: float, high: float) -> float:
    """A slope moved to at most 0.15 of the image's extent outside of it."""
    margin = 0.15 * (high - low)
    return min(max(slope, low - margin), high + margin)


def render(scene: Scene, camera: Camera, time: float, camera_id: int = -1) -> Floats:
    """(H, W, 3) in 0 .. 1, over the file's background, in the colours of that camera where the file has them."""
    image = draw(seen_from(scene, primitives_at(scene, time), camera), camera, scene.header)
    if camera_id in scene.camera_colors:
        row = scene.camera_colors[camera_id]
        image = image + image @ row[:, :3].T + row[:, 3]
    return np.clip(image, 0.0, 1.0)


def png(image: Floats) -> bytes:
    """An image (H, W, 3) in 0 .. 1 as a PNG of 8 bits a channel."""
    pixels = np.floor(255.0 * image + 0.5).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def blocks() -> Iterator[bytes]:
        # Stored, not compressed: zlibs differ in what they write, and equal images are to be equal files.
        for start in range(0, len(rows), 65535):
            part = rows[start : start + 65535]
            last = start + len(part) == len(rows)
            yield struct.pack("<BHH", last, len(part), len(part) ^ 0xFFFF) + part

    size = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 2, 0, 0, 0)
    data = b"\x78\x01" + b"".join(blocks()) + struct.pack(">I", zlib.adler32(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def find_view(views: Sequence[View], wanted: str) -> View:
    """A view by its name or, counted from 0, its number."""
    for view in views:
        if view.name == wanted:
            return view
    if wanted.isdecimal() and int(wanted) < len(views):
        return views[int(wanted)]
    raise SystemExit(f"there is no view {wanted!r}; there are {', '.join(view.name for view in views) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Decodes a .adc file, as its specification says.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--partial", action="store_true", help="accept a file that was cut")
    parser.add_argument("--render", nargs=2, metavar=("VIEW", "TIME"), help="draw one frame; TIME is in 0 .. 1")
    parser.add_argument("-o", "--output", type=Path, default=Path("frame.png"), help="where the frame goes")
    options = parser.parse_args()
    try:
        scene = decode(options.file.read_bytes(), options.partial)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        raise SystemExit(2) from None
    if scene.missing:
        print("missing", *scene.missing)
    print("digest", scene.digest())
    if options.render:
        view, time = find_view(scene.views, options.render[0]), float(options.render[1])
        if not 0.0 <= time <= 1.0:
            raise SystemExit("TIME is in 0 .. 1")
        options.output.write_bytes(png(render(scene, view.camera, time, view.camera_id)))
        print("frame", options.output)


if __name__ == "__main__":
    main()
