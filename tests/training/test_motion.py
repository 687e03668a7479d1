"""Anchors on what moves start on its path, are shown while it is there; all others stay as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from adcgs.model import ModelConfig
from adcgs.training.initialise import initial_model, motion_of
from adcgs.training.motion import HIDDEN, SHOWN, Motion
from scipy.spatial.transform import Rotation

TIMES = np.linspace(0, 1, 9)


@dataclass
class Points:
    points: np.ndarray
    colors: np.ndarray


@dataclass
class Pieces(Points):
    track: np.ndarray
    times: np.ndarray
    lives: np.ndarray
    rotations: np.ndarray
    shifts: np.ndarray


def clouds() -> tuple[Points, Pieces]:
    """Things at rest, one that flies across and turns all the time, one that is there from 0.25 to 0.5 only."""
    generator = np.random.default_rng(0)
    still = Points(generator.normal(size=(300, 3)).astype(np.float32), np.full((300, 3), 0.5, np.float32))
    turns = Rotation.from_rotvec(np.radians(300) * TIMES[:, None] * [0, 0, 1]).as_matrix()
    rotations = np.stack([turns, np.tile(np.eye(3), (9, 1, 1))])
    shifts = np.zeros((2, 9, 3))
    shifts[0, :, 0] = 0.8 * TIMES
    track = np.repeat([0, 1], 60)
    points = (0.05 * generator.normal(size=(120, 3)) + np.where(track[:, None] == 0, -0.1, 0.4)).astype(np.float32)
    lives = np.array([[0, 8], [2, 4]])
    return still, Pieces(points, np.full((120, 3), 0.5, np.float32), track, TIMES, lives, rotations, shifts)


def test_a_life_is_full_within_it_half_between_two_instants_and_over_at_the_next() -> None:
    lives = torch.tensor([[0.4, 0.6], [math.nan, math.nan]])
    motion = Motion(torch.linspace(0, 1, 6), torch.zeros(2, 6, 3), torch.zeros(2, 6, 4), lives)
    at = [motion.fade(time)[0].item() for time in (0.4, 0.5, 0.6, 0.3, 0.7, 0.9)]
    assert at[:3] == [SHOWN] * 3
    assert HIDDEN < at[3] <= SHOWN
    np.testing.assert_allclose(at[3], at[4], rtol=1e-5)
    assert at[5] == HIDDEN
    assert motion.fade(0.9)[1] == 0.0


def test_ways_are_those_of_the_pieces_with_quaternions_that_do_not_jump() -> None:
    _, moving = clouds()
    piece = np.array([-1, 0, 1])
    points = np.stack([np.zeros(3), moving.points[0], moving.points[60]]).astype(np.float64)
    motion = motion_of(points, piece, moving)
    assert not motion.moves[0].any()
    assert motion.lives[0].isnan().all()
    for index in range(9):
        there = moving.rotations[0, index] @ points[1] + moving.shifts[0, index]
        np.testing.assert_allclose(motion.moves[1, index].numpy() + points[1], there, atol=1e-6)
        matrix = Rotation.from_quat(np.roll(motion.turns[1, index].numpy(), -1)).as_matrix()
        np.testing.assert_allclose(matrix, moving.rotations[0, index], atol=1e-6)
    assert float((motion.turns[1, 1:] * motion.turns[1, :-1]).sum(dim=1).min()) > 0
    assert motion.turns[1, 0, 0] == 1


def test_a_new_model_moves_shows_and_hides_its_anchors_accordingly() -> None:
    still, moving = clouds()
    model = initial_model(still, moving, ModelConfig(), 300, 120, seed=0)
    assert len(model.positions) == 420
    motion = motion_of(moving.points.astype(np.float64), moving.track, moving)
    with torch.no_grad():
        for time in TIMES:
            delta = model.coarse_net(model.f_v, float(time), model.z)
            move, _, fade = motion.at(float(time))
            here = fade == SHOWN
            assert float((delta[300:, :3] - move)[here].norm(dim=1).mean()) < 0.04
            assert float(delta[300:, -1][here].mean()) > SHOWN - 1.0
            if bool((fade == HIDDEN).any()):
                assert float(delta[300:, -1][fade == HIDDEN].mean()) < HIDDEN + 1.0
            assert float(delta[:300, -1].abs().mean()) < 0.5
            assert float(delta[:300, :3].abs().mean()) < 0.02


def test_all_that_rests_stays_though_a_sample_of_it_is_held() -> None:
    _, moving = clouds()
    generator = np.random.default_rng(0)
    places, colors = 0.5 * generator.normal(size=(4000, 3)), generator.random((4000, 3))
    still = Points(places.astype(np.float32), colors.astype(np.float32))
    model = initial_model(still, moving, ModelConfig(), 4000, 120, seed=0)
    with torch.no_grad():
        said = torch.stack([model.coarse_net(model.f_v, float(time), model.z)[:4000] for time in TIMES])
    assert float(said[..., -1].abs().mean()) < 0.03
    assert float(said[..., :3].norm(dim=2).mean()) < 0.005


def test_a_few_scattered_points_of_a_piece_are_no_larger_than_those_of_the_others() -> None:
    still, moving = clouds()
    corners = np.array([[0.4, 0.4, 0.4], [-0.4, 0.4, 0.4], [0.4, -0.4, 0.4], [0.4, 0.4, -0.4]], np.float32)
    moving.points, moving.colors = np.concatenate([moving.points[:60], corners]), moving.colors[:64]
    moving.track = np.repeat([0, 1], [60, 4])
    sizes = initial_model(still, moving, ModelConfig(), 300, 64, seed=0).sigma.detach()[300:].exp()
    assert bool((sizes[60:] > sizes[:60].median(dim=0).values).all())
    assert bool((sizes[60:] < 2 * sizes[:60].median(dim=0).values).all())


def test_without_movers_the_deformation_starts_as_the_identity() -> None:
    still, _ = clouds()
    model = initial_model(still, None, ModelConfig(), 300, 240, seed=0)
    with torch.no_grad():
        assert not model.coarse_net(model.f_v, 0.3, model.z).any()
