"""Training for files that were cut: some steps show what a decoder shows whose last chunks of f_g are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.bitstream import Container
from adcgs.decode import open_scene
from adcgs.encode import write_scene
from adcgs.errors import OptionError
from adcgs.evaluation.metrics import psnr
from adcgs.features import Features
from adcgs.geometry import morton_order
from adcgs.scene import Scene, load_scene
from adcgs.training import Trainer

from .test_trainer import TINY


@pytest.fixture(scope="module")
def scene(balls: Path) -> Scene:
    return load_scene(balls)


@pytest.fixture(scope="module")
def trained(scene: Scene) -> Trainer:
    trainer = Trainer(scene, replace(TINY, chunk_dropout=0.2))
    trainer.train()
    return trainer


def cut(path: Path, chunks: int) -> Path:
    """A copy without the chunks from number ``chunks`` on."""
    with Container.open(path) as container:
        size = container.entry(f"f_g_{chunks}").offset
    short = path.with_name(f"cut_{chunks}.adc")
    short.write_bytes(path.read_bytes()[:size])
    return short


@pytest.mark.parametrize("first", range(4))
def test_a_step_without_chunks_shows_what_a_cut_file_shows(trained: Trainer, tmp_path: Path, first: int) -> None:
    write_scene(trained, tmp_path / "scene.adc")
    decoded = open_scene(cut(tmp_path / "scene.adc", first), allow_partial=True)
    order = torch.from_numpy(morton_order(trained.grid_positions()))
    assert trained.sealed is not None
    features = trained.sealed.without_chunks(trained.model.features, first).features
    for name in ("f_v", "f_g", "sigma", "color"):
        assert torch.equal(getattr(features, name)[order], getattr(decoded.model, name).detach()), name


def test_the_trained_networks_predict_about_what_the_sealed_ones_do(trained: Trainer) -> None:
    assert trained.sealed is not None
    coded = trained.rounded()
    for first in range(4):
        with torch.no_grad():
            ours = trained.entropy.without_chunks(coded, first).f_g
        sealed = trained.sealed.without_chunks(trained.model.features, first).features.f_g
        kept = ours.shape[2] * first // 4
        assert torch.allclose(ours[:, :, :kept], sealed[:, :, :kept], atol=1e-4)
        missing = (ours - sealed)[:, :, kept:]
        assert float(missing.square().mean().sqrt()) < 0.1 * float(coded.f_g.std())


def test_nothing_of_a_dropped_chunk_is_left(trained: Trainer) -> None:
    coded = trained.rounded()
    other = replace(coded, f_g=torch.cat([coded.f_g[:, :, :4], torch.randn_like(coded.f_g[:, :, 4:])], dim=2))
    with torch.no_grad():
        a, b = (trained.entropy.without_chunks(features, 1).f_g for features in (coded, other))
    assert torch.equal(a, b)
    assert torch.equal(a[:, :, :4], coded.f_g[:, :, :4])


def test_gradients_reach_what_the_means_are_predicted_from(trained: Trainer) -> None:
    coded = trained.rounded()
    f_v, f_g = (value.clone().requires_grad_() for value in (coded.f_v, coded.f_g))
    trained.entropy.zero_grad()
    cut = trained.entropy.without_chunks(Features(f_v, f_g, coded.sigma, coded.color), 2)
    cut.f_g[:, :, 8:].square().sum().backward()
    by_f_v, by_f_g, by_weight = f_v.grad, f_g.grad, trained.entropy.network("f_g_2").last.weight.grad
    assert by_f_v is not None
    assert by_f_g is not None
    assert by_weight is not None
    assert min(float(g.abs().sum()) for g in (by_f_v, by_f_g[:, :, :8], by_weight)) > 0
    assert by_f_g[:, :, 8:].abs().sum() == 0
    trained.entropy.zero_grad()


def test_the_share_of_steps_is_what_was_asked_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(scene, replace(TINY, iterations=300, chunk_dropout=0.2))
    firsts: list[int] = []
    real = trainer.entropy.without_chunks

    def watched(features: Features, first: int) -> Features:
        firsts.append(first)
        return real(features, first)

    monkeypatch.setattr(trainer.entropy, "without_chunks", watched)
    trainer.train()
    steps = (trainer.config.seal_from - trainer.config.rate_from) * 300  # the sealed model does it later
    assert 0.6 * 0.2 * steps < len(firsts) < 1.4 * 0.2 * steps
    assert set(firsts) == {0, 1, 2, 3}


def test_a_cut_costs_less_for_it_and_the_whole_file_no_more(scene: Scene, tmp_path: Path) -> None:
    frames = scene.split("train")

    def quality(path: Path) -> float:
        decoded = open_scene(path, allow_partial=True)
        return float(np.mean([psnr(decoded.render(f.camera, f.time).numpy(), scene.target(f)) for f in frames]))

    whole, lost = {}, {}
    # Splats of gsplat's width: so few pixels leave so few anchors, with finer ones, a decibel apart from run to run.
    few = replace(TINY, iterations=400, rate_lambda=0.0, initial_anchors=30, max_anchors=40, blur=0.3)
    for share in (0.0, 0.3):
        trainer = Trainer(scene, replace(few, chunk_dropout=share))
        trainer.train()
        write_scene(trainer, tmp_path / "scene.adc")
        whole[share] = quality(tmp_path / "scene.adc")
        lost[share] = whole[share] - quality(cut(tmp_path / "scene.adc", 0))
    assert lost[0.3] < 0.6 * lost[0.0]
    assert whole[0.3] > whole[0.0] - 0.3


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(OptionError, match="chunk_dropout"):
        replace(TINY, chunk_dropout=share)
