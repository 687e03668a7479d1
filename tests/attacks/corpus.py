"""Files made to break a reader, each with the code that it must be refused with.

Generated rather than stored: the layout is in the code beside the attack. All but the first few are whole files
with valid checksums, damaged in one place, so that what is attacked is reached. Findings of fuzzing runs are added
at the end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from adcgs.bitstream import array_sizes
from adcgs.bitstream.columns import pack_column
from adcgs.bitstream.container import MAGIC
from adcgs.bitstream.cursor import text, varint
from adcgs.bitstream.settings import pack_settings

from tests.fuzz import samples
from tests.fuzz.mutators import assemble, honest, rows_of

from . import wide

HUGE = (1 << 64) - 1
NAN32, INF32, NAN64, INF64 = (struct.pack(f, v) for f in "fd" for v in (float("nan"), float("inf")))


@dataclass(frozen=True)
class Attack:
    """A file and the code of its refusal; None where a reader must cope and decode it."""

    name: str
    data: bytes
    code: str | None


def attacks() -> Iterator[Attack]:
    """The whole corpus."""
    for family in (_container, _table, _missing, _header, _networks, _cameras, _colors, _view_colors, _streams, _found):
        for name, data, code in family():
            yield Attack(f"{family.__name__[1:]}: {name}", data, code)


Case = tuple[str, bytes, str | None]


def _whole() -> bytes:
    return samples.whole_file()


def _with(weights: str = "fp32", **changed: bytes | None) -> bytes:
    """The sample with some sections replaced, or left out where None."""
    sections = {**samples.sections(weights), **changed}  # type: ignore[arg-type]
    return assemble(rows_of({name: data for name, data in sections.items() if data is not None}))


def _patched(section: str, offset: int, data: bytes, weights: str = "fp32") -> bytes:
    """The sample with bytes of one section overwritten."""
    old = samples.sections(weights)[section]  # type: ignore[arg-type]
    return _with(weights, **{section: old[:offset] + data + old[offset + len(data) :]})


def _container() -> Iterator[Case]:
    whole = _whole()
    yield "empty", b"", "truncated"
    yield "one byte of the magic", whole[:1], "truncated"
    yield "magic alone", whole[:8], "truncated"
    yield "head alone", whole[:12], "truncated"
    yield "cut in the table of contents", whole[:30], "truncated"
    yield "last byte missing", whole[:-1], "truncated"
    yield "another format", b"PK\x03\x04" + whole[4:], "bad-magic"
    yield "line endings converted on the way", whole.replace(b"\r\n", b"\n"), "bad-magic"
    yield "eighth bit stripped on the way", bytes([whole[0] & 0x7F]) + whole[1:], "bad-magic"
    yield "next major version", whole[:8] + b"\3" + whole[9:], "unsupported-version"
    yield "the major version before", whole[:8] + b"\1" + whole[9:], "unsupported-version"
    yield "major version 255", whole[:8] + b"\xff" + whole[9:], "unsupported-version"
    yield "unknown flag", whole[:10] + b"\1" + whole[11:], "unsupported-version"
    yield "no sections", assemble([]), "missing-section"
    yield "one byte more", whole + b"\0", "trailing-garbage"
    yield "the file twice", whole + whole, "trailing-garbage"
    yield "table of contents damaged", whole[:14] + bytes([whole[14] ^ 1]) + whole[15:], "crc-mismatch"
    yield "last section damaged", whole[:-1] + bytes([whole[-1] ^ 1]), "crc-mismatch"


def _table() -> Iterator[Case]:
    rows = rows_of(samples.sections())
    kind, length, crc, content = rows[1]

    def second(*changed: tuple[int, int, int, bytes]) -> bytes:
        return assemble([rows[0], *changed, *rows[2:]])

    yield "length 2^64 - 1", second((kind, HUGE, crc, content)), "limit-exceeded"
    yield "length 2^63", second((kind, 1 << 63, crc, content)), "limit-exceeded"
    yield "length 2^31 - 1, the largest", second((kind, (1 << 31) - 1, crc, content)), "truncated"
    yield "every length 2^31 - 1", assemble([(k, (1 << 31) - 1, c, d) for k, _, c, d in rows]), "truncated"
    yield "a section that claims its neighbour's bytes", second((kind, length + 100, crc, content)), "truncated"
    # Overlap cannot be written down: offsets are sums of lengths. Claiming bytes twice is claiming too many.
    twice = [(rows[0][0], rows[0][1] + length, rows[0][2], rows[0][3]), rows[1], *rows[2:]]
    yield "two sections over the same bytes", assemble(twice), "truncated"
    yield "a length of nothing for a section of something", second((kind, 0, crc, content)), "trailing-garbage"
    yield "the header twice", assemble([rows[0], *rows]), "duplicate-section"
    yield "networks twice", second(rows[1], rows[1]), "duplicate-section"
    optional = honest(0xE0, b"x")
    yield "an unknown optional section twice", second(rows[1], optional, optional), "duplicate-section"
    yield "an unknown optional section", second(rows[1], optional), None
    yield "255 sections", assemble([rows[0]] * 255), "duplicate-section"
    yield "an unknown required section", second(rows[1], honest(0x7E, b"x")), "unknown-section"
    yield "kind 0", second(rows[1], honest(0, b"x")), "unknown-section"
    yield "a header that is not first", assemble([rows[1], rows[0], *rows[2:]]), "missing-section"
    yield "more sections stated than there are", assemble(rows, count=200), "bad-number"
    yield "fewer sections stated than there are", assemble(rows, count=5), "crc-mismatch"
    head = MAGIC + b"\2\0\0\1\1"
    overlong = head + b"\x80\x00" + bytes(4)
    yield "a length in more bytes than it needs", overlong + zlib.crc32(overlong).to_bytes(4, "little"), "bad-number"
    endless = head + b"\xff" * 40
    yield "a length that never ends", endless, "bad-number"


def _missing() -> Iterator[Case]:
    for name in samples.sections():
        if name in ("cameras", "camera_colors", "view_colors"):
            yield f"no {name}", _with(**{name: None}), None
        elif name in ("header", "networks", "entropy", "positions"):
            yield f"no {name}", _with(**{name: None}), "missing-section"
        else:
            yield f"no {name}", _with(**{name: None}), "missing-component"


def _header() -> Iterator[Case]:
    header = samples.sections()["header"]
    start = len(varint(samples.ANCHORS)) + len(varint(samples.FRAMES))
    config = {**samples.MODEL, **samples.ENTROPY}
    before = header[: len(header) - len(pack_settings(config))]

    def configured(**changes: object) -> bytes:
        return _with(header=before + pack_settings({**config, **changes}))  # type: ignore[dict-item]

    for count, code in ((0, "limit-exceeded"), ((1 << 22) + 1, "limit-exceeded"), (HUGE, "limit-exceeded")):
        yield f"{count} anchors", _with(header=varint(count) + header[1:]), code
    yield "one anchor more than positions", _with(header=varint(samples.ANCHORS + 1) + header[1:]), "length-mismatch"
    yield (
        "one anchor fewer than positions",
        _with(header=varint(samples.ANCHORS - 1) + header[1:]),
        "limit-exceeded",
    )
    yield "2^22 anchors in a small file", _with(header=varint(1 << 22) + header[1:]), "length-mismatch"
    yield "no frames", _with(header=header[:1] + b"\0" + header[2:]), "limit-exceeded"
    fields = (
        ("frame rate", 0, NAN64, "not-finite"),
        ("frame rate", 0, bytes(8), "bad-header"),
        ("scale", 8, bytes(8), "bad-header"),
        ("scale", 8, struct.pack("<d", -1.0), "bad-header"),
        ("centre", 16, INF64, "not-finite"),
        ("background", 40, struct.pack("<f", 1.5), "bad-header"),
        ("grid origin", 52, NAN32, "not-finite"),
        ("voxel", 64, INF32, "not-finite"),
        ("voxel", 64, bytes(4), "bad-header"),
        ("near", 68, NAN32, "not-finite"),
        ("near", 68, bytes(4), "bad-header"),
        ("blur", 72, NAN32, "not-finite"),
        ("blur", 72, bytes(4), "bad-header"),
        ("blur", 72, struct.pack("<f", 1e6), "bad-header"),
        ("coder", 76, b"\2", "bad-header"),
    )
    for name, offset, value, code in fields:
        yield f"{name} {value.hex()}", _patched("header", start + offset, value), code
    escape = header[: start + 77] + text("\x1b]0;pwned\x07") + pack_settings(config)
    yield "terminal escapes in the encoder's name", _with(header=escape), "bad-name"
    yield "cut", _with(header=header[:-1]), "truncated"
    yield "empty", _with(header=b""), "truncated"
    yield "bytes left over", _with(header=header + b"\0"), "trailing-garbage"
    yield "2^60 settings", _with(header=before + varint(1 << 60)), "count-exceeds-data"
    yield "a setting twice", _with(header=before + b"\2\1\2\2\1\2\2"), "bad-header"
    bomb = before + b"\1\1\6" + varint(1 << 40)
    yield "a list of 2^40 numbers", _with(header=bomb), "count-exceeds-data"
    for key, value in (
        ("primitives", 0),
        ("primitives", 1 << 40),
        ("primitives", -1),
        ("primitives", "ten"),
        ("primitives", True),
        ("knots", 1 << 32),
        ("prediction_width", (1 << 63) - 1),
        ("fine", 1),
        ("chunks", 2.0),
    ):
        yield f"{key} = {value!r}", configured(**{key: value}), "bad-header"
    yield "no settings", _with(header=before + b"\0"), "bad-header"
    yield "chunks that do not divide", configured(chunks=3), "bad-entropy-config"
    yield "hidden layers of 2^20", configured(hidden=1 << 20), "bad-entropy-config"
    yield "networks of another size", configured(prediction_width=1024), "length-mismatch"
    yield "a network that is not there", configured(fine=False), "bad-networks"


def _networks() -> Iterator[Case]:
    for kind, value in (
        ("fp32", NAN32),
        ("fp32", INF32),
        ("fp16", b"\x00\x7c"),
        ("fp16", b"\xff\xff"),
        ("int8", b"\x80\x7f"),
    ):
        data = samples.sections(kind)["networks"]  # type: ignore[arg-type]
        start = len(data) - sum(array_sizes(data)[1].values())
        yield f"{kind} weight {value.hex()}", _patched("networks", start, value * 16, kind), "not-finite"
    networks = samples.sections()["networks"]
    yield "unknown kind", _patched("networks", 0, b"\3"), "bad-networks"
    yield "no networks", _patched("networks", 1, b"\0"), "trailing-garbage"
    yield "2^60 networks", _with(networks=b"\0" + varint(1 << 60)), "count-exceeds-data"
    yield "a network of 2^64 - 1 bytes", _with(networks=b"\0\1\1" + varint(HUGE)), "count-exceeds-data"
    wrap = b"\0\2\1" + varint(HUGE) + b"\2" + varint(2)
    yield "lengths that sum to 1 modulo 2^64", _with(networks=wrap + b"x"), "count-exceeds-data"
    yield "the same network twice", _with(networks=b"\0\2\1\0\1\0"), "bad-networks"
    yield "a network by another name", _with(networks=networks.replace(b"\0\3\1", b"\0\3\7", 1)), "bad-networks"
    yield "one byte short", _with(networks=networks[:-1]), "count-exceeds-data"
    yield "one byte long", _with(networks=networks + b"\0"), "trailing-garbage"
    yield "empty", _with(networks=b""), "truncated"
    small = samples.sections("int8")["networks"]
    kind, sizes = array_sizes(small)
    start = len(small) - sum(sizes.values())
    last = start + sum(sizes.values()) - sizes["fine"]
    yield "int8 words without end", _with("int8", networks=small[:-3] + b"\xff" * 3), "bad-stream"
    yield "int8 stream of ones", _with("int8", networks=small[:-64] + b"\xff" * 64), "bad-stream"
    yield "int8 stream of zeros", _with("int8", networks=small[:last] + bytes(len(small) - last)), "count-exceeds-data"


def _cameras() -> Iterator[Case]:
    def section(
        lens: bytes = b"\x10\x0c" + struct.pack("<4f", 18.0, 18.0, 8.0, 6.0),
        lenses: bytes = b"\1",
        poses: bytes = b"\1" + pack_column([0]) * 6,
        views: bytes = b"\1",
        times: bytes = b"\0" + pack_column([0]),
        ids: bytes = pack_column([0]),
        lens_of: bytes = pack_column([0]),
        pose_of: bytes = pack_column([0]),
        names: bytes = b"\1\0\1v" + pack_column([0]),
        bits: bytes = b"\x14\x14",
        rest: bytes = b"\0\0",
    ) -> bytes:
        return _with(cameras=bits + lenses + lens + poses + views + times + ids + lens_of + pose_of + names + rest)

    def lens(width: int, height: int, *numbers: float) -> bytes:
        return varint(width) + varint(height) + struct.pack("<4f", *numbers)

    one, far = struct.pack("<d", 1.0), struct.pack("<d", 1.5)
    free = b"\0\0\0"  # a column of zeros, of any length
    yield "a valid one, as the base of the others", section(), None
    yield "empty", _with(cameras=b""), "truncated"
    yield "bytes left over", section(rest=b"\0\0\0"), "trailing-garbage"
    yield "2^60 intrinsics", section(lenses=varint(1 << 60)), "count-exceeds-data"
    yield "2^60 poses", section(poses=varint(1 << 60)), "limit-exceeded"
    yield "2^60 views", section(views=varint(1 << 60)), "limit-exceeded"
    yield (
        "2^16 views of one camera in a hundred bytes",
        section(
            views=varint(1 << 16), times=b"\0" + free, ids=free, lens_of=free, pose_of=free, names=b"\1\0\1v" + free
        ),
        None,
    )
    yield "more than 2^16 views over all splits", section(rest=varint(1 << 16) + b"\0"), "limit-exceeded"
    yield "an image of no pixels", section(lens=lens(0, 12, 18, 18, 8, 6)), "limit-exceeded"
    yield "an image of 2^60 pixels a side", section(lens=lens(1 << 60, 12, 18, 18, 8, 6)), "limit-exceeded"
    yield "an image of 2^28 pixels", section(lens=lens(1 << 14, 1 << 14, 18, 18, 8, 6)), "limit-exceeded"
    yield "a focal length of nan", section(lens=lens(16, 12, float("nan"), 18, 8, 6)), "not-finite"
    yield "a focal length of 0", section(lens=lens(16, 12, 0, 18, 8, 6)), "bad-camera"
    yield "a negative focal length", section(lens=lens(16, 12, -18, 18, 8, 6)), "bad-camera"
    yield "a principal point at 10^30", section(lens=lens(16, 12, 18, 18, 1e30, 6)), "bad-camera"
    yield "255 fraction bits", section(bits=b"\xff\x14"), "limit-exceeded"
    yield "a column of 255-bit numbers", section(ids=b"\0\0\xff" + bytes(64)), "limit-exceeded"
    yield "a column that starts at -2^63", section(ids=b"\0" + varint(HUGE) + b"\0"), "limit-exceeded"
    yield "a lag of 2^60", section(ids=varint(1 << 60) + bytes(9)), "limit-exceeded"
    yield "a lag of 0 and no data", section(ids=b"\0\0\x28", lens_of=b"", pose_of=b"", names=b"", rest=b""), "truncated"
    yield "an intrinsics index outside of the table", section(lens_of=pack_column([1])), "bad-index"
    yield "a pose index outside of the table", section(pose_of=pack_column([5])), "bad-index"
    yield "a negative index", section(pose_of=pack_column([-1])), "bad-index"
    yield "views but no poses", section(poses=b"\0" + pack_column([]) * 6), "bad-index"
    yield "a camera id of 2^38", section(ids=pack_column([1 << 38])), "bad-index"
    yield "a time after the clip", section(times=b"\1" + far), "bad-camera"
    yield "a time of nan", section(times=b"\1" + NAN64), "bad-camera"
    yield "a time as float64", section(times=b"\1" + one), None
    yield "a frame after the clip", section(times=b"\0" + pack_column([samples.FRAMES])), "bad-index"
    yield "a time denominator of 2^60", section(times=varint(1 << 60) + pack_column([0])), "limit-exceeded"
    for evil in (
        "../../etc/passwd",
        "/etc/passwd",
        "a/../b",
        "..",
        "a//b",
        "C:evil",
        "a\\b",
        "bell\x07",
        "\x1b[2J",
        "",
    ):
        encoded = evil.encode()
        name = b"\1\0" + varint(len(encoded)) + encoded + pack_column([0])
        yield f"a view called {evil!r}", section(names=name), "bad-name"
    yield "a name that is not UTF-8", section(names=b"\1\0\1\xff" + pack_column([0])), "bad-name"
    yield "a name of 10^4 letters", section(names=b"\1\0" + text("v" * 10_000) + pack_column([0])), "limit-exceeded"
    yield "2^60 name templates", section(names=varint(1 << 60)), "count-exceeds-data"
    yield "a name with 2^60 numbers", section(names=b"\1" + varint(1 << 60)), "count-exceeds-data"
    yield (
        "a number of 200 digits in a name",
        section(names=b"\1\1\1v\0\xc8" + pack_column([0]) + pack_column([1])),
        "limit-exceeded",
    )
    yield (
        "a negative number in a name",
        section(names=b"\1\1\1v\0\1" + pack_column([0]) + pack_column([-1])),
        "bad-index",
    )
    yield "a template that no view has", section(names=b"\1\0\1v" + pack_column([1])), "bad-index"


def _colors() -> Iterator[Case]:
    def row(camera_id: int, *numbers: float) -> bytes:
        return varint(camera_id) + struct.pack("<12e", *(*numbers, *[0.0] * 12)[:12])

    def section(*rows: bytes, count: int | None = None) -> bytes:
        return _with(camera_colors=varint(len(rows) if count is None else count) + b"".join(rows))

    yield "a valid one, as the base of the others", section(row(0, 0.1), row(5, -0.1)), None
    yield "of no camera", section(), None
    yield "of a camera that no view has", section(row((1 << 20) - 1)), None
    yield "empty", _with(camera_colors=b""), "truncated"
    yield "bytes left over", section(row(0), b"\0", count=1), "trailing-garbage"
    yield "one camera more than there are", section(row(0), row(1), count=3), "count-exceeds-data"
    yield "2^60 cameras", section(count=1 << 60), "count-exceeds-data"
    yield "cut in the last number", section(row(1000)[:-1]), "truncated"
    yield "a camera twice", section(row(3), row(3)), "bad-index"
    yield "cameras out of order", section(row(3), row(2)), "bad-index"
    yield "an id of 2^20", section(row(1 << 20)), "limit-exceeded"
    yield "an id of 2^64 - 1", section(row(HUGE)), "limit-exceeded"
    for number in (float("nan"), float("inf"), float("-inf")):
        yield f"a difference of {number}", section(row(0, 0.0, number)), "not-finite"
    for number in (8.01, -60000.0):
        yield f"a difference of {number}", section(row(0, 0.0, number)), "bad-camera"


def _view_colors() -> Iterator[Case]:
    size = int(samples.MODEL["reference_dim"])

    def section(*numbers: float, of: int = size, extra: bytes = b"") -> bytes:
        count = 9 * (size + 1)
        return _with(view_colors=varint(of) + struct.pack(f"<{count}e", *(*numbers, *[0.0] * count)[:count]) + extra)

    yield "slopes as large as half floats go", section(65504.0, -65504.0), None
    yield "empty view_colors", _with(view_colors=b""), "truncated"
    yield "a reference feature of another size", section(of=size - 1), "limit-exceeded"
    yield "a reference feature of 2^64 - 1", section(of=HUGE), "limit-exceeded"
    yield "weights cut in the last number", _with(view_colors=varint(size) + bytes(18 * (size + 1) - 1)), "truncated"
    yield "bytes left over behind weights", section(extra=b"\0"), "trailing-garbage"
    for number in (float("nan"), float("inf"), float("-inf")):
        yield f"a slope of {number}", section(0.0, number), "not-finite"


def _streams() -> Iterator[Case]:
    """What other rooms decode: their own tests go further, here is what a whole file does."""
    yield "no bytes of positions", _with(positions=b""), "positions-truncated"
    yield "no bytes of entropy parameters", _with(entropy=b""), "bad-entropy-parameters"
    for name in ("hyper", "f_v", "sigma", "color", "f_g_0", "f_g_1"):
        # The range coder drops trailing zeros: no bytes are a stream, that of some symbols.
        yield f"no bytes of {name}", _with(**{name: b""}), None
        yield f"one byte of {name}", _with(**{name: b"\0"}), "corrupt-stream"
    # Anchors of 2065 values each, all of them zeros that the range coder reads behind the end: 140 and 280 MB, once.
    yield "two million values in no bytes", wide.wide_file(1024), "count-exceeds-data"
    yield "four million values in a byte for each anchor", wide.wide_file(2048, f_v=bytes(2048)), "count-exceeds-data"
    yield "as many values as may be free", wide.wide_file((1 << 18) // wide.VALUES), None
    yield "an anchor more", wide.wide_file((1 << 18) // wide.VALUES + 1), "count-exceeds-data"
    yield "entropy parameters of another file", _with(entropy=samples.sections()["networks"]), "bad-entropy-parameters"


def _found() -> Iterator[Case]:
    """What fuzzing found, once each."""
    return
    yield
