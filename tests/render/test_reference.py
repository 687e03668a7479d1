"""The plain twin is the definition: checked by hand where that can be done, by finite differences elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from adcgs import Camera
from adcgs.errors import OptionError
from adcgs.gaussians import Gaussians
from adcgs.render import RasterSettings, Render, render
from torch import Tensor

from .scenes import NAMES, random_scene

BLACK = torch.zeros(3, dtype=torch.float64)


def balls(*centers_depths_opacities: tuple[float, float, float, float], sigma: float = 0.1) -> Gaussians:
    """Round primitives at (x, y, depth) with an opacity; the first is red, the second green, the third blue."""
    values = torch.tensor(centers_depths_opacities, dtype=torch.float64)
    count = len(values)
    return Gaussians(
        means=values[:, :3].clone(),
        quaternions=torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64).repeat(count, 1),
        scales=torch.full((count, 3), sigma, dtype=torch.float64),
        opacities=values[:, 3].clone(),
        colors=torch.eye(3, dtype=torch.float64)[:count],
    )


def front_camera(width: int = 21, height: int = 21, focal: float = 20.0) -> Camera:
    """At the origin, looking along z; its axis hits the centre of the middle pixel."""
    return Camera(width, height, focal, focal, width / 2, height / 2, np.eye(4))


def twin(gaussians: Gaussians, camera: Camera | None = None, background: Tensor = BLACK, **settings: Any) -> Render:
    return render(gaussians, camera or front_camera(), background, RasterSettings(**settings), backend="reference")


def test_one_ball_is_a_gaussian_of_the_projected_size() -> None:
    drawn = twin(balls((0, 0, 2.0, 0.5)))
    variance = (20.0 * 0.1 / 2.0) ** 2 + 0.3
    for offset in (0, 1, 2):
        expected = 0.5 * math.exp(-(offset**2) / (2 * variance))
        assert drawn.image[10, 10 + offset, 0].item() == pytest.approx(expected, rel=1e-9)
        assert drawn.alpha[10 - offset, 10].item() == pytest.approx(expected, rel=1e-9)
    assert drawn.image[..., 1:].abs().max() == 0
    torch.testing.assert_close(drawn.means2d.detach(), torch.tensor([[10.5, 10.5]], dtype=torch.float64))


def test_depth_decides_what_is_in_front_and_the_index_decides_ties() -> None:
    near_is_green = twin(balls((0, 0, 3.0, 0.9), (0, 0, 2.0, 0.9))).image[10, 10]
    assert near_is_green[1].item() == pytest.approx(0.9)
    assert near_is_green[0].item() == pytest.approx(0.1 * 0.9)
    tie = twin(balls((0, 0, 2.0, 0.9), (0, 0, 2.0, 0.9))).image[10, 10]
    assert tie[0].item() == pytest.approx(0.9)


def test_what_light_is_left_shows_the_background() -> None:
    background = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64)
    drawn = twin(balls((0, 0, 2.0, 0.5)), background=background)
    expected = torch.tensor([0.5, 0, 0], dtype=torch.float64) + 0.5 * background
    torch.testing.assert_close(drawn.image[10, 10], expected)


def test_alpha_is_clamped_above_and_cut_off_below() -> None:
    assert twin(balls((0, 0, 2.0, 1.0))).alpha[10, 10].item() == pytest.approx(0.99)
    assert twin(balls((0, 0, 2.0, 1.0)), alpha_max=0.9).alpha[10, 10].item() == pytest.approx(0.9)
    seen = twin(balls((0, 0, 2.0, 0.5))).alpha
    assert seen[seen > 0].min() >= 1 / 255
    assert (seen == 0).any()
    assert twin(balls((0, 0, 2.0, 1 / 256))).alpha.max() == 0


def test_a_pixel_is_finished_before_its_transmittance_gets_to_the_stop() -> None:
    # 0.1 * 0.1 = 0.01 is left after two; the third would bring 0.001.
    stack = balls((0, 0, 2.0, 0.9), (0, 0, 2.1, 0.9), (0, 0, 2.2, 0.9))
    assert twin(stack, stop=0.005).image[10, 10, 2] == 0
    assert twin(stack, stop=0.0005).image[10, 10, 2] > 0
    # Finished means finished: a fainter one behind does not get in although it alone would fit.
    stack = balls((0, 0, 2.0, 0.9), (0, 0, 2.1, 0.95), (0, 0, 2.2, 0.1))
    assert twin(stack, stop=0.01).image[10, 10, 2] == 0


def test_behind_and_nearer_than_near_is_not_drawn() -> None:
    assert twin(balls((0, 0, -2.0, 0.9))).alpha.max() == 0
    assert twin(balls((0, 0, 0.5, 0.9)), near=0.6).alpha.max() == 0
    assert twin(balls((0, 0, 0.5, 0.9)), near=0.4).alpha.max() > 0
    assert not twin(balls((0, 0, -2.0, 0.9))).visible.any()


def test_pixels_need_not_be_square_nor_centred() -> None:
    camera = Camera(30, 20, 40.0, 20.0, 7.5, 12.5, np.eye(4))
    alpha = twin(balls((0, 0, 2.0, 0.5), sigma=0.1), camera).alpha
    assert alpha[12, 7].item() == pytest.approx(0.5)
    assert alpha[12, 9].item() == pytest.approx(0.5 * math.exp(-2 / (2.0**2 + 0.3)))
    assert alpha[14, 7].item() == pytest.approx(0.5 * math.exp(-2 / (1.0**2 + 0.3)))


def test_the_pose_moves_world_into_camera() -> None:
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, -1], [0, 1, 0], [1, 0, 0]]  # looks along world x
    pose[:3, 3] = [0, 0, 1]
    camera = Camera(21, 21, 20.0, 20.0, 10.5, 10.5, pose)
    assert twin(balls((1.0, 0, 0, 0.5)), camera).alpha[10, 10].item() == pytest.approx(0.5)


def test_quaternions_are_wxyz_of_any_length_and_zero_is_the_identity() -> None:
    def alpha(quaternion: list[float]) -> Tensor:
        line = balls((0, 0, 2.0, 0.9))
        line.scales[:] = torch.tensor([0.3, 0.01, 0.01])
        line.quaternions[:] = torch.tensor(quaternion)
        return twin(line).alpha

    along_x = alpha([1, 0, 0, 0])
    assert along_x[10, 14] > along_x[14, 10]
    torch.testing.assert_close(alpha([0, 0, 0, 0]), along_x)
    torch.testing.assert_close(alpha([3, 0, 0, 3]), along_x.T)  # a quarter turn about z


def test_scales_of_zero_leave_a_dot_of_the_blur() -> None:
    dot = balls((0, 0, 2.0, 0.5), sigma=0.0)
    assert twin(dot).alpha[10, 11].item() == pytest.approx(0.5 * math.exp(-0.5 / 0.3))


def test_weights_are_the_gradient_of_a_constant_feature() -> None:
    values, camera = random_scene(3, 30)
    gaussians = Gaussians(**{name: value.double() for name, value in values.items()})
    gaussians.colors = torch.ones(30, 1, dtype=torch.float64, requires_grad=True)
    drawn = twin(gaussians, camera, torch.zeros(1, dtype=torch.float64))
    drawn.image.sum().backward()
    torch.testing.assert_close(drawn.weights, gaussians.colors.grad[:, 0])
    torch.testing.assert_close(drawn.weights.sum(), drawn.alpha.detach().sum())


def test_nothing_to_draw_leaves_the_background() -> None:
    values, camera = random_scene(0, 0)
    drawn = render(Gaussians(**values), camera, torch.tensor([0.1, 0.2, 0.3]), backend="reference")
    assert drawn.image.shape == (camera.height, camera.width, 3)
    torch.testing.assert_close(drawn.image[4, 5], torch.tensor([0.1, 0.2, 0.3]))
    assert drawn.weights.shape == (0,)


@pytest.mark.parametrize("seed", range(4))
def test_gradients_against_finite_differences(seed: int) -> None:
    values, _ = random_scene(seed, 6, odd=0.3)
    camera = Camera(7, 6, 8.0, 7.0, 3.2, 3.3, np.eye(4))
    generator = torch.Generator().manual_seed(seed)
    depth = torch.rand(6, generator=generator) + 1.5
    values["means"] = torch.stack([torch.randn(6, generator=generator) * 0.4, torch.zeros(6), depth], 1)
    values["opacities"].clamp_(0.1, 0.9)  # thresholds are steps: stay away from them
    leaves = [value.double().requires_grad_() for value in values.values()]
    background = torch.rand(3, dtype=torch.float64)

    def image_and_alpha(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        settings = RasterSettings(alpha_min=1e-12, stop=1e-12)
        drawn = render(Gaussians(**dict(zip(NAMES, tensors, strict=True))), camera, background, settings, "reference")
        return drawn.image, drawn.alpha

    assert torch.autograd.gradcheck(image_and_alpha, leaves, atol=1e-6)


def test_the_gradient_of_projected_centres_against_finite_differences() -> None:
    gaussians = balls((0.1, 0.05, 2.0, 0.6), (0.0, 0.1, 2.5, 0.7))
    gaussians.means.requires_grad_()
    upstream = torch.randn(21, 21, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = twin(gaussians)
    (drawn.image * upstream).sum().backward()
    # Parallel to the image a ball moves by focal / depth pixels per unit, and keeps its shape but for the slope.
    shape = gaussians.means.grad[:, :2] - drawn.mean2d_grad() * (20.0 / gaussians.means.detach()[:, 2:])
    assert shape.abs().max() < 0.2 * gaussians.means.grad[:, :2].abs().max()


def test_what_does_not_fit_is_refused() -> None:
    values, camera = random_scene(0, 4)
    background = torch.zeros(3)
    with pytest.raises(OptionError, match="backend 'gpu' is unknown"):
        render(Gaussians(**values), camera, background, backend="gpu")
    with pytest.raises(ValueError, match="background has shape"):
        render(Gaussians(**values), camera, torch.zeros(4))
    with pytest.raises(ValueError, match="scales has shape"):
        render(Gaussians(**{**values, "scales": torch.zeros(4, 2)}), camera, background)
    with pytest.raises(ValueError, match="9 channels"):
        render(Gaussians(**{**values, "colors": torch.zeros(4, 9)}), camera, torch.zeros(9))
    with pytest.raises(OptionError, match="CUDA"):
        render(Gaussians(**values), camera, background, backend="cuda")
    doubles = Gaussians(**{name: value.double() for name, value in values.items()})
    with pytest.raises(OptionError, match="float32"):
        render(doubles, camera, background.double(), backend="cpu")


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 10), (10, 0)])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_an_image_without_pixels_is_refused(width: int, height: int, backend: str) -> None:
    values, _ = random_scene(0, 4)
    with pytest.raises(ValueError, match=f"image is {width}x{height}"):
        render(
            Gaussians(**values), Camera(width, height, 10.0, 10.0, 5.0, 5.0, np.eye(4)), torch.zeros(3), backend=backend
        )
