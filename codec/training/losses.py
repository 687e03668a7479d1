"""The image term of Eq. 10, L1 + D-SSIM as in 3DGS (Kerbl et al. 2023).

SSIM (Wang et al. 2004) with an 11x11 Gaussian window of sigma 1.5 per channel, C1 = 0.01^2, C2 = 0.03^2 for
images in [0, 1], zeros outside the image, averaged over all pixels: the convention of 3DGS.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..constants import constant

RADIUS, SIGMA = 5, 1.5
C1, C2 = 0.01**2, 0.03**2


def l1_dssim(
    image: Tensor,  # (H, W, C)
    target: Tensor,  # (H, W, C)
    weight: float = 0.2,
    pixel_weights: Tensor | None = None,  # (H, W)
) -> Tensor:
    """(1 - weight) * L1 + weight * (1 - SSIM), differentiable in ``image``.

    Args:
        pixel_weights: multiplies both terms at each pixel before their mean (not normalised); a constant.
    """
    if image.shape != target.shape or image.dim() != 3:
        raise ValueError(f"image {tuple(image.shape)} and target {tuple(target.shape)} must be one (H, W, C)")
    if pixel_weights is not None and pixel_weights.shape != image.shape[:2]:
        raise ValueError(f"pixel_weights {tuple(pixel_weights.shape)} must be (H, W) = {tuple(image.shape[:2])}")
    fused = image.device.type == "cpu" and image.dtype == target.dtype == torch.float32
    if fused and image.shape[1] * image.shape[2] >= 16:  # narrower than a vector: not worth a kernel
        return _L1Dssim.apply(image, target, weight, pixel_weights)
    return l1_dssim_torch(image, target, weight, pixel_weights)


class _L1Dssim(torch.autograd.Function):
    """The same value from compiled kernels; the gradient is computed along with it."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, weight: float, pixel_weights: Tensor | None) -> Tensor:
        from ..jit import run, thread_count
        from .loss_kernels import LANES, ssim_backward, ssim_forward

        height, columns, channels = image.shape
        width = columns * channels
        weights = torch.empty(0)
        if pixel_weights is not None:
            weights = pixel_weights.detach().float()[..., None].expand(-1, -1, channels)
        plane_stride = LANES * -(-width // LANES)
        derivatives = np.empty(3 * height * plane_stride, np.float32)
        sums = np.empty(height)
        shared = (
            *(value.detach().contiguous().numpy().reshape(-1) for value in (image, target, weights)),
            height, width, channels, np.array(window(), np.float32), np.float32(weight),
        )  # fmt: skip
        threads = min(thread_count(), -(-height // 8))
        run(ssim_forward, (*shared, np.zeros(8, np.int64), derivatives, plane_stride, sums), threads)
        if ctx.needs_input_grad[0]:
            gradient = torch.empty_like(image, memory_format=torch.contiguous_format)
            scale = np.float32(1.0 / (height * width))
            out = gradient.numpy().reshape(-1)
            run(ssim_backward, (*shared, np.zeros(8, np.int64), derivatives, plane_stride, scale, out), threads)
            ctx.save_for_backward(gradient)
        return image.new_tensor(sums.sum() / (height * width))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        # A step of one view pulls back exactly one: a pass over the image saved.
        return gradient if float(upstream) == 1.0 else upstream * gradient, None, None, None


def l1_dssim_torch(image: Tensor, target: Tensor, weight: float, pixel_weights: Tensor | None) -> Tensor:
    """The definition, in plain torch: any device, any float type."""
    loss = (1.0 - weight) * (image - target).abs() + weight * (1.0 - ssim_map(image, target))
    return (loss if pixel_weights is None else loss * pixel_weights[..., None]).mean()


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """(H, W, C) SSIM at every pixel and channel."""
    x, y = image.permute(2, 0, 1), target.permute(2, 0, 1)
    channels = x.shape[0]
    moments = _blur(torch.cat([x, y, x * x, y * y, x * y]))
    mu_x, mu_y, xx, yy, xy = moments.split(channels)
    numerator = (2 * mu_x * mu_y + C1) * (2 * (xy - mu_x * mu_y) + C2)
    denominator = (mu_x * mu_x + mu_y * mu_y + C1) * (xx - mu_x * mu_x + yy - mu_y * mu_y + C2)
    return (numerator / denominator).permute(1, 2, 0)


def window() -> list[float]:
    """The 11 normalised taps of the separable Gaussian."""
    taps = [math.exp(-(offset**2) / (2 * SIGMA**2)) for offset in range(-RADIUS, RADIUS + 1)]
    return [tap / sum(taps) for tap in taps]


def _blur(planes: Tensor) -> Tensor:
    """(P, H, W) planes convolved with the window, zeros outside."""
    taps = constant(tuple(window()), planes)
    planes = F.conv2d(planes[:, None], taps.view(1, 1, -1, 1), padding=(RADIUS, 0))
    return F.conv2d(planes, taps.view(1, 1, 1, -1), padding=(0, RADIUS))[:, 0]
