"""The registry of section kinds: one byte in the file, a name in the code.

Bit 7 of a kind is its criticality: a reader skips a kind it does not know where the bit is set, and refuses
the file where it is clear. Kinds are listed in the order in which a writer puts them, so that a prefix of
the file is useful.
"""

from __future__ import annotations

OPTIONAL = 0x80

MAX_CHUNKS = 64  # of f_g
_FIRST_CHUNK = 0x20

_NAMED = {
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
    **{_FIRST_CHUNK + index: f"f_g_{index}" for index in range(MAX_CHUNKS)},
}

SECTION_KINDS: dict[str, int] = {name: kind for kind, name in _NAMED.items()}
"""Name to kind, in file order."""

_UNKNOWN = "optional-"


def is_optional(kind: int) -> bool:
    """Whether a reader may go on without understanding this kind."""
    return bool(kind & OPTIONAL)


def name_of(kind: int) -> str | None:
    """The name of a kind; ``optional-9f`` for an unknown optional one, None for an unknown required one."""
    if kind in _NAMED:
        return _NAMED[kind]
    return f"{_UNKNOWN}{kind:02x}" if is_optional(kind) else None


def kind_of(name: str) -> int:
    """The inverse of :func:`name_of`; ValueError for a name outside of the registry."""
    if name in SECTION_KINDS:
        return SECTION_KINDS[name]
    for kind in range(OPTIONAL, 256):
        if name == name_of(kind):
            return kind
    raise ValueError(f"no section is called {name!r}")
