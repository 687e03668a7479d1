"""Networks that are rounded before a run ends: the file holds just these, and the rest of the model is trained on."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.decode import open_scene
from adcgs.encode import write_scene
from adcgs.errors import OptionError, TrainingError
from adcgs.model import ModelConfig
from adcgs.scene import Scene, load_scene
from adcgs.training import Trainer
from adcgs.training.checkpoint import load_checkpoint, save_checkpoint

from .test_rounding import change, trained_like
from .test_trainer import TINY, stop_after

EIGHT = replace(TINY, target_weights="int8", settle_from=0.5)
SETTLED_AT = 30  # of TINY's 60 steps


@pytest.fixture(scope="module")
def scene(balls: Path) -> Scene:
    return load_scene(balls)


def stopped(scene: Scene, path: Path, iterations: int) -> None:
    """A checkpoint of a run that went so far."""
    with pytest.raises(KeyboardInterrupt):
        Trainer(scene, EIGHT, path).train(stop_after(iterations), report_every=0.0)


@pytest.mark.parametrize("changes", [{}, {"coarse": False}, {"fine": False}])
def test_a_folded_model_says_the_same(changes: dict[str, bool]) -> None:
    model = trained_like(ModelConfig())
    for name in changes:
        delattr(model, f"{name}_net")
    model.config = replace(model.config, **changes)
    folded = copy.deepcopy(model)
    folded.fold()
    folded.fold()  # does nothing
    assert all(difference < 1e-5 for difference in change(model, folded).values())
    assert not any(name.endswith(("time_weight", "z")) for name, _ in folded.named_parameters())


def test_matrices_stay_and_biases_and_attributes_go_on(scene: Scene, tmp_path: Path) -> None:
    state = tmp_path / "state"
    stopped(scene, state, SETTLED_AT + 1)
    trainer = Trainer.from_checkpoint(scene, state)
    assert trainer.settled is not None
    before = {name: array.clone() for name, array in trainer.model.network_arrays().items()}
    f_v = trainer.model.f_v.detach().clone()
    for _ in range(5):
        trainer._step(0.7)
        trainer.iteration += 1
    after = trainer.model.network_arrays()
    for name, array in before.items():
        assert torch.equal(array, after[name]) == (array.dim() >= 2), name
    assert not torch.equal(f_v, trainer.model.f_v)


def test_the_file_holds_the_networks_that_memory_has(scene: Scene, tmp_path: Path) -> None:
    trainer = Trainer(scene, EIGHT)
    trainer.train()
    write_scene(trainer, tmp_path / "scene.adc", weights="int8")
    decoded = open_scene(tmp_path / "scene.adc")
    kept, read = trainer.model.network_arrays(), decoded.model.network_arrays()
    for name, array in kept.items():
        assert torch.equal(array if array.dim() >= 2 else array.half().float(), read[name]), name
    for frame in scene.split("train")[::3]:
        memory, file = trainer.render(frame).numpy(), decoded.render(frame.camera, frame.time).numpy()
        assert np.mean((memory - file) ** 2) < 1e-6  # 60 dB between them


def test_a_run_that_never_came_so_far_is_rounded_at_its_end(scene: Scene, tmp_path: Path) -> None:
    trainer = Trainer(scene, replace(EIGHT, settle_from=1.0))
    trainer.train()
    assert trainer.settled is not None
    write_scene(trainer, tmp_path / "scene.adc", weights="int8")
    stored = open_scene(tmp_path / "scene.adc").model.network_arrays()
    for name, rounded in trainer.settled.items():
        np.testing.assert_array_equal(stored[name].numpy(), rounded.values(), err_msg=name)


@pytest.mark.parametrize("iterations", [SETTLED_AT - 1, SETTLED_AT, SETTLED_AT + 1, 58])
def test_it_resumes_alike(scene: Scene, tmp_path: Path, iterations: int) -> None:
    whole = Trainer(scene, EIGHT)
    whole.train()
    write_scene(whole, tmp_path / "whole.adc", weights="int8")
    stopped(scene, tmp_path / "state", iterations)
    resumed = Trainer.from_checkpoint(scene, tmp_path / "state")
    resumed.train()
    write_scene(resumed, tmp_path / "resumed.adc", weights="int8")
    assert (tmp_path / "resumed.adc").read_bytes() == (tmp_path / "whole.adc").read_bytes()


@pytest.mark.parametrize("damage", ["symbols", "scales", "missing"])
def test_symbols_that_are_not_the_models_are_refused(scene: Scene, tmp_path: Path, damage: str) -> None:
    state = tmp_path / "state"
    stopped(scene, state, SETTLED_AT + 1)
    tensors, rest = load_checkpoint(state)
    name = "settled.predict.hidden.weight." + ("symbols" if damage == "missing" else damage)
    if damage == "missing":
        del tensors[name]
    else:
        tensors[name][0] += 1
    del rest["format"]
    save_checkpoint(state, tensors, rest)
    with pytest.raises(TrainingError, match=r"predict\.hidden\.weight") as error:
        Trainer.from_checkpoint(scene, state)
    assert error.value.code == "bad-checkpoint"


def test_a_nan_is_named_where_networks_are_rounded(scene: Scene) -> None:
    trainer = Trainer(scene, EIGHT)
    with torch.no_grad():
        trainer.model.predict_net.hidden.weight[0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"predict_net\.hidden\.weight") as error:
        trainer._step(EIGHT.settle_from)
    assert error.value.code == "not-finite"


def test_other_weights_are_refused(scene: Scene, tmp_path: Path) -> None:
    trainer = Trainer(scene, replace(EIGHT, iterations=10))
    trainer.train()
    with pytest.raises(OptionError, match="eight bits"):
        write_scene(trainer, tmp_path / "scene.adc")
    assert not (tmp_path / "scene.adc").exists()
