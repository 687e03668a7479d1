"""Learning rates fall with the steps and at the end of a run; the coarse deformation's fall all along."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adcgs.entropy import EntropyConfig, MultiDimensionEntropyModel
from adcgs.features import Features
from adcgs.model import AnchorModel, ModelConfig
from adcgs.training import TrainingConfig
from adcgs.training.optimiser import ANCHOR_TENSORS, AnchorOptimiser

MODEL = ModelConfig(primitives=2, reference_dim=4, residual_dim=4, prediction_width=8, deformation_width=8, knots=4)
CONFIG = replace(
    TrainingConfig(iterations=100, minutes=None, model=MODEL), lr_hold=0.5, lr_final=0.01, coarse_decay=0.25
)


def optimiser(taught: bool = False) -> AnchorOptimiser:
    features = Features(torch.zeros(3, 4), torch.zeros(3, 2, 4), torch.zeros(3, 6), torch.zeros(3, 3))
    model = AnchorModel(MODEL, torch.zeros(3, 3), features)
    entropy = MultiDimensionEntropyModel(EntropyConfig(f_v=4, primitives=2, f_g=4))
    return AnchorOptimiser(model, entropy, CONFIG, taught=taught)


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 1.0), (0.5, 1.0), (0.75, 0.1), (1.0, 0.01)])
def test_rates_are_held_for_half_of_this_run_then_fall_to_a_hundredth(progress: float, factor: float) -> None:
    assert optimiser().factor("fine", progress, 0) == pytest.approx(factor)


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.01 * 0.25)])
def test_the_coarse_deformation_falls_to_a_quarter_as_well(progress: float, factor: float) -> None:
    assert optimiser().factor("coarse", progress, 0) == pytest.approx(factor)


@pytest.mark.parametrize(("iteration", "factor"), [(0, 1.0), (1500, 1.0), (6000, 0.5), (150_000, 0.1)])
def test_after_many_steps_rates_are_less_but_of_what_follows_the_rest(iteration: int, factor: float) -> None:
    assert optimiser().factor("f_v", 0.2, iteration) == pytest.approx(factor)
    assert optimiser().factor("entropy", 0.2, iteration) == 1.0


@pytest.mark.parametrize(("iteration", "factor"), [(0, 0.2), (1500, 0.2), (6000, 0.2), (150_000, 0.1)])
def test_what_was_taught_to_move_learns_by_no_more_than_a_share_of_the_rate(iteration: int, factor: float) -> None:
    it = optimiser(taught=True)
    assert it.factor("time", 0.2, iteration) == pytest.approx(factor)
    assert it.factor("coarse", 0.2, iteration) == pytest.approx(factor * 0.25**0.2)
    assert it.factor("f_v", 0.2, iteration) == optimiser().factor("f_v", 0.2, iteration)


def test_a_step_uses_the_rates_of_its_moment_and_none_for_what_is_frozen() -> None:
    it = optimiser()
    it.frozen.add("positions")
    for parameter in it.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    it.step(0.75, 0)
    rates = {group["name"]: group["lr"] for group in it.adam.param_groups}
    assert rates["positions"] == 0
    assert rates["f_v"] == pytest.approx(0.1 * CONFIG.lr_features * CONFIG.lr_scale)
    assert not it.model.positions.any()
    torch.testing.assert_close(it.model.f_v.detach(), torch.full((3, 4), -rates["f_v"]))


def test_moments_follow_anchors_that_go_and_come() -> None:
    it = optimiser()
    for _ in range(3):
        for parameter in it.model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
        it.step(0.1, 0)
    before = {key: value.clone() for key, value in it.adam.state[it.model.f_v].items()}
    it.select(torch.tensor([2, 0]))
    rows = {name: torch.zeros(1, *getattr(it.model, name).shape[1:]) for name in ANCHOR_TENSORS}
    it.append({**rows, "flies": torch.ones(len(rows["positions"]), dtype=torch.bool)})
    assert it.flies.tolist() == [False, False, True]
    after = it.adam.state[it.model.f_v]
    assert after["step"] == before["step"] == 3
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(after[name], torch.cat([before[name][[2, 0]], torch.zeros(1, 4)]))
    for parameter in it.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    it.step(0.1, 0)
    assert it.adam.state[it.model.f_v]["step"] == 4
    assert it.model.f_v[2].abs().min() > 0
