"""The compiled CPU path against its definition in torch: values, gradients, the same bits on any number of threads."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from adcgs.features import Features
from adcgs.gaussians import Gaussians
from adcgs.model import AnchorModel, ModelConfig, Primitives, fused, quaternion
from adcgs.vectors import vector_math
from torch import Tensor

SMALL = ModelConfig(
    primitives=4, reference_dim=9, residual_dim=6, prediction_width=17, deformation_width=21, time_dim=12, knots=5,
    position_frequencies=5,
)  # fmt: skip
SWITCHES = ("coarse", "fine", "rotate_offsets", "coarse_opacity")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_model(n: int, config: ModelConfig = SMALL, spread: float = 0.5, folded: bool = False) -> AnchorModel:
    """A model with random weights everywhere; ``spread`` is the deviation of log extents and log scales."""
    torch.manual_seed(n)
    features = Features(
        torch.randn(n, config.reference_dim),
        torch.randn(n, config.primitives, config.residual_dim),
        torch.randn(n, 6) * spread - 3,
        torch.randn(n, 3),
    )
    model = AnchorModel(config, torch.randn(n, 3), features, folded=folded)
    for net in (getattr(model, "coarse_net", None), getattr(model, "fine_net", None)):
        if net is not None:
            torch.nn.init.normal_(net.last.weight, std=0.2)
            torch.nn.init.normal_(net.last.bias, std=0.2)
    return model


def evaluate(model: AnchorModel, time: float, plain: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Everything that comes out of a model, and the gradient of a random weighting of it."""
    model.zero_grad()
    primitives = (model.predict_plain if plain else model.predict)(model.features)
    gaussians = (model.deform_plain if plain else model.deform)(model.features, primitives, time)
    outputs = vars(gaussians)
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(value.shape, generator=generator) for value in outputs.values()]
    torch.autograd.backward(list(outputs.values()), weights)
    values = {f"primitives.{name}": value for name, value in vars(primitives).items()} | outputs
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in values.items()}, {n: g.clone() for n, g in gradients.items()}


def assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    """Relative to each tensor's largest value."""
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name].shape == value.shape, name
        if value.numel():
            error = float(((got[name] - value).abs().max() / value.abs().max().clamp_min(1e-6)).detach())
            assert error <= tolerance, f"{name}: {error:.1e}"


def assert_agrees(model: AnchorModel, time: float = 0.37) -> None:
    values, gradients = evaluate(model, time, plain=False)
    wanted_values, wanted_gradients = evaluate(model, time, plain=True)
    assert_close(values, wanted_values, 1e-5)
    assert_close(gradients, wanted_gradients, 1e-4)


@pytest.mark.parametrize("off", [(), *((name,) for name in SWITCHES), ("coarse", "fine"), SWITCHES])
@pytest.mark.parametrize("n", [0, 1, 37, 300])
def test_agrees_whatever_is_switched_off(n: int, off: tuple[str, ...]) -> None:
    assert_agrees(make_model(n, dataclasses.replace(SMALL, **dict.fromkeys(off, False))))


@pytest.mark.parametrize("k", range(1, 13))
def test_agrees_for_any_number_of_primitives(k: int) -> None:
    assert_agrees(make_model(37, dataclasses.replace(SMALL, primitives=k)))


@pytest.mark.parametrize("time", [0.0, 0.25, 1.0])
def test_agrees_with_the_sizes_of_the_paper_at_any_time(time: float) -> None:
    assert_agrees(make_model(150, ModelConfig()), time)


@pytest.mark.parametrize(("nv", "ng", "width"), [(1, 1, 4), (3, 5, 7), (33, 2, 40), (8, 16, 130)])
def test_agrees_for_odd_widths(nv: int, ng: int, width: int) -> None:
    config = dataclasses.replace(
        SMALL, reference_dim=nv, residual_dim=ng, prediction_width=width, deformation_width=width
    )
    assert_agrees(make_model(21, config))


def test_agrees_where_extents_and_scales_meet_their_bounds() -> None:
    model = make_model(200, spread=12.0)
    bounded = model.predict_plain(model.features)
    assert bool((model.sigma < -14).any())
    assert bool((model.sigma > 4).any())
    assert bool((bounded.log_scales > 4).any())
    assert_agrees(model)
    model.sigma.data[:100] = -14.0  # exactly on a bound the gradient still passes
    assert_agrees(model)


def test_agrees_for_a_decoders_model() -> None:
    trained = make_model(37)
    folded = make_model(37, folded=True)
    folded.load_network_arrays(trained.network_arrays())
    assert_agrees(folded)
    assert_close(vars(folded.gaussians_at(0.6)), vars(trained.gaussians_at(0.6)), 1e-5)


def test_agrees_where_a_rotation_has_no_length() -> None:
    model = make_model(20)
    with torch.no_grad():
        model.predict_net.covariance.weight[3:] = 0
        model.predict_net.covariance.bias[3:] = torch.tensor([-1.0, 0.0, 0.0, 0.0])
        model.coarse_net.last.weight[6:10] = 0
        model.coarse_net.last.bias[6:10] = torch.tensor([-1.0, 0.0, 0.0, 0.0])
    assert not evaluate(model, 0.5, plain=False)[0]["quaternions"].any()
    assert_agrees(model)


def test_agrees_on_views_of_other_tensors() -> None:
    model = make_model(37)
    f_v = model.f_v.detach().t().contiguous().t()
    f_g = model.f_g.detach().permute(1, 0, 2).contiguous().permute(1, 0, 2)
    features = Features(f_v, f_g, model.sigma.detach().repeat(1, 2)[:, :6], model.color.detach())
    assert not features.f_v.is_contiguous()
    assert not features.f_g.is_contiguous()
    found = model.deform(features, model.predict(features), 0.2)
    assert_close(vars(found), vars(model.gaussians_at(0.2)), 0.0)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    model = make_model(700)
    values, gradients = evaluate(model, 0.37, plain=False)
    for threads in (2, 5):
        torch.set_num_threads(threads)
        again = evaluate(model, 0.37, plain=False)
        assert_close(again[0], values, 0.0)
        assert_close(again[1], gradients, 0.0)


def test_playback_keeps_nothing_and_says_the_same() -> None:
    model = make_model(37)
    trained = model.gaussians_at(0.3)
    with torch.inference_mode():
        primitives = model.predict(model.features)
        played = [model.deform(model.features, primitives, time) for time in (0.9, 0.3)][1]
    assert not played.means.requires_grad
    assert_close(vars(played), vars(trained), 0.0)


def test_gradients_of_some_outputs_only() -> None:
    model = make_model(37)

    def gradients(gaussians: Gaussians) -> dict[str, Tensor]:
        model.zero_grad()
        gaussians.means.square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    found = gradients(model.gaussians_at(0.3))
    plain = model.deform_plain(model.features, model.predict_plain(model.features), 0.3)
    assert_close(found, gradients(plain), 1e-4)


def test_a_kept_graph_can_be_used_twice() -> None:
    model = make_model(37)
    loss = model.gaussians_at(0.3).means.square().sum()
    loss.backward(retain_graph=True)
    once = model.f_g.grad.clone()
    loss.backward()
    assert torch.equal(model.f_g.grad, 2 * once)


def test_no_gradient_reaches_positions_through_their_code() -> None:
    """f_p is made of fast sinusoids: colours and opacities must not pull on positions."""
    model = make_model(37)
    gaussians = model.gaussians_at(0.3)
    (gaussians.colors.sum() + gaussians.opacities.sum()).backward()
    assert not model.positions.grad.any()


@pytest.mark.parametrize("name", ["f_v", "f_g", "sigma", "color", "positions"])
def test_what_is_not_a_number_stays_so(name: str) -> None:
    model = make_model(37)
    getattr(model, name).data[5] = float("nan")
    gaussians = model.gaussians_at(0.3)
    assert any(bool(value[5 * SMALL.primitives].isnan().any()) for value in vars(gaussians).values())
    assert not any(bool(value[6 * SMALL.primitives :].isnan().any()) for value in vars(gaussians).values())


def test_other_types_and_watched_networks_take_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the compiled path was taken")

    model = make_model(5)
    calls: list[object] = []
    for net in (model.predict_net, model.coarse_net.second):
        net.register_forward_hook(lambda module, *_: calls.append(module))
    monkeypatch.setattr(fused, "predict", refuse)
    monkeypatch.setattr(fused, "deform", refuse)
    model.gaussians_at(0.3)
    assert calls == [model.predict_net, model.coarse_net.second]
    assert make_model(5).double().gaussians_at(0.3).means.dtype == torch.float64


def test_sines_and_exponentials_are_accurate_far_out() -> None:
    """Through the model's own outputs: positions far outside the box, log scales over their whole range."""
    config = dataclasses.replace(SMALL, primitives=1, coarse=False, position_frequencies=12)
    model = make_model(400, config)
    model.positions.data.uniform_(-20, 20)
    model.sigma.data[:, 3:].uniform_(-16, 6)
    values, _ = evaluate(model, 0.5, plain=False)
    wanted, _ = evaluate(model, 0.5, plain=True)
    assert torch.allclose(values["scales"], wanted["scales"], rtol=3e-6, atol=0)
    assert torch.allclose(values["colors"], wanted["colors"], atol=1e-5)


def test_quaternion_algebra_is_that_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (
        torch.nn.functional.normalize(torch.randn(7, 4, generator=generator, dtype=torch.float64), dim=1)
        for _ in range(2)
    )
    rows_a, rows_b = list(a.unbind(1)), list(b.unbind(1))
    assert torch.allclose(torch.stack(vector_math.hamilton(rows_a, rows_b), 1), quaternion.multiply(a, b))
    matrix = torch.stack([torch.stack(row, 1) for row in vector_math.rotation_matrix(rows_a)], 1)
    assert torch.allclose(matrix, quaternion.to_matrix(a))
    g = torch.randn(7, 3, 3, generator=generator, dtype=torch.float64)
    leaf = a.clone().requires_grad_()
    quaternion.to_matrix(leaf).backward(g)
    found = vector_math.rotation_gradient(rows_a, [list(row.unbind(1)) for row in g.unbind(1)])
    assert torch.allclose(torch.stack(found, 1), leaf.grad)


def test_numba_is_imported_when_a_model_is_evaluated_and_not_before() -> None:
    script = "import sys, adcgs.model; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_primitives_are_the_ones_that_refinement_reads() -> None:
    model = make_model(37)
    found = model.predict(model.features)
    assert isinstance(found, Primitives)
    assert torch.allclose(found.quaternions.norm(dim=-1), torch.ones(37, SMALL.primitives), atol=1e-6)
