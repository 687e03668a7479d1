"""Cameras that differ in exposure: the difference is found, kept in the file, and left off for other cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.decode import open_scene
from adcgs.encode import write_scene
from adcgs.errors import TrainingError
from adcgs.evaluation.metrics import psnr
from adcgs.scene import Scene, load_scene
from adcgs.training import Trainer
from adcgs.training.budget import least_bytes
from adcgs.training.camera_colors import CameraColors, fixed_cameras
from adcgs.training.grid import Grid, on_grid, trained_grid
from adcgs.training.losses import l1_dssim
from PIL import Image

from ..captures import write_rig
from .test_trainer import TINY, stop_after

MEAN = 0.85
# Of the training cameras 1 to 7, around their mean; camera 0 is held out.
GAINS = {c: MEAN + 0.15 * offset for c, offset in zip(range(1, 8), (-1, 0, 1, -1, 0, 1, 0), strict=True)}
CONFIG = replace(
    TINY,
    iterations=500,
    mover_instants=0,
    initial_anchors=150,
    max_anchors=200,
    camera_colors=True,
    lr_camera_colors=2e-3,  # so few steps must do
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The balls before cameras of three exposures; the held-out one has their mean."""
    folder = write_rig(tmp_path_factory.mktemp("rig"))
    for picture in sorted(folder.glob("ims/*/*.png")):
        with Image.open(picture) as image:
            pixels = np.asarray(image, float)
        gain = GAINS.get(int(picture.parent.name), MEAN)
        Image.fromarray((gain * pixels).round().astype(np.uint8)).save(picture)
    return load_scene(folder, downscale=2, background=(MEAN, MEAN, MEAN))


@pytest.fixture(scope="module")
def trained(rig: Scene) -> Trainer:
    trainer = Trainer(rig, CONFIG)
    trainer.train()
    return trainer


def test_exposures_are_found_up_to_their_mean(trained: Trainer) -> None:
    assert trained.colors is not None
    for camera, row in trained.colors.rows().items():
        light = row[:, :3].sum(axis=1) + row[:, 3]  # what the white background becomes
        np.testing.assert_allclose(MEAN + MEAN * light.mean(), GAINS[camera], atol=0.06)


def test_the_file_shows_known_cameras_in_their_colours_and_new_ones_in_the_scenes(
    trained: Trainer, tmp_path: Path
) -> None:
    rig = trained.scene
    write_scene(trained, tmp_path / "scene.adc")
    decoded = open_scene(tmp_path / "scene.adc")
    assert set(decoded.camera_colors) == set(GAINS)
    for frame in rig.split("train")[::9]:
        memory = trained.render(frame).numpy()
        own = decoded.render(frame.camera, frame.time, camera_id=frame.camera_id).numpy()
        assert np.mean((memory - own) ** 2) < 1e-6
        if GAINS[frame.camera_id] != MEAN:
            plain = decoded.render(frame.camera, frame.time).numpy()
            assert psnr(own, rig.target(frame)) > psnr(plain, rig.target(frame)) + 1
    for frame in rig.split("test")[:2]:
        shown = decoded.render(frame.camera, frame.time, camera_id=frame.camera_id)
        torch.testing.assert_close(shown, decoded.render(frame.camera, frame.time), rtol=0, atol=0)


def test_views_of_all_cameras_profit(trained: Trainer, rig: Scene) -> None:
    without = Trainer(rig, replace(CONFIG, camera_colors=False))
    without.train()

    def mean(trainer: Trainer, split: str) -> float:
        return float(np.mean([psnr(trainer.render(f), rig.target(f)) for f in rig.split(split)]))

    assert mean(trained, "train") > mean(without, "train") + 2
    assert mean(trained, "test") > mean(without, "test")


def test_the_mean_difference_stays_zero(trained: Trainer) -> None:
    assert trained.colors is not None
    np.testing.assert_allclose(np.mean(list(trained.colors.rows().values()), axis=0), 0, atol=1e-6)
    colors = CameraColors(fixed_cameras([4, -1, 2, 4], asked=True))
    assert list(colors.index) == [2, 4]
    image = torch.rand(5, 6, 3)
    assert colors.show(image, 9) is image
    torch.testing.assert_close(colors.show(image, 2), image)


def test_a_run_with_camera_colours_resumes_alike(rig: Scene, tmp_path: Path) -> None:
    config = replace(CONFIG, iterations=60)
    whole = Trainer(rig, config)
    whole.train()
    write_scene(whole, tmp_path / "whole.adc")
    state = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        Trainer(rig, config, state).train(stop_after(30), report_every=0.0)
    resumed = Trainer.from_checkpoint(rig, state, state)
    resumed.train()
    write_scene(resumed, tmp_path / "resumed.adc")
    assert (tmp_path / "resumed.adc").read_bytes() == (tmp_path / "whole.adc").read_bytes()


def test_four_fixed_cameras_are_told_apart_unasked_and_others_only_if_asked(rig: Scene, balls: Path) -> None:
    plain = replace(TINY, mover_instants=0)
    unasked = Trainer(rig, plain).colors
    assert unasked is not None
    assert set(unasked.index) == set(GAINS)
    assert Trainer(rig, replace(plain, camera_colors=False)).colors is None
    assert Trainer(load_scene(balls), plain).colors is None


def test_what_a_file_takes_without_anchors_counts_its_cameras_colours(rig: Scene) -> None:
    with_colors, without = (least_bytes(replace(TINY, camera_colors=told), rig, "int8") for told in (None, False))
    assert with_colors - without == 1 + 25 * len(GAINS)  # a count, and an id below 128 and twelve f16 each


def test_a_capture_without_fixed_cameras_is_refused(balls: Path) -> None:
    with pytest.raises(TrainingError, match="--camera-colors") as error:
        Trainer(load_scene(balls), replace(TINY, camera_colors=True))
    assert error.value.code == "no-fixed-cameras"


def test_the_position_grid_is_judged_in_the_cameras_colours(trained: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []

    def judge(positions: torch.Tensor, origin: torch.Tensor, distortion: Callable[[Grid], float], *_: float) -> Grid:
        here = on_grid(positions, origin, trained.voxel)  # where the anchors are already
        judged.append(distortion(here))
        return here

    monkeypatch.setattr("adcgs.training.grid.choose_grid", judge)
    monkeypatch.setattr(trained, "config", replace(trained.config, voxel=None))
    trained_grid(trained)
    chosen = np.unique(np.linspace(0, len(trained.frames) - 1, 8).round().astype(int))
    frames = [trained.frames[i] for i in chosen]
    targets = [torch.from_numpy(trained.scene.target(frame)) for frame in frames]
    weight = trained.config.ssim_weight
    shown = [float(l1_dssim(trained.render(f), target, weight)) for f, target in zip(frames, targets, strict=True)]
    assert judged == [pytest.approx(np.mean(shown), rel=1e-3)]
