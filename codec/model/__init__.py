"""Anchors, prediction and deformation (Eq. 1 to 5). Pure torch, no files."""

from .anchors import AnchorModel, Primitives, network_shapes
from .config import ModelConfig

__all__ = ["AnchorModel", "ModelConfig", "Primitives", "network_shapes"]
