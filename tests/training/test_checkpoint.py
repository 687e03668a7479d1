"""A checkpoint made to break a run is refused before its first step, in one line that names file and tensor."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adcgs.errors import TrainingError
from adcgs.scene import Scene, load_scene
from adcgs.training import Trainer
from adcgs.training.checkpoint import load_checkpoint, save_checkpoint
from adcgs.training.optimiser import ANCHOR_TENSORS
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .test_trainer import TINY, stop_after

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def scene(balls: Path) -> Scene:
    return load_scene(balls)


@pytest.fixture(scope="module")
def whole(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensors, dict[str, Any]]:
    """Of a run with moments, sums over views and steps of a rate: what ``save_checkpoint`` takes."""
    state = tmp_path_factory.mktemp("whole") / "state"
    with pytest.raises(KeyboardInterrupt):
        Trainer(scene, TINY, state).train(stop_after(22), report_every=0.0)
    tensors, rest = load_checkpoint(state)
    del rest["format"]
    assert {"adam.1.0.exp_avg", "significance.gradient", "steps.factor.f_v"} <= set(tensors)
    return tensors, rest


def another(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], None]:
    """Damage to one tensor."""

    def damage(tensors: Tensors) -> None:
        tensors[name] = change(tensors[name]).clone()

    return damage


def without(name: str) -> Callable[[Tensors], None]:
    def damage(tensors: Tensors) -> None:
        del tensors[name]

    return damage


def added(name: str, value: Tensor) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: value})


def no_anchors(tensors: Tensors) -> None:
    for name in ANCHOR_TENSORS:
        tensors[f"model.{name}"] = tensors[f"model.{name}"][:0]


ONE = torch.ones(())
DAMAGES: list[tuple[str, str, Callable[[Tensors], None]]] = [
    # Adam's kernel goes through moments by address, as far as the parameter reaches.
    ("adam.1.0.exp_avg", "of one number", another("adam.1.0.exp_avg", lambda _: torch.zeros(1))),
    ("adam.1.0.exp_avg_sq", "a row short", another("adam.1.0.exp_avg_sq", lambda v: v[:-1])),
    ("adam.1.0.exp_avg", "turned", another("adam.1.0.exp_avg", lambda v: v.T)),
    ("adam.1.0.exp_avg", "half", another("adam.1.0.exp_avg", lambda v: v.half())),
    ("adam.1.0.exp_avg", "gone", without("adam.1.0.exp_avg")),
    ("adam.1.0.exp_avg_sq", "gone", without("adam.1.0.exp_avg_sq")),
    ("adam.1.0.step", "gone", without("adam.1.0.step")),
    ("adam.1.0.step", "-1", another("adam.1.0.step", lambda v: v * 0 - 1)),
    ("adam.1.0.step", "nan", another("adam.1.0.step", lambda v: v * torch.nan)),
    ("adam.1.0.step", "inf", another("adam.1.0.step", lambda v: v * torch.inf)),
    ("adam.1.0.step", "whole", another("adam.1.0.step", lambda v: v.long())),
    ("adam.1.0.step", "two", another("adam.1.0.step", lambda v: v.expand(2))),
    ("adam.99.0.step", "of no group", added("adam.99.0.step", ONE)),
    ("adam.-1.0.step", "of a group from behind", added("adam.-1.0.step", ONE)),
    ("adam.1.7.step", "of no parameter", added("adam.1.7.step", ONE)),
    ("adam.one.0.step", "of a name", added("adam.one.0.step", ONE)),
    ("adam.step", "of nothing", added("adam.step", ONE)),
    ("adam.1.0.max", "of another optimiser", added("adam.1.0.max", ONE)),
    ("model.f_v", "a row short", another("model.f_v", lambda v: v[:-1])),
    ("model.f_v", "a channel short", another("model.f_v", lambda v: v[:, :-1])),
    ("model.sigma", "a row long", another("model.sigma", lambda v: torch.cat([v, v[:1]]))),
    ("model.f_g", "double", another("model.f_g", lambda v: v.double())),
    ("model.positions", "one number", another("model.positions", lambda v: v[0, 0])),
    ("model.color", "gone", without("model.color")),
    ("model.positions", "of no anchors", no_anchors),
    ("significance.gradient", "one anchor's", another("significance.gradient", lambda v: v[: TINY.model.primitives])),
    ("significance.opacity", "a row short", another("significance.opacity", lambda v: v[:-1])),
    ("significance.views", "none", another("significance.views", lambda v: v[:0])),
    ("significance.weight", "gone", without("significance.weight")),
    ("steps.factor.f_g_1", "a row short", another("steps.factor.f_g_1", lambda v: v[:-1])),
    ("steps.mean.color", "gone", without("steps.mean.color")),
    ("steps.log_q.f_g", "a channel short", another("steps.log_q.f_g", lambda v: v[:-1])),
    ("steps.gathers", "two", another("steps.gathers", lambda v: v.expand(2))),
    ("origin", "two numbers", another("origin", lambda v: v[:2])),
    ("capture.pictures", "gone", without("capture.pictures")),
    ("capture.poses", "a view short", another("capture.poses", lambda v: v[:-1])),
    ("capture.times", "whole", another("capture.times", lambda v: v.long())),
]


def test_undamaged_it_goes_on(scene: Scene, whole: tuple[Tensors, dict[str, Any]], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "state", *whole)
    Trainer.from_checkpoint(scene, tmp_path / "state").train()


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name, _, damage in DAMAGES],
    ids=[f"{name} {how}" for name, how, _ in DAMAGES],
)
def test_it_is_refused(
    scene: Scene,
    whole: tuple[Tensors, dict[str, Any]],
    tmp_path: Path,
    name: str,
    damage: Callable[[Tensors], None],
) -> None:
    tensors, rest = whole
    tensors = dict(tensors)
    damage(tensors)
    save_checkpoint(tmp_path / "state", tensors, rest)
    with pytest.raises(TrainingError) as error:
        Trainer.from_checkpoint(scene, tmp_path / "state")
    assert error.value.code == "bad-checkpoint"
    assert str(error.value).startswith(f"{tmp_path / 'state'}: ")
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("times", lambda v: v + 0.01),
        ("poses", lambda v: v + 0.01),
        ("pictures", lambda v: v + 0.02),
        ("pictures", lambda v: v * torch.nan),
    ],
    ids=["times", "poses", "pictures", "no number"],
)
def test_other_views_of_the_same_number_and_size_are_refused(
    scene: Scene,
    whole: tuple[Tensors, dict[str, Any]],
    tmp_path: Path,
    name: str,
    change: Callable[[Tensor], Tensor],
) -> None:
    tensors, rest = whole
    tensors = dict(tensors)
    another(f"capture.{name}", change)(tensors)
    save_checkpoint(tmp_path / "state", tensors, rest)
    with pytest.raises(TrainingError, match=f"made from a capture with other {name}; use the same capture") as error:
        Trainer.from_checkpoint(scene, tmp_path / "state")
    assert error.value.code == "bad-checkpoint"


def test_a_second_take_is_another_capture_and_a_decoders_rounding_is_none(
    balls: Path, scene: Scene, whole: tuple[Tensors, dict[str, Any]], tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "state", *whole)
    rounded, take = tmp_path / "rounded", tmp_path / "take"
    for folder, change in ((rounded, rounded_otherwise), (take, mirrored)):
        shutil.copytree(balls, folder)
        for path in folder.rglob("*.png"):
            Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    Trainer.from_checkpoint(load_scene(rounded), tmp_path / "state")
    with pytest.raises(TrainingError, match="other pictures"):
        Trainer.from_checkpoint(load_scene(take), tmp_path / "state")


def rounded_otherwise(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every other number one higher, where it can be."""
    raised = np.arange(image.size).reshape(image.shape) % 2
    return np.minimum(image.astype(np.int64) + raised, 255).astype(np.uint8)


def mirrored(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Its masks stay as many pixels, its cameras where they are."""
    return np.ascontiguousarray(image[:, ::-1])
