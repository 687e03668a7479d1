"""A file is only compared with the capture it was made from, at the size it was made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from adcgs.camera import Similarity
from adcgs.errors import OptionError
from adcgs.evaluation import matching

from .fakes import FakeDecoded, FakeScene, camera, shifted


@pytest.fixture
def scene() -> FakeScene:
    return FakeScene()


@pytest.fixture
def decoded(scene: FakeScene, tmp_path: Path) -> FakeDecoded:
    return FakeDecoded(scene, tmp_path / "a.adc")


def check(decoded: FakeDecoded, scene: FakeScene) -> None:
    matching.check_match(decoded, scene)  # type: ignore[arg-type]


def refused(decoded: FakeDecoded, scene: FakeScene) -> str:
    with pytest.raises(OptionError) as caught:
        check(decoded, scene)
    assert caught.value.code in ("other-capture", "no-views")
    assert str(decoded.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_its_own_capture_matches_though_normalised_elsewhere(decoded: FakeDecoded, scene: FakeScene) -> None:
    check(decoded, scene)


def test_rounded_cameras_match(decoded: FakeDecoded, scene: FakeScene) -> None:
    decoded.views = [shifted(view, 0.01) for view in decoded.views]
    check(decoded, scene)


def test_a_file_without_the_test_views_matches(decoded: FakeDecoded, scene: FakeScene) -> None:
    decoded.views = [view for view in decoded.views if view.split == "train"]
    check(decoded, scene)


def test_other_names_are_refused(decoded: FakeDecoded, scene: FakeScene) -> None:
    decoded.views = [replace(view, name="x" + view.name) for view in decoded.views]
    assert "'xcam00/0000'" in refused(decoded, scene)


def test_other_cameras_are_refused(decoded: FakeDecoded, scene: FakeScene) -> None:
    decoded.views[5] = shifted(decoded.views[5], 2.0)
    assert "cam00/0005' are 2 pixels apart" in refused(decoded, scene)
    decoded.similarity = Similarity(0.7, np.array([0.2, 0.5, -0.4]))
    refused(decoded, scene)


def test_other_instants_and_sizes_are_refused(decoded: FakeDecoded, scene: FakeScene) -> None:
    first = decoded.views[0]
    decoded.views[0] = replace(first, time=0.5)
    assert "time 0.5" in refused(decoded, scene)
    decoded.views[0] = replace(first, camera=first.camera.resized(30, 20))
    assert "30x20 in the file, 60x40 in the capture" in refused(decoded, scene)


def test_a_file_without_cameras_is_refused(decoded: FakeDecoded, scene: FakeScene) -> None:
    decoded.views = []
    assert "holds no cameras" in refused(decoded, scene)


def test_the_error_between_cameras_is_in_pixels() -> None:
    reference = camera()
    assert matching.camera_error(reference, reference) == pytest.approx(0, abs=1e-9)
    assert matching.camera_error(reference, replace(reference, cx=reference.cx + 3)) == pytest.approx(3)
    # 3 away from the origin, where the points lie: a step of 0.06 to the side is 0.06 / 3 * 50 pixels
    assert matching.camera_error(reference, camera((0.06, 0, -3))) == pytest.approx(1.0)
    turned = reference.world_to_camera.copy()
    turned[:3] *= -1
    assert matching.camera_error(reference, replace(reference, world_to_camera=turned)) == np.inf


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0, 1.5, 2.7, 4.0])
def test_the_downscale_is_found_from_sizes(factor: float) -> None:
    from adcgs.scene.images import scaled_size

    pairs = {(size, scaled_size(*size, factor)) for size in ((800, 800), (1352, 1014), (641, 479))}
    assert matching.fitting_downscale(pairs) == factor


def test_round_factors_are_preferred_and_impossible_ones_refused() -> None:
    assert matching.fitting_downscale({((101, 101), (51, 51))}) == 2
    assert matching.fitting_downscale({((100, 100), (50, 40))}) is None
    assert matching.fitting_downscale({((100, 100), (200, 200))}) is None
    assert matching.fitting_downscale({((100, 100), (50, 50)), ((80, 80), (20, 20))}) is None
