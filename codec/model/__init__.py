"""Anchors, prediction and deformation (Eq. 1 to 5). Pure torch, no files."""

from .anchors import AnchorModel, Primitives, network_shapes
from .config import ModelConfig
from .view_colors import ViewColors

__all__ = ["AnchorModel", "ModelConfig", "Primitives", "ViewColors", "network_shapes"]
