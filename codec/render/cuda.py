"""Rendering on a CUDA device: gsplat's rasterizer, brought to our interface.

gsplat shares our semantics (the reference was written after it), with three constants compiled in: alpha is
clamped at 0.999 (1.5.3; 0.99 in newer versions) and zero under 1/255, and the transmittance stop is 1e-4. Between
these two clamps an image differs by at most 0.009, where an opaque splat's very centre is seen; so either is
accepted, and other settings are refused.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from ..constants import constant
from ..errors import OptionError
from ..gaussians import Gaussians
from .types import RasterSettings, Render


def render_cuda(gaussians: Gaussians, camera: Camera, background: Tensor, settings: RasterSettings) -> Render:
    """Draw on the device that holds ``gaussians``. See :func:`adcgs.render.render`."""
    import gsplat

    device = gaussians.means.device
    if device.type != "cuda":
        raise OptionError("no-cuda", f"backend 'cuda' needs tensors on a CUDA device, not on {device}: use 'cpu'")
    check_settings(settings)
    if len(gaussians) == 0:
        return _empty(gaussians, camera, background)

    is_zero = (gaussians.quaternions * gaussians.quaternions).sum(1, keepdim=True) < 1e-24
    identity = constant((1.0, 0.0, 0.0, 0.0), gaussians.quaternions)
    pose, intrinsics = _camera_tensors(camera, device)
    geometry = {
        "means": gaussians.means,
        "quats": torch.where(is_zero, identity, gaussians.quaternions),
        "scales": gaussians.scales,
        "opacities": gaussians.opacities,
        "viewmats": pose,
        "Ks": intrinsics,
        "width": camera.width,
        "height": camera.height,
        "near_plane": settings.near,
        "eps2d": settings.blur,
        "packed": False,
        "rasterize_mode": "classic",
    }
    background = background.to(device=device, dtype=torch.float32)
    image, alpha, info = gsplat.rasterization(colors=gaussians.colors, backgrounds=background[None], **geometry)
    means2d = info["means2d"]
    if means2d.requires_grad:
        means2d.retain_grad()

    def weights() -> Tensor:
        # Psi of Eq. 11: the gradient of a constant feature's summed image with respect to that feature.
        fixed = {name: value.detach() if isinstance(value, Tensor) else value for name, value in geometry.items()}
        feature = torch.ones(len(gaussians), 1, device=device, requires_grad=True)
        with torch.enable_grad():
            summed = gsplat.rasterization(colors=feature, **fixed)[0].sum()
        return torch.autograd.grad(summed, feature)[0][:, 0]

    radii = info["radii"][0].amax(-1).to(torch.int32)
    return _CudaRender(image[0], alpha[0, ..., 0], means2d, radii, weights)


def check_settings(settings: RasterSettings) -> None:
    """Raises OptionError ``fixed-setting`` for constants that gsplat cannot follow."""
    if settings.stop != 1e-4 or settings.alpha_min != 1.0 / 255.0 or settings.alpha_max not in (0.99, 0.999):
        fixed = "stop at 1e-4, alpha_min at 1/255 and alpha_max at 0.999 (0.99 in newer versions)"
        raise OptionError("fixed-setting", f"gsplat fixes {fixed}: leave them, or use 'cpu'")


class _CudaRender(Render):
    """gsplat's means2d carry a leading camera axis, and autograd only fills the tensor that gsplat used."""

    def mean2d_grad(self) -> Tensor:
        return super().mean2d_grad()[0]


def _camera_tensors(camera: Camera, device: torch.device) -> tuple[Tensor, Tensor]:
    """(1, 4, 4) and (1, 3, 3), by one copy: each would make the device wait."""
    numbers = np.concatenate([np.ravel(camera.world_to_camera), np.ravel(camera.intrinsics)]).astype(np.float32)
    packed = torch.from_numpy(numbers).to(device)
    return packed[:16].view(1, 4, 4), packed[16:].view(1, 3, 3)


def _empty(gaussians: Gaussians, camera: Camera, background: Tensor) -> Render:
    device = gaussians.means.device
    image = background.to(device=device, dtype=torch.float32).expand(camera.height, camera.width, -1).clone()
    none = torch.zeros(0, dtype=torch.int32, device=device)
    alpha = torch.zeros(camera.height, camera.width, device=device)
    return Render(image, alpha, gaussians.means[:, :2], none, none.float())
