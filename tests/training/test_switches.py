"""What the ablation switches off is off, and its files are ordinary ones: the reference decoder reads them too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adcgs.decode import decoded_digest, open_scene
from adcgs.encode import write_scene
from adcgs.errors import OptionError
from adcgs.scene import Scene, load_scene
from adcgs.training import Trainer, TrainingConfig
from adcgs.training.refinement import Significance

from bitstream_spec import reference_decoder as reference

from .test_trainer import TINY

STATIC = replace(TINY.model, coarse=False, fine=False)
SWITCHED = {
    "one chunk": replace(TINY, chunks=1),
    "no contexts": replace(TINY, hyperprior=False, adaptive_step=False),
    "no rate": replace(TINY, rate_lambda=0.0, hyperprior=False, adaptive_step=False),
    "static": replace(TINY, rate_lambda=0.0, refine=False, model=STATIC),
}


@pytest.fixture(scope="module")
def scene(balls: Path) -> Scene:
    return load_scene(balls)


@pytest.mark.parametrize("config", SWITCHED.values(), ids=SWITCHED.keys())
def test_switched_runs_end_in_files_that_every_decoder_reads(
    scene: Scene, tmp_path: Path, config: TrainingConfig
) -> None:
    trainer = Trainer(scene, config)
    trainer.train()
    report = write_scene(trainer, tmp_path / "scene.adc")
    assert reference.decode((tmp_path / "scene.adc").read_bytes()).digest() == decoded_digest(tmp_path / "scene.adc")
    assert report.coded_bytes == pytest.approx(report.estimated_bytes, rel=0.05)
    assert report.psnr_model is not None
    if config.model == STATIC:
        decoded = open_scene(tmp_path / "scene.adc")
        camera = decoded.views[0].camera
        assert torch.equal(decoded.render(camera, 0.0), decoded.render(camera, 1.0))


def test_without_refinement_no_anchor_comes_or_goes(scene: Scene) -> None:
    trainer = Trainer(scene, replace(TINY, refine=False, iterations=40))
    before, seen = len(trainer.model.positions), set()
    trainer.train(lambda status: seen.add(status.anchors) if status.progress < TINY.freeze_positions_at else None, 0.0)
    assert seen == {before}


def test_the_plain_gradient_is_a_mean_over_the_views_that_saw_it() -> None:
    gradients = [torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])]
    weights = [torch.tensor([9.0, 2.0]), torch.tensor([1.0, 0.0])]
    plain, weighted = (Significance(1, 2, torch.device("cpu"), kind) for kind in (False, True))
    for gradient, weight in zip(gradients, weights, strict=True):
        for significance in (plain, weighted):
            significance.add(gradient, weight, torch.zeros(2), 1.0)
    assert plain.score().tolist() == pytest.approx([3.0, 1.0])
    assert weighted.score().tolist() == pytest.approx([(9 * 5 + 1) / 10, 1.0])
    copy = Significance(1, 2, torch.device("cpu"), False)
    copy.load_state(plain.state())
    assert copy.score().tolist() == plain.score().tolist()


def test_chunks_that_do_not_divide_the_features_are_refused() -> None:
    with pytest.raises(OptionError, match="a divisor of model"):
        replace(TINY, chunks=3)
