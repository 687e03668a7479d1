"""gsplat against the plain twin, where there is a CUDA device; and what it is not asked for anywhere."""

from __future__ import annotations

import pytest
import torch
from adcgs.errors import OptionError
from adcgs.gaussians import Gaussians
from adcgs.render import RasterSettings, render
from adcgs.render.cuda import check_settings

from .scenes import decided_pixels, draw, gradient_error, random_scene, upstream_of

needs_device = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("name", ["stop", "alpha_min", "alpha_max"])
def test_what_gsplat_cannot_follow_is_refused(name: str) -> None:
    check_settings(RasterSettings())
    check_settings(RasterSettings(alpha_max=0.999, blur=0.1, near=0.5))
    with pytest.raises(OptionError, match=name) as refusal:
        check_settings(RasterSettings(**{name: 0.5}))
    assert refusal.value.code == "fixed-setting"


@pytest.mark.gpu
@needs_device
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


@pytest.mark.gpu
@needs_device
def test_nothing_to_draw() -> None:
    values, camera = random_scene(0, 0)
    gaussians = Gaussians(**{name: value.cuda() for name, value in values.items()})
    drawn = render(gaussians, camera, torch.ones(3), RasterSettings())
    assert drawn.image.is_cuda
    assert (drawn.image == 1).all()
    assert drawn.weights.shape == (0,)
