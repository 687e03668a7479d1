"""Image quality: PSNR, SSIM and MS-SSIM of one view against its reference.

Every function takes two images (H, W, 3), float32 in [0, 1], as numpy arrays or torch tensors, and returns a
Python float. Nothing is rounded to 8 bits first, nothing is cropped, and the range is 1 whatever the pictures
hold. SSIM is plain SSIM: some tables of this field print ``1 - DSSIM = (1 + SSIM) / 2`` under the same name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError

if TYPE_CHECKING:
    import torch

    Image = NDArray[np.floating] | torch.Tensor

PSNR_CEILING = 100.0
"""What identical images score, in dB: the PSNR of a mean squared error of 1e-10 (infinity is not JSON)."""

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, Wang, Simoncelli and Bovik, "Multiscale structural similarity" (2003)."""

MS_SSIM_MIN_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1
"""161: the shorter side must still hold a whole window after it was halved four times."""


def mse(image: Image, reference: Image, mask: NDArray[np.bool_] | None = None) -> float:
    """Mean squared error over all channels, summed in float64.

    Args:
        image, reference: (H, W, 3) in [0, 1].
        mask: (H, W) bool; only these pixels count. None: all of them.

    Raises:
        OptionError: ``shape-mismatch``, or ``empty-mask`` where nothing is left to average.
    """
    a, b = _pair(image, reference)
    squared = (a.double() - b.double()).square()
    if mask is None:
        return float(squared.mean())
    if mask.shape != tuple(a.shape[:2]):
        raise OptionError("shape-mismatch", f"a mask of {mask.shape} does not fit an image of {tuple(a.shape)}")
    if not mask.any():
        raise OptionError("empty-mask", "the mask selects no pixel; leave such a view out of the mean")
    import torch

    return float(squared[torch.from_numpy(np.ascontiguousarray(mask)).to(a.device)].mean())


def psnr(image: Image, reference: Image, mask: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in dB, peak 1: ``-10 log10(mse)``, at most :data:`PSNR_CEILING`.

    Arguments and errors as for :func:`mse`.
    """
    error = mse(image, reference, mask)
    return min(PSNR_CEILING, -10.0 * math.log10(error)) if error > 0 else PSNR_CEILING


def ssim(image: Image, reference: Image) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window 11x11, sigma 1.5, K1 0.01, K2 0.03, range 1.

    Means, variances and covariance are the window's own weighted moments (no n / (n - 1)); the image is mirrored at
    its border, so that every pixel has a value, and the map is averaged over all pixels and the three channels:
    torchmetrics' definition. (Implementations that drop the border differ in the third or fourth digit.)

    Raises:
        OptionError: ``shape-mismatch``; ``image-too-small`` under 11 pixels a side.
    """
    a, b = _planes(image, reference, WINDOW, "SSIM")
    similarity, _ = _similarity_and_contrast(a, b)
    return float(similarity.mean())


def ms_ssim(image: Image, reference: Image) -> float:
    """Multi-scale SSIM (Wang et al. 2003): five scales, 2x2 means between them, contrast at four, SSIM at the last.

    As torchmetrics defines it: contrast is averaged over the positions where the whole window fits, SSIM as in
    :func:`ssim`, and a negative average counts as 0 (an exponent of it would not be a number).

    Raises:
        OptionError: ``shape-mismatch``; ``image-too-small`` under 161 pixels a side.
    """
    import torch.nn.functional as F

    a, b = _planes(image, reference, MS_SSIM_MIN_SIDE, "MS-SSIM")
    border = WINDOW // 2
    product = 1.0
    for weight in SCALE_WEIGHTS[:-1]:
        _, contrast = _similarity_and_contrast(a, b)
        product *= max(0.0, float(contrast[..., border:-border, border:-border].mean())) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    similarity, _ = _similarity_and_contrast(a, b)
    return product * max(0.0, float(similarity.mean())) ** SCALE_WEIGHTS[-1]


def _similarity_and_contrast(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SSIM's map and its contrast-and-structure factor for planes (3, 1, H, W), of the same shape."""
    mean_a, mean_b, aa, bb, ab = _window_means([a, b, a * a, b * b, a * b])
    var_a, var_b = (aa - mean_a.square()).clamp_min(0), (bb - mean_b.square()).clamp_min(0)
    covariance = ab - mean_a * mean_b
    contrast = (2 * covariance + K2**2) / (var_a + var_b + K2**2)
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a.square() + mean_b.square() + K1**2)
    return luminance * contrast, contrast


def _window_means(maps: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Gaussian-weighted means of every map (3, 1, H, W) around every pixel: two passes of 11 taps, mirrored border."""
    import torch
    import torch.nn.functional as F

    offsets = torch.arange(WINDOW, dtype=maps[0].dtype, device=maps[0].device) - (WINDOW - 1) / 2
    taps = torch.exp(-offsets.square() / (2 * SIGMA**2))
    taps = taps / taps.sum()
    stacked = F.pad(torch.cat(maps), (WINDOW // 2,) * 4, mode="reflect")
    stacked = F.conv2d(F.conv2d(stacked, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    return stacked.split([len(m) for m in maps])


def _planes(image: Image, reference: Image, min_side: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Both images as (3, 1, H, W), refused when the shorter side is under ``min_side``."""
    a, b = _pair(image, reference)
    height, width = a.shape[:2]
    if min(height, width) < min_side:
        raise OptionError("image-too-small", f"{name} needs {min_side} pixels a side, the view has {width}x{height}")
    return a.permute(2, 0, 1).unsqueeze(1), b.permute(2, 0, 1).unsqueeze(1)


def _pair(image: Image, reference: Image) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as float tensors on the first one's device, checked to be (H, W, 3) of one size."""
    import torch

    a = torch.as_tensor(image)
    b = torch.as_tensor(reference).to(a.device)
    if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 3:
        shapes = f"image {tuple(a.shape)} and reference {tuple(b.shape)}"
        raise OptionError("shape-mismatch", f"{shapes} must both be (H, W, 3) of one size")
    if not (a.is_floating_point() and b.is_floating_point()):
        raise OptionError("wrong-dtype", f"metrics take floats in [0, 1], got {a.dtype} and {b.dtype}; divide by 255")
    return a, b
