"""Which characters a string of the format may hold: by fixed ranges, so that no reader's Unicode version decides."""

from __future__ import annotations

import re

# Controls, spaces but for U+0020, marks without width, line ends, changes of direction, surrogates, private use, tags.
UNPRINTABLE = (
    (0x0000, 0x001F),
    (0x007F, 0x00A0),
    (0x00AD, 0x00AD),
    (0x061C, 0x061C),
    (0x1680, 0x1680),
    (0x180E, 0x180E),
    (0x2000, 0x200F),
    (0x2028, 0x202F),
    (0x205F, 0x206F),
    (0x3000, 0x3000),
    (0xD800, 0xF8FF),
    (0xFEFF, 0xFEFF),
    (0xFFF0, 0xFFFB),
    (0xFFFE, 0xFFFF),
    (0xE0000, 0xE007F),
    (0xF0000, 0x10FFFF),
)
_FOUND = re.compile("[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in UNPRINTABLE) + "]")


def is_printable(text: str) -> bool:
    """Whether every character may stand in a string."""
    return _FOUND.search(text) is None


def replace_unprintable(text: str, by: str = "_") -> str:
    """The text with ``by`` for every character that may not."""
    return _FOUND.sub(by, text)
