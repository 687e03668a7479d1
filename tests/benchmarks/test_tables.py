"""The benchmarks over captures, whole, on a tiny one: what they print is what is in the files that they wrote."""

from __future__ import annotations

import csv
import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from adcgs.cli.resuming import without_preset
from adcgs.errors import OptionError

from ..captures import write_dnerf

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NO_CAMERAS = BENCHMARKS.parent / "bitstream_spec" / "conformance" / "valid" / "one_anchor.adc"
TINY = ("--threads", "1", "--jobs", "2", "--extra-encode-args=--max-anchors 100 --set initial_anchors=80")
WITH_OPTIONS = [file.stem for file in sorted(BENCHMARKS.glob("*.py")) if "parse_args" in file.read_text("utf-8")]
ABLATED = ("full", "int8", "late-int8")


def run(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, BENCHMARKS / f"{name}.py", *arguments]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=400, check=False)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def out(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where rate_distortion.py, with the lambdas that it has, wrote to."""
    folder = tmp_path_factory.mktemp("rd")
    result = run("rate_distortion", balls, "--iterations", "24", "--no-baselines", *TINY, "-o", "rd", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_curves_have_every_lambda_with_its_files_size(out: Path) -> None:
    rows = [row for row in rows_of(out / "rd" / "rd.csv") if row["method"] == "adcgs"]
    assert [float(row["lambda"]) for row in rows] == [5e-4, 1.5e-3, 5e-3, 1.5e-2]
    files = [file.stat().st_size for file in (out / "rd").glob("balls/lambda_*/scene.adc")]
    assert sorted(int(row["bytes"]) for row in rows) == sorted(files)
    assert all(float(row["psnr"]) > 5 for row in rows)
    assert (out / "rd" / "rd_balls.png").read_bytes()[1:4] == b"PNG"
    [static] = [row for row in rows_of(out / "rd" / "rd.csv") if row["method"] == "static model"]
    assert int(static["bytes"]) < min(files), "it has no deformation networks"


def test_a_table_does_not_differ_from_itself(out: Path) -> None:
    rows = rows_of(out / "rd" / "rd.csv")
    for place, row in enumerate(rows):  # such short runs make no curve: here is one, and one that is 3 dB higher
        row["bytes"], row["psnr"] = str(1000 * 2**place), str(20 + 2 * place)
    for name, gain in (("one", 0), ("two", 3)):
        with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows([row | {"psnr": str(float(row["psnr"]) + gain)} for row in rows])
    same = run("rate_distortion", "bd", "one.csv", "one.csv", cwd=out)
    assert "+0.00" in same.stdout, same.stderr
    higher = run("rate_distortion", "bd", "one.csv", "two.csv", cwd=out)
    assert "+3.000" in higher.stdout, higher.stderr


def test_a_resumed_run_is_not_told_its_preset() -> None:
    words = ["--preset", "best", "--weights", "int8", "--preset=draft", "--set", "rate_every=2"]
    assert without_preset(words) == ["--weights", "int8", "--set", "rate_every=2"]


def test_an_ablation_changes_one_thing_a_row(balls: Path, tmp_path: Path) -> None:
    arguments = [balls, "--iterations", "24", "--seeds", "1", "--rows", ",".join(ABLATED), *TINY, "-o", "abl"]
    first = run("ablation", *arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    rows = rows_of(tmp_path / "abl" / "ablation.csv")
    assert {row["row"] for row in rows} == set(ABLATED)
    size = {row["row"]: row["bytes"] for row in rows}
    assert int(size["int8"]) < int(size["full"])
    assert int(size["late-int8"]) < int(size["full"])
    assert (tmp_path / "abl" / "ablation.md").read_text(encoding="utf-8") in first.stdout
    again = run("ablation", *arguments, cwd=tmp_path)  # all is there
    assert "started" not in again.stdout + again.stderr
    assert again.stdout == first.stdout


@pytest.mark.parametrize(
    ("name", "run_folder"), [("scenes", "{}"), ("ablation", "{}/full/0"), ("rate_distortion", "{}/lambda_1.5e-3")]
)
@pytest.mark.parametrize("place", ["the captures", "another capture of the name", "files of the user"])
def test_results_never_take_the_place_of_captures_or_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    name: str, run_folder: str, place: str,
) -> None:  # fmt: skip
    captures = tmp_path / "captures"
    for scene in ("room", "hall"):
        write_dnerf(captures / scene, train=3, test=1)
    output = captures if place == "the captures" else tmp_path / "out"
    if place == "another capture of the name":
        write_dnerf(output / run_folder.format("room"), train=3, test=1)
    elif place == "files of the user":
        (output / run_folder.format("room")).mkdir(parents=True)
        (output / run_folder.format("room") / "photo.png").touch()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.syspath_prepend(BENCHMARKS)
    program = importlib.import_module(name)
    measure = "_measure" if name == "scenes" else "encode_and_score"
    monkeypatch.setattr(program, measure, lambda *_: pytest.fail("it ran"))
    monkeypatch.setattr("sys.argv", [f"{name}.py", str(captures), "-o", str(output)])
    with pytest.raises(SystemExit) as stop:
        program.interruptible(program.main)
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "give another -o" in line
    assert str(output) in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("sizes", "cloud", "says"),
    [
        ("[]", b"", "sizes.json: is no object"),
        ("{", b"", "sizes.json"),
        ('{"a": [1, 2]}', b"", "a in sizes.json"),
        ('{"a": {"bits_per_axis": 8}}', b"", "tmc13_octree_bytes"),
        ('{"a": {"bits_per_axis": 8, "tmc13_octree_bytes": 0}}', b"", "0 is no number from 1 on"),
        ('{"a": {"bits_per_axis": 8, "tmc13_octree_bytes": 9}}', b"", "a.npz"),
        ('{"a": {"bits_per_axis": 8, "tmc13_octree_bytes": 9}}', b"PK\x03\x04cut", "a.npz"),
        ('{"a": {"bits_per_axis": 8, "tmc13_octree_bytes": 9}}', b"no archive", "a.npz"),
    ],
)
def test_a_broken_folder_of_clouds_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: str, cloud: bytes, says: str
) -> None:
    (tmp_path / "sizes.json").write_text(sizes)
    (tmp_path / "a.npz").write_bytes(cloud)
    monkeypatch.syspath_prepend(BENCHMARKS)
    with pytest.raises(OptionError, match="no folder of clouds") as error:
        importlib.import_module("positions").clouds(tmp_path)
    assert says in str(error.value)


def test_a_row_whose_speed_cannot_be_measured_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ablation notes a StepError in its table and goes on."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    runs, program = (importlib.import_module(name) for name in ("runs", "per_primitive"))
    with pytest.raises(runs.StepError, match=r"^per_primitive\.py ended with 2: error: .* holds no cameras"):
        program.frame_rates(NO_CAMERAS, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("rate_distortion", ["{balls}", "--lambdas", "1e-3,big"], "--lambdas"),
        ("rate_distortion", ["bd", "{balls}/transforms_train.json", "none.csv"], "transforms_train.json"),
        ("ablation", ["{balls}", "--rows", "full,moon"], "moon"),
        ("ablation", ["{balls}", "--rows", "int8"], "full"),
        ("rate_distortion", ["{balls}", "--lambdas", "1e-3,0.001"], "twice"),
        ("scenes", ["{balls}", "--only", "moon"], "moon"),
        ("scenes", ["{balls}", "--downscale", "bals=2"], "bals=2"),
        ("scenes", ["{balls}", "--extra-encode-args='"], "quotation"),
        ("scenes", ["{balls}", "--extra-encode-args=--frob"], "--extra-encode-args --frob: No such option"),
        ("ablation", ["{balls}", "--extra-encode-args=--frob"], "adcgs-encode --help"),
        ("rate_distortion", ["{balls}", "--extra-encode-args=--frob"], "--frob"),
        ("ablation", ["{balls}", "--extra-encode-args=--weights int7"], "int7"),
        ("ablation", ["{balls}", "--extra-encode-args=--help"], "--help"),
        ("ablation", ["{balls}", "--extra-encode-args=-o x.adc"], "--output is the benchmark's"),
        ("scenes", ["{balls}", "--extra-encode-args=--downscale 2"], "--downscale is the benchmark's"),
        ("ablation", ["{balls}", "--extra-encode-args=more"], "more"),
        ("ablation", ["{balls}", "--extra-encode-args=--seed"], "--seed"),
        ("ablation", ["{balls}", "--extra-encode-args=--set mising_at=0.2"], "close: missing_at"),
        ("ablation", ["{balls}", "--extra-encode-args=--set missing_at=0.9"], "refine_until"),
        ("ablation", ["{balls}", "--extra-encode-args=--minutes 3"], "--minutes is the benchmark's"),
        ("ablation", ["{balls}", "--extra-encode-args=--iterations 3"], "--iterations is the benchmark's"),
        ("scenes", ["{balls}", "--extra-encode-args=--iterations 3"], "--iterations is the benchmark's"),
        ("scenes", ["{balls}", "--extra-encode-args=--minutes 3"], "--minutes is the benchmark's"),
        ("ablation", ["{balls}", "--extra-encode-args=--seed 3"], "seeds are --seeds' to say"),
        ("rate_distortion", ["{balls}", "--extra-encode-args=--lambda 1e-3"], "lambdas are --lambdas' to say"),
        ("rate_distortion", ["{balls}", "--extra-encode-args=--lambda=1e-3"], "lambdas are --lambdas' to say"),
        ("ablation", ["{balls}", "--iterations", "20", "--minutes", "1"], "not allowed with"),
        ("scenes", ["{balls}", "--iterations", "20", "--minutes", "10"], "not allowed with"),
        ("rate_distortion", ["{balls}", "--minutes", "1", "--iterations", "20"], "not allowed with"),
        ("ablation", ["{balls}", "--jobs", "0"], "'0' is no number from 1 on"),
        ("scenes", ["{balls}/none"], "no such folder"),
        ("scenes", ["{balls}", "-o", "{balls}/transforms_train.json"], "is a file; name a folder"),
        ("ablation", ["{balls}", "-o", "{balls}/transforms_train.json"], "is a file; name a folder"),
        ("rate_distortion", ["{balls}", "-o", "{balls}/transforms_train.json"], "is a file; name a folder"),
        ("scenes", ["{balls}", "--downscale", "balls=nan"], "balls=nan"),
        ("scenes", ["{balls}", "--threads", "0"], "--threads"),
        ("scenes", ["{balls}", "--minutes", "nan"], "--minutes"),
        ("ablation", ["{balls}", "--minutes", "0"], "--minutes"),
        ("rate_distortion", ["{balls}", "--minutes", "-1"], "--minutes"),
        ("scenes", ["{balls}", "-o", "/dev/null/x"], "/dev/null/x"),
        ("rate_distortion", ["{balls}", "-o", "/dev/null/x"], "/dev/null/x"),
        ("ablation", ["{balls}", "-o", "/dev/null/x"], "/dev/null/x"),
        ("weights", ["none.adc", "{balls}"], "none.adc"),
        ("weights", ["{balls}/transforms_train.json", "{balls}"], "transforms_train.json"),
        ("videos", ["{balls}", "none.adc"], "none.adc"),
        ("prefix", ["none.adc", "{balls}"], "none.adc"),
        ("per_primitive", ["none.adc"], "none.adc"),
        ("per_primitive", ["none.adc", "--threads", "0"], "--threads"),
        ("decode", ["none.adc"], "none.adc"),
        *((name, [str(NO_CAMERAS)], "adc: holds no cameras") for name in ("decode", "per_primitive", "playback")),
        *((name, [str(NO_CAMERAS), "{balls}"], "holds no cameras") for name in ("weights", "prefix")),
        ("playback", ["none.adc"], "none.adc"),
        ("positions", ["none"], "none"),
        ("rate_distortion", ["bd", "one.csv"], "required: test"),
        ("rasterizer", ["--repeats", "0"], "--repeats"),
        ("step", ["--threads", "2,0"], "--threads"),
        *((name, ["--frob"], "--help says what there is") for name in WITH_OPTIONS),
    ],
)
def test_bad_arguments_are_one_line(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    name: str, arguments: list[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr("sys.argv", [f"{name}.py", *(word.format(balls=balls) for word in arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert list(tmp_path.iterdir()) == []
