"""A capture on disk becomes a :class:`Scene`: cameras, lazily read images, times, an initial cloud."""

from __future__ import annotations

from .capture import Frame, InitialCloud, MovingCloud
from .cloud import prepare_cloud
from .detect import LAYOUTS, detect_layout
from .hull import CarveOptions, carve, carve_instants
from .scene import Scene, load_scene

__all__ = [
    "LAYOUTS",
    "CarveOptions",
    "Frame",
    "InitialCloud",
    "MovingCloud",
    "Scene",
    "carve",
    "carve_instants",
    "detect_layout",
    "load_scene",
    "prepare_cloud",
]
