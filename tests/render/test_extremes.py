"""What is not finite is left out, by the twin as by the kernels; what is merely huge is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adcgs import Camera
from adcgs.gaussians import Gaussians
from adcgs.render import render
from adcgs.render.types import MAX_SCALE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from .scenes import NAMES, draw, random_scene, upstream_of
from .test_cpu import compare

BACKENDS = (("cpu", torch.float32), ("reference", torch.float64), ("reference", torch.float32))
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
LARGEST = float(torch.finfo(torch.float32).max)


def everywhere(camera: Camera, channels: int = 3) -> tuple[Tensor, Tensor]:
    return upstream_of(camera, channels, torch.ones(camera.height, camera.width, dtype=torch.bool))


def leave_out(values: dict[str, Tensor], camera: Camera, spoilt: Tensor, backend: str, dtype: torch.dtype) -> None:
    """Draws ``values`` and what of them is not ``spoilt`` (M,), and holds the two together."""
    upstream = everywhere(camera)
    drawn, gradients = draw(values, camera, backend, dtype, upstream)
    clean = {name: value[~spoilt] for name, value in values.items()}
    expected, expected_gradients = draw(clean, camera, backend, dtype, upstream)
    assert torch.equal(drawn.image, expected.image)
    assert torch.equal(drawn.alpha, expected.alpha)
    assert not drawn.visible[spoilt].any()
    assert (drawn.weights[spoilt] == 0).all()
    for name, gradient in gradients.items():
        assert (gradient[spoilt] == 0).all(), name
        torch.testing.assert_close(gradient[~spoilt], expected_gradients[name])


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("name", NAMES)
def test_a_primitive_with_one_value_that_is_not_finite_is_left_out(
    name: str, value: float, backend: str, dtype: torch.dtype
) -> None:
    values, camera = random_scene(52, 30, odd=0.0)
    rows = values[name].reshape(30, -1)
    for column in range(rows.shape[1]):
        rows[column, column] = value
    spoilt = torch.arange(30) < rows.shape[1]
    leave_out(values, camera, spoilt, backend, dtype)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    spots=st.lists(
        st.tuples(st.sampled_from(NAMES), st.integers(0, 39), st.integers(0, 3), st.sampled_from(NOT_FINITE)),
        max_size=12,
    ),
)
def test_any_values_that_are_not_finite(seed: int, spots: list[tuple[str, int, int, float]]) -> None:
    values, camera = random_scene(seed, 40)
    spoilt = torch.zeros(40, dtype=torch.bool)
    for name, row, column, value in spots:
        rows = values[name].reshape(40, -1)
        rows[row, column % rows.shape[1]] = value
        spoilt[row] = True
    for backend, dtype in BACKENDS[:2]:
        leave_out(values, camera, spoilt, backend, dtype)


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels_are_looked_at_too(channels: int) -> None:
    values, camera = random_scene(53, 20, channels, odd=0.0)
    values["colors"][3, channels - 1] = torch.inf
    drawn = render(Gaussians(**values), camera, torch.zeros(channels))
    assert torch.isfinite(drawn.image).all()
    assert drawn.visible.sum() == 19


@pytest.mark.parametrize("factor", [1e-9, 1e15, 1e25, 1e37])
def test_a_quaternions_length_has_no_influence(factor: float) -> None:
    values, camera = random_scene(54, 40, odd=0.0)
    values["quaternions"] = torch.nn.functional.normalize(values["quaternions"], dim=1)
    long = {**values, "quaternions": values["quaternions"] * factor}
    compare(long, camera)
    for backend, dtype in BACKENDS:
        image = render(gaussians(long, dtype), camera, torch.zeros(3, dtype=dtype), backend=backend).image
        unit = render(gaussians(values, dtype), camera, torch.zeros(3, dtype=dtype), backend=backend).image
        assert (image - unit).abs().max() < 1e-4


def gaussians(values: dict[str, Tensor], dtype: torch.dtype) -> Gaussians:
    return Gaussians(**{name: value.to(dtype) for name, value in values.items()})


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e8, 1e9, 1e12, 1e30])
@pytest.mark.parametrize("seed", [55, 56])
def test_huge_splats_are_drawn(factor: float, seed: int) -> None:
    values, camera = random_scene(seed, 12, odd=0.0)
    values["scales"] *= factor
    values["opacities"] *= 0.3
    compare(values, camera)
    drawn = render(Gaussians(**values), camera, torch.zeros(3))
    assert drawn.visible.all()


def test_the_largest_scale_is_drawn_and_gets_no_gradient() -> None:
    values, camera = random_scene(57, 8, odd=0.0)
    values["scales"][:4] = LARGEST
    values["scales"][4:] = MAX_SCALE
    compare(values, camera)
    for backend, dtype in BACKENDS[:2]:
        drawn, gradients = draw(values, camera, backend, dtype, everywhere(camera))
        assert drawn.visible.all()
        assert (gradients["scales"][:4] == 0).all()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), digits=st.floats(0, 30), spread=st.floats(0, 2))
def test_scenes_with_huge_splats_among_others(seed: int, digits: float, spread: float) -> None:
    values, camera = random_scene(seed, 30, odd=0.0)
    rng = np.random.default_rng(seed)
    stretch = 10.0 ** (digits + rng.uniform(-spread, spread, (30, 3)))
    stretch[rng.random(30) < 0.6] = 1.0
    values["scales"] = (values["scales"].double() * torch.from_numpy(stretch)).clamp(max=LARGEST).float()
    values["opacities"] *= 0.5
    compare(values, camera)
