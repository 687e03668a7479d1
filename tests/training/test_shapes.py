"""The penalties on primitives' shapes: what costs nothing, formulas and gradients, and that training feels them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.scene import load_scene
from adcgs.training import Trainer
from adcgs.training.shapes import LARGEST, needle_penalty, residual_penalty

from ..captures import write_rig
from .test_trainer import TINY


def test_dots_discs_and_what_is_four_times_as_long_as_wide_cost_nothing() -> None:
    log_scales = torch.tensor([[0.1, 0.1, 0.1], [1.0, 1e-6, 1.0], [0.25, 1.0, 0.01]]).log()
    assert float(needle_penalty(log_scales)) == pytest.approx(0, abs=1e-6)


def test_its_value_and_gradient_are_those_of_its_formula() -> None:
    log_scales = 2 * torch.randn(7, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    terms = []
    for row in log_scales.view(-1, 3).numpy():
        _, middle, longest = sorted(np.exp(row))
        terms.append(max(math.log(longest / middle / 4), 0))
    assert np.count_nonzero(terms) > 5
    assert float(needle_penalty(log_scales)) == pytest.approx(np.mean(terms))
    assert torch.autograd.gradcheck(needle_penalty, (log_scales.requires_grad_(),))


def _needles(trainer: Trainer) -> float:
    with torch.no_grad():
        return float(needle_penalty(trainer.model.predict(trainer.rounded()).log_scales))


def test_a_capture_with_one_view_an_instant_gets_fewer_and_a_rig_is_left_alone(balls: Path, tmp_path: Path) -> None:
    scene = load_scene(balls, downscale=2)
    found = {}
    for weight in (0.0, 10.0):
        trainer = Trainer(scene, replace(TINY, iterations=150, needles=weight))
        # Needles to start with: nothing that a picture asks for in so few steps.
        with torch.no_grad():
            trainer.model.sigma[:, 3] += math.log(20)
        trainer.train()
        found[weight] = _needles(trainer)
    assert found[10.0] < 0.5 * found[0.0]
    rig = load_scene(write_rig(tmp_path), downscale=2)
    assert not Trainer(rig, replace(TINY, mover_instants=0)).order.one_view


def test_training_lets_no_anchor_grow_beyond_the_scene(balls: Path) -> None:
    trainer = Trainer(load_scene(balls, downscale=2), replace(TINY, iterations=1, refine=False))
    with torch.no_grad():
        trainer.model.sigma[::4] = 1.0
    trainer.train()
    assert float(trainer.model.sigma.detach().max()) <= LARGEST


def test_primitives_may_differ_from_their_anchor_twelvefold_for_free() -> None:
    base = torch.tensor([[0.1, 0.2, 0.3], [1.0, 1.0, 1.0]], dtype=torch.float64).log()
    near = torch.tensor([12.0, 1 / 12, 1.0], dtype=torch.float64).log() + base[:, None]
    assert float(residual_penalty(near, base)) == pytest.approx(0, abs=1e-12)


def test_the_penalty_on_strangers_has_the_value_and_gradient_of_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    log_scales = base[:, None] + 4 * torch.randn(4, 5, 3, dtype=torch.float64, generator=generator)
    ratios = np.exp((log_scales - base[:, None]).numpy())
    excess = [max(abs(math.log(ratio)) - math.log(12), 0) ** 2 for ratio in ratios.ravel()]
    assert 10 < np.count_nonzero(excess) < len(excess)
    assert float(residual_penalty(log_scales, base)) == pytest.approx(np.mean(excess))
    assert torch.autograd.gradcheck(residual_penalty, (log_scales.requires_grad_(), base.requires_grad_()))


def test_transparent_primitives_come_back_to_their_anchors_scale(balls: Path) -> None:
    scene = load_scene(balls, downscale=2)
    furthest = {}
    for weight in (0.0, 1.0):
        trainer = Trainer(scene, replace(TINY, iterations=150, residuals=weight))
        # Transparent and far off: nothing in a picture asks for another scale.
        with torch.no_grad():
            trainer.model.predict_net.opacity.bias.fill_(-20)
            trainer.model.predict_net.covariance.bias[:3] = -9
        trainer.train()
        with torch.no_grad():
            features = trainer.rounded()
            apart = trainer.model.predict(features).log_scales - features.sigma[:, None, 3:]
        furthest[weight] = float(apart.abs().max())
    assert furthest[1.0] < math.log(12) + 2 < 6 < furthest[0.0]
