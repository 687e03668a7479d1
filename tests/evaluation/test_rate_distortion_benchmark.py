"""benchmarks/rate_distortion.py and videos.py: tables that join, curves that are what they say, equal bytes."""

from __future__ import annotations

import importlib
import math
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from adcgs.decode import open_scene
from adcgs.encode import write_scene
from adcgs.errors import OptionError
from adcgs.evaluation.metrics import psnr
from adcgs.evaluation.tables import Column, write_csv
from adcgs.gaussians import Gaussians
from adcgs.scene import load_scene
from adcgs.training import Trainer

from ..captures import write_rig
from ..training.test_trainer import TINY
from .fakes import FakeDecoded, FakeScene, shifted

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("rate_distortion")


@pytest.fixture
def videos(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("videos")


@pytest.fixture(scope="module")
def encoded(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    trainer = Trainer(load_scene(balls), replace(TINY, iterations=40))
    trainer.train()
    file = tmp_path_factory.mktemp("encoded") / "scene.adc"
    write_scene(trainer, file)
    return file


def row(scene: str, value: float, size: int, psnr: float, method: str = "adcgs") -> dict[str, Any]:
    return {"scene": scene, "method": method, "lambda": value, "bytes": size, "psnr": psnr}


def curve(scene: str, scale: float = 1.0) -> list[dict[str, Any]]:
    return [row(scene, 10.0**-k, int(scale * 1000 * 2**k), 28.0 + k) for k in range(4)]


def test_what_is_said_of_a_file_elsewhere_joins_its_row(program: ModuleType) -> None:
    about = {"scene": "a", "method": "adcgs", "lambda": 1e-3, "bytes": 8000, "psnr_train": 33.0}
    video = {"scene": "a", "method": "AV1", "lambda": 1e-3, "bytes": 7900, "psnr_train": 40.0}
    lines = program.merged([*curve("a"), about, video])
    assert len(lines) == 5
    assert lines[3]["psnr"] == 31.0
    assert lines[3]["psnr_train"] == 33.0
    found = program.curves(lines)
    assert found["AV1 of the training views"] == [(7.9, 40.0)]
    assert found["adcgs, training views"] == [(8.0, 33.0)]
    assert sorted(found["adcgs, held-out views"]) == [(1.0, 28.0), (2.0, 29.0), (4.0, 30.0), (8.0, 31.0)]


def test_the_mean_is_over_lambdas_that_every_scene_has(program: ModuleType) -> None:
    lines = program.merged([*curve("a"), *curve("b", 3.0)[:2]])
    means = [line for line in lines if line["scene"] == "mean"]
    assert [(line["lambda"], line["bytes"], line["psnr"]) for line in means] == [(1.0, 2000, 28.0), (0.1, 4000, 29.0)]


def test_a_mean_over_videos_of_other_bytes_than_their_files_says_so(program: ModuleType) -> None:
    videos = [row("a", 1.0, 1000, 30.0, "AV1"), {**row("b", 1.0, 800, 30.0, "AV1"), "note": "the best"}]
    (mean,) = [
        line for line in program.merged([*videos, *curve("a"), *curve("b")]) if line.get("note", "") == "b: the best"
    ]
    assert (mean["scene"], mean["method"], mean["bytes"]) == ("mean", "AV1", 900)


def test_bd_of_two_tables(program: ModuleType) -> None:
    """At equal quality the second table takes half of scene a's bytes and three quarters of scene b's."""
    before = [*curve("a"), *curve("b"), *curve("mean")]
    after = [*curve("a", 0.5), *curve("b", 0.75)]
    lines = program.bd_rows(before, after, "psnr")
    assert [(line["scene"], line["rate"]) for line in lines] == [
        ("a", pytest.approx(-50)), ("b", pytest.approx(-25)), ("mean", pytest.approx(-37.5))
    ]  # fmt: skip
    assert lines[0]["quality"] == pytest.approx(1.0)  # twice the bytes are a decibel in these curves


def test_curves_that_cannot_be_compared_say_why(program: ModuleType) -> None:
    after = [row("a", 1e-3, 5000, 10.0), row("a", 1e-2, 2000, 9.0)]
    (line,) = program.bd_rows(curve("a"), after, "psnr")
    assert "share no" in line["note"]
    with pytest.raises(OptionError, match="no scene with ssim"):
        program.bd_rows(curve("a"), after, "ssim")


@pytest.mark.parametrize(("points", "warns"), [(2, True), (3, True), (4, False)])
def test_few_points_make_a_number_with_a_warning(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], points: int, warns: bool
) -> None:
    tables = [tmp_path / "before.csv", tmp_path / "after.csv"]
    for table, rows in zip(tables, (curve("a"), curve("a", 0.75)[:points]), strict=True):
        write_csv(table, rows, program._all_columns())
    for given in (tables, tables[::-1]):  # whichever of the two is short
        program.compare_tables([str(table) for table in given])
        captured = capsys.readouterr()
        assert ("-25.00" if given == tables else "+33.33") in captured.out
        assert captured.err.count("\n") == int(warns)
        assert (f"warning: a: a curve of {points} points" in captured.err) == warns


def test_a_curve_of_one_point_is_refused(program: ModuleType, tmp_path: Path) -> None:
    tables = [tmp_path / "before.csv", tmp_path / "after.csv"]
    for table, rows in zip(tables, (curve("a"), curve("a")[:1]), strict=True):
        write_csv(table, rows, program._all_columns())
    with pytest.raises(OptionError, match="a: the test curve has 1 point"):
        program.compare_tables([str(table) for table in tables])


def test_tables_and_plots_are_written(program: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("scipy")
    parts = dict.fromkeys([*program.SECTIONS, "rest"], 500)
    rows = [{**one, **parts, "commit": "1234567"} for one in curve("a")]
    settings = program.Settings("captures/a", 1.0, None, 1.0, 1, (), False)
    failed = {"scene": "a", "method": "static model", "lambda": 1e-3, "error": "it broke"}
    program.write_tables([*rows, failed], [settings], tmp_path, 1)
    assert (tmp_path / "rd_a.png").stat().st_size > 5000
    assert (tmp_path / "bytes.png").stat().st_size > 5000
    text = (tmp_path / "rd.md").read_text()
    assert "**a, static model failed**: it broke" in text
    assert "cores, code of commit 1234567. Measured" in text
    assert "![bytes by component](bytes.png)" in text


def test_baselines_are_made_again_when_a_file_is_newer(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a" / "lambda_1e-3" / "scene.adc"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"file")
    made = []
    columns = [column.key for column in program.BASELINES["videos"]]

    def run(name: str, settings: Any, files: list[Path], table: Path) -> None:
        made.append(files)
        found = {"scene": "a", "method": "AV1", "bytes": 4, "psnr_train": 40.5, "of": str(files[0])}
        table.write_text(f"{','.join(columns)}\n{','.join(str(found.get(key, '')) for key in columns)}\n")

    monkeypatch.setattr(program, "_run_program", run)
    settings = program.Settings("captures/a", 1.0, None, 1.0, 1, (), False)
    asked = (settings, "videos", ["1e-3", "1e-2"], tmp_path, False)
    about = {"scene": "a", "method": "AV1", "bytes": 4, "psnr_train": 40.5, "lambda": 1e-3}
    row = dict.fromkeys(key for key in columns if key != "of") | about
    assert program.baseline(*asked) == program.baseline(*asked) == [row]
    assert made == [[file]]  # there is no file of the other lambda
    later = (tmp_path / "a" / "videos.csv").stat().st_mtime + 10
    os.utime(file, (later, later))
    program.baseline(*asked)
    assert len(made) == 2
    os.utime(tmp_path / "a" / "videos.csv", (later, later))
    program.baseline(*asked)
    assert len(made) == 2
    newer = {"videos": [*program.BASELINES["videos"], Column("more", "a later version's")]}
    monkeypatch.setattr(program, "BASELINES", newer)
    program.baseline(*asked)
    assert len(made) == 3


def stand_in(crf: int) -> tuple[int, float]:
    """A codec whose bytes halve, and whose PSNR falls by 3 dB, with every step of the CRF from 10 to 20."""
    assert 10 <= crf <= 20
    return 1000 * 2 ** (20 - crf), 30.0 + 3 * (20 - crf)


def test_psnr_in_a_files_bytes_lies_between_the_neighbours_linearly_in_the_logarithm(videos: ModuleType) -> None:
    """The codec gains 3 dB an octave: between its points as well, which PSNR linear in bytes would miss by 0.26 dB."""
    for budget in (1001, 3000, 5000, 1_023_999):
        found = videos.in_bytes(stand_in, 10, 20, budget)
        assert found["bytes"] == budget
        assert found["psnr_train"] == pytest.approx(30 + 3 * math.log2(budget / 1000))
        assert "note" not in found
    found = videos.in_bytes(stand_in, 10, 20, 3000)
    assert (found["crf"], found["bytes_better"], found["bytes_worse"]) == ("18-19", 4000, 2000)


@pytest.mark.parametrize("crf", [10, 11, 15, 19, 20])
def test_a_quality_of_just_a_files_bytes_stands_as_measured(videos: ModuleType, crf: int) -> None:
    size, quality = stand_in(crf)
    assert videos.in_bytes(stand_in, 10, 20, size) == {"bytes": size, "psnr_train": quality, "crf": crf}


@pytest.mark.parametrize(("budget", "crf"), [(999, 20), (1, 20), (1_024_001, 10), (10**9, 10)])
def test_beyond_the_best_and_the_worst_quality_nothing_is_made_up(videos: ModuleType, budget: int, crf: int) -> None:
    found = videos.in_bytes(stand_in, 10, 20, budget)
    assert (found["bytes"], found["psnr_train"], found["crf"]) == (*stand_in(crf), crf)
    assert found["note"] == (videos.ALL_LARGER if crf == 20 else videos.ALL_SMALLER)
    assert "bytes_better" not in found


def test_bytes_that_rise_with_the_crf_here_and_there_are_bracketed_by_what_was_measured(videos: ModuleType) -> None:
    sizes = dict(zip(range(10, 21), (900, 700, 720, 500, 300, 310, 320, 200, 150, 160, 100), strict=True))
    for budget in range(101, 900):
        found = videos.in_bytes(lambda crf: (sizes[crf], float(sizes[crf])), 10, 20, budget)
        if budget in sizes.values():
            assert found["bytes"] == budget
            continue
        better, worse = map(int, found["crf"].split("-"))
        assert worse == better + 1
        assert sizes[better] == found["bytes_better"] > budget > found["bytes_worse"] == sizes[worse]
        assert sizes[worse] < found["psnr_train"] < sizes[better]


def test_a_rig_is_one_video_per_camera(videos: ModuleType, tmp_path: Path) -> None:
    scene = load_scene(write_rig(tmp_path, cameras=4))
    found = videos.Videos(scene)
    assert [len(clip) for clip in found.clips] == [7, 7, 7]
    assert all(len({f.camera_id for f in clip}) == 1 for clip in found.clips)
    for codec in videos.CODECS:
        small, large = (videos.in_bytes(partial(found.at, codec), *codec.crf, size) for size in (6_000, 12_000))
        assert (small["bytes"], large["bytes"]) == (6_000, 12_000)
        assert 20 < small["psnr_train"] < large["psnr_train"] < 60
        worse, better = (found.at(codec, int(crf))[1] for crf in reversed(str(small["crf"]).split("-")))
        assert worse <= small["psnr_train"] <= better


def test_codecs_get_the_bytes_of_a_file_and_are_measured_on_its_views(
    videos: ModuleType, encoded: Path, balls: Path
) -> None:
    ours, *theirs = videos.compare(balls, [encoded])
    assert (ours["method"], [row["method"] for row in theirs]) == ("adcgs", ["AV1", "H.265"])
    assert ours["bytes"] == encoded.stat().st_size
    assert 8 < ours["psnr_train"] < 40
    for found in theirs:
        assert found["bytes"] == ours["bytes"] or found["note"] == videos.ALL_SMALLER
        assert found["of"] == str(encoded)
        assert found["psnr_train"] > 25


def test_views_are_compared_in_their_cameras_own_colours(
    videos: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = FakeScene()  # camera 0 is for training, camera 1 is held out
    decoded = FakeDecoded(scene, tmp_path / "a.adc")
    scenes_colors = decoded.render

    def render(camera: Any, time: float, camera_id: int | None = None) -> torch.Tensor:
        return scenes_colors(camera, time) + (0.0 if camera_id == expected else 0.2)

    monkeypatch.setattr(decoded, "render", render)
    heldout = importlib.import_module("heldout")
    for module in (videos, heldout):
        monkeypatch.setattr(module, "open_scene", lambda *_, **__: decoded)
    expected = 0
    assert videos.ours(decoded.path, scene) == 100
    expected = 1
    assert heldout.heldout_psnr(decoded.path, scene, 5) == 100


@pytest.mark.parametrize("name", ["videos", "spz_frames"])
def test_every_file_must_be_of_the_capture(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: ModuleType
) -> None:
    scene = FakeScene()
    first, other = (FakeDecoded(scene, tmp_path / f"{letter}.adc") for letter in "ab")
    other.views = [shifted(view, 3.0) for view in other.views]
    heldout = importlib.import_module("heldout")
    monkeypatch.setattr(heldout, "open_scene", lambda file: other if file == other.path else first)
    monkeypatch.setattr(heldout, "load_matching_scene", lambda *_: scene)
    assert heldout.load_scene_of([first.path, first.path], scene.root) is scene
    with pytest.raises(OptionError, match=r"b\.adc: was not made from capture"):
        importlib.import_module(name).compare(scene.root, [first.path, other.path])


def test_a_file_as_spz_per_frame_looks_alike_and_is_far_larger(
    monkeypatch: pytest.MonkeyPatch, encoded: Path, balls: Path
) -> None:
    pytest.importorskip("gsply")
    monkeypatch.syspath_prepend(BENCHMARKS)
    (found,) = importlib.import_module("spz_frames").compare(balls, [encoded])
    decoded, scene = open_scene(encoded), load_scene(balls)
    scores = [psnr(decoded.render(f.camera, f.time).numpy(), scene.target(f)) for f in scene.split("test")]
    assert found["psnr"] == pytest.approx(np.mean(scores), abs=1.0)
    assert found["frames"] == scene.frame_count
    assert found["bytes"] > encoded.stat().st_size


def test_a_moving_camera_is_one_video_in_order_of_time(videos: ModuleType, balls: Path) -> None:
    (clip,) = videos.clips(load_scene(balls))
    times = [frame.time for frame in clip]
    assert times == sorted(times)
    assert len(times) == 12


def test_gaussians_come_back_from_spz_as_exact_as_it_stores_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("gsply")
    monkeypatch.syspath_prepend(BENCHMARKS)
    spz = importlib.import_module("spz_frames")
    torch.manual_seed(0)
    quaternions = torch.nn.functional.normalize(torch.randn(50, 4), dim=1)
    quaternions = quaternions * quaternions[:, :1].sign()
    given = Gaussians(
        torch.rand(50, 3) * 2 - 1, quaternions, torch.rand(50, 3) * 0.05 + 0.01, torch.rand(50), torch.rand(50, 3)
    )
    assert spz.write(given, tmp_path / "frame.spz") == (tmp_path / "frame.spz").stat().st_size > 0
    back = spz.read(tmp_path / "frame.spz")
    turned = back.quaternions * back.quaternions[:, :1].sign()
    assert float((back.means - given.means).abs().max()) < 2.0**-16
    assert float((back.scales / given.scales).log().abs().max()) < 1 / 16
    assert float((back.opacities - given.opacities).abs().max()) < 1 / 128
    assert float((back.colors - given.colors).abs().max()) < 1 / 128
    assert float((turned - quaternions).abs().max()) < 0.01


def test_pictures_of_odd_and_small_sizes_come_back_whole(videos: ModuleType) -> None:
    ramp = np.linspace(0, 255, 45 * 31).astype(np.uint8).reshape(31, 45, 1).repeat(3, 2)
    for codec in videos.CODECS:
        size, data = videos.encode([ramp, ramp], codec, codec.crf[0], 25)
        decoded = list(videos.decode(data))
        assert 0 < size < len(data)
        assert len(decoded) == 2
        assert np.abs(decoded[1][:31, :45].astype(int) - ramp).mean() < 3
