"""What a model does not show gets anchors on its way; those that it has stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.scene import Scene, load_scene
from adcgs.training import Status, Trainer
from adcgs.training.missing import missing_pictures, search_missing

from ..captures import write_rig
from ..scene import captures
from .test_trainer import TINY, stop_after

CONFIG = replace(TINY, iterations=100, missing_anchors=40, missing_after=1, initial_anchors=100, max_anchors=200)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Three balls, of which the red one moves."""
    return load_scene(captures.write_dnerf(tmp_path_factory.mktemp("balls"), frames=16, held_out=2))


def without_the_red_ball(scene: Scene) -> Trainer:
    """A run whose anchors are all on the balls that rest."""
    trainer = Trainer(scene, CONFIG)
    world = scene.similarity.invert(trainer.model.positions.detach().numpy())
    off = np.linalg.norm(world[:, None] - captures.balls(0.0)[1:], axis=-1).min(axis=1)
    trainer.optimiser.select(torch.from_numpy(np.flatnonzero(off < 2 * captures.RADIUS)))
    trainer._anchors_changed()
    return trainer


def test_only_one_moving_camera_with_silhouettes_is_searched(scene: Scene, tmp_path: Path) -> None:
    assert Trainer(scene, CONFIG).searches_left == 2
    lasting = replace(CONFIG, model=replace(CONFIG.model, coarse_opacity=False))
    assert Trainer(scene, lasting).searches_left == 0
    assert Trainer(scene, replace(CONFIG, missing_anchors=0)).searches_left == 0
    assert Trainer(load_scene(write_rig(tmp_path)), CONFIG).searches_left == 0
    for minutes, searches in ((4.9, 0), (5.0, 2)):
        assert Trainer(scene, replace(CONFIG, iterations=None, minutes=minutes)).searches_left == searches


def test_pictures_say_where_the_model_lacks_something(scene: Scene) -> None:
    trainer = without_the_red_ball(scene)
    pictures = missing_pictures(trainer)
    times = [picture.time for picture in pictures]
    assert times == sorted({frame.time for frame in trainer.frames})
    for picture in pictures:
        red = picture.mask.opaque & (picture.mask.rgb[..., 0] > 128)
        assert picture.missing[red].mean() > 0.5
        assert not picture.missing[~picture.mask.opaque].any()


def test_nothing_is_looked_for_while_all_is_missing(scene: Scene) -> None:
    assert search_missing(without_the_red_ball(scene)) == 0  # no step was made yet


def test_a_missing_ball_gets_anchors_that_fly_with_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = without_the_red_ball(scene)
    monkeypatch.setattr("adcgs.training.missing.MOST_MISSING", 1.0)
    old = len(trainer.model.positions)
    with torch.no_grad():
        before = trainer.model.gaussians_at(0.5)
    added = search_missing(trainer)
    trainer._anchors_changed()
    assert 10 <= added <= CONFIG.missing_anchors
    assert len(trainer.model.positions) == old + added
    times = np.linspace(0.2, 0.6, 5)  # of its flight
    with torch.no_grad():
        for time in times:
            move = trainer.model.coarse_net(trainer.model.f_v, float(time), trainer.model.z)
            there = (trainer.model.positions + move[:, :3])[old:][move[old:, -1] > 0]
            world = scene.similarity.invert(there.numpy())
            off = np.linalg.norm(world[:, None] - captures.balls(float(time)), axis=-1).min(axis=1)
            red = np.linalg.norm(world - captures.balls(float(time))[0], axis=1)
            assert np.median(off) < 1.5 * captures.RADIUS
            assert (red < 1.5 * captures.RADIUS).sum() >= 5
        after = trainer.model.gaussians_at(0.5)
    k = CONFIG.model.primitives
    moved = (after.means[: k * old] - before.means).norm(dim=1)
    assert float(moved.mean()) < 0.02
    assert float((after.opacities[: k * old] - before.opacities).abs().mean()) < 0.05


def test_the_budget_of_anchors_holds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adcgs.training.missing.MOST_MISSING", 1.0)
    trainer = Trainer(scene, replace(CONFIG, initial_anchors=60, max_anchors=60))
    start = len(trainer.model.positions)
    assert search_missing(trainer) > 60 - start  # more than there was room for: they take the place of others
    assert len(trainer.model.positions) <= 60


def test_a_run_searches_twice_and_a_resumed_one_not_again(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []

    def search(trainer: Trainer) -> int:
        searched.append(trainer.iteration)
        return 0

    monkeypatch.setattr("adcgs.training.trainer.search_missing", search)
    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        Trainer(scene, CONFIG, state).train(stop_after(40), report_every=0.0)
    assert searched == [18, 36]  # of 100 steps
    Trainer.from_checkpoint(scene, state).train()
    assert searched == [18, 36]


def test_a_search_waits_for_the_steps_that_bring_what_is_not_missing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    monkeypatch.setattr("adcgs.training.trainer.search_missing", lambda run: searched.append(run.iteration) or 0)
    Trainer(scene, replace(CONFIG, missing_after=30)).train()
    Trainer(scene, replace(CONFIG, missing_after=54)).train()  # no anchors come to be when the second is due
    assert searched == [30, 45, 54]


def test_a_search_is_told_before_it_begins_however_seldom_the_line_changes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Status] = []
    monkeypatch.setattr("adcgs.training.trainer.search_missing", lambda trainer: seen.append(trainer.status()) or 0)
    told: list[Status] = []
    Trainer(scene, CONFIG).train(told.append, report_every=1e9)
    looking = "looking for what is missing"
    assert [(s.iteration, s.phase) for s in told if s.phase == looking] == [(18, looking), (36, looking)]
    assert [s.iteration for s in seen] == [18, 36]
