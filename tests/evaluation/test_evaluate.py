"""Evaluating a file: what is compared, what is averaged, and what is said where a number cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from adcgs.errors import OptionError
from adcgs.evaluation import evaluate as module
from adcgs.evaluation.evaluate import Evaluation, ViewScore, evaluate
from numpy.typing import NDArray

from .fakes import HEIGHT, INSTANTS, WIDTH, FakeDecoded, FakeScene, moving_square


def run(scene: FakeScene, decoded: FakeDecoded, **options: object) -> Evaluation:
    return evaluate(decoded, scene, **options)  # type: ignore[arg-type]


def without_square(time: float) -> NDArray[np.float32]:
    return np.full((HEIGHT, WIDTH, 3), 0.4, np.float32)


def slightly_off(time: float) -> NDArray[np.float32]:
    return moving_square(time) * np.float32(0.99)


def test_a_perfect_file_is_perfect(tmp_path: Path) -> None:
    scene = FakeScene()
    result = run(scene, FakeDecoded(scene, tmp_path / "a.adc"))
    assert [v.name for v in result.views] == [f"cam01/{k:04d}" for k in range(INSTANTS)]
    assert result.bytes == 1234
    assert result.mean["psnr"] == result.mean["psnr_dynamic"] == 100
    assert result.mean["ssim"] == pytest.approx(1)
    assert (result.width, result.height, result.split) == (WIDTH, HEIGHT, "test")


def test_a_file_that_lacks_what_moves_is_told_by_the_dynamic_psnr(tmp_path: Path) -> None:
    scene = FakeScene()
    missing = run(scene, FakeDecoded(scene, tmp_path / "a.adc", without_square)).mean
    off = run(scene, FakeDecoded(scene, tmp_path / "b.adc", slightly_off)).mean
    assert missing["psnr"] is not None
    assert missing["psnr_dynamic"] is not None
    assert missing["psnr"] > 19
    assert missing["psnr_dynamic"] < 10
    assert off["psnr_dynamic"] is not None
    assert off["psnr_dynamic"] > 39


def test_views_are_rendered_through_the_captures_world(tmp_path: Path) -> None:
    """The two normalised spaces differ; the held-out camera must be the one that the file stores."""
    scene = FakeScene()
    decoded = FakeDecoded(scene, tmp_path / "a.adc")
    run(scene, decoded)
    held_out = [view for view in decoded.views if view.split == "test"]
    for (camera, time), view in zip(decoded.asked[1:], held_out, strict=True):  # the first one warms up
        np.testing.assert_allclose(camera.world_to_camera, view.camera.world_to_camera, atol=1e-12)
        assert time == view.time


def test_moving_cameras_have_no_dynamic_psnr_and_the_reason_is_given(tmp_path: Path) -> None:
    scene = FakeScene(fixed=False)
    result = run(scene, FakeDecoded(scene, tmp_path / "a.adc"))
    assert result.mean["psnr_dynamic"] is None
    assert "camera moves" in result.notes["psnr_dynamic"]
    assert "no alpha" in result.notes["psnr_foreground"]
    assert "176 pixels" in result.notes["ms_ssim"]
    assert result.mean["lpips"] is None


def test_captures_with_alpha_have_a_foreground_psnr(tmp_path: Path) -> None:
    scene = FakeScene(has_alpha=True, fixed=False)
    result = run(scene, FakeDecoded(scene, tmp_path / "a.adc", without_square))
    assert result.mean["psnr_foreground"] == pytest.approx(-20 * np.log10(0.6), abs=1e-3)


def test_an_exposure_of_its_own_does_not_count_once_colours_are_fitted(tmp_path: Path) -> None:
    def darker(time: float) -> NDArray[np.float32]:
        return moving_square(time) * np.float32(0.8) + np.float32(0.05)

    scene = FakeScene()
    mean = run(scene, FakeDecoded(scene, tmp_path / "a.adc", darker)).mean
    assert mean["psnr"] is not None
    assert mean["psnr_color"] is not None
    assert mean["psnr"] < 40 < 90 < mean["psnr_color"]


def test_a_still_view_is_left_out_of_the_dynamic_mean(tmp_path: Path) -> None:
    def rests_then_moves(time: float) -> NDArray[np.float32]:
        return moving_square(0.0 if time < 0.7 else time)

    scene = FakeScene(draw=rests_then_moves)
    result = run(scene, FakeDecoded(scene, tmp_path / "a.adc", rests_then_moves))
    assert result.views[0].values["psnr_dynamic"] is None
    assert result.views[-1].values["psnr_dynamic"] == 100
    assert 0 < result.counted("psnr_dynamic") < INSTANTS
    assert "left out" in result.notes["psnr_dynamic"]


def test_means_and_rates_are_over_the_views_that_have_them() -> None:
    def view(psnr: float, dynamic: float | None, seconds: float) -> ViewScore:
        values = dict.fromkeys(module.METRICS) | {"psnr": psnr, "psnr_dynamic": dynamic}
        return ViewScore("v", 0.0, 3, values, seconds)

    result = Evaluation("f", "c", "test", 1, 2, 3, "cpu", 1, [view(30, None, 0.1), view(20, 12, 0.3)])
    assert result.mean["psnr"] == 25
    assert result.mean["psnr_dynamic"] == 12
    assert result.mean["fps"] == pytest.approx(5)
    assert result.mean["ssim"] is None


def test_the_json_form_has_the_promised_keys_and_is_strict_json(tmp_path: Path) -> None:
    scene = FakeScene()
    document = run(scene, FakeDecoded(scene, tmp_path / "a.adc")).to_dict()
    again = json.loads(json.dumps(document, allow_nan=False))
    keys = {"psnr", "psnr_dynamic", "ssim", "ms_ssim", "lpips", "fps"}
    assert keys <= set(again["mean"])
    assert {"name", "time", *keys} <= set(again["views"][0])
    assert again["bytes"] == 1234
    assert "deformation" in again["fps_includes"]


def test_saved_pictures_and_progress_come_once_a_view(tmp_path: Path) -> None:
    scene = FakeScene()
    saved: list[str] = []
    steps: list[tuple[int, int]] = []

    def save(frame: object, truth: NDArray[np.uint8], image: NDArray[np.uint8], score: ViewScore) -> None:
        assert truth.dtype == image.dtype == np.uint8
        np.testing.assert_array_equal(truth, image)
        saved.append(score.name)

    run(scene, FakeDecoded(scene, tmp_path / "a.adc"), save=save, progress=lambda k, n: steps.append((k, n)))
    assert len(saved) == INSTANTS
    assert steps == [(k + 1, INSTANTS) for k in range(INSTANTS)]


def test_an_empty_split_says_which_there_are(tmp_path: Path) -> None:
    scene = FakeScene(splits=("train", "train"))
    with pytest.raises(OptionError, match="no test views; use one of: train"):
        run(scene, FakeDecoded(scene, tmp_path / "a.adc"))
