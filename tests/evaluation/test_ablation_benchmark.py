"""benchmarks/ablation.py: rows are settings that adcgs-encode takes; differences are between equals."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from adcgs.errors import OptionError
from adcgs.scene import load_scene
from adcgs.training import Trainer, TrainingConfig
from adcgs.training.overrides import apply, parse_assignments

from ..captures import write_dnerf, write_rig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("ablation")


def row(scene: str, name: str, seed: int, psnr: float, size: int = 1000) -> dict[str, Any]:
    return {"scene": scene, "row": name, "seed": seed, "psnr": psnr, "bytes": size, "ssim": 0.9, "fps": 10.0}


def test_every_row_is_another_configuration_that_can_be_set(ablation: ModuleType) -> None:
    configs = {
        variant.name: (apply(TrainingConfig(), parse_assignments(variant.changes)), variant.options)
        for variant in ablation.ROWS
        if variant not in ablation.DERIVED
    }
    full = configs.pop("full")
    assert full == (TrainingConfig(), ())
    assert all(config != full for config in configs.values())
    assert len(set(map(str, configs.values()))) == len(configs)


def test_each_of_the_papers_stages_keeps_what_the_one_above_has_and_adds_to_it(ablation: ModuleType) -> None:
    names = [variant.name for variant in ablation.STAGES]
    assert names == ["static", "coarse", "fine", "rate", "full"]
    changes = [set(variant.changes) for variant in ablation.STAGES]
    assert [earlier - later for earlier, later in pairwise(changes)] == [
        {"model.coarse=false", "mover_instants=0"},
        {"model.fine=false"},
        {"hyperprior=false", "adaptive_step=false"},  # and lambda is 0 above it, see below
        {"refine=false"},
    ]
    assert all(later < earlier for earlier, later in pairwise(changes)), "one takes away what the one above has"
    assert [("--lambda" in ablation.arguments(v, 0)) for v in ablation.STAGES] == [True, True, True, False, False]


def test_no_search_is_a_row_only_where_a_run_searches(
    ablation: ModuleType, balls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judged by the trainer: of the shortest run that has the row, and of one that is a step shorter."""
    settings = ablation.Settings(str(balls), None, 1000, 1.0, 1, (), False)
    [variant] = [row for row in ablation.ROWS if row.name == "no-search"]

    def applies(**changes: float | None) -> bool:
        return ablation._applies(variant, replace(settings, **changes))

    monkeypatch.setattr("adcgs.training.trainer.can_search", lambda _: True)  # but for its length
    shortest = next(count for count in range(1000, 5000) if applies(iterations=count))
    for iterations in (shortest - 1, shortest):
        config = replace(TrainingConfig(), minutes=None, iterations=iterations, initial_anchors=100)
        trainer, searched = Trainer(load_scene(balls), config), False
        for iteration in range(iterations):
            trainer.iteration = iteration
            searched = searched or trainer._searches_at(trainer.progress())
        assert searched == (iterations == shortest)
    assert not applies(iterations=None, minutes=4.9)
    assert applies(iterations=None, minutes=5.0)


@pytest.mark.parametrize(
    ("extra", "there"),
    [
        ("", True),
        ("--set missing_anchors=0", False),
        ("--set missing_anchors=1", True),
        ("--set missing_after=1949", True),  # 0.65 of 3000 steps, refine_until, are 1950
        ("--set missing_after=1950", False),
        ("--set missing_after=5000", False),
        ("--set missing_at=0.64", True),
        ("--set missing_after=100 --set refine_until=0.3", True),
        ("--set refine_until=0.3", False),
        ("--set freeze_positions_at=0.3", False),
        ("--set model.coarse=false", False),
        ("--set model.coarse_opacity=off", False),
        ("--preset best", True),
    ],
)
def test_no_search_is_judged_by_the_configuration_that_runs_have(
    ablation: ModuleType, balls: Path, extra: str, there: bool
) -> None:
    [variant] = [row for row in ablation.ROWS if row.name == "no-search"]
    settings = ablation.Settings(str(balls), None, 3000, 1.0, 1, tuple(extra.split()), False)
    assert ablation._applies(variant, settings) == there


def test_differences_are_to_the_full_method_of_the_same_scene_and_seed(ablation: ModuleType) -> None:
    rows = [
        row("a", "full", 0, 30.0), row("a", "full", 1, 31.0), row("b", "full", 0, 20.0),
        row("a", "decay", 0, 29.0, 900), row("a", "decay", 1, 30.4, 900), row("b", "decay", 0, 20.2, 1100),
        {**row("b", "rate", 0, 10.0), "error": "no"},
    ]  # fmt: skip
    full, decay = ablation.summarise(rows, ["a", "b"])
    assert (full["psnr"], full["psnr_change"], full["runs"]) == (pytest.approx((30.5 + 20) / 2), 0.0, 3)
    assert decay["psnr_change"] == pytest.approx(((-1.0 - 0.6) / 2 + 0.2) / 2)  # over seeds, then over scenes
    assert decay["bytes_change"] == pytest.approx(0.0)
    assert decay["psnr_spread"] == pytest.approx(0.08**0.5)  # of -1 and -0.6; b has one seed
    assert ablation.summarise(rows, ["b"])[1]["psnr_spread"] is None


def test_only_close_rows_need_more_seeds(ablation: ModuleType) -> None:
    rows = [row("a", "full", 0, 30.0), row("a", "decay", 0, 29.6), row("a", "static", 0, 20.0)]

    class Settings:
        scene = "a"

    close = [v.name for v in ablation.ROWS if ablation._is_close(rows, Settings, v)]
    assert close == ["full", "decay"]


def test_runs_are_kept_and_tables_written(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dnerf(tmp_path / "room", train=3, test=1)
    ran = []

    def measured(settings: Any, folder: Path) -> dict[str, Any]:
        ran.append(settings.encode_args)
        return {"psnr": 30.0 - len(ran) % 2, "bytes": 1000, "fps": 5.0}

    monkeypatch.setattr(ablation, "encode_and_score", measured)
    monkeypatch.setattr("runs.commit", lambda: "1234567")
    options = ["--rows", "full,one-chunk,no-movers", "--seeds", "2", "--all-seeds", "--jobs", "1"]
    monkeypatch.setattr("sys.argv", ["ablation.py", str(tmp_path), *options, "-o", str(tmp_path / "out")])
    for _ in range(2):  # the second time everything is there
        ablation.main()
    assert sorted(ran) == sorted(
        [("--seed", "0"), ("--seed", "1"), ("--set", "chunks=1", "--seed", "0"), ("--set", "chunks=1", "--seed", "1")]
    )
    shown = capsys.readouterr().out
    assert "f_g in one chunk" in shown
    assert "on held-out views (test)" in shown
    assert "cores, code of commit 1234567. Measured" in shown
    assert len((tmp_path / "out" / "ablation.csv").read_text().splitlines()) == 5


def test_validation_views_are_measured_if_asked_for(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And are other settings: what was measured on test views is not taken for it, older results are of test views."""
    runs = importlib.import_module("runs")
    write_dnerf(tmp_path / "room", train=3, test=1)
    asked = []

    def command(name: str, *options: object, log: Path) -> dict[str, Any]:
        asked.append((name, "val" if "val" in options else "test" if "test" in options else ""))
        return {"psnr": 30.0}

    def measured(settings: Any, folder: Path) -> dict[str, Any]:
        if settings.split == "test":
            (folder / "trained").touch()
        return {**runs.score(settings, folder, folder / "scene.adc"), "bytes": 1000}

    monkeypatch.setattr(runs, "command", command)
    monkeypatch.setattr(ablation, "encode_and_score", measured)
    line = ["ablation.py", str(tmp_path), "--rows", "full", "--seeds", "1", "-o", str(tmp_path / "out")]
    for options in ([], ["--split", "val"], ["--split", "val"]):
        monkeypatch.setattr("sys.argv", [*line, *options])
        ablation.main()
    assert asked == [("eval", "test"), ("eval", "val")]
    assert (tmp_path / "out" / "room" / "full" / "0" / "trained").exists(), "the training stands"

    stated = tmp_path / "out" / "room" / "full" / "0" / "settings.json"
    settings = json.loads(stated.read_text())
    del settings["split"]
    stated.write_text(json.dumps(settings))
    monkeypatch.setattr("sys.argv", line)
    ablation.main()
    assert len(asked) == 2


@pytest.mark.parametrize("only", ["none", "val"])
def test_a_capture_without_views_to_choose_by_is_refused_before_anything_runs(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: str
) -> None:
    """Validation views that are reported for want of others, as HyperNeRF's, are none to choose by."""
    (tmp_path / "rig").mkdir()
    rig = write_rig(tmp_path / "rig")
    if only == "val":
        shots = [SimpleNamespace(split=split) for split in ("train", "val")]
        monkeypatch.setattr(ablation, "read_capture", lambda *_: SimpleNamespace(shots=shots))
    monkeypatch.setattr("sys.argv", ["ablation.py", str(rig), "--split", "val", "-o", str(tmp_path / "out")])
    monkeypatch.setattr(ablation, "encode_and_score", lambda *_: pytest.fail("it trains"))
    with pytest.raises(OptionError, match=r"rig has (no such views|none besides)") as error:
        ablation.main()
    assert error.value.code == "no-views"
    assert not (tmp_path / "out").exists()


def test_test_views_are_those_of_any_capture(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture without test views reports its validation views, and every number that others have."""
    rows = importlib.import_module("rows")
    (tmp_path / "rig").mkdir()
    settings = ablation.Settings(str(write_rig(tmp_path / "rig")), None, 1000, 1.0, 1, (), False)
    monkeypatch.setattr(ablation, "read_capture", lambda *_: SimpleNamespace(shots=[SimpleNamespace(split="val")]))
    ablation._require_views(settings)
    report = {"minutes": 1.0, "iterations": 10, "psnr_model": 30.5, "psnr_unrounded": 30.75}
    scores = {"width": 8, "height": 8, "split": "val", "views": [{"psnr": 30.0}], "mean": {"psnr": 30.0}, "bytes": 9}
    sizes = {"anchors": 1, "components": [], "config": {}}
    monkeypatch.setattr(rows, "bits_per_coefficient", lambda _: 1.0)
    row = rows.make_row("a", report, sizes, scores)
    assert (row["psnr_model"], row["psnr_loss"], row["psnr_rounding"]) == (30.5, 0.5, 0.25)
    row = rows.make_row("a", report, sizes, scores, "val")
    assert not {"psnr_model", "psnr_loss", "psnr_rounding"} & set(row), "those are of the test views"


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("--set chunks=2", "row one-chunk: --set chunks: is given twice"),
        ("--target-size 50KB", "row static: lambda is 0, which no target can be met with"),
        ("--target-size much", "--target-size much"),
        ("--background plaid", "--background plaid"),
    ],
    ids=["a row's own field", "a target without a rate", "no size", "no colour"],
)
def test_what_a_row_cannot_be_run_with_is_refused_before_anything_runs(
    ablation: ModuleType, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, said: str
) -> None:
    monkeypatch.setattr(ablation, "encode_and_score", lambda *_: pytest.fail("it ran"))
    options = ["--rows", "static,full,one-chunk", "--extra-encode-args", extra, "-o", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["ablation.py", str(balls), *options])
    with pytest.raises(OptionError, match=said):
        ablation.main()
    assert not (tmp_path / "out").exists()
