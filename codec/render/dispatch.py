"""The one function of this room; it picks the backend and checks what it is given."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import Camera
from ..errors import OptionError
from ..gaussians import Gaussians
from .types import RasterSettings, Render

BACKENDS = ("auto", "cpu", "cuda", "reference")
MAX_CHANNELS = 8
DEFAULTS = RasterSettings()


def render(
    gaussians: Gaussians,
    camera: Camera,
    background: Tensor,
    settings: RasterSettings = DEFAULTS,
    backend: str = "auto",
) -> Render:
    """Draw primitives as a camera sees them.

    Differentiable in means, quaternions, scales, opacities and colours; the background is a constant. Where
    nothing requires a gradient (or under ``torch.no_grad``) a faster path is taken.

    Args:
        gaussians: M >= 0 primitives with 1 to 8 colour channels, float32 (the reference: any float type).
            On a CPU a primitive with any value that is not finite, a colour too, is left out: it is not drawn, and its
            gradients are zero. A quaternion may have any length, zero is the identity. Scales beyond
            ``types.MAX_SCALE`` count as that, without a gradient.
        camera: the view, in the same space as the means.
        background: (C,) colour behind everything.
        backend: ``"cpu"`` (numba), ``"cuda"`` (gsplat), ``"reference"`` (torch), or ``"auto"``: ``"cuda"`` for
            tensors on a CUDA device, else ``"cpu"``.

    Raises:
        OptionError: an unknown backend, or one that can't serve the tensors' device.
        ValueError: shapes or types that do not fit together.
    """
    if backend not in BACKENDS:
        raise OptionError("unknown-backend", f"backend {backend!r} is unknown: use one of {', '.join(BACKENDS)}")
    if camera.width < 1 or camera.height < 1:
        raise ValueError(f"the camera's image is {camera.width}x{camera.height}: it needs a pixel at least")
    _check(gaussians, background)
    if backend == "auto":
        backend = "cuda" if gaussians.means.is_cuda else "cpu"
    if backend == "cuda":
        from .cuda import render_cuda

        return render_cuda(gaussians, camera, background, settings)
    if backend == "cpu":
        from .cpu import render_cpu

        return render_cpu(gaussians, camera, background, settings)
    from .reference import render_reference

    return render_reference(gaussians, camera, background, settings)


def _check(gaussians: Gaussians, background: Tensor) -> None:
    count = len(gaussians)
    channels = gaussians.colors.shape[-1]
    expected = {"means": (count, 3), "quaternions": (count, 4), "scales": (count, 3), "opacities": (count,)}
    expected["colors"] = (count, channels)
    for name, shape in expected.items():
        tensor = getattr(gaussians, name)
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
        if tensor.device != gaussians.means.device or tensor.dtype != gaussians.means.dtype:
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, unlike means: use one type and device")
        if not torch.is_floating_point(tensor):
            raise ValueError(f"{name} is {tensor.dtype}: use floating point")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"colors has {channels} channels: use 1 to {MAX_CHANNELS}")
    if tuple(background.shape) != (channels,):
        raise ValueError(f"background has shape {tuple(background.shape)}, expected ({channels},)")
