"""The compiled rasterizer against the plain twin in float64, and what it promises beyond that."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from adcgs import Camera
from adcgs.gaussians import Gaussians
from adcgs.render import RasterSettings, render
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .scenes import NAMES, decided_pixels, draw, gradient_error, random_scene, upstream_of

IMAGE_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3


def compare(values: dict[str, torch.Tensor], camera: Camera) -> None:
    """Holds the CPU path to the twin, image and gradients."""
    mask = decided_pixels(values, camera)
    upstream = upstream_of(camera, values["colors"].shape[1], mask)
    drawn, gradients = draw(values, camera, "cpu", torch.float32, upstream)
    expected, expected_gradients = draw(values, camera, "reference", torch.float64, upstream)
    assert (drawn.image - expected.image)[mask].abs().max() < IMAGE_TOLERANCE
    assert (drawn.alpha - expected.alpha)[mask].abs().max() < IMAGE_TOLERANCE
    for name, gradient in expected_gradients.items():
        assert gradient_error(gradients[name], gradient) < GRADIENT_TOLERANCE, name
    difference = (drawn.weights - expected.weights).abs()
    assert (difference <= 1e-4 * expected.weights + 0.01 * (~mask).sum() + 1e-5).all()
    seen = expected.radii > 0
    assert ((drawn.radii - expected.radii).abs()[seen] <= 1 + expected.radii[seen] // 1000).all()
    torch.testing.assert_close(drawn.means2d[seen].double(), expected.means2d[seen], rtol=1e-4, atol=1e-3)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 60))
def test_random_scenes(seed: int, count: int) -> None:
    compare(*random_scene(seed, count))


@pytest.mark.parametrize("channels", range(1, 9))
def test_any_number_of_channels_up_to_eight(channels: int) -> None:
    compare(*random_scene(100 + channels, 40, channels))


@pytest.mark.parametrize("kind", ["behind", "off screen", "huge", "tiny", "transparent", "flat", "unturned", "far"])
def test_scenes_of_one_trouble_only(kind: str) -> None:
    values, camera = random_scene(5, 24, odd=0.0)
    if kind == "behind":
        values["means"] = values["means"] - torch.from_numpy(10.0 * camera.world_to_camera[2, :3]).float()
    elif kind == "off screen":
        values["means"] = values["means"] + torch.from_numpy(40.0 * camera.world_to_camera[0, :3]).float()
    elif kind == "huge":
        values["scales"] *= 30.0
    elif kind == "tiny":
        values["scales"] *= 1e-6
    elif kind == "transparent":
        values["opacities"] *= 0.003
    elif kind == "flat":
        values["scales"][:, 1] = 0.0
    elif kind == "unturned":
        values["quaternions"] *= 0.0
    elif kind == "far":
        values["means"] = values["means"] + torch.from_numpy(300.0 * camera.world_to_camera[2, :3]).float()
    compare(values, camera)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 65, 600])
def test_counts_around_the_vector_width_and_the_pieces(count: int) -> None:
    values, camera = random_scene(count, count)
    compare(values, replace(camera, width=33, height=31))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (8, 32), (31, 33), (64, 96), (97, 70)])
def test_sizes_around_the_tile(size: tuple[int, int]) -> None:
    values, camera = random_scene(11, 40)
    compare(values, camera.resized(*size))


def test_deep_stacks_are_finished_early_and_rightly() -> None:
    values, camera = random_scene(21, 500, odd=0.0)
    values["scales"] *= 4.0
    values["opacities"] = 0.5 + 0.5 * values["opacities"]
    compare(values, camera)


def test_equal_depths_keep_the_order_of_the_primitives() -> None:
    values, camera = random_scene(31, 20, odd=0.0)
    twice = {name: torch.cat([value, value]) for name, value in values.items()}
    twice["colors"][20:] = 1.0 - twice["colors"][20:]
    compare(twice, camera)


def test_settings_are_followed() -> None:
    values, camera = random_scene(41, 40, odd=0.0)
    for choice in (
        RasterSettings(blur=0.0),
        RasterSettings(blur=2.0),
        RasterSettings(alpha_max=0.6),
        RasterSettings(alpha_min=0.05),
        RasterSettings(stop=0.2),
        RasterSettings(near=2.5),
    ):
        exact = Gaussians(**{name: value.double() for name, value in values.items()})
        expected = render(exact, camera, torch.zeros(3).double(), choice, "reference")
        drawn = render(Gaussians(**values), camera, torch.zeros(3), choice, "cpu")
        mask = decided_pixels(values, camera, choice)
        assert mask.float().mean() > 0.7
        assert (drawn.image - expected.image)[mask].abs().max() < IMAGE_TOLERANCE, choice


def test_what_is_not_finite_is_not_drawn_and_gets_no_gradient() -> None:
    values, camera = random_scene(51, 30, odd=0.0)
    clean = {name: value[5:] for name, value in values.items()}
    values["means"][0] = torch.nan
    values["means"][1, 0] = torch.inf
    values["scales"][2] = torch.nan
    values["scales"][3] = torch.inf
    values["quaternions"][4] = torch.nan
    upstream = upstream_of(camera, 3, torch.ones(camera.height, camera.width, dtype=torch.bool))
    drawn, gradients = draw(values, camera, "cpu", torch.float32, upstream)
    expected, expected_gradients = draw(clean, camera, "cpu", torch.float32, upstream)
    assert torch.equal(drawn.image, expected.image)
    assert not drawn.visible[:5].any()
    for name, gradient in gradients.items():
        assert (gradient[:5] == 0).all()
        assert torch.equal(gradient[5:], expected_gradients[name])


def test_the_same_bits_on_any_number_of_threads() -> None:
    values, camera = random_scene(61, 700)
    camera = camera.resized(150, 130)
    upstream = upstream_of(camera, 3, torch.ones(130, 150, dtype=torch.bool))
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(draw(values, camera, "cpu", torch.float32, upstream))
    finally:
        torch.set_num_threads(before)
    for drawn, gradients in results[1:]:
        assert torch.equal(drawn.image, results[0][0].image)
        assert torch.equal(drawn.alpha, results[0][0].alpha)
        assert torch.equal(drawn.weights, results[0][0].weights)
        for name, gradient in gradients.items():
            assert torch.equal(gradient, results[0][1][name]), name


def test_two_python_threads_may_render_at_once() -> None:
    values, camera = random_scene(71, 300)
    expected = render(Gaussians(**values), camera, torch.zeros(3)).image
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            if not torch.equal(render(Gaussians(**values), camera, torch.zeros(3)).image, expected):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_without_gradients_the_image_is_the_same() -> None:
    values, camera = random_scene(81, 200)
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    trained = render(Gaussians(**leaves), camera, torch.ones(3))
    with torch.no_grad():
        drawn = render(Gaussians(**leaves), camera, torch.ones(3))
    assert not drawn.image.requires_grad
    assert torch.equal(drawn.image, trained.image.detach())
    assert torch.equal(drawn.alpha, trained.alpha.detach())
    assert torch.equal(drawn.weights, trained.weights)
    assert torch.equal(drawn.radii, trained.radii)


def test_weights_are_the_gradient_of_a_constant_feature() -> None:
    values, camera = random_scene(91, 80)
    values["colors"] = torch.ones(80, 1).requires_grad_()
    drawn = render(Gaussians(**values), camera, torch.zeros(1))
    drawn.image.sum().backward()
    torch.testing.assert_close(drawn.weights, values["colors"].grad[:, 0], rtol=1e-4, atol=1e-5)


def test_only_some_attributes_may_want_gradients() -> None:
    values, camera = random_scene(101, 30)
    colors = values["colors"].clone().requires_grad_()
    render(Gaussians(**{**values, "colors": colors}), camera, torch.zeros(3)).image.sum().backward()
    assert colors.grad is not None
    assert colors.grad.abs().sum() > 0


def test_views_of_larger_tensors_are_read_rightly() -> None:
    values, camera = random_scene(111, 40)
    strided = {name: torch.stack([value, value + 1.0], -1)[..., 0] for name, value in values.items()}
    assert not strided["means"].is_contiguous()
    expected = render(Gaussians(**values), camera, torch.zeros(3)).image
    assert torch.equal(render(Gaussians(**strided), camera, torch.zeros(3)).image, expected)


def test_gradients_of_two_renders_add_up() -> None:
    values, camera = random_scene(121, 40)
    other = replace(camera, cx=camera.cx + 3.0)
    everywhere = torch.ones(camera.height, camera.width, dtype=torch.bool)
    singles = [
        draw(values, view, "cpu", torch.float32, upstream_of(view, 3, everywhere))[1] for view in (camera, other)
    ]
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    background = torch.linspace(0.2, 0.9, 3)
    total = torch.zeros(())
    for view in (camera, other):
        drawn = render(Gaussians(**leaves), view, background)
        image, alpha = upstream_of(view, 3, everywhere)
        total = total + (drawn.image * image).sum() + (drawn.alpha * alpha).sum()
    total.backward()
    for name in NAMES:
        torch.testing.assert_close(leaves[name].grad, singles[0][name] + singles[1][name])


def test_changing_the_image_before_backward_is_noticed() -> None:
    values, camera = random_scene(131, 10)
    values["colors"].requires_grad_()
    drawn = render(Gaussians(**values), camera, torch.zeros(3))
    drawn.image.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        drawn.image.sum().backward()


def test_a_gradient_that_is_asked_for_too_early_says_so() -> None:
    values, camera = random_scene(141, 10)
    values["colors"].requires_grad_()
    with pytest.raises(RuntimeError, match="backward pass"):
        render(Gaussians(**values), camera, torch.zeros(3)).mean2d_grad()


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_counting_and_filling_tiles_agree(spread: float) -> None:
    from adcgs.render.cpu import Frame

    values, camera = random_scene(161, 30_000, odd=0.2)
    values["scales"] *= spread
    frame = Frame(Gaussians(**values), camera.resized(410, 330), torch.zeros(3), RasterSettings())
    frame.project()
    frame.blend(for_training=True)
    assert (np.diff(frame.pair_bounds) >= 0).all()
    assert frame.pair_bounds[-1] == frame.tile_starts[-1] == frame.pairs
    assert np.array_equal(np.sort(frame.places), np.arange(frame.pairs))


def test_memory_is_linear_in_splats_and_pixels() -> None:
    from adcgs.render.cpu import Frame

    def bytes_of(count: int, width: int) -> int:
        values, camera = random_scene(151, count, odd=0.0)
        values["scales"] = torch.full((count, 3), 1e-3)
        frame = Frame(Gaussians(**values), camera.resized(width, width), torch.zeros(3), RasterSettings())
        frame.project()
        image, alpha, weights = frame.blend(for_training=True)
        arrays = [value for value in vars(frame).values() if isinstance(value, np.ndarray)]
        return sum(array.nbytes for array in (*arrays, weights)) + 4 * (image.numel() + alpha.numel())

    assert bytes_of(8000, 64) < 2.1 * bytes_of(4000, 64)
    assert bytes_of(10, 2048) < 16.5 * 2048 * 2048
