"""The visual hull of balls is balls, where and when they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adcgs.scene import CarveOptions, Scene, carve, load_scene

from . import captures


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return load_scene(captures.write_dnerf(tmp_path_factory.mktemp("balls"), frames=60, held_out=2))


def distance_to_balls(scene: Scene, points: np.ndarray, time: float) -> np.ndarray:
    """Signed distance of each point to the nearest ball's surface, in world units."""
    world = scene.similarity.invert(points)
    return np.linalg.norm(world[:, None] - captures.balls(time), axis=-1).min(1) - captures.RADIUS


def test_the_initial_cloud_is_the_hull_at_the_start(scene: Scene) -> None:
    assert "visual hull" in scene.cloud.source
    assert scene.cloud.times is not None
    assert (scene.cloud.times == 0).all()
    assert np.percentile(np.abs(distance_to_balls(scene, scene.cloud.points, 0.05)), 90) < 0.05


@pytest.mark.parametrize("instant", [0.1, 0.5, 0.9])
def test_the_hull_moves_with_the_scene(scene: Scene, instant: float) -> None:
    hull = carve(scene, instant, scene.bounds, CarveOptions(window=9))
    now = np.abs(distance_to_balls(scene, hull.points, instant))
    assert np.percentile(now, 80) < 0.05
    for center in captures.balls(instant):  # each ball is there
        world = scene.similarity.invert(hull.points)
        assert (np.linalg.norm(world - center, axis=1) < 1.5 * captures.RADIUS).sum() > 20


def test_colours_come_from_the_images(scene: Scene) -> None:
    world = scene.similarity.invert(scene.cloud.points)
    nearest = np.linalg.norm(world[:, None] - captures.balls(0.05), axis=-1).argmin(1)
    right = (scene.cloud.colors.argmax(1) == nearest).mean()
    assert right > 0.97


def test_bounds_hold_the_content_of_the_whole_clip(scene: Scene) -> None:
    for time in (0, 0.5, 1):
        for center in captures.balls(time):
            place = scene.similarity.apply(center)
            assert (scene.bounds[0] < place).all()
            assert (place < scene.bounds[1]).all()
    assert np.abs(scene.bounds).max() == pytest.approx(1)


def test_hulls_of_several_instants_know_their_times(scene: Scene) -> None:
    hulls = scene.hulls([0, 0.5, 1])
    assert hulls is not None
    assert hulls.times is not None
    assert set(hulls.times) == {0, 0.5, 1}
    assert len(hulls.times) == len(hulls.points) == len(hulls.colors)


def test_opaque_images_are_no_silhouettes(tmp_path: Path) -> None:
    captures.write_dnerf(tmp_path, 6, 2)
    from PIL import Image

    for path in tmp_path.glob("*/*.png"):
        image = Image.open(path)
        image.putalpha(255)
        image.save(path)
    scene = load_scene(tmp_path)
    assert scene.hulls([0]) is None
    assert "visual hull" not in scene.cloud.source
