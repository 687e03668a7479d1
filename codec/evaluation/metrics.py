"""Image quality: PSNR, SSIM and MS-SSIM of one view against its reference.

Every function takes two images (H, W, 3), float32 in [0, 1], as numpy arrays or torch tensors, and returns a
Python float. Nothing is rounded to 8 bits first, nothing is cropped, and the range is 1 whatever the pictures
hold. SSIM is plain SSIM: some tables of this field print ``1 - DSSIM = (1 + SSIM) / 2`` under the same name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError

if TYPE_CHECKING:
    import torch

    Image = NDArray[np.floating] | torch.Tensor

PSNR_CEILING = 100.0
"""What identical images score, in dB: the PSNR of a mean squared error of 1e-10 (infinity is not JSON)."""

WINDOW = 11
MS_SSIM_MIN_SIDE = WINDOW * 2**4
"""176: the shorter side must still hold a whole window after it was halved four times."""


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


def with_fitted_colors(image: Image, reference: Image) -> NDArray[np.float64]:
    """The image after the affine change of colour that brings it nearest to its reference, cut to [0, 1]; (H, W, 3).

    A held-out camera has an exposure and a white balance that nobody could know. What PSNR loses to those shows
    against the PSNR of this (the colour correction of RawNeRF and Zip-NeRF, here without their quadratic terms).

    Raises:
        OptionError: ``shape-mismatch``.
    """
    a, b = (tensor.double().cpu().numpy().reshape(-1, 3) for tensor in _pair(image, reference))
    known = np.column_stack([a, np.ones(len(a))])
    change = np.linalg.lstsq(known, b, rcond=None)[0]
    return np.asarray((known @ change).clip(0, 1).reshape(tuple(image.shape)))


def ssim(image: Image, reference: Image) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window 11x11, sigma 1.5, K1 0.01, K2 0.03, range 1.

    torchmetrics computes it: the image is mirrored at its border, so that every pixel has a value, and the map is
    averaged over all pixels and the three channels. (Implementations that drop the border differ in the third digit.)

    Raises:
        OptionError: ``shape-mismatch``; ``image-too-small`` under 11 pixels a side; ``missing-package``.
    """
    a, b = _batch(image, reference, WINDOW, "SSIM")
    return float(_torchmetrics().structural_similarity_index_measure(a, b, data_range=1.0))


def ms_ssim(image: Image, reference: Image) -> float:
    """Multi-scale SSIM (Wang et al. 2003) as torchmetrics computes it: five scales, the published exponents.

    Raises:
        OptionError: ``shape-mismatch``; ``image-too-small`` under 176 pixels a side; ``missing-package``.
    """
    a, b = _batch(image, reference, MS_SSIM_MIN_SIDE, "MS-SSIM")
    measure = _torchmetrics().multiscale_structural_similarity_index_measure
    return float(measure(a, b, data_range=1.0, normalize="relu"))


def _torchmetrics() -> Any:
    try:
        import torchmetrics.functional.image as functional
    except ImportError as error:
        raise OptionError("missing-package", "SSIM needs torchmetrics: pip install 'adcgs[encode]'") from error
    return functional


def _batch(image: Image, reference: Image, min_side: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Both images as (1, 3, H, W), refused when the shorter side is under ``min_side``."""
    a, b = _pair(image, reference)
    height, width = a.shape[:2]
    if min(height, width) < min_side:
        raise OptionError("image-too-small", f"{name} needs {min_side} pixels a side, the view has {width}x{height}")
    return a.permute(2, 0, 1)[None], b.permute(2, 0, 1)[None]


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
