"""The camera_colors section: a round trip, what it refuses to write, and what a decoder shows with it.

What a reader refuses is in ``tests/attacks``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from adcgs.bitstream import pack_colors, pack_container, unpack_colors
from adcgs.decode import open_scene
from adcgs.viewpoints import describe, read_viewpoints, select_viewpoints

from bitstream_spec import reference_decoder as reference

from ..fuzz import samples


def test_rows_come_back_as_half_floats_by_ascending_id() -> None:
    generator = np.random.default_rng(0)
    rows = {camera: generator.normal(size=(3, 4)) for camera in (700, 3, 41, 0)}
    found = unpack_colors(pack_colors(rows))
    assert list(found) == [0, 3, 41, 700]
    for camera, row in rows.items():
        np.testing.assert_array_equal(found[camera], row.astype(np.float16).astype(np.float32))
    assert len(pack_colors(rows)) == 1 + 4 * 25 + 1  # 700 takes two bytes


@pytest.mark.parametrize(
    "rows",
    [{-1: np.zeros((3, 4))}, {1 << 20: np.zeros((3, 4))}, {0: np.zeros((3, 3))}, {0: np.full((3, 4), np.nan)}],
    ids=["a moving camera", "a large id", "another shape", "a NaN"],
)
def test_what_no_reader_takes_is_not_written(rows: dict[int, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="cannot be stored"):
        pack_colors(rows)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("colors") / "scene.adc"
    sections = samples.sections().items()  # but for what would lead beyond white, where the scene's colours are cut
    path.write_bytes(pack_container([(name, data) for name, data in sections if name != "view_colors"]))
    return path


def test_a_known_camera_shows_its_own_colours_and_any_other_the_scenes(file: Path) -> None:
    scene = open_scene(file)
    view = scene.views[0]
    plain = scene.render(view.camera, 0.3).numpy()
    own = scene.render(view.camera, 0.3, camera_id=0).numpy()
    row = samples.COLORS[0].astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(own, np.clip(plain + plain @ row[:, :3].T + row[:, 3], 0, 1), atol=1e-5)
    assert np.abs(own - plain).max() > 0.01
    np.testing.assert_array_equal(scene.render(view.camera, 0.3, camera_id=5).numpy(), plain)


def test_the_reference_decoder_shows_the_same(file: Path) -> None:
    ours, theirs = open_scene(file), reference.decode(file.read_bytes())
    mine, its = ours.views[0], theirs.views[0]
    picture = ours.render(mine.camera, mine.time, camera_id=mine.camera_id).numpy()
    np.testing.assert_allclose(picture, reference.render(theirs, its.camera, its.time, its.camera_id), atol=2e-3)


def test_written_viewpoints_keep_the_camera(file: Path, tmp_path: Path) -> None:
    scene = open_scene(file)
    chosen = select_viewpoints("all", scene.views, scene.similarity, None, 1)
    assert {view.camera_id for view in chosen} == {0, None}
    (tmp_path / "cameras.json").write_text(json.dumps(describe(chosen, scene.similarity)))
    again = read_viewpoints(tmp_path / "cameras.json", scene.similarity)
    assert [view.camera_id for view in again] == [view.camera_id for view in chosen]
    at_times = select_viewpoints("train", scene.views, scene.similarity, [0.0, 0.5], 1)
    assert {view.camera_id for view in at_times} == {0}
    assert {view.camera_id for view in select_viewpoints("orbit", scene.views, scene.similarity, None, 3)} == {None}
