"""What the CPU kernels share: table columns, tile size, and the packing of a camera into floats."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from .types import RasterSettings

TILE = 32  # pixels; a tile's colours and transmittance (16 KiB for RGB) stay in the first-level cache
# Pieces of the primitive list, each with its own count of pairs in every tile. Threads take one after the other. A
# fixed number, so that no result depends on that of threads, and enough for sixteen to take four each.
CHUNKS = 64

# A splat's row. With s^2 = log2(e) / 2 the exponent is whitened by the inverse Cholesky factor of its covariance,
#   u = r dx,   v = p dy + q dx,   log2(alpha) = k - u^2 - v^2,
# which stays exact for long thin splats, where the textbook's A dx^2 + 2 B dx dy + C dy^2 cancels.
MEAN_X, MEAN_Y, R, P, Q, K = range(6)
HALF_X, HALF_Y = 6, 7  # half the bounding box of alpha >= alpha_min, with a little slack; 0 if not drawn
RHO, RHO_C = 8, 9  # correlation of the covariance, and sqrt(1 - rho^2)
COLOR = 10
WHITEN = math.sqrt(0.5 * math.log2(math.e))  # s

# The camera and the settings as one float32 table.
ROTATION, TRANSLATION = 0, 9
FX, FY, CX, CY, MIN_X, MAX_X, MIN_Y, MAX_Y, WIDTH, HEIGHT = range(12, 22)
BLUR, NEAR, ALPHA_MIN, LOG_ALPHA_MIN, ALPHA_MAX, STOP = range(22, 28)


def padded_channels(channels: int) -> int:
    """Blending is compiled for 3, 4 and 8 channels; others are filled up with zeros."""
    return 3 if channels <= 3 else 4 if channels == 4 else 8


def row_stride(channels: int) -> int:
    """Floats per row: whole 64-byte cache lines."""
    return 16 * math.ceil((COLOR + padded_channels(channels)) / 16)


def pack(camera: Camera, settings: RasterSettings) -> NDArray[np.float32]:
    """The camera and the settings as the kernels read them."""
    margin_x, margin_y = 0.15 * camera.width / camera.fx, 0.15 * camera.height / camera.fy
    bounds = [
        -camera.cx / camera.fx - margin_x,
        (camera.width - camera.cx) / camera.fx + margin_x,
        -camera.cy / camera.fy - margin_y,
        (camera.height - camera.cy) / camera.fy + margin_y,
    ]
    pinhole = [camera.fx, camera.fy, camera.cx, camera.cy, *bounds, camera.width, camera.height]
    constants = [settings.blur, settings.near, settings.alpha_min, math.log2(settings.alpha_min)]
    constants += [settings.alpha_max, settings.stop]
    matrix = camera.world_to_camera
    return np.array([*matrix[:3, :3].ravel(), *matrix[:3, 3], *pinhole, *constants], np.float32)
