"""benchmarks/scenes.py: rows made of the commands' reports, results that are reused only when they still hold."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from adcgs.errors import OptionError
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
VIEWS = 5

COMPONENTS = [
    {"name": "header", "bytes": 100, "coefficients": None},
    {"name": "networks.predict", "bytes": 300, "coefficients": None},
    {"name": "networks.fine", "bytes": 200, "coefficients": None},
    {"name": "entropy", "bytes": 50, "coefficients": None},
    {"name": "positions", "bytes": 40, "coefficients": 3},
    {"name": "hyper", "bytes": 10, "coefficients": 4},
    {"name": "f_v", "bytes": 70, "coefficients": 32},
    {"name": "sigma", "bytes": 25, "coefficients": 6},
    {"name": "color", "bytes": 15, "coefficients": 3},
    {"name": "f_g_0", "bytes": 60, "coefficients": 80},
    {"name": "f_g_1", "bytes": 20, "coefficients": 80},
]


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("scenes")


@pytest.fixture
def runs(scenes: ModuleType) -> ModuleType:
    return importlib.import_module("runs")


@pytest.fixture
def rows(scenes: ModuleType) -> ModuleType:
    return importlib.import_module("rows")


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def view(number: int, camera: int) -> dict[str, Any]:
    name = f"cam00/{number:04d}"
    return {"name": name, "time": number / 4, "camera_id": camera, "psnr": 30.0 + number, "psnr_dynamic": 20.0}


class Commands:
    """Stands in for the installed commands: gives their reports, writes their images, counts their runs."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fail: str | None = None
        self.camera = 0  # of all views
        self.error: type[Exception] = Exception

    def __call__(self, verb: str, *arguments: object, log: Path, cwd: Path | None = None, name: str = "") -> Any:
        self.ran.append(name or verb)
        if verb == self.fail:
            raise self.error(f"adcgs-{verb} ended with 2: error: no")
        options = [str(a) for a in arguments]
        report = getattr(self, name or verb)(options, cwd)
        (log / f"{name or verb}.json").write_text(json.dumps(report))
        return report

    def encode(self, options: list[str], cwd: Path | None) -> dict[str, Any]:
        Path(options[options.index("-o") + 1]).write_bytes(b"file")
        return {"minutes": 1.5, "iterations": 70, "psnr_model": 32.5, "psnr_unrounded": 32.6}

    def inspect(self, options: list[str], cwd: Path | None) -> dict[str, Any]:
        return {"anchors": 10, "components": COMPONENTS}

    def eval(self, options: list[str], cwd: Path | None) -> dict[str, Any]:
        folder = Path(options[options.index("--save-images") + 1])
        for kind in ("truth", "decoded"):
            (folder / kind).mkdir(parents=True)
            for k in range(VIEWS):
                picture(k).save(folder / kind / f"cam00_{k:04d}.png")
        mean = {"psnr": 32.0, "psnr_dynamic": 20.0, "ssim": 0.9, "ms_ssim": None, "lpips": None, "fps": 5.0}
        views = [view(k, self.camera) for k in range(VIEWS)]
        return {"width": 30, "height": 20, "split": "test", "bytes": 890, "mean": mean, "views": views}

    def decode(self, options: list[str], cwd: Path | None) -> dict[str, Any]:
        assert cwd is not None
        assert [p.name for p in cwd.iterdir()] == ["scene.adc"]
        (cwd / "frames").mkdir()
        for k in range(VIEWS):
            picture(k).save(cwd / "frames" / f"cam00_{k:04d}.png")
        (cwd / "frames" / "cameras.json").write_text(json.dumps([{"name": f"v{k}"} for k in range(VIEWS)]))
        return {}

    def smooth(self, options: list[str], cwd: Path | None) -> dict[str, Any]:
        assert cwd is not None
        assert len(json.loads((cwd / "one.json").read_text())) == 1
        (cwd / "smooth").mkdir()
        for k in range(3):
            picture(k).save(cwd / "smooth" / f"t{k}.png")
        return {"names": ["t0", "t1", "t2"]}


@pytest.fixture
def commands(scenes: ModuleType, runs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Commands:
    fake = Commands()
    fake.error = runs.StepError
    for module in (scenes, runs):
        monkeypatch.setattr(module, "command", fake)
    return fake


def settings(scenes: ModuleType, **changed: Any) -> Any:
    given = {"capture": "captures/room", "minutes": 1.0, "iterations": None, "downscale": 1.0, "threads": 1}
    return scenes.Settings(**{**given, "encode_args": (), "st_lpips": False, **changed})


def test_components_add_up_to_the_file(rows: ModuleType) -> None:
    totals = rows.component_bytes(COMPONENTS)
    assert totals == {
        "positions": 40, "f_v": 80, "f_g": 80, "sigma": 25, "color": 15, "networks": 550, "rest": 100
    }  # fmt: skip
    assert sum(totals.values()) == sum(c["bytes"] for c in COMPONENTS)  # type: ignore[misc]


def test_bits_per_coefficient_leave_out_positions_and_count_the_hyperprior_as_overhead(rows: ModuleType) -> None:
    bits = rows.bits_per_coefficient({"anchors": 10, "components": COMPONENTS})
    assert bits == pytest.approx(8 * (10 + 70 + 25 + 15 + 60 + 20) / (10 * (32 + 6 + 3 + 80 + 80)))


def test_a_scene_gives_a_row_pictures_and_tables(scenes: ModuleType, commands: Commands, tmp_path: Path) -> None:
    row = scenes.run_scene(settings(scenes), tmp_path, False)
    assert commands.ran == ["encode", "inspect", "eval", "decode", "smooth"]
    assert row["size"] == "30x20"
    assert row["psnr_loss"] == pytest.approx(32.5 - 32.0)
    assert row["psnr_rounding"] == pytest.approx(32.6 - 32.5)
    assert row["psnr_frames"] == 100
    files = {p.name for p in (tmp_path / "room").iterdir()}
    assert {"scene.adc", "result.json", "view_0.jpg", "slice.jpg", "smooth.jpg"} <= files
    assert "images" not in files
    scenes.write_tables([row], settings(scenes), tmp_path, 1)
    text = (tmp_path / "scenes.md").read_text()
    assert "| room | 30x20 | 5 test | 32.00 | 20.00 |" in text
    assert "MS-SSIM" not in text  # no scene has it
    assert "![view_0.jpg](room/view_0.jpg)" in text
    assert "room,30x20,5 test,32.0,20.0" in (tmp_path / "scenes.csv").read_text()


def test_a_camera_that_moves_has_no_slice_of_its_views(scenes: ModuleType, commands: Commands, tmp_path: Path) -> None:
    commands.camera = -1
    scenes.run_scene(settings(scenes), tmp_path, False)
    files = {p.name for p in (tmp_path / "room").iterdir()}
    assert {"view_0.jpg", "smooth.jpg"} <= files
    assert "slice.jpg" not in files


def test_results_are_reused_only_with_the_same_settings(scenes: ModuleType, commands: Commands, tmp_path: Path) -> None:
    first = scenes.run_scene(settings(scenes), tmp_path, False)
    commands.ran.clear()
    assert scenes.run_scene(settings(scenes), tmp_path, False) == first
    assert commands.ran == []
    scenes.run_scene(settings(scenes, minutes=2.0), tmp_path, False)
    assert commands.ran[0] == "encode"
    commands.ran.clear()
    scenes.run_scene(settings(scenes, minutes=2.0), tmp_path, True)
    assert commands.ran[0] == "encode"


def test_a_training_by_steps_stands_when_only_its_measurement_changes(
    scenes: ModuleType, commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with another --jobs, by which --threads goes; how far a training by minutes gets depends on them."""
    steps = settings(scenes, minutes=None, iterations=70)
    assert scenes.run_scene(steps, tmp_path, False)["minutes"] == 1.5
    commands.ran.clear()
    row = scenes.run_scene(replace(steps, threads=2), tmp_path, False)
    assert commands.ran == ["inspect", "eval", "decode", "smooth"]
    assert row["minutes"] is None, "they were those of one thread"
    assert "room: is measured anew, its training stands: threads 1, now 2" in capsys.readouterr().err
    scenes.run_scene(replace(steps, threads=2, st_lpips=True), tmp_path, False)
    assert "encode" not in commands.ran
    scenes.run_scene(replace(steps, threads=2, downscale=2.0), tmp_path, False)
    assert "encode" in commands.ran


def test_results_that_are_replaced_are_named_with_what_differs(
    scenes: ModuleType, commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes.run_scene(settings(scenes), tmp_path, False)
    commands.ran.clear()
    assert "anew" not in capsys.readouterr().err
    scenes.run_scene(settings(scenes, threads=2), tmp_path, False)
    assert commands.ran[0] == "encode"
    [line] = [line for line in capsys.readouterr().err.splitlines() if "anew" in line]
    assert line == "room: is made anew, what was there had other settings: threads 1, now 2"


@pytest.mark.parametrize("stated", [None, "[]", "{", '{"capture": "room", "window": [800, 600]}'])
@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_no_run_made_is_refused_and_stays(
    scenes: ModuleType, commands: Commands, tmp_path: Path, stated: str | None, force: bool
) -> None:
    photo = tmp_path / "room" / "photo.png"
    photo.parent.mkdir()
    photo.write_bytes(b"mine")
    if stated is not None:
        (tmp_path / "room" / "settings.json").write_text(stated)
    with pytest.raises(OptionError, match=r"room: holds files, .* give another -o, or remove the folder"):
        scenes.run_scene(settings(scenes), tmp_path, force)
    assert photo.read_bytes() == b"mine"
    assert commands.ran == []


@pytest.mark.parametrize("output", ["captures", "captures/room", "captures/room/images"])
def test_results_do_not_go_where_a_capture_is(scenes: ModuleType, tmp_path: Path, output: str) -> None:
    (tmp_path / "captures" / "room").mkdir(parents=True)
    one = settings(scenes, capture=str(tmp_path / "captures" / "room"))
    with pytest.raises(OptionError, match=r"where a capture is; give another -o"):
        scenes.check_folders([one], tmp_path / output, [])
    scenes.check_folders([one], tmp_path / "out", [])
    (tmp_path / "captures" / "hall").mkdir()
    (tmp_path / "captures" / "hall" / "transforms_train.json").write_text("{}")
    with pytest.raises(OptionError, match=r"where a capture is; give another -o"):
        scenes.check_folders([one], tmp_path / "captures" / "hall" / "out", [])


def test_an_empty_folder_is_taken(scenes: ModuleType, commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    assert "error" not in scenes.run_scene(settings(scenes), tmp_path, False)


def test_tables_name_the_commits_that_measured_their_runs(
    scenes: ModuleType, runs: ModuleType, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def head(*rows: Any) -> str:
        scenes.write_tables(rows, settings(scenes), tmp_path, 1)
        return (tmp_path / "scenes.md").read_text().splitlines()[0]  # type: ignore[no-any-return]

    monkeypatch.setattr(runs, "commit", lambda: "1234567")
    first = scenes.run_scene(settings(scenes), tmp_path, False)
    monkeypatch.setattr(runs, "commit", lambda: "89abcde+changes")
    kept = scenes.run_scene(settings(scenes), tmp_path, False)
    other = scenes.run_scene(settings(scenes, capture="captures/hall"), tmp_path, False)
    assert "cores, code of commit 1234567. Measured" in head(first)
    assert "cores, code of commit 1234567. Measured" in head(kept), "another commit reads what this one measured"
    assert "cores, code of commit 1234567 and 89abcde+changes. Measured" in head(kept, other)
    result = tmp_path / "room" / "result.json"
    result.write_text(json.dumps({key: value for key, value in first.items() if key != "commit"}))
    older = scenes.run_scene(settings(scenes), tmp_path, False)
    assert "code of commit 89abcde+changes, of some runs not known. Measured" in head(older, other)
    assert "commit" not in head(older)


def test_the_commit_is_that_of_the_benchmarks_repository(
    runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git")

    def ask(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"]
        line = [git, "-C", str(tmp_path), *who, *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    def found() -> str | None:
        runs.commit.cache_clear()
        return runs.commit()  # type: ignore[no-any-return]

    program = tmp_path / "benchmarks" / "runs.py"
    program.parent.mkdir()
    program.write_text("one")
    monkeypatch.setattr(runs, "__file__", str(program))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)  # as a hook has them
    assert found() is None, "no repository"
    ask("init")
    ask("commit", "--allow-empty", "-m", "somebody else's")
    assert found() is None, "a repository that does not hold it"
    ask("add", ".")
    ask("commit", "-m", "ours")
    name = ask("rev-parse", "--short", "HEAD")
    assert found() == name
    (tmp_path / "out").write_text("results are no change")
    assert found() == name
    program.write_text("two")
    assert found() == f"{name}+changes"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found() is None, "no git"
    runs.commit.cache_clear()


def test_after_a_failure_the_training_is_not_repeated(scenes: ModuleType, commands: Commands, tmp_path: Path) -> None:
    commands.fail = "eval"
    row = scenes.run_scene(settings(scenes), tmp_path, False)
    assert row == {"scene": "room", "error": "adcgs-eval ended with 2: error: no"}
    scenes.write_tables([row], settings(scenes), tmp_path, 1)
    assert "**room failed**" in (tmp_path / "scenes.md").read_text()
    commands.fail = None
    commands.ran.clear()
    assert "error" not in scenes.run_scene(settings(scenes), tmp_path, False)
    assert commands.ran == ["inspect", "eval", "decode", "smooth"]


def test_captures_are_found_by_content_and_name(scenes: ModuleType, tmp_path: Path) -> None:
    find_captures = importlib.import_module("settings").find_captures
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "transforms_train.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    assert [p.name for p in find_captures(tmp_path, None)] == ["a", "b"]
    assert [p.name for p in find_captures(tmp_path, "b")] == ["b"]
    assert find_captures(tmp_path / "a", None) == [tmp_path / "a"]
    with pytest.raises(OptionError, match="no capture x; there are: a, b"):
        find_captures(tmp_path, "b,x")
