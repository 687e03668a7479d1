"""The container: sections, header, cameras and weights to bytes and back. Knows no torch."""

from __future__ import annotations

from .arrays import GROUPS, KINDS, LEVELS, MAX_DIRECTORY, Kind, array_sizes, pack_arrays, unpack_arrays
from .cameras import CameraView, pack_cameras, unpack_cameras
from .codes import CODES
from .colors import pack_colors, unpack_colors
from .container import Container, Entry, pack_container, write_atomically, write_container
from .cursor import Cursor
from .header import CODERS, MAX_ANCHORS, Header
from .names import safe_name
from .quantised import Rounded, quantise, row_scales
from .sections import SECTION_KINDS
from .view_colors import pack_view_colors, unpack_view_colors

__all__ = [
    "CODERS",
    "CODES",
    "GROUPS",
    "KINDS",
    "LEVELS",
    "MAX_ANCHORS",
    "MAX_DIRECTORY",
    "SECTION_KINDS",
    "CameraView",
    "Container",
    "Cursor",
    "Entry",
    "Header",
    "Kind",
    "Rounded",
    "array_sizes",
    "pack_arrays",
    "pack_cameras",
    "pack_colors",
    "pack_container",
    "pack_view_colors",
    "quantise",
    "row_scales",
    "safe_name",
    "unpack_arrays",
    "unpack_cameras",
    "unpack_colors",
    "unpack_view_colors",
    "write_atomically",
    "write_container",
]
