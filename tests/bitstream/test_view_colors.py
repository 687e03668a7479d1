"""The view_colors section: a round trip, what it refuses to write, and what decoders show with it.

What a reader refuses is in ``tests/attacks``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs import Camera
from adcgs.bitstream import pack_container, pack_view_colors, unpack_view_colors
from adcgs.decode import open_scene
from adcgs.inspect import inspect_file

from bitstream_spec import reference_decoder as reference

from ..fuzz import samples


def test_weights_come_back_as_half_floats() -> None:
    weight, bias = np.random.default_rng(0).normal(size=(9, 32)), np.arange(9.0)
    data = pack_view_colors(weight, bias)
    assert len(data) == 1 + 2 * 9 * 33
    found = unpack_view_colors(data, 32)
    np.testing.assert_array_equal(found[0], weight.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(found[1], bias)


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        (np.zeros((8, 4)), np.zeros(9)),
        (np.zeros((9, 4)), np.zeros(8)),
        (np.full((9, 4), np.nan), np.zeros(9)),
        (np.zeros((9, 4)), np.full(9, 1e6)),
    ],
    ids=["eight rows", "a short vector", "a NaN", "beyond half floats"],
)
def test_what_no_reader_takes_is_not_written(weight: np.ndarray, bias: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cannot be stored"), np.errstate(over="ignore"):
        pack_view_colors(weight, bias)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("view_colors") / "scene.adc"
    path.write_bytes(samples.whole_file())
    return path


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without the section, which a reader that does not know it shows."""
    path = tmp_path_factory.mktemp("view_colors") / "plain.adc"
    path.write_bytes(pack_container([(k, v) for k, v in samples.sections().items() if k != "view_colors"]))
    return path


def test_colours_change_linearly_with_the_direction_and_nothing_else_does(file: Path, plain_file: Path) -> None:
    scene, plain = open_scene(file), open_scene(plain_file)
    camera, model = scene.views[-1].camera, scene.model
    canonical = scene.gaussians_at(0.4)
    seen = model.seen_from(camera, canonical, model.features)
    weight, bias = (part.astype(np.float16).astype(np.float64) for part in samples.VIEW_COLORS)
    for i, (mean, color) in enumerate(zip(canonical.means.double().numpy(), canonical.colors.numpy(), strict=True)):
        slope = (weight @ model.f_v[i // 2].double().numpy() + bias).reshape(3, 3)  # two primitives an anchor
        away = mean - camera.center
        expected = np.maximum(color + slope @ away / np.linalg.norm(away), 0)
        np.testing.assert_allclose(seen.colors[i].numpy(), expected, atol=1e-5)
    for name in ("means", "quaternions", "scales", "opacities"):
        assert getattr(seen, name) is getattr(canonical, name)
    torch.testing.assert_close(plain.gaussians_at(0.4).colors, canonical.colors)
    assert plain.model.seen_from(camera, canonical, model.features) is canonical
    shown, without = scene.render(camera, 0.4), plain.render(camera, 0.4)
    assert (shown - without).abs().max() > 0.01


def test_the_reference_decoder_shows_the_same(file: Path) -> None:
    ours, theirs = open_scene(file), reference.decode(file.read_bytes())
    for view, its in list(zip(ours.views, theirs.views, strict=True))[-3:]:
        picture = ours.render(view.camera, view.time).numpy()
        np.testing.assert_allclose(picture, reference.render(theirs, its.camera, its.time), atol=2e-3)


def test_the_reference_decoder_turns_the_camera_the_same_way(file: Path) -> None:
    """By colours alone, before a camera whose rotation is not its own inverse."""
    ours, theirs = open_scene(file), reference.decode(file.read_bytes())
    q = np.array([0.5, 0.6, -0.4, 0.3])
    rotation = reference.rotation_matrix(q / np.linalg.norm(q))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, [0.3, -0.2, 2.0]
    camera = Camera(16, 12, 18.0, 18.0, 8.0, 6.0, pose)
    mine = ours.model.seen_from(camera, ours.gaussians_at(0.4), ours.model.features)
    its = reference.Camera(16, 12, 18.0, 18.0, 8.0, 6.0, rotation, pose[:3, 3])
    seen = reference.seen_from(theirs, reference.primitives_at(theirs, 0.4), its)
    np.testing.assert_allclose(mine.colors.numpy(), seen.colors, atol=1e-4)


def test_inspect_counts_it_among_the_networks(file: Path) -> None:
    (row,) = (row for row in inspect_file(file).components if row.name == "view_colors")
    assert (row.group, row.bytes) == ("networks", 1 + 2 * 9 * 7)


def test_a_file_states_the_lowest_version_that_has_all_it_uses(file: Path, plain_file: Path) -> None:
    assert [inspect_file(path).version for path in (file, plain_file)] == ["2.1", "2.0"]
