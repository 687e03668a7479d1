"""Seeded damage to a file: bytes anywhere, structure, and content behind valid checksums."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from adcgs.bitstream import SECTION_KINDS, Header
from adcgs.bitstream.container import MAGIC
from adcgs.bitstream.cursor import varint

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 4095, 65535, 65536, 1 << 20, 1 << 24, (1 << 24) + 1, (1 << 31) - 1, 1 << 31)
NUMBERS += ((1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
FLOATS = (0.0, -0.0, -1.0, 1e-45, 1e30, -1e30, 3.4e38, float("inf"), -float("inf"), float("nan"))
MAX_SECTIONS = 255

Row = tuple[int, int, int, bytes]
"""Kind, stated length, stated CRC-32, content."""


def assemble(rows: Sequence[Row], version: bytes = b"\2\0", flags: int = 0, count: int | None = None) -> bytes:
    """A file that says whatever it is told to, with a valid checksum over its table of contents."""
    head = MAGIC + version + bytes([flags, (len(rows) if count is None else count) & 0xFF])
    head += b"".join(bytes([kind]) + varint(length) + crc.to_bytes(4, "little") for kind, length, crc, _ in rows)
    return head + zlib.crc32(head).to_bytes(4, "little") + b"".join(content for *_, content in rows)


def honest(kind: int, content: bytes) -> Row:
    """A row whose length and checksum are right."""
    return kind, len(content), zlib.crc32(content), content


def rows_of(sections: Mapping[str, bytes]) -> list[Row]:
    """Sections as honest rows."""
    return [honest(SECTION_KINDS[name], content) for name, content in sections.items()]


# ---- bytes


def _span(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 2, 4, 8, random.randrange(64))))


def _flip(random: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        if out:
            out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    return bytes(out)


def _number(random: Random, data: bytes) -> bytes:
    value = random.choice(NUMBERS)
    encoded = random.choice(
        (
            varint(value),
            (value & 0xFF).to_bytes(1, "little"),
            (value & 0xFFFF).to_bytes(2, "little"),
            (value & 0xFFFFFFFF).to_bytes(4, "little"),
            value.to_bytes(8, "little"),
            struct.pack("<f", random.choice(FLOATS)),
            struct.pack("<d", random.choice(FLOATS)),
        )
    )
    start = random.randrange(len(data) + 1)
    # Overwriting keeps the fields behind in place; replacing a single byte shifts them, as a varint would.
    return data[:start] + encoded + data[start + random.choice((len(encoded), 1)) :]


def _insert(random: Random, data: bytes) -> bytes:
    start, _ = _span(random, data)
    return data[:start] + random.randbytes(random.choice((1, 2, 4, 30))) + data[start:]


def _delete(random: Random, data: bytes) -> bytes:
    start, end = _span(random, data)
    return data[:start] + data[end:]


def _duplicate(random: Random, data: bytes) -> bytes:
    start, end = _span(random, data)
    return data[:end] + data[start:end] * random.choice((1, 1, 20)) + data[end:]


def _swap(random: Random, data: bytes) -> bytes:
    a, b, c, d = sorted(random.randrange(len(data) + 1) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _fill(random: Random, data: bytes) -> bytes:
    start, end = _span(random, data)
    return data[:start] + random.choice((b"\0", b"\xff", b"\x80", b"\x7f")) * (end - start) + data[end:]


def _truncate(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _append(random: Random, data: bytes) -> bytes:
    return data + random.randbytes(random.choice((1, 4, 100)))


BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip,
    _flip,
    _number,
    _number,
    _insert,
    _delete,
    _duplicate,
    _swap,
    _fill,
    _truncate,
    _append,
)


def damage(random: Random, data: bytes) -> bytes:
    """One to three byte-level mutations."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(BYTES)(random, data)
    return data


# ---- whole files


def _raw(random: Random, sections: Mapping[str, bytes]) -> bytes:
    """Damage anywhere; checksums do not match."""
    return damage(random, assemble(rows_of(sections)))


def _content(random: Random, sections: Mapping[str, bytes]) -> bytes:
    """Damaged content behind valid checksums: the decoders proper must cope."""
    damaged = dict(sections)
    for name in random.sample(sorted(sections), random.choice((1, 1, 1, 2))):
        damaged[name] = damage(random, damaged[name])
    return assemble(rows_of(damaged))


def _splice(random: Random, sections: Mapping[str, bytes]) -> bytes:
    """A section with another's content, empty, or random; valid checksums."""
    damaged = dict(sections)
    target, source = random.sample(sorted(sections), 2)
    damaged[target] = random.choice((sections[source], b"", random.randbytes(random.choice((1, 5, 300)))))
    return assemble(rows_of(damaged))


def _settings(random: Random, sections: Mapping[str, bytes]) -> bytes:
    """A well-formed header that tells something else."""
    header = Header.from_bytes(sections["header"])
    config = dict(header.config)
    for _ in range(random.choice((1, 1, 2))):
        key = random.choice(sorted(config))
        small = (0, 1, 2, 3, 5, 8, 64, 100)
        config[key] = random.choice((True, 1.5, "text", [1], -1, *small, *small, *NUMBERS[:-2]))
    if random.random() < 0.2:
        del config[random.choice(sorted(config))]
    changes = [
        {"config": config},
        {"anchors": random.choice((1, 2, header.anchors - 1, header.anchors + 1, 1000, 1 << 22))},
        {"coder": random.choice(("constriction", "torchac"))},
        {"frame_count": random.choice((1, 2, 1 << 20))},
        {"voxel": random.choice((1e-11, 1e6)), "scale": random.choice((1e-12, 1e12))},
    ]
    changed = replace(header, **random.choice((changes[0], *changes)))  # type: ignore[arg-type]
    return assemble(rows_of({**sections, "header": changed.to_bytes()}))


def _structure(random: Random, sections: Mapping[str, bytes]) -> bytes:
    """Sections dropped, doubled, moved, renamed, resized; lengths, counts and versions that lie."""
    rows = rows_of(sections)
    at = random.randrange(len(rows))
    kind, length, crc, content = rows[at]
    options = {}
    action = random.randrange(11)
    if action == 0:
        del rows[at]
    elif action == 1:
        rows.insert(random.randrange(len(rows) + 1), rows[at])
    elif action == 2:
        random.shuffle(rows)
    elif action == 3:
        rows[at] = random.randrange(256), length, crc, content
    elif action == 4:
        rows[at] = kind, random.choice(NUMBERS), crc, content
    elif action == 5:
        rows[at] = kind, max(0, length + random.choice((-1, 1, 7, -7))), crc, content
    elif action == 6:
        rows[at] = kind, length, random.randrange(1 << 32), content
    elif action == 7:
        rows = [random.choice(rows) for _ in range(random.choice((0, 1, 60, MAX_SECTIONS)))]
    elif action == 8:
        options["count"] = random.randrange(256)
    elif action == 9:
        return assemble(rows, version=random.randbytes(2), flags=random.choice((0, 0, 1, 128)))
    else:
        extra = random.randbytes(random.randrange(50))
        rows.insert(random.randrange(len(rows) + 1), honest(random.randrange(256), extra))
    return assemble(rows, **options)


def _cut(random: Random, sections: Mapping[str, bytes]) -> bytes:
    """Cut at, or next to, a section's boundary; or with garbage behind the end."""
    rows = rows_of(sections)
    data = assemble(rows)
    boundary = len(data) - sum(len(content) for *_, content in rows[random.randrange(len(rows)) :])
    return random.choice((data[: boundary + random.choice((-1, 0, 0, 1))], data + random.randbytes(3)))


FILES: tuple[Callable[[Random, Mapping[str, bytes]], bytes], ...] = (
    _raw,
    _raw,
    _content,
    _content,
    _content,
    _content,
    _splice,
    _settings,
    _structure,
    _structure,
    _cut,
)


def mutate(seed: int, index: int, sections: Mapping[str, bytes]) -> bytes:
    """The input number ``index`` of the run ``seed``: the same on every machine and Python."""
    random = Random(f"{seed}:{index}")
    return random.choice(FILES)(random, sections)
