"""The definition of our rasterizer: slow, plain, differentiable torch, in any float type and on any device.

Perspective EWA splatting (Zwicker et al. 2001; Kerbl et al. 2023) with gsplat's conventions. The fast
backends are tested against this file; memory is O(M x pixels), so keep both small. In float64 it is exact for splats
up to some 1e6 times as long as wide: the determinant of a longer one's covariance cancels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import Camera
from ..gaussians import Gaussians
from .types import MAX_SCALE, RasterSettings, Render


def render_reference(
    gaussians: Gaussians, camera: Camera, background: Tensor, settings: RasterSettings
) -> Render:
    """Draw ``gaussians`` as ``camera`` sees them over ``background`` (C,). See :func:`adcgs.render.render`."""
    dtype, device = gaussians.means.dtype, gaussians.means.device
    matrix = torch.as_tensor(camera.world_to_camera, dtype=dtype, device=device)

    local = gaussians.means @ matrix[:3, :3].T + matrix[:3, 3]  # (M, 3)
    depth = local[:, 2]
    drawable = (depth >= settings.near) & (gaussians.opacities >= settings.alpha_min)
    drawable &= torch.isfinite(local).all(1) & all_finite(gaussians)
    kept = drawable.nonzero()[:, 0]
    kept = kept[torch.sort(depth[kept], stable=True).indices]  # front to back, ties by index

    covariance = world_covariance(gaussians.quaternions[kept], gaussians.scales[kept])
    covariance = matrix[:3, :3] @ covariance @ matrix[:3, :3].T
    means2d_kept, cov2d = project(local[kept], covariance, camera, settings.blur)
    means2d = means2d_kept.new_zeros(len(gaussians), 2).index_put((kept,), means2d_kept)
    if means2d.requires_grad:
        means2d.retain_grad()

    radii = torch.zeros(len(gaussians), dtype=torch.int32, device=device)
    opacities = gaussians.opacities[kept]
    radii[kept] = box_radii(means2d_kept, cov2d, opacities, camera, settings)

    alphas = splat_alphas(means2d[kept], cov2d, opacities, camera, settings)  # (m, H, W)
    weights, transmittance = blend(alphas, settings.stop)
    background = background.to(dtype=dtype, device=device)
    image = torch.einsum("mhw,mc->hwc", weights, gaussians.colors[kept]) + transmittance[..., None] * background
    summed = torch.zeros(len(gaussians), dtype=dtype, device=device)
    summed[kept] = weights.detach().sum((1, 2))
    return Render(image, 1.0 - transmittance, means2d, radii, summed)


def all_finite(gaussians: Gaussians) -> Tensor:
    """(M,) bool: no value of the primitive is infinite or NaN."""
    columns = torch.column_stack(list(vars(gaussians).values()))
    return torch.isfinite(columns).all(1)


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """(M, 4) wxyz of any length to (M, 3, 3). A zero quaternion (under 1e-12) is the identity, without a gradient."""
    largest = quaternions.detach().abs().amax(1, keepdim=True)
    scaled = quaternions / torch.where(largest > 0, largest, 1.0)  # squares of the longest would overflow
    squared = (scaled * scaled).sum(1, keepdim=True)
    identity = torch.zeros_like(quaternions)
    identity[:, 0] = 1.0
    is_zero = largest * squared.sqrt() < 1e-12
    unit = torch.where(is_zero, identity, scaled * torch.where(is_zero, 1.0, squared).rsqrt())
    w, x, y, z = unit.unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], 1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], 1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1),
    ]
    return torch.stack(rows, 1)


def world_covariance(quaternions: Tensor, scales: Tensor) -> Tensor:
    """R diag(s^2) R^T, (M, 3, 3), s at most ``MAX_SCALE``."""
    factor = rotation_matrices(quaternions) * scales.clamp(-MAX_SCALE, MAX_SCALE)[:, None, :]
    return factor @ factor.transpose(1, 2)


def project(local: Tensor, covariance: Tensor, camera: Camera, blur: float) -> tuple[Tensor, Tensor]:
    """Camera-space centres (M, 3) and covariances (M, 3, 3) to pixels: (M, 2) and (M, 2, 2).

    The perspective map is linearised at the centre, moved to at most 0.3 half-widths outside the image:
    further out the linearisation would blow splats up without bound.
    """
    x, y, z = local.unbind(1)
    means2d = torch.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], 1)

    margin_x, margin_y = 0.15 * camera.width / camera.fx, 0.15 * camera.height / camera.fy
    slope_x = (x / z).clamp(-camera.cx / camera.fx - margin_x, (camera.width - camera.cx) / camera.fx + margin_x)
    slope_y = (y / z).clamp(-camera.cy / camera.fy - margin_y, (camera.height - camera.cy) / camera.fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([camera.fx / z, zero, -camera.fx * slope_x / z], 1),
            torch.stack([zero, camera.fy / z, -camera.fy * slope_y / z], 1),
        ],
        1,
    )  # (M, 2, 3)
    cov2d = jacobian @ covariance @ jacobian.transpose(1, 2)
    return means2d, cov2d + blur * torch.eye(2, dtype=local.dtype, device=local.device)


def splat_alphas(
    means2d: Tensor, cov2d: Tensor, opacities: Tensor, camera: Camera, settings: RasterSettings
) -> Tensor:
    """(m, H, W) alpha of every splat at every pixel centre; 0 where it is under ``alpha_min``."""
    dtype, device = means2d.dtype, means2d.device
    rows = torch.arange(camera.height, dtype=dtype, device=device) + 0.5
    columns = torch.arange(camera.width, dtype=dtype, device=device) + 0.5
    dx = columns[None, None, :] - means2d[:, 0, None, None]
    dy = rows[None, :, None] - means2d[:, 1, None, None]
    a, b, c = (entry[:, None, None] for entry in (cov2d[:, 0, 0], cov2d[:, 0, 1], cov2d[:, 1, 1]))
    determinant = a * c - b * b  # 0 only without blur, for what has no width: not drawn
    power = 0.5 * (c * dx * dx - 2 * b * dx * dy + a * dy * dy) / torch.where(determinant > 0, determinant, 1.0)
    alphas = (opacities[:, None, None] * torch.exp(-power)).clamp(max=settings.alpha_max)
    return torch.where((determinant > 0) & (alphas >= settings.alpha_min), alphas, 0.0)


def blend(alphas: Tensor, stop: float) -> tuple[Tensor, Tensor]:
    """Front-to-back weights (m, H, W) of alphas in depth order, and the transmittance (H, W) that is left."""
    after = torch.cumprod(1.0 - alphas, 0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    alive = after > stop  # false from the stopping splat on, as transmittance never grows
    weights = torch.where(alive, alphas * before, 0.0)
    return weights, torch.where(alive, 1.0 - alphas, 1.0).prod(0)


def box_radii(
    means2d: Tensor, cov2d: Tensor, opacities: Tensor, camera: Camera, settings: RasterSettings
) -> Tensor:
    """(m,) int32: half the longer side of the box in which alpha >= alpha_min; 0 where it misses the image."""
    reach = 2.0 * torch.log(opacities / settings.alpha_min)
    half = (reach[:, None] * torch.diagonal(cov2d, dim1=1, dim2=2)).sqrt()  # (m, 2)
    size = torch.tensor([camera.width, camera.height], dtype=means2d.dtype, device=means2d.device)
    inside = ((means2d + half > 0.0) & (means2d - half < size)).all(1)
    radius = half.amax(1).ceil().clamp(1.0, 2.0**30).to(torch.int32)
    return torch.where(inside, radius, 0)
