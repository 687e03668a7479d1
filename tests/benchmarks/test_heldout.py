"""benchmarks/weights.py and prefix.py: they measure what adcgs-eval measures, on the file's own capture alone."""

from __future__ import annotations

import csv
import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from adcgs.decode import open_scene
from adcgs.encode import write_scene
from adcgs.errors import OptionError
from adcgs.evaluation.evaluate import evaluate
from adcgs.evaluation.matching import load_matching_scene
from adcgs.scene import load_scene
from adcgs.training import Trainer

from ..captures import write_dnerf
from ..evaluation.fakes import FakeDecoded, FakeScene
from ..training.test_trainer import TINY

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def small(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file at half the capture's size, over black."""
    trainer = Trainer(load_scene(balls, downscale=2, background=(0, 0, 0)), replace(TINY, iterations=30))
    trainer.train()
    file = tmp_path_factory.mktemp("small") / "scene.adc"
    write_scene(trainer, file)
    return file


def measured(
    monkeypatch: pytest.MonkeyPatch, name: str, file: Path, capture: Path, table: Path
) -> list[dict[str, str]]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr("sys.argv", [f"{name}.py", str(file), str(capture), "-o", str(table)])
    importlib.import_module(name).main()
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", ["weights", "prefix"])
def test_a_file_is_measured_at_its_own_size_and_over_its_own_background(
    small: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    decoded = open_scene(small)
    psnr = evaluate(decoded, load_matching_scene(balls, decoded)).mean["psnr"]
    rows = measured(monkeypatch, name, small, balls, tmp_path / "table.csv")
    whole = rows[0] if name == "weights" else rows[-1]
    assert float(whole["psnr"]) == pytest.approx(psnr, abs=1e-3)
    columns = {"weights": "scene,weights,bytes,network_bytes,psnr", "prefix": "scene,bytes,last,psnr"}
    assert ",".join(whole) == columns[name]
    assert whole["bytes"] == str(small.stat().st_size)


@pytest.mark.parametrize("name", ["weights", "prefix"])
def test_another_capture_gives_no_number(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    other = write_dnerf(tmp_path / "other", train=5, test=3)
    with pytest.raises(OptionError, match="was not made from"):
        measured(monkeypatch, name, small, other, tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.parametrize("name", ["weights", "prefix"])
def test_a_capture_without_held_out_views_gives_no_number(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    capture = write_dnerf(tmp_path / "balls")
    for split in ("test", "val"):
        (capture / f"transforms_{split}.json").unlink()
    with pytest.raises(OptionError, match="balls: has no test or validation views") as error:
        measured(monkeypatch, name, small, capture, tmp_path / "table.csv")
    assert error.value.code == "no-views"
    assert not (tmp_path / "table.csv").exists()


def test_views_are_drawn_where_the_file_has_their_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The capture's own normalised space may be another one: it is made anew with every loading."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    heldout = importlib.import_module("heldout")
    scene = FakeScene()
    decoded = FakeDecoded(scene, tmp_path / "a.adc")
    monkeypatch.setattr(heldout, "open_scene", lambda *_, **__: decoded)
    heldout.heldout_psnr(decoded.path, scene, 100)
    stored = [view.camera for view in decoded.views if view.split == "test"]
    assert len(decoded.asked) == len(stored)
    for (asked, _), camera in zip(decoded.asked, stored, strict=True):
        np.testing.assert_allclose(asked.world_to_camera, camera.world_to_camera)
