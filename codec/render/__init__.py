"""Gaussians and a camera become an image: gsplat on CUDA, our own rasterizer on CPUs, a plain twin as oracle."""

from .dispatch import render
from .types import RasterSettings, Render

__all__ = ["RasterSettings", "Render", "render"]
