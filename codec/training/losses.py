"""The image term of Eq. 10, L1 + D-SSIM as in 3DGS (Kerbl et al. 2023).

SSIM (Wang et al. 2004) with an 11x11 Gaussian window of sigma 1.5 per channel, C1 = 0.01^2, C2 = 0.03^2 for
images in [0, 1], zeros outside the image, averaged over all pixels: the convention of 3DGS.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

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
    return l1_dssim_torch(image, target, weight, pixel_weights)


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
    taps = torch.tensor(window(), dtype=planes.dtype, device=planes.device)
    planes = F.conv2d(planes[:, None], taps.view(1, 1, -1, 1), padding=(RADIUS, 0))
    return F.conv2d(planes, taps.view(1, 1, 1, -1), padding=(0, RADIUS))[:, 0]
