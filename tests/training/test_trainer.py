"""A run: it learns, it is reproducible, it can be interrupted anywhere, it says what went wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.decode import open_scene
from adcgs.encode import write_scene
from adcgs.errors import OptionError, TrainingError
from adcgs.evaluation.metrics import psnr
from adcgs.model import ModelConfig
from adcgs.render import render
from adcgs.scene import Scene, load_scene
from adcgs.training import Status, Trainer, TrainingConfig
from adcgs.training.checkpoint import load_checkpoint, save_checkpoint
from adcgs.training.optimiser import ANCHOR_TENSORS
from safetensors.torch import save_file

from ..captures import write_rig

TINY = TrainingConfig(
    minutes=None,
    iterations=60,
    initial_anchors=60,
    max_anchors=90,
    refine_every=5,
    model=ModelConfig(primitives=3, prediction_width=16, deformation_width=16, knots=6),
)


@pytest.fixture(scope="module")
def scene(balls: Path) -> Scene:
    return load_scene(balls)


def stop_after(iterations: int):  # type: ignore[no-untyped-def]
    def report(status: Status) -> None:
        if status.iteration >= iterations:
            raise KeyboardInterrupt

    return report


def test_training_learns_the_scene(scene: Scene) -> None:
    trainer = Trainer(scene, replace(TINY, iterations=200))
    seen: list[Status] = []
    trainer.train(seen.append, report_every=0.0)
    assert seen[-1].psnr > seen[10].psnr + 3
    assert seen[-1].progress == 1.0
    looking = "looking for what is missing"
    assert {s.phase for s in seen} - {looking} == {"warm-up", "noise", "rate and distortion", "rounding", "sealed"}
    assert len({s.anchors for s in seen}) > 2, "anchors never grew or shrank"


def test_what_memory_shows_is_what_the_file_shows(scene: Scene, tmp_path: Path) -> None:
    trainer = Trainer(scene, TINY)
    trainer.train()
    write_scene(trainer, tmp_path / "scene.adc")
    decoded = open_scene(tmp_path / "scene.adc")
    for frame in scene.split("train")[::3]:
        memory, file = trainer.render(frame).numpy(), decoded.render(frame.camera, frame.time).numpy()
        assert np.mean((memory - file) ** 2) < 1e-6  # 60 dB between them


def test_the_report_says_what_rounding_costs(scene: Scene, tmp_path: Path) -> None:
    """With much wider steps it costs more, and what is not rounded looks as before."""
    trainer = Trainer(scene, replace(TINY, iterations=150))
    trainer.train()
    fine = write_scene(trainer, tmp_path / "fine.adc")
    exact = [trainer.model.gaussians_at(frame.time) for frame in scene.split("test")]
    white = torch.ones(3)
    shown = [
        render(gaussians, frame.camera, white, trainer.raster).image.clamp(0, 1).detach().numpy()
        for gaussians, frame in zip(exact, scene.split("test"), strict=True)
    ]
    expected = np.mean([psnr(image, scene.target(f)) for image, f in zip(shown, scene.split("test"), strict=True)])
    assert fine.psnr_unrounded == pytest.approx(expected, abs=1e-3)
    trainer.entropy.scale_steps(40.0)
    trainer._seal_as_it_is()
    coarse = write_scene(trainer, tmp_path / "coarse.adc")
    assert coarse.psnr_unrounded == fine.psnr_unrounded
    assert fine.psnr_model is not None
    assert coarse.psnr_model is not None
    assert coarse.psnr_model < fine.psnr_model - 0.5


def test_anchors_that_replace_others_do_not_get_their_quantisation_steps(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the budget, refinement prunes some and grows as many: their number says nothing of who they are."""
    trainer = Trainer(scene, TINY)
    trainer.entropy(trainer.model.features, "noise", True)
    primitives = trainer.model.predict(trainer.model.features)
    count = len(trainer.model.positions)
    second = {name: getattr(trainer.model, name).detach()[1:2].clone() for name in ANCHOR_TENSORS}
    second["flies"] = trainer.optimiser.flies[1:2]
    monkeypatch.setattr("adcgs.training.trainer.prunable", lambda *_: torch.arange(count) == 0)
    monkeypatch.setattr("adcgs.training.trainer.grow", lambda *_: second)
    assert trainer.entropy.steps_state()
    trainer._refine(primitives)
    assert len(trainer.model.positions) == count
    assert trainer.entropy.steps_state() == {}


def test_same_seed_same_bytes_other_seed_other_bytes(scene: Scene, tmp_path: Path) -> None:
    def encode(name: str, seed: int) -> bytes:
        trainer = Trainer(scene, replace(TINY, seed=seed))
        trainer.train()
        write_scene(trainer, tmp_path / name)
        return (tmp_path / name).read_bytes()

    assert encode("a.adc", 1) == encode("b.adc", 1)
    assert encode("c.adc", 2) != encode("b.adc", 1)


def test_who_asks_for_the_bits_at_every_step_gets_the_same_file(scene: Scene, tmp_path: Path) -> None:
    files, seen = [], []
    for report in (None, seen.append):
        trainer = Trainer(scene, TINY)
        trainer.train(report, report_every=0.0)
        write_scene(trainer, tmp_path / "scene.adc")
        files.append((tmp_path / "scene.adc").read_bytes())
    assert files[0] == files[1]
    bits = [status.bits for status in seen]
    assert bits[0] is None
    assert bits[-1] is not None
    known = bits[bits.index(next(filter(None, bits))) : -1]  # the end is said once more
    assert len(set(known)) == len(known), "the same number at several steps"


@pytest.mark.parametrize("iterations", [3, 21, 50, 58], ids=["warm-up", "with rate", "frozen", "sealed"])
def test_an_interrupted_and_resumed_run_ends_like_an_uninterrupted_one(
    scene: Scene, tmp_path: Path, iterations: int
) -> None:
    whole = Trainer(scene, TINY)
    whole.train()
    write_scene(whole, tmp_path / "whole.adc")

    state = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        Trainer(scene, TINY, state).train(stop_after(iterations), report_every=0.0)
    resumed = Trainer.from_checkpoint(scene, state, state)
    assert resumed.iteration == iterations
    resumed.train()
    write_scene(resumed, tmp_path / "resumed.adc")
    assert (tmp_path / "resumed.adc").read_bytes() == (tmp_path / "whole.adc").read_bytes()


def test_so_does_one_with_noise_but_no_rate_yet(scene: Scene, tmp_path: Path) -> None:
    config = replace(TINY, refine=False)  # which would forget the steps that the checkpoint holds
    whole = Trainer(scene, config)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        Trainer(scene, config, tmp_path / "state").train(stop_after(12), report_every=0.0)
    resumed = Trainer.from_checkpoint(scene, tmp_path / "state")
    assert resumed.entropy.steps_state()
    resumed.train()
    assert torch.equal(resumed.model.f_g, whole.model.f_g)
    assert torch.equal(resumed.entropy.steps["f_g"], whole.entropy.steps["f_g"])


@pytest.mark.parametrize("views", [1, 3])
def test_a_run_with_anchors_on_what_moves_resumes_alike(tmp_path: Path, views: int) -> None:
    scene = load_scene(write_rig(tmp_path), downscale=2)
    config = replace(TINY, mover_instants=3, mover_anchors=30, views_per_step=views)
    whole = Trainer(scene, config)
    assert whole.moving is not None
    assert whole.optimiser.taught
    whole.train()
    write_scene(whole, tmp_path / "whole.adc")

    state = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        Trainer(scene, config, state).train(stop_after(20), report_every=0.0)
    resumed = Trainer.from_checkpoint(scene, state, state)
    assert resumed.config == config
    assert resumed.optimiser.taught
    resumed.train()
    write_scene(resumed, tmp_path / "resumed.adc")
    assert (tmp_path / "resumed.adc").read_bytes() == (tmp_path / "whole.adc").read_bytes()


@pytest.mark.parametrize("iteration", [5, 56, 57, 60], ids=["warm-up", "before the seal", "sealed", "the last"])
def test_a_nan_names_tensor_and_iteration_and_keeps_the_last_checkpoint(
    scene: Scene, tmp_path: Path, iteration: int
) -> None:
    state = tmp_path / "state.checkpoint"
    trainer = Trainer(scene, TINY, state)

    def poison(status: Status) -> None:
        if status.iteration == iteration and not state.exists():
            trainer.save()
            with torch.no_grad():
                trainer.model.color[3, 1] = torch.nan

    with pytest.raises(TrainingError) as error:
        trainer.train(poison, report_every=0.0)
    assert error.value.code == "not-finite"
    assert "'color'" in str(error.value)
    assert f"iteration {iteration}" in str(error.value)
    assert Trainer.from_checkpoint(scene, state).iteration == iteration


@pytest.mark.parametrize("name", ["positions", "f_v", "f_g", "sigma"])
def test_one_nan_in_any_anchor_tensor_stops_the_very_next_step(scene: Scene, name: str) -> None:
    trainer = Trainer(scene, TINY)

    def poison(status: Status) -> None:
        if status.iteration == 2:
            with torch.no_grad():
                getattr(trainer.model, name).view(-1)[4] = torch.nan

    with pytest.raises(TrainingError, match=f"tensor '{name}' is not finite at iteration 2") as error:
        trainer.train(poison, report_every=0.0)
    assert error.value.code == "not-finite"


def test_a_nan_stops_the_step_that_would_put_it_on_the_grid(scene: Scene) -> None:
    trainer = Trainer(scene, TINY)
    freezes = round(TINY.freeze_positions_at * (TINY.iterations or 0))

    def poison(status: Status) -> None:
        if status.iteration == freezes:
            assert not trainer.frozen
            with torch.no_grad():
                trainer.model.positions[0, 1] = torch.nan

    with pytest.raises(TrainingError, match=f"tensor 'positions' is not finite at iteration {freezes}"):
        trainer.train(poison, report_every=0.0)


def test_a_checkpoint_of_another_capture_is_refused(scene: Scene, balls: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.checkpoint"
    Trainer(scene, TINY, state).save()
    with pytest.raises(TrainingError) as error:
        Trainer.from_checkpoint(load_scene(balls, downscale=2), state)
    assert error.value.code == "bad-checkpoint"
    assert "width 32 (here 16)" in str(error.value)


def test_a_checkpoint_that_cannot_be_written_is_said(scene: Scene, tmp_path: Path) -> None:
    trainer = Trainer(scene, TINY, tmp_path / "no such folder" / "state")
    with pytest.raises(TrainingError, match="cannot be written") as caught:
        trainer.save()
    assert caught.value.code == "cannot-save"


def test_metadata_that_are_no_object_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "state", metadata={"adcgs": "[1]"})
    with pytest.raises(TrainingError, match="format"):
        load_checkpoint(tmp_path / "state")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_bit_in_a_checkpoints_numbers_is_found(scene: Scene, tmp_path: Path, place: float) -> None:
    state = tmp_path / "state.checkpoint"
    Trainer(scene, TINY, state).save()
    load_checkpoint(state)
    data = bytearray(state.read_bytes())
    data[int(place * len(data))] ^= 1
    state.write_bytes(data)
    with pytest.raises(TrainingError, match="damaged") as error:
        load_checkpoint(state)
    assert error.value.code == "bad-checkpoint"


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_a_damaged_checkpoint_is_refused_in_one_line(scene: Scene, tmp_path: Path, damage: str) -> None:
    state = tmp_path / "state.checkpoint"
    Trainer(scene, TINY, state).save()
    whole = state.read_bytes()
    if damage == "missing":
        state.unlink()
    else:
        state.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"\xff" * 100}[damage])
    with pytest.raises(TrainingError) as error:
        load_checkpoint(state)
    assert error.value.code == "bad-checkpoint"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"seed": 0.5}},
        {"config": {"refine": 1}},
        {"config": {"target_weights": "int4"}},
        {"config": {"moon": 1}},
        {"config": {"minutes": "long"}},
        {"config": []},
        {"iteration": -1},
        {"iteration": float("inf")},
        {"steering": 7},
        {"asked": 7},
    ],
    ids=str,
)
def test_a_checkpoint_that_says_what_no_run_does_is_refused(
    scene: Scene, tmp_path: Path, change: dict[str, object]
) -> None:
    state = tmp_path / "state.checkpoint"
    Trainer(scene, replace(TINY, target_psnr=20.0), state).save()
    tensors, rest = load_checkpoint(state)
    del rest["format"]
    config = change.get("config")
    rest |= change | ({"config": rest["config"] | config} if isinstance(config, dict) else {})
    save_checkpoint(state, tensors, rest)
    with pytest.raises(TrainingError) as error:
        Trainer.from_checkpoint(scene, state)
    assert error.value.code == "bad-checkpoint"
    assert "\n" not in str(error.value)


def test_metadata_that_never_end_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "state", metadata={"adcgs": "[" * 100_000})
    with pytest.raises(TrainingError) as error:
        load_checkpoint(tmp_path / "state")
    assert error.value.code == "bad-checkpoint"


@pytest.mark.parametrize(
    "change", [{"minutes": 1.0}, {"iterations": 0}, {"max_anchors": 0}, {"rate_lambda": float("nan")}]
)
def test_impossible_options_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        replace(TINY, **change)
