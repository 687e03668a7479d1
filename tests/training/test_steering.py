"""A target is met: the controller against simulated runs, whole runs against their files, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from adcgs.cli.common import parse_size
from adcgs.decode import open_scene
from adcgs.encode import write_scene
from adcgs.errors import OptionError
from adcgs.evaluation.metrics import psnr
from adcgs.model import ModelConfig
from adcgs.scene import Scene, load_scene
from adcgs.training import Trainer, TrainingConfig
from adcgs.training import steering as steering_module
from adcgs.training.budget import fit_to_size, least_bytes
from adcgs.training.steering import Steering, crossing

from .test_trainer import stop_after

SMALL = TrainingConfig(
    minutes=None,
    iterations=300,
    initial_anchors=250,
    max_anchors=300,
    target_weights="int8",
    model=ModelConfig(primitives=3, prediction_width=16, deformation_width=16, knots=6),
)


@pytest.fixture(scope="module")
def scene(balls: Path) -> Scene:
    return load_scene(balls)


@pytest.fixture(scope="module")
def natural(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, float]:
    """Bytes and PSNR of a run without a target."""
    file = tmp_path_factory.mktemp("natural") / "natural.adc"
    encode(scene, SMALL, file)
    return file.stat().st_size, file_psnr(scene, file)


def encode(scene: Scene, config: TrainingConfig, file: Path) -> Trainer:
    trainer = Trainer(scene, config)
    trainer.train()
    report = write_scene(trainer, file, weights=config.target_weights)
    assert report.is_met
    return trainer


def file_psnr(scene: Scene, file: Path) -> float:
    """Mean over training views, of what a decoder shows."""
    decoded = open_scene(file)
    frames = scene.split("train")
    return sum(psnr(decoded.render(f.camera, f.time), scene.target(f)) for f in frames) / len(frames)


# ---------------------------------------------------------------- whole runs


@pytest.mark.parametrize("share", [0.8, 1.2], ids=["smaller", "larger"])
def test_a_target_size_is_met_by_the_file(
    scene: Scene, natural: tuple[int, float], tmp_path: Path, share: float
) -> None:
    target = round(natural[0] * share)
    trainer = encode(scene, replace(SMALL, target_bytes=target), tmp_path / "scene.adc")
    assert (tmp_path / "scene.adc").stat().st_size == pytest.approx(target, rel=0.05)
    assert (trainer.rate_lambda > SMALL.rate_lambda) == (share < 1)


@pytest.mark.parametrize("difference", [-1.0, -0.5])
def test_a_target_psnr_is_met_by_the_file_in_fewer_bytes(
    scene: Scene, natural: tuple[int, float], tmp_path: Path, difference: float
) -> None:
    size, quality = natural
    encode(scene, replace(SMALL, target_psnr=quality + difference), tmp_path / "scene.adc")
    assert file_psnr(scene, tmp_path / "scene.adc") == pytest.approx(quality + difference, abs=0.2)
    assert (tmp_path / "scene.adc").stat().st_size < size


@pytest.mark.parametrize(
    ("target", "iterations"),
    [({"target_bytes": 24_000}, 130), ({"target_bytes": 24_000}, 290), ({"target_psnr": 22.0}, 150)],
    ids=["size, steered", "size, sealed", "PSNR, steered"],
)
def test_a_run_with_a_target_resumes_alike(
    scene: Scene, tmp_path: Path, target: dict[str, float], iterations: int
) -> None:
    config = replace(SMALL, **target)  # type: ignore[arg-type]
    whole = Trainer(scene, config)
    whole.train()
    write_scene(whole, tmp_path / "whole.adc", weights="int8")
    state = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        Trainer(scene, config, state).train(stop_after(iterations), report_every=0.0)
    resumed = Trainer.from_checkpoint(scene, state, state)
    resumed.train()
    write_scene(resumed, tmp_path / "resumed.adc", weights="int8")
    assert (tmp_path / "resumed.adc").read_bytes() == (tmp_path / "whole.adc").read_bytes()


# ---------------------------------------------------------------- the controller


@pytest.mark.parametrize("slope", [-0.2, -0.3, -0.5])
@pytest.mark.parametrize("lag", [60, 200, 350])
@pytest.mark.parametrize("wanted", [0.4, 1.0, 1.6])
def test_lambda_finds_the_size_of_runs_that_answer_slowly(
    monkeypatch: pytest.MonkeyPatch, slope: float, lag: int, wanted: float
) -> None:
    """A simulated run: log bytes follow slope * log lambda with a lag, and start three times too high."""
    monkeypatch.setattr(steering_module, "smallest_weight_bits", lambda trainer: 6)
    monkeypatch.setattr(steering_module, "bytes_besides", lambda trainer, bits: 50_000)
    steering = Steering(TrainingConfig(minutes=None, iterations=4000, target_bytes=50_000 + round(wanted * 100_000)))
    run = SimpleNamespace(iteration=0, bits=None)
    log_bytes = math.log(300_000)
    for iteration in range(1000, 3200):
        settled = math.log(100_000) + slope * math.log(steering.rate_lambda / 1e-3)
        log_bytes += (settled - log_bytes) / lag
        run.iteration, run.bits = iteration, 8 * math.exp(log_bytes)
        steering.observe(run, iteration / 4000)  # type: ignore[arg-type]
    assert math.exp(log_bytes) == pytest.approx(wanted * 100_000, rel=0.05)


def test_a_crossing_is_found_or_the_nearer_end() -> None:
    assert crossing(lambda x: 0.3 - x, -1, 1, 20) == pytest.approx(0.3, abs=1e-5)
    assert crossing(lambda x: 5 - x, -1, 1, 20) == 1
    assert crossing(lambda x: -5 - x, -1, 1, 20) == -1


# ---------------------------------------------------------------- before a run


def test_a_target_that_networks_fill_is_refused_with_the_remedy(scene: Scene) -> None:
    least = least_bytes(SMALL, scene, "fp32")
    with pytest.raises(OptionError, match="--weights int8") as error:
        fit_to_size(replace(SMALL, target_bytes=least, target_weights="fp32"), scene)
    assert error.value.code == "target-too-small"
    assert str(least) in str(error.value)
    assert fit_to_size(replace(SMALL, target_bytes=2 * least, target_weights="fp32"), scene).target_bytes == 2 * least


def test_a_target_that_no_file_can_fill_is_refused(scene: Scene) -> None:
    with pytest.raises(OptionError, match=r"--target-size 100000000000: .* give less") as error:
        fit_to_size(replace(SMALL, target_bytes=100_000_000_000), scene)
    assert error.value.code == "target-too-large"


def test_the_anchor_budget_follows_extreme_targets_but_not_the_users_own(scene: Scene) -> None:
    least = least_bytes(SMALL, scene, "int8")
    small, large = (replace(SMALL, target_bytes=least + room) for room in (1500, 100_000))
    assert fit_to_size(small, scene).max_anchors < SMALL.max_anchors < fit_to_size(large, scene).max_anchors
    assert fit_to_size(replace(SMALL, target_bytes=least + 9000), scene).max_anchors == SMALL.max_anchors
    assert fit_to_size(large, scene, keep_anchors=True) == large


@pytest.mark.parametrize(
    ("text", "size"), [("500KB", 500_000), ("0.5MB", 500_000), ("400 KiB", 409_600), ("123456", 123_456)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KB", "-5KB", "5 parsecs", "1e5", "0", "nan", "5KB5"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_size(text)
    assert error.value.code == "bad-size"


@pytest.mark.parametrize(
    "change",
    [{"target_bytes": 0}, {"target_psnr": float("nan")}, {"target_bytes": 9999, "target_psnr": 30.0}],
    ids=["no bytes", "no number", "both"],
)
def test_impossible_targets_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        replace(SMALL, **change)  # type: ignore[arg-type]
