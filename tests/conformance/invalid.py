"""Files with one fault each, and the code that a reader must refuse them with.

All are copies of one small file; what is damaged stands behind checksums that are right, unless they are the fault.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Literal

from adcgs.bitstream import GROUPS, array_sizes
from adcgs.bitstream.columns import pack_column
from adcgs.bitstream.container import MAGIC
from adcgs.bitstream.cursor import varint
from adcgs.bitstream.settings import pack_settings
from adcgs.model import ModelConfig, network_shapes

from tests.fuzz.mutators import assemble, honest, rows_of

from . import valid
from .recipes import base

Case = tuple[str, str, bytes]
"""The code, what is wrong, and the file."""

NAN16, NAN32, NAN64 = (struct.pack("<" + form, float("nan")) for form in "efd")


def cases() -> Iterator[Case]:
    """The whole set."""
    for family in (_container, _table, _missing, _header, _settings, _networks, _cameras, _positions, _entropy):
        yield from family()


@functools.cache
def _sections(weights: Literal["fp16", "int8"] = "fp16") -> dict[str, bytes]:
    return valid.sections(base(weights))


def whole() -> bytes:
    """The file that is damaged."""
    return _with()


def _with(weights: Literal["fp16", "int8"] = "fp16", **changed: bytes | None) -> bytes:
    """The file with some sections replaced, or left out where None."""
    parts = {**_sections(weights), **changed}
    return assemble(rows_of({name: data for name, data in parts.items() if data is not None}))


def _patched(data: bytes, offset: int, new: bytes) -> bytes:
    """Some bytes overwritten."""
    return data[:offset] + new + data[offset + len(new) :]


def _container() -> Iterator[Case]:
    file = whole()
    yield "truncated", "an empty file", b""
    yield "truncated", "it ends within the magic", file[:5]
    yield "truncated", "it ends within the table of contents", file[:40]
    yield "truncated", "the last byte is missing", file[:-1]
    yield "bad-magic", "another format's first bytes", b"\x89PNG" + file[4:]
    yield "unsupported-version", "major version 3", _patched(file, 8, b"\3")
    yield "unsupported-version", "major version 1, from before the header had a blur", _patched(file, 8, b"\1")
    yield "unsupported-version", "a flag is set", _patched(file, 10, b"\x80")
    yield "crc-mismatch", "one bit of the table of contents is wrong", _patched(file, 14, bytes([file[14] ^ 16]))
    yield "crc-mismatch", "one bit of the last section is wrong", file[:-1] + bytes([file[-1] ^ 1])
    yield "trailing-garbage", "a byte follows the last section", file + b"\0"


def _table() -> Iterator[Case]:
    rows = rows_of(_sections())
    kind, _, crc, content = rows[1]
    yield "missing-section", "there are no sections", assemble([])
    yield "missing-section", "the first section is not the header", assemble([rows[1], rows[0], *rows[2:]])
    yield "duplicate-section", "the header is there twice", assemble([*rows, rows[0]])
    twice = [honest(0xE0, b"a"), honest(0xE0, b"b")]
    yield "duplicate-section", "an unknown optional section is there twice", assemble([*rows, *twice])
    yield "unknown-section", "a required section of kind 7e", assemble([*rows, honest(0x7E, b"x")])
    yield "limit-exceeded", "a section of 2^31 bytes", assemble([rows[0], (kind, 1 << 31, crc, content), *rows[2:]])
    head = MAGIC + b"\2\0\0\1\1\x80\0" + bytes(4)
    yield "bad-number", "a length with a last byte of 0", head + zlib.crc32(head).to_bytes(4, "little")
    head = MAGIC + b"\2\0\0\1\1" + b"\xff" * 10 + b"\1" + bytes(4)
    yield "bad-number", "a length of eleven bytes", head + zlib.crc32(head).to_bytes(4, "little")


def _missing() -> Iterator[Case]:
    for name in ("networks", "entropy", "positions"):
        yield "missing-section", f"there is no section {name}", _with(**{name: None})
    for name in ("hyper", "f_v", "sigma", "color", "f_g_1"):
        yield "missing-component", f"there is no section {name}", _with(**{name: None})


def _header() -> Iterator[Case]:
    header = _sections()["header"]
    after, anchors = header[2:], header[0]  # both counts are one byte

    yield "limit-exceeded", "no anchors", _with(header=b"\0" + header[1:])
    yield "limit-exceeded", "2^22 + 1 anchors", _with(header=varint((1 << 22) + 1) + header[1:])
    yield "length-mismatch", "one anchor more than there are points", _with(header=bytes([anchors + 1]) + header[1:])
    yield "limit-exceeded", "one anchor fewer than there are points", _with(header=bytes([anchors - 1]) + header[1:])
    yield "limit-exceeded", "no frames", _with(header=header[:1] + b"\0" + after)
    fields = (
        ("bad-header", "a frame rate of 0", 0, bytes(8)),
        ("bad-header", "a negative scale", 8, struct.pack("<d", -1.0)),
        ("not-finite", "a centre that is no number", 16, NAN64),
        ("bad-header", "a background brighter than 1", 40, struct.pack("<f", 1.5)),
        ("not-finite", "a grid origin that is no number", 52, NAN32),
        ("bad-header", "voxels of size 0", 64, bytes(4)),
        ("bad-header", "a near plane at 0", 68, bytes(4)),
        ("bad-header", "a blur of 0", 72, bytes(4)),
        ("bad-header", "an unknown coder", 76, b"\2"),
        ("bad-name", "a line feed in the encoder's name", 78, b"\n"),
        ("bad-name", "an encoder's name that is not UTF-8", 78, b"\xff"),
    )
    for code, what, offset, new in fields:
        yield code, what, _with(header=header[:2] + _patched(after, offset, new))
    yield "truncated", "it ends within the header", _with(header=header[:50])
    yield "trailing-garbage", "a byte follows the settings", _with(header=header + b"\0")


def _settings() -> Iterator[Case]:
    recipe = base()
    config = {**recipe.model, **recipe.entropy}
    header = _sections()["header"]
    before = header[: len(header) - len(pack_settings(config))]

    def configured(**changes: object) -> bytes:
        return _with(header=before + pack_settings({**config, **changes}))  # type: ignore[dict-item]

    yield "bad-header", "no primitives", configured(primitives=0)
    yield "bad-header", "primitives as a boolean", configured(primitives=True)
    yield "bad-header", "a switch as an integer", configured(fine=1)
    rest = {name: value for name, value in config.items() if name != "knots"}
    yield "bad-header", "the knots are missing", _with(header=before + pack_settings(rest))
    last = bytes([len(config) + 1]) + pack_settings(config)[1:]
    yield "bad-header", "a setting is there twice", _with(header=before + last + b"\x0f\2\4")
    yield "bad-header", "a setting of an unknown type", _with(header=before + last + b"\x63\x08")
    yield "bad-header", "a free name that is a registered one", _with(header=before + last + b"\0\5knots\0")
    yield "count-exceeds-data", "2^40 settings", _with(header=before + varint(1 << 40))
    bomb = last + b"\x63\7" + varint(4096)
    yield "count-exceeds-data", "a list of 4096 numbers that is not there", _with(header=before + bomb)
    yield "bad-entropy-config", "three chunks of features of two numbers", configured(chunks=3)
    yield "bad-entropy-config", "hidden layers of 257", configured(hidden=257)


def _bodies(networks: bytes) -> dict[int, bytes]:
    """The groups of a networks section, by id."""
    sizes = array_sizes(networks)[1]
    at = len(networks) - sum(sizes.values())
    bodies = {}
    for name, size in sizes.items():
        bodies[GROUPS[name]] = networks[at : at + size]
        at += size
    return bodies


def _joined(kind: int, bodies: Mapping[int, bytes]) -> bytes:
    """A networks section of these groups."""
    rows = b"".join(bytes([number]) + varint(len(body)) for number, body in bodies.items())
    return bytes([kind]) + varint(len(bodies)) + rows + b"".join(bodies.values())


def _networks() -> Iterator[Case]:
    networks = _sections()["networks"]
    predict, coarse, fine = _bodies(networks).values()
    yield "bad-networks", "an unknown kind of weights", _with(networks=b"\3" + networks[1:])
    yield "bad-networks", "a network is missing", _with(networks=_joined(1, {1: predict, 2: coarse}))
    yield "bad-networks", "a network of an unknown id", _with(networks=_joined(1, {1: predict, 2: coarse, 9: fine}))
    yield "bad-networks", "networks in another order", _with(networks=_joined(1, {2: coarse, 1: predict, 3: fine}))
    short = {1: predict, 2: coarse, 3: fine[:-2]}
    yield "length-mismatch", "a weight is missing", _with(networks=_joined(1, short))
    yield "count-exceeds-data", "the last byte is missing", _with(networks=networks[:-1])
    yield "trailing-garbage", "a byte follows the networks", _with(networks=networks + b"\0")
    ruined = {1: NAN16 + predict[2:], 2: coarse, 3: fine}
    yield "not-finite", "a weight that is no number", _with(networks=_joined(1, ruined))

    predict, coarse, fine = _bodies(_sections("int8")["networks"]).values()
    shapes = network_shapes(ModelConfig.from_dict(base().model))
    at = 2 * sum(shape[0] for name, shape in shapes.items() if name.startswith("fine."))
    scales, count, words = fine[:at], fine[at], fine[at + 1 :]

    def eight_bit(count: int, words: bytes) -> bytes:
        return _with("int8", networks=_joined(2, {1: predict, 2: coarse, 3: scales + bytes([count]) + words}))

    yield "bad-stream", "words of ones, which no encoder writes", eight_bit(count, b"\xff" * len(words))
    yield "bad-stream", "a word follows the last weight's", eight_bit(count + 1, words + bytes(4))
    yield "count-exceeds-data", "more than 32 weights a word", eight_bit(1, words[:4])
    yield "count-exceeds-data", "more words than there are bytes", eight_bit(count + 1, words)
    yield "trailing-garbage", "a byte follows the words", eight_bit(count, words + b"\0")
    huge = b"\x80\x7f" + scales[2:] + bytes([count]) + words
    yield "not-finite", "an infinite scale", _with("int8", networks=_joined(2, {1: predict, 2: coarse, 3: huge}))


ZERO = pack_column([0])
VIEW = {
    "bits": b"\x14\x14",
    "lenses": b"\1\x10\x0c" + struct.pack("<4f", 18.0, 18.0, 8.0, 6.0),
    "poses": b"\1" + ZERO * 6,
    "train": b"\0",
    "val": b"\0",
    "views": b"\1",
    "times": b"\0" + ZERO,
    "ids": ZERO,
    "lens_of": ZERO,
    "pose_of": ZERO,
    "templates": b"\1\0\1v" + ZERO,
}
"""A valid cameras section, piece by piece: one view of the test split."""


def one_view(**changed: bytes) -> bytes:
    """The file with the section :data:`VIEW`, some of its pieces replaced."""
    return _with(cameras=b"".join({**VIEW, **changed}.values()))


def _cameras() -> Iterator[Case]:
    def lens(width: int, height: int, *numbers: float) -> bytes:
        return b"\1" + varint(width) + varint(height) + struct.pack("<4f", *numbers)

    def called(name: str) -> bytes:
        return b"\1\0" + varint(len(name.encode())) + name.encode() + ZERO

    yield "truncated", "it ends within the cameras", _with(cameras=b"".join(VIEW.values())[:-1])
    yield "trailing-garbage", "a byte follows the cameras", _with(cameras=b"".join(VIEW.values()) + b"\0")
    yield "limit-exceeded", "37 fraction bits", one_view(bits=b"\x14\x25")
    yield "limit-exceeded", "an image of no width", one_view(lenses=lens(0, 12, 18, 18, 8, 6))
    yield "limit-exceeded", "an image of 2^28 pixels", one_view(lenses=lens(1 << 14, 1 << 14, 18, 18, 8, 6))
    yield "bad-camera", "a focal length of 0", one_view(lenses=lens(16, 12, 18, 0, 8, 6))
    yield "not-finite", "a principal point that is no number", one_view(lenses=lens(16, 12, 18, 18, float("nan"), 6))
    yield "count-exceeds-data", "2^16 intrinsics that are not there", one_view(lenses=varint(1 << 16))
    yield "limit-exceeded", "2^16 + 1 poses", one_view(poses=varint((1 << 16) + 1) + ZERO * 6)
    yield "limit-exceeded", "2^16 + 1 views", one_view(views=varint((1 << 16) + 1))
    yield "bad-camera", "a time after the clip's end", one_view(times=b"\1" + struct.pack("<d", 1.5))
    yield "bad-index", "a frame after the clip's end", one_view(times=b"\0" + pack_column([3]))
    yield "bad-index", "an index outside of the intrinsics", one_view(lens_of=pack_column([1]))
    yield "bad-index", "an index before the poses", one_view(pose_of=pack_column([-1]))
    yield "limit-exceeded", "a column with a lag as long as itself", one_view(ids=b"\1" + ZERO[1:])
    yield "limit-exceeded", "a column of numbers of 41 bits", one_view(ids=b"\0\0\x29" + bytes(6))
    for name in ("../v", "/v", "v//w", "v\\w", "v:w", "v\x07", ""):
        yield "bad-name", f"a view called {name!r}", one_view(templates=called(name))
    yield "bad-name", "a name that is not UTF-8", one_view(templates=b"\1\0\1\xff" + ZERO)
    yield "limit-exceeded", "a number of ten digits in a name", one_view(templates=b"\1\1\1v\0\x0a" + ZERO + ZERO)


def _positions() -> Iterator[Case]:
    section = _sections()["positions"]
    yield "positions-truncated", "no bytes of positions", _with(positions=b"")
    yield "positions-truncated", "the last byte of the positions is missing", _with(positions=section[:-1])
    yield "positions-malformed", "positions of 22 bits", _with(positions=b"\x16" + section[1:])
    yield "positions-malformed", "no points", _with(positions=section[:1] + b"\0" + section[2:])
    yield "positions-malformed", "a byte follows the last point", _with(positions=section + b"\0")
    yield "count-exceeds-data", "points without a payload", _with(positions=section[:2])


def _entropy() -> Iterator[Case]:
    section = _sections()["entropy"]
    yield "bad-entropy-parameters", "no bytes of parameters", _with(entropy=b"")
    yield "bad-entropy-parameters", "the last byte of the parameters is missing", _with(entropy=section[:-1])
    yield "bad-entropy-parameters", "a byte follows the parameters", _with(entropy=section + b"\0")
    yield "bad-entropy-parameters", "a step of 0", _with(entropy=bytes(4) + section[4:])
    steps = 4 * (2 + 6 + 3 + 2)
    yield "bad-entropy-parameters", "a prior of one value", _with(entropy=_patched(section, steps + 1, b"\1"))
    for name in ("hyper", "sigma", "f_g_0"):
        yield "corrupt-stream", f"{name} is no whole number of words", _with(**{name: b"\0\0\0"})
    yield "corrupt-stream", "words of ones, which no encoder writes", _with(color=b"\xff" * 8)
    yield "unknown-component", "a chunk more than the configuration has", _with(f_g_4=b"\0\0\0\0")
    parts = {**valid.sections(base("fp16", "torchac")), "f_v": bytes(4)}
    yield "corrupt-stream", "a block of torchac's without bytes", assemble(rows_of(parts))
    parts["f_v"] = b"\x20\0\0\0" + bytes(31)
    yield "corrupt-stream", "a block of torchac's that is longer than its stream", assemble(rows_of(parts))
