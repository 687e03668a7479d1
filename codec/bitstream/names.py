"""Names of views: numbered names are a template and columns of numbers.

Layout: varint number of templates; per template varint number of fields F, then F + 1 pieces of text (varint
length, UTF-8), then F u8 widths; a column (:mod:`.columns`) with each name's template; per template and
field a column with the numbers. A name is the pieces with the numbers between, each written with at least
its width's digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .columns import pack_column, read_column
from .cursor import Cursor, varint
from .printable import replace_unprintable

MAX_NAME = 255
_MAX_DIGITS = 9
_DIGITS = re.compile(rf"(\d{{1,{_MAX_DIGITS}}})", re.ASCII)
_FORBIDDEN = re.compile(r'[\\:*?"<>|]')

Template = tuple[tuple[str, ...], tuple[int, ...]]
"""Pieces of text and the widths of the fields between them."""


def safe_name(name: str) -> str:
    """The name itself where the format holds it, else the nearest that it does.

    Names become file names in the decoder's output, which may be another system's: printable, relative, no
    ``..``, none of ``\\ : * ? " < > |``, at most 255 bytes.
    """
    printable = _FORBIDDEN.sub("_", replace_unprintable(name))
    parts = [part for part in printable.split("/") if part not in ("", ".", "..")]
    short = "/".join(parts).encode("utf-8", "replace")[:MAX_NAME].decode("utf-8", "ignore")
    return short.rstrip("/") or "view"


def pack_names(names: Sequence[str]) -> bytes:
    """Names, made safe, to bytes."""
    split = [_DIGITS.split(safe_name(name)) for name in names]
    templates, chosen = _templates(split)
    out = varint(len(templates))
    for pieces, widths in templates:
        encoded = [piece.encode("utf-8") for piece in pieces]
        out += varint(len(widths)) + b"".join(varint(len(piece)) + piece for piece in encoded) + bytes(widths)
    out += pack_column(chosen)
    users: list[list[Sequence[str]]] = [[] for _ in templates]
    for parts, index in zip(split, chosen, strict=True):
        users[index].append(parts)
    columns = [[int(parts[at]) for parts in rows] for rows in users for at in range(1, len(rows[0]), 2)]
    return out + b"".join(pack_column(column) for column in columns)


def _templates(split: Sequence[Sequence[str]]) -> tuple[list[Template], list[int]]:
    """The distinct templates, and which each name uses."""
    padded: dict[tuple[str, ...], list[int]] = {}
    for parts in split:
        widths = padded.setdefault(tuple(parts[::2]), [1] * (len(parts) // 2))
        for at, digits in enumerate(parts[1::2]):
            if digits.startswith("0"):
                widths[at] = max(widths[at], len(digits))
    found: dict[Template, int] = {}
    chosen = []
    for parts in split:
        pieces = tuple(parts[::2])
        # A number shorter than its neighbours' padding (r_7 beside r_007) needs a template of its own.
        widths = [
            width if len(digits) >= width and (len(digits) == width or digits[0] != "0") else len(digits)
            for width, digits in zip(padded[pieces], parts[1::2], strict=True)
        ]
        chosen.append(found.setdefault((pieces, tuple(widths)), len(found)))
    return list(found), chosen


def read_names(cursor: Cursor, count: int) -> list[str]:
    """``count`` names.

    Raises:
        BitstreamError: damaged, or a name that :func:`safe_name` would change (``bad-name``).
    """
    templates = [_read_template(cursor) for _ in range(cursor.count("number of name templates", count, bytes_each=2))]
    chosen = read_column(cursor, count, "name templates", 0, len(templates) - 1)
    names = [""] * count
    order = np.argsort(chosen, kind="stable")
    starts = np.searchsorted(chosen[order], np.arange(len(templates) + 1))
    for index, (pieces, widths) in enumerate(templates):
        users = order[starts[index] : starts[index + 1]]
        numbers = [read_column(cursor, len(users), "numbers of names", 0, 10**_MAX_DIGITS - 1) for _ in widths]
        fields = [
            [f"{number:0{width}d}{piece}" for number in column.tolist()]
            for column, width, piece in zip(numbers, widths, pieces[1:], strict=True)
        ]
        for user, *parts in zip(users.tolist(), *fields, strict=True):
            names[user] = "".join((pieces[0], *parts))
    for name in set(names):
        if safe_name(name) != name:
            raise cursor.fail(
                "bad-name", f"view name {name[:40]!r}", "could leave the output folder or is not printable"
            )
    return names


def _read_template(cursor: Cursor) -> Template:
    fields = cursor.count("fields of a name", MAX_NAME)
    pieces = []
    for _ in range(fields + 1):
        length = cursor.count("piece of a name", MAX_NAME)
        try:
            pieces.append(bytes(cursor.take(length, "piece of a name")).decode("utf-8"))
        except UnicodeDecodeError:
            raise cursor.fail("bad-name", "piece of a name", "is not UTF-8") from None
    widths = tuple(
        cursor.within(width, "digits of a name", 1, _MAX_DIGITS) for width in cursor.take(fields, "digits of names")
    )
    if sum(widths) + sum(len(piece) for piece in pieces) > MAX_NAME:
        raise cursor.fail("bad-name", "name template", f"is longer than {MAX_NAME} characters")
    return tuple(pieces), widths
