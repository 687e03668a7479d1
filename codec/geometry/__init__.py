"""Voxelised positions to bytes and back."""

from __future__ import annotations

from .morton import PositionError, morton_order
from .positions import decode_positions, encode_positions

__all__ = ["PositionError", "decode_positions", "encode_positions", "morton_order"]
