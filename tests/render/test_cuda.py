"""gsplat against the plain twin, where there is a CUDA device."""

from __future__ import annotations

import pytest
import torch
from adcgs.gaussians import Gaussians
from adcgs.render import RasterSettings, render

from .scenes import decided_pixels, draw, gradient_error, random_scene, upstream_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("channels", [1, 3, 4, 8])
@pytest.mark.parametrize("seed", range(10))
def test_random_scenes(seed: int, channels: int) -> None:
    values, camera = random_scene(seed, 60, channels, odd=0.0)
    values["opacities"].clamp_(max=0.9)  # gsplat compiles its own alpha clamp in
    mask = decided_pixels(values, camera)
    upstream = upstream_of(camera, channels, mask)
    expected, expected_gradients = draw(values, camera, "reference", torch.float64, upstream)
    on_device = {name: value.cuda() for name, value in values.items()}
    drawn, gradients = draw(on_device, camera, "cuda", torch.float32, tuple(part.cuda() for part in upstream))
    assert (drawn.image.cpu() - expected.image)[mask].abs().max() < 1e-4
    assert (drawn.alpha.cpu() - expected.alpha)[mask].abs().max() < 1e-4
    for name, gradient in expected_gradients.items():
        assert gradient_error(gradients[name].cpu(), gradient) < 5e-3, name
    torch.testing.assert_close(drawn.weights.cpu().double(), expected.weights, rtol=1e-3, atol=0.01 + (~mask).sum())


def test_nothing_to_draw() -> None:
    values, camera = random_scene(0, 0)
    gaussians = Gaussians(**{name: value.cuda() for name, value in values.items()})
    drawn = render(gaussians, camera, torch.ones(3), RasterSettings())
    assert drawn.image.is_cuda
    assert (drawn.image == 1).all()
    assert drawn.weights.shape == (0,)
