"""The commands as a user runs them: one file in between, exit codes, one line for what is refused."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from adcgs.bitstream import Container
from PIL import Image

ENCODE = ["--iterations", "30", "--max-anchors", "80", "--threads", "1"]
# What adcgs[encode] brings must not be needed to decode.
BLOCKED = ("compressai", "open3d", "scipy", "torchmetrics", "torchvision", "matplotlib", "lpips", "sklearn")
ALONE = f"""
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
from adcgs.cli.decode import main
try:
    main(sys.argv[1:], standalone_mode=False)
finally:
    rooms = [m for m in sys.modules if m.startswith(("adcgs.training", "adcgs.scene", "adcgs.evaluation"))]
    assert not rooms, rooms
"""


def run(command: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = f"from adcgs.cli.{command} import main; main()"
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def encoded(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoded")
    result = run("encode", balls, "-o", "balls.adc", *ENCODE, "--json", cwd=folder)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["bytes"] == (folder / "balls.adc").stat().st_size
    assert not (folder / "balls.adc.checkpoint").exists()
    return folder / "balls.adc"


def test_decodes_in_an_empty_folder_without_the_encoders_libraries(encoded: Path, tmp_path: Path) -> None:
    (tmp_path / "only.adc").write_bytes(encoded.read_bytes())
    words = [sys.executable, "-c", ALONE, "only.adc", "--render", "frames", "--video", "out.mp4", "--views", "all"]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    frames = sorted(p.name for p in (tmp_path / "frames").glob("*.png"))
    assert len(frames) == 17
    assert "test_r_000.png" in frames
    with Image.open(tmp_path / "frames" / frames[0]) as image:
        assert image.size == (32, 32)
    with av.open(str(tmp_path / "out.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 17


def test_the_written_cameras_render_the_same_frames(encoded: Path, tmp_path: Path) -> None:
    assert run("decode", encoded, "--render", "a", cwd=tmp_path).returncode == 0
    result = run("decode", encoded, "--render", "b", "--views", "a/cameras.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for first in sorted((tmp_path / "a").glob("*.png")):
        with Image.open(first) as x, Image.open(tmp_path / "b" / first.name) as y:
            assert np.abs(np.asarray(x, int) - np.asarray(y, int)).max() <= 1


def test_orbit_times_and_size(encoded: Path, tmp_path: Path) -> None:
    result = run(
        "decode",
        encoded,
        "--render",
        "o",
        "--views",
        "orbit",
        "--times",
        "5",
        "--size",
        "40x24",
        "--json",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["frames"] == 5
    views = json.loads((tmp_path / "o" / "cameras.json").read_text())
    assert [v["time"] for v in views] == [0, 0.25, 0.5, 0.75, 1]
    images = [np.asarray(Image.open(p).convert("RGB"), int) for p in sorted((tmp_path / "o").glob("*.png"))]
    assert images[0].shape == (24, 40, 3)
    assert all((image.min(axis=2) < 200).mean() > 0.02 for image in images), "the orbit does not look at the scene"


def test_a_file_that_was_cut_is_shown_as_far_as_it_goes_and_named(encoded: Path, tmp_path: Path) -> None:
    with Container.open(encoded) as container:
        end = container.entry("f_g_1").end
    (tmp_path / "cut.adc").write_bytes(encoded.read_bytes()[:end])
    result = run("decode", "cut.adc", "--partial", "--render", "frames", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("cut.adc is cut; missing: f_g_2, f_g_3 (")
    assert len(list((tmp_path / "frames").glob("*.png"))) == 3


def test_inspect_accounts_for_every_byte(encoded: Path, tmp_path: Path) -> None:
    result = run("inspect", encoded, "--json", cwd=tmp_path)
    report = json.loads(result.stdout)
    assert sum(c["bytes"] for c in report["components"]) == encoded.stat().st_size == report["bytes"]


def test_eval_measures_the_decoded_file(encoded: Path, balls: Path, tmp_path: Path) -> None:
    result = run("eval", encoded, balls, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["bytes"] == encoded.stat().st_size
    assert len(report["views"]) == 3
    assert 8 < report["mean"]["psnr"] < 60
    assert report["mean"]["psnr"] == pytest.approx(np.mean([v["psnr"] for v in report["views"]]))


def test_a_checkpoint_is_coded_without_training(balls: Path, tmp_path: Path) -> None:
    first = run("encode", balls, "-o", "a.adc", *ENCODE, "--keep-checkpoint", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    again = run("encode", balls, "-o", "b.adc", "--checkpoint", "a.adc.checkpoint", "--threads", "1", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "a.adc").read_bytes() == (tmp_path / "b.adc").read_bytes()


NO_TORCHAC = """
import sys
sys.modules["torchac"] = None
from adcgs.cli.encode import main
main()
"""


def test_each_coder_codes_the_same_values(balls: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchac")
    first = run("encode", balls, "-o", "a.adc", *ENCODE, "--keep-checkpoint", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    source = ["--checkpoint", "a.adc.checkpoint", "--coder", "torchac"]
    again = run("encode", balls, "-o", "b.adc", *source, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    reports = [json.loads(run("inspect", f"{name}.adc", "--digest", "--json", cwd=tmp_path).stdout) for name in "ab"]
    assert [report["coder"] for report in reports] == ["constriction", "torchac"]
    assert reports[0]["digest"] == reports[1]["digest"]
    assert (tmp_path / "a.adc").read_bytes() != (tmp_path / "b.adc").read_bytes()


def test_a_coder_that_is_not_installed_is_refused_before_training(balls: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", NO_TORCHAC, str(balls), "-o", "x.adc", *ENCODE, "--coder", "torchac"]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: coder torchac cannot be loaded")
    assert "adcgs[torchac]" in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_target_size_is_met_and_said(balls: Path, tmp_path: Path) -> None:
    options = ["--iterations", "60", "--target-size", "150KB", "--threads", "1"]
    result = run("encode", balls, "-o", "a.adc", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "a.adc").stat().st_size == pytest.approx(150_000, rel=0.05)
    assert "target 150.0 KB, reached 1" in result.stderr


def test_a_stored_run_refuses_options_that_contradict_it(balls: Path, tmp_path: Path) -> None:
    first = run("encode", balls, "-o", "a.adc", *ENCODE, "--keep-checkpoint", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    options = (["--seed", "77"], ["--preset", "best"], ["--lambda", "0.5"], ["--voxel", "0.01"], ["--camera-colors"])
    for option in (*options, ["--set", "model.primitives=3"]):
        for source in (["--checkpoint", "a.adc.checkpoint"], ["--resume"]):
            result = run("encode", balls, "-o", "a.adc", *source, *option, cwd=tmp_path)
            assert result.returncode == 2, result.stderr
            assert option[0] in result.stderr
    result = run("encode", balls, "-o", "a.adc", "--resume", "--set", "model.primitves=3", cwd=tmp_path)
    assert result.returncode == 2
    assert "close: model.primitives" in result.stderr
    result = run("encode", balls, "-o", "a.adc", "--resume", "--background", "black", cwd=tmp_path)
    assert result.returncode == 2
    assert "--background" in result.stderr


def test_ctrl_c_saves_and_says_how_to_go_on(balls: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("adcgs-encode")
    options = ["--iterations", "100000", "--downscale", "2", "--threads", "1"]
    line = [str(program), str(balls), "-o", "long name.adc", *options]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "training" not in said.splitlines()[-1:]:
            said += process.stderr.readline()
        time.sleep(20)  # into its steps
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=120)
    assert process.returncode == 130, said + rest
    assert (tmp_path / "long name.adc.checkpoint").is_file()
    [hint] = [text for text in rest.splitlines() if text.startswith("resume with: ")]
    words = shlex.split(hint.removeprefix("resume with: "))
    assert words[1:] == [*line[1:], "--resume"]


def test_what_a_run_fitted_to_its_scene_or_size_may_be_said_again_to_resume_it(balls: Path, tmp_path: Path) -> None:
    line = ["encode", balls, "-o", "a.adc", "--iterations", "20", "--downscale", "2", "--weights", "int8"]
    line += ["--set", "model.knots=200", "--set", "initial_anchors=3000", "--target-size", "90KB", "--keep-checkpoint"]
    first = run(*line, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "instead of" in first.stderr
    again = run(*line, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    other = [word.replace("=200", "=201") if isinstance(word, str) else word for word in line]
    refused = run(*other, "--resume", cwd=tmp_path)
    assert refused.returncode == 2
    assert "model.knots=201" in refused.stderr


@pytest.mark.parametrize(
    "entry",
    [
        {"time": 10**400},
        {"fx": 10**400},
        {"world_to_camera": [[10**400, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
        {"world_to_camera": np.diag([-1.0, 1, 1, 1]).tolist()},
        {"world_to_camera": np.diag([1.0, 1, 1, 2]).tolist()},
    ],
    ids=["time", "focal length", "huge pose", "mirrored pose", "last row"],
)
def test_a_wrong_view_is_named(encoded: Path, tmp_path: Path, entry: dict[str, object]) -> None:
    camera = {"width": 32, "height": 32, "fx": 40, "fy": 40, "cx": 16, "cy": 16, "time": 0}
    camera["world_to_camera"] = np.eye(4).tolist()  # type: ignore[assignment]
    (tmp_path / "views.json").write_text(json.dumps([camera | entry]))
    result = run("decode", encoded, "--render", "f", "--views", "views.json", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert next(iter(entry)) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("encode", ["missing", "-o", "x.adc"], "missing"),
        ("encode", ["{balls}", "-o", "nowhere/x.adc"], "nowhere"),
        ("encode", ["{balls}", "-o", "x.adc", "--resume"], "x.adc.checkpoint"),
        ("encode", ["{balls}", "-o", "x.adc", "--device", "tpu"], "cpu or cuda"),
        ("encode", ["{balls}", "-o", "/proc/x.adc"], "cannot be written"),
        ("encode", ["{balls}", "-o", "x.adc", "--seed", "4294967296"], "seed"),
        ("encode", ["{balls}", "-o", "x.adc", "--lambda", "inf"], "lambda"),
        ("encode", ["{balls}", "-o", "x.adc", "--voxel", "2"], "voxel"),
        ("encode", ["{balls}", "-o", "x.adc", "--threads", "1000000000000"], "--threads"),
        ("encode", ["{balls}", "-o", "x.adc", "--target-size", "big"], "--target-size"),
        ("encode", ["{balls}", "-o", "x.adc", "--target-size", "20KB"], "--weights int8"),
        ("encode", ["{balls}", "-o", "x.adc", "--target-psnr", "500"], "PSNR"),
        ("encode", ["{balls}", "-o", "x.adc", "--target-size", "1MB", "--target-psnr", "30"], "both"),
        ("encode", ["{balls}", "-o", "x.adc", "--camera-colors"], "--camera-colors"),
        ("decode", ["missing.adc", "--render", "f"], "missing.adc"),
        ("decode", ["{file}"], "--render"),
        ("decode", ["{file}", "--render", "f", "--views", "moon"], "moon"),
        ("decode", ["{file}", "--render", "f", "--times", "2.5"], "0..1"),
        ("decode", ["{file}", "--render", "f", "--size", "big"], "WxH"),
        ("decode", ["{file}", "--render", "f", "--size", "²x²"], "WxH"),
        ("decode", ["{file}", "--video", "f.gif"], ".mp4"),
        ("decode", ["{file}", "--video", "/proc/f.mp4"], "/proc/f.mp4: cannot be written"),
        ("decode", ["{file}", "--video", "f.mp4", "--times", "2", "--size", "20000x2"], "16384"),
        ("eval", ["{file}", "missing"], "missing"),
        ("inspect", ["{balls}/transforms_train.json"], "transforms_train.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    encoded: Path, balls: Path, tmp_path: Path, command: str, arguments: list[str], says: str
) -> None:
    words = [a.format(balls=balls, file=encoded) for a in arguments]
    result = run(command, *words, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert says in errors[0]
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == [], "something was left behind"


def test_a_video_does_not_take_the_place_of_its_own_file(encoded: Path, tmp_path: Path) -> None:
    (tmp_path / "scene.mp4").write_bytes(encoded.read_bytes())
    result = run("decode", "scene.mp4", "--video", "./scene.mp4", cwd=tmp_path)
    assert result.returncode == 2
    assert "that is the file to decode" in result.stderr
    assert (tmp_path / "scene.mp4").read_bytes() == encoded.read_bytes()


def test_a_video_does_not_take_a_folders_place_and_says_so_before_it_renders(encoded: Path, tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").mkdir()
    result = run("decode", encoded, "--video", "walk.mp4", cwd=tmp_path)
    assert result.returncode == 2
    assert "walk.mp4: there is a folder of that name" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["walk.mp4"]


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("encode", ["capture", "-o", "x.adc", "--lambda", "abc"], "--lambda"),
        ("encode", ["capture", "-o", "x.adc", "--preset", "bets"], "best"),
        ("encode", ["capture"], "--output"),
        ("encode", ["capture", "-o", "x.adc", "--set", "missing_anchors=-1"], "give 0 to 4194304"),
        ("encode", ["capture", "-o", "x.adc", "--downscale", "nan"], "--downscale"),
        ("encode", ["capture", "-o", "x.adc", "--cache-gb", "nan"], "--cache-gb"),
        ("decode", [], "FILE"),
        ("decode", ["x.adc", "--bogus"], "--bogus"),
        ("eval", ["x.adc"], "SCENE"),
        ("eval", ["x.adc", "capture", "--downscale", "nan"], "--downscale"),
        ("eval", ["x.adc", "capture", "--cache-gb", "inf"], "--cache-gb"),
        ("inspect", ["x.adc", "more"], "more"),
    ],
)
def test_a_wrong_command_line_is_one_line_too(tmp_path: Path, command: str, arguments: list[str], says: str) -> None:
    result = run(command, *arguments, cwd=tmp_path)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    with_json = run(command, *arguments, "--json", cwd=tmp_path)
    assert with_json.returncode == 2
    assert json.loads(with_json.stdout)["error"]["message"] in with_json.stderr


def test_a_damaged_checkpoint_is_refused_before_the_capture_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.adc.checkpoint").write_bytes(b"no checkpoint")
    for more in (["--resume"], ["--checkpoint", "x.adc.checkpoint"]):
        result = run("encode", "no capture", "-o", "x.adc", *more, cwd=tmp_path)
        assert result.returncode == 2
        [line] = result.stderr.splitlines()
        assert "x.adc.checkpoint" in line


def test_brackets_in_a_path_are_no_markup(tmp_path: Path) -> None:
    for name in ("[/red]", "cap[draft]"):
        result = run("encode", name, "-o", "x.adc", cwd=tmp_path)
        assert result.returncode == 2
        assert f"reading {name}" in result.stderr
        assert "Traceback" not in result.stderr


def test_networks_that_a_run_rounded_are_not_stored_otherwise(balls: Path, tmp_path: Path) -> None:
    line = ["encode", balls, "-o", "a.adc", "--iterations", "20", "--downscale", "2", "--keep-checkpoint"]
    assert run(*line, "--weights", "int8", cwd=tmp_path).returncode == 0
    first = (tmp_path / "a.adc").read_bytes()
    refused = run(*line, "--weights", "fp32", "--resume", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--weights fp32" in refused.stderr
    assert run(*line, "--resume", cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.adc").read_bytes() == first, "it was told int8 at its start"


def test_a_fresh_run_keeps_the_state_of_an_earlier_one(balls: Path, tmp_path: Path) -> None:
    line = ["encode", balls, "-o", "a.adc", "--iterations", "3", "--downscale", "2", "--keep-checkpoint"]
    assert run(*line, cwd=tmp_path).returncode == 0
    state = (tmp_path / "a.adc.checkpoint").read_bytes()
    again = run(*line, "--seed", "1", cwd=tmp_path)
    assert again.returncode == 0
    assert "a.adc.checkpoint.earlier" in again.stderr
    assert (tmp_path / "a.adc.checkpoint.earlier").read_bytes() == state != (tmp_path / "a.adc.checkpoint").read_bytes()


@pytest.mark.parametrize("command", ["encode", "decode", "inspect", "eval"])
def test_help_has_examples_and_is_light(command: str, tmp_path: Path) -> None:
    code = (
        "import sys, click\n"
        f"from adcgs.cli.{command} import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    assert not {'torch', 'numba', 'open3d', 'compressai'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Examples" in result.stdout
