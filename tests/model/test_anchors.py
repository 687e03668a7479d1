"""The model against its equations: identity at the start, sums before activations, cost in N and not in N x K."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from adcgs.errors import BitstreamError
from adcgs.features import Features
from adcgs.model import AnchorModel, ModelConfig, network_shapes, quaternion
from adcgs.model.position_code import position_code
from adcgs.model.time_table import interpolate
from torch.utils.flop_counter import FlopCounterMode

SMALL = ModelConfig(
    primitives=4,
    reference_dim=8,
    residual_dim=6,
    prediction_width=16,
    deformation_width=16,
    time_dim=12,
    knots=5,
)


def make_features(n: int, config: ModelConfig, seed: int = 0) -> Features:
    g = torch.Generator().manual_seed(seed)
    return Features(
        torch.randn(n, config.reference_dim, generator=g),
        torch.randn(n, config.primitives, config.residual_dim, generator=g),
        torch.randn(n, 6, generator=g) * 0.3 - 3,
        torch.randn(n, 3, generator=g),
    )


def make_model(n: int = 7, config: ModelConfig = SMALL, trained: bool = True) -> AnchorModel:
    torch.manual_seed(1)
    model = AnchorModel(config, torch.rand(n, 3), make_features(n, config))
    if trained:
        for net in (model.coarse_net, model.fine_net):
            torch.nn.init.normal_(net.last.weight, std=0.2)
            torch.nn.init.normal_(net.last.bias, std=0.2)
    return model


@pytest.mark.parametrize("time", [0.0, 0.31, 1.0])
def test_deformation_is_exactly_the_identity_at_initialisation(time: float) -> None:
    model = make_model(trained=False)
    still = AnchorModel(dataclasses.replace(SMALL, coarse=False, fine=False), model.positions.data, model.features)
    still.predict_net.load_state_dict(model.predict_net.state_dict())
    moved, rest = model.gaussians_at(time), still.gaussians_at(0.0)
    for field in ("means", "scales", "opacities", "colors"):
        assert torch.equal(getattr(moved, field), getattr(rest, field)), field
    assert torch.allclose(moved.quaternions, rest.quaternions, atol=1e-7)


def test_a_deformed_primitive_is_the_sum_of_the_equations() -> None:
    """Eq. 1 to 5 written out for one primitive in numpy."""
    model, time, anchor, k = make_model(), 0.37, 3, 2
    f = {name: p.detach().numpy().astype(np.float64) for name, p in model.named_parameters()}
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    first = relu(
        f["predict_net.shared.weight"] @ f["f_v"][anchor] + f["predict_net.shared.bias"]
        + f["predict_net.slots"][k] + f["predict_net.own.weight"] @ f["f_g"][anchor, k]
    )  # fmt: skip
    second = first + relu(f["predict_net.hidden.weight"] @ first + f["predict_net.hidden.bias"])
    heads = {
        h: f[f"predict_net.{h}.weight"] @ second + f[f"predict_net.{h}.bias"]
        for h in ("position", "covariance", "color", "opacity")
    }
    knot = time * (SMALL.knots - 1)
    f_t = f["z"][int(knot)] * (1 - knot % 1) + f["z"][int(knot) + 1] * (knot % 1)

    def timed(net: str, x: np.ndarray) -> np.ndarray:
        a = relu(f[f"{net}.first.weight"] @ x + f[f"{net}.time_weight"] @ f_t + f[f"{net}.first.bias"])
        b = relu(f[f"{net}.second.weight"] @ a + f[f"{net}.second.bias"])
        return f[f"{net}.last.weight"] @ b + f[f"{net}.last.bias"]

    coarse = timed("coarse_net", f["f_v"][anchor])
    deformed = f["positions"][anchor] + coarse[:3]
    code = position_code(torch.from_numpy(deformed)[None], SMALL.position_frequencies)[0].numpy()
    fine = timed("fine_net", code).reshape(SMALL.primitives, 4)[k]
    turn = coarse[6:10] + np.array([1.0, 0.0, 0.0, 0.0])
    turn /= np.linalg.norm(turn)
    rotation = quaternion.to_matrix(torch.from_numpy(turn)).numpy()
    mean = deformed + rotation @ (heads["position"] * np.exp(f["sigma"][anchor, :3]))
    scale = np.exp(f["sigma"][anchor, 3:] + heads["covariance"][:3] + coarse[3:6])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    got = model.gaussians_at(time)
    row = anchor * SMALL.primitives + k
    assert np.allclose(got.means[row].detach(), mean, atol=1e-5)
    assert np.allclose(got.scales[row].detach(), scale, rtol=1e-4)
    assert np.allclose(got.opacities[row].detach(), sigmoid(heads["opacity"][0] + coarse[13] + fine[0]), atol=1e-5)
    assert np.allclose(
        got.colors[row].detach(),
        sigmoid(f["color"][anchor] + heads["color"] + coarse[10:13] + fine[1:]),
        atol=1e-5,
    )


def deformation_flops(anchors: int, primitives: int) -> int:
    config = dataclasses.replace(SMALL, primitives=primitives, fine=False)
    model = AnchorModel(config, torch.rand(anchors, 3), make_features(anchors, config))
    with FlopCounterMode(display=False) as counter:
        model.coarse_net(model.f_v, 0.5, model.z)
    return int(counter.get_total_flops())


def test_deformation_cost_depends_on_anchors_and_not_on_primitives() -> None:
    assert deformation_flops(64, 4) == deformation_flops(64, 40)
    knots_once = deformation_flops(64, 4) - (deformation_flops(128, 4) - deformation_flops(64, 4))
    assert deformation_flops(128, 4) - knots_once == 2 * (deformation_flops(64, 4) - knots_once)


def test_whole_deformation_runs_its_networks_on_anchors_only() -> None:
    """The matrix products of ``deform`` see N rows: ten times the primitives leave hidden layers as they were."""
    rows: set[int] = set()
    model = make_model(n=11)
    for net in (model.coarse_net, model.fine_net):
        for layer in (net.second, net.last):
            layer.register_forward_hook(lambda _m, inputs, _o: rows.add(inputs[0].shape[0]))
    model.gaussians_at(0.5)
    assert rows == {11}


@pytest.mark.parametrize("time", [0.0, 0.1, 0.25, 0.999, 1.0])
def test_folded_decoder_model_says_the_same(time: float) -> None:
    model = make_model()
    folded = AnchorModel(SMALL, model.positions.data.clone(), model.features, folded=True)
    folded.load_network_arrays(model.network_arrays())
    a, b = model.gaussians_at(time), folded.gaussians_at(time)
    for field in ("means", "quaternions", "scales", "opacities", "colors"):
        assert torch.allclose(getattr(a, field), getattr(b, field), atol=1e-6), field


@pytest.mark.parametrize(("coarse", "fine"), list(itertools.product([True, False], repeat=2)))
def test_declared_shapes_are_the_stored_ones(coarse: bool, fine: bool) -> None:
    config = dataclasses.replace(SMALL, coarse=coarse, fine=fine)
    model = AnchorModel(config, torch.rand(3, 3), make_features(3, config))
    assert {name: tuple(a.shape) for name, a in model.network_arrays().items()} == network_shapes(config)


def test_time_is_linear_between_knots_and_exact_on_them() -> None:
    table = torch.tensor([[0.0], [1.0], [5.0]])
    assert [interpolate(table, t).item() for t in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0, 3.0, 5.0]
    assert interpolate(torch.tensor([[7.0]]), 0.6).item() == 7.0


def test_rotations_compose_as_quaternions_do() -> None:
    g = torch.Generator().manual_seed(3)
    a, b = (
        torch.nn.functional.normalize(torch.randn(5, 4, generator=g, dtype=torch.float64), dim=-1) for _ in range(2)
    )
    product = quaternion.to_matrix(quaternion.multiply(a, b))
    assert torch.allclose(product, quaternion.to_matrix(a) @ quaternion.to_matrix(b))


def test_every_parameter_learns() -> None:
    model = make_model()
    out = model.gaussians_at(0.4)
    (
        out.means.square().sum()
        + out.scales.sum()
        + out.quaternions.sum()
        + out.opacities.sum()
        + out.colors.square().sum()
    ).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert still == []


@pytest.mark.parametrize(
    ("key", "value"), [("primitives", 0), ("knots", True), ("coarse", 1), ("time_dim", 10**9), ("fine", None)]
)
def test_a_strangers_configuration_is_checked(key: str, value: object) -> None:
    with pytest.raises(BitstreamError) as error:
        ModelConfig.from_dict({**SMALL.to_dict(), key: value})
    assert error.value.code == "bad-header"
    assert key in str(error.value)


def test_configuration_round_trip() -> None:
    assert ModelConfig.from_dict(SMALL.to_dict()) == SMALL
