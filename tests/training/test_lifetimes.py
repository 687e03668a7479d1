"""Anchors carved at an instant are shown around it and hidden elsewhere; all others stay as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from adcgs.model import ModelConfig
from adcgs.training.initialise import initial_model
from adcgs.training.lifetimes import HIDDEN, SHOWN, lifetime

INSTANTS = np.linspace(0, 1, 6)


@dataclass
class Points:
    points: np.ndarray
    colors: np.ndarray
    times: np.ndarray | None


def clouds() -> tuple[Points, Points]:
    generator = np.random.default_rng(0)
    still = Points(generator.normal(size=(300, 3)).astype(np.float32), np.full((300, 3), 0.5, np.float32), None)
    times = np.repeat(INSTANTS, 40).astype(np.float32)
    there = np.column_stack([times - 0.5, 0 * times, 0 * times]) + 0.05 * generator.normal(size=(240, 3))
    return still, Points(there.astype(np.float32), np.full((240, 3), 0.5, np.float32), times)


def test_a_lifetime_is_full_at_its_instant_half_between_two_and_over_at_the_next() -> None:
    instants = torch.tensor([0.4, math.nan])
    at = [lifetime(time, instants, 0.2)[0].item() for time in (0.4, 0.5, 0.3, 0.65, 0.9)]
    assert at[0] == SHOWN
    assert HIDDEN < at[1] <= SHOWN
    np.testing.assert_allclose(at[1], at[2], rtol=1e-5)
    assert at[3:] == [HIDDEN, HIDDEN]
    assert lifetime(0.9, instants, 0.2)[1] == 0.0


def test_a_new_model_shows_each_anchor_on_what_moves_around_its_instant_only() -> None:
    still, moving = clouds()
    model = initial_model(still, moving, ModelConfig(), 300, 240, seed=0)
    times = torch.from_numpy(moving.times)
    with torch.no_grad():
        for instant in INSTANTS:
            delta = model.coarse_net(model.f_v, float(instant), model.z)
            fade, distance = delta[300:, -1], (times - float(instant)).abs()
            assert float(fade[distance < 0.01].mean()) > SHOWN - 1.0
            assert float(fade[distance > 0.35].mean()) < HIDDEN + 1.0
            assert float(delta[:300, -1].abs().mean()) < 0.5
            assert float(delta[:, :-1].abs().mean()) < 0.02


def test_without_movers_the_deformation_starts_as_the_identity() -> None:
    still, _ = clouds()
    model = initial_model(still, None, ModelConfig(), 300, 240, seed=0)
    with torch.no_grad():
        assert not model.coarse_net(model.f_v, 0.3, model.z).any()
