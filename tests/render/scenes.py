"""Random scenes for the rasterizers' tests, with everything in them that can go wrong."""

from __future__ import annotations

import math

import numpy as np
import torch
from adcgs import Camera
from adcgs.gaussians import Gaussians
from adcgs.render import RasterSettings, Render, render
from adcgs.render import reference as twin
from torch import Tensor

NAMES = ("means", "quaternions", "scales", "opacities", "colors")
SETTINGS = RasterSettings()


def rotation(rng: np.random.Generator) -> np.ndarray:
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


def random_camera(rng: np.random.Generator, width: int, height: int) -> Camera:
    """Anywhere, with non-square pixels and a principal point off the centre."""
    focal = rng.uniform(0.6, 1.5) * width
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation(rng), rng.normal(size=3)
    center = rng.uniform(0.3, 0.7, 2) * (width, height)
    return Camera(width, height, focal, focal * rng.uniform(0.8, 1.25), center[0], center[1], pose)


def random_scene(seed: int, count: int, channels: int = 3, odd: float = 0.4) -> tuple[dict[str, Tensor], Camera]:
    """``count`` primitives in front of a camera, a fraction ``odd`` of them troublesome in some way."""
    rng = np.random.default_rng(seed)
    camera = random_camera(rng, int(rng.integers(20, 75)), int(rng.integers(20, 75)))
    # Depths differ by more than rounding, so that both sides sort alike.
    depth = rng.permutation(np.linspace(1.0, 5.0, count)) if count else np.zeros(0)
    pixel = rng.uniform(-0.1, 1.1, (count, 2)) * (camera.width, camera.height)
    scale = np.exp(rng.normal(-2.5, 0.7, (count, 1)) + rng.normal(0, 0.5, (count, 3)))
    opacity = rng.uniform(0.02, 1.0, count)
    quaternion = rng.normal(size=(count, 4)) * np.exp(rng.normal(size=(count, 1)))
    kinds = np.where(rng.random(count) < odd, rng.integers(1, 11, count), 0)
    depth = np.where(kinds == 1, -depth, depth)  # behind
    depth = np.where(kinds == 2, 0.02 * depth, depth)  # very near, in front of the near plane or not
    pixel[kinds == 3] = rng.uniform(-3.0, 4.0, ((kinds == 3).sum(), 2)) * (camera.width, camera.height)  # off screen
    scale[kinds == 3] *= 3.0
    scale[kinds == 4] = rng.uniform(1.0, 5.0, ((kinds == 4).sum(), 3))  # huge
    scale[kinds == 5] = 1e-6  # tiny
    opacity[kinds == 6] = rng.uniform(0.0, 0.0045, (kinds == 6).sum())  # transparent
    opacity[kinds == 7] = 1.0  # opaque
    scale[kinds == 8] = (1.0, 0.005, 0.005)  # a needle
    scale[kinds == 9, 1:] = 0.0  # a line
    quaternion[kinds == 10] = 0.0
    local = np.stack(
        [
            (pixel[:, 0] - camera.cx) / camera.fx * depth,
            (pixel[:, 1] - camera.cy) / camera.fy * depth,
            depth,
        ],
        1,
    )
    world = camera.world_to_camera
    values = (
        (local - world[:3, 3]) @ world[:3, :3],
        quaternion,
        scale,
        opacity,
        rng.uniform(0, 1, (count, channels)),
    )
    return {name: torch.from_numpy(value).float() for name, value in zip(NAMES, values, strict=True)}, camera


def decided_pixels(values: dict[str, Tensor], camera: Camera, settings: RasterSettings = SETTINGS) -> Tensor:
    """(H, W) bool: pixels at which no splat is so close to a threshold that rounding decides."""
    exact = {name: value.double() for name, value in values.items()}
    matrix = torch.as_tensor(camera.world_to_camera)
    local = exact["means"] @ matrix[:3, :3].T + matrix[:3, 3]
    kept = ((local[:, 2] >= settings.near) & (exact["opacities"] >= settings.alpha_min)).nonzero()[:, 0]
    kept = kept[torch.sort(local[kept, 2], stable=True).indices]
    covariance = matrix[:3, :3] @ twin.world_covariance(exact["quaternions"][kept], exact["scales"][kept])
    means2d, cov2d = twin.project(local[kept], covariance @ matrix[:3, :3].T, camera, settings.blur)
    free = RasterSettings(blur=settings.blur, alpha_max=1e9, alpha_min=0.0)
    raw = twin.splat_alphas(means2d, cov2d, exact["opacities"][kept], camera, free)
    close = ((raw / settings.alpha_min).log().abs() < 1e-3) | ((raw / settings.alpha_max).log().abs() < 1e-4)
    alphas = raw.clamp(max=settings.alpha_max)
    after = torch.cumprod(1.0 - torch.where(alphas >= settings.alpha_min, alphas, 0.0), 0)
    close |= (after / settings.stop).log().abs() < 1e-3
    return ~close.any(0)


def draw(
    values: dict[str, Tensor], camera: Camera, backend: str, dtype: torch.dtype, upstream: tuple[Tensor, Tensor]
) -> tuple[Render, dict[str, Tensor]]:
    """One render and the gradients of <upstream, (image, alpha)>, means2d included."""
    leaves = {name: value.detach().to(dtype).clone().requires_grad_() for name, value in values.items()}
    channels = values["colors"].shape[1]
    background = torch.linspace(0.2, 0.9, channels, dtype=dtype)
    drawn = render(Gaussians(**leaves), camera, background, backend=backend)
    ((drawn.image * upstream[0].to(dtype)).sum() + (drawn.alpha * upstream[1].to(dtype)).sum()).backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    gradients["means2d"] = drawn.mean2d_grad()
    return drawn, gradients


def upstream_of(camera: Camera, channels: int, mask: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random gradients of image and alpha, zero where ``mask`` is false."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(camera.height, camera.width, channels, generator=generator)
    alpha = torch.randn(camera.height, camera.width, generator=generator)
    return image * mask[..., None], alpha * mask


def gradient_error(got: Tensor, expected: Tensor) -> float:
    """The largest difference of a primitive's gradient, relative to its own size plus a tenth of the largest."""
    if expected.numel() == 0:
        return 0.0
    got, expected = (value.reshape(len(value), -1).double() for value in (got, expected))
    size = expected.norm(dim=1)
    error = (got - expected).norm(dim=1) / (size + 0.1 * size.max() + 1e-12)
    return math.inf if torch.isnan(error).any() else float(error.max())
