"""Alpha compositing in one pass over memory. Imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..jit import kernel

_FULL, _ONE = np.float32(255.0), np.float32(1.0)


@kernel
def composite(pixels: Any, behind: Any, out: Any) -> None:
    """RGBA with straight alpha, (4 P,) uint8, over a colour (3,) float32: out (3 P,) float32 in [0, 1]."""
    red, green, blue = behind[0], behind[1], behind[2]
    for i in range(out.size // 3):
        alpha = np.float32(pixels[4 * i + 3]) / _FULL
        rest = _ONE - alpha
        out[3 * i] = np.float32(pixels[4 * i]) / _FULL * alpha + red * rest
        out[3 * i + 1] = np.float32(pixels[4 * i + 1]) / _FULL * alpha + green * rest
        out[3 * i + 2] = np.float32(pixels[4 * i + 2]) / _FULL * alpha + blue * rest
