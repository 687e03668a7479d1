"""adcgs-eval: JSON alone on stdout, one line about LPIPS on stderr, images where they were asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from adcgs.cli.eval import main
from adcgs.errors import OptionError
from adcgs.evaluation import perceptual
from click.testing import CliRunner, Result
from PIL import Image

from .fakes import INSTANTS, FakeDecoded, FakeScene


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeScene:
    """Both readers replaced, and no LPIPS weights."""
    scene = FakeScene()
    decoded = FakeDecoded(scene, tmp_path / "a.adc")

    def no_weights(device: str) -> None:
        raise perceptual.UnavailableError("lpips-unavailable", "LPIPS needs weights: put them THERE")

    monkeypatch.setattr("adcgs.decode.open_scene", lambda *_, **__: decoded)
    monkeypatch.setattr("adcgs.evaluation.matching.load_matching_scene", lambda *_, **__: scene)
    monkeypatch.setattr("adcgs.evaluation.perceptual.load_lpips", no_weights)
    return scene


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["a.adc", "capture", *arguments])


def test_json_is_alone_on_stdout(capture: FakeScene) -> None:
    result = run("--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["mean"]["psnr"] == 100
    assert document["mean"]["lpips"] is None
    assert document["notes"]["lpips"] == "LPIPS needs weights: put them THERE"
    said = "measured without LPIPS (LPIPS needs weights: put them THERE)"
    assert [line for line in result.stderr.splitlines() if "LPIPS" in line] == [said]


def test_the_table_has_a_row_a_view_and_says_what_is_missing(capture: FakeScene) -> None:
    result = run()
    assert result.exit_code == 0
    assert result.stdout.count("cam01/") == INSTANTS
    assert "no MS-SSIM: MS-SSIM needs 176 pixels" in result.stdout
    assert "1,234 bytes" in result.stdout
    assert "fps includes" in result.stdout


def test_images_are_saved_by_kind(capture: FakeScene, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert run("--save-images", str(folder), "--split", "train").exit_code == 0
    for kind, suffix in (("truth", "png"), ("decoded", "png"), ("compare", "jpg")):
        assert sorted(p.name for p in (folder / kind).iterdir()) == [f"cam00_{k:04d}.{suffix}" for k in range(INSTANTS)]
    truth = np.asarray(Image.open(folder / "truth" / "cam00_0003.png"))
    np.testing.assert_array_equal(truth, capture.image(capture.frames[3]))


def test_refusals_end_with_two_and_a_line(capture: FakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*_: object, **__: object) -> None:
        raise OptionError("other-capture", "a.adc: was not made from capture")

    monkeypatch.setattr("adcgs.evaluation.matching.load_matching_scene", other)
    result = run("--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "other-capture"
    assert "a.adc: was not made from capture" in result.stderr
