"""The visual hull of balls is balls, where and when they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adcgs.scene import CarveOptions, Scene, carve, load_scene
from adcgs.scene.hull import Mask, carve_cells

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


def carve_plainly(masks: list[Mask], box: np.ndarray, size: float, agreement: float) -> np.ndarray:
    """The rule of carve_cells, one cell at a time."""
    counts = np.maximum(1, np.ceil((box[1] - box[0]) / size - 1e-6).astype(int))
    found = []
    for cell in np.ndindex(*counts):
        place = (box[0] + (np.array(cell) + 0.5) * size).astype(np.float32)
        votes = []
        for mask in masks:
            column, row, depth = mask.matrix[:, :3] @ place + mask.matrix[:, 3]
            if depth > 0 and 0 <= column < depth * mask.opaque.shape[1] and 0 <= row < depth * mask.opaque.shape[0]:
                votes.append(mask.opaque[int(row / depth), int(column / depth)])
        if len(votes) >= max(1, 2 * len(masks) // 3) and sum(votes) >= agreement * len(votes):
            found.append(cell)
    return np.array(found).reshape(-1, 3)


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_carving_follows_the_plain_rule(scene: Scene, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adcgs.jit.thread_count", lambda: threads)
    frames = scene.split("train")[:12]
    masks = []
    for frame in frames:
        camera, image = scene.camera(frame, 2), scene.image(frame, 2)
        matrix = (camera.intrinsics @ camera.world_to_camera[:3]).astype(np.float32)
        masks.append(Mask(frame, matrix, image[..., 3] >= 128, image[..., :3]))
    size = float((scene.bounds[1] - scene.bounds[0]).max()) / 24
    wanted = carve_plainly(masks, scene.bounds, size, 0.8)
    assert len(wanted) > 20
    assert np.array_equal(carve_cells(masks, scene.bounds, size, 0.8), wanted)
