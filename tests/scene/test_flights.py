"""What a model lacks of a scene filmed by one moving camera is found where it flies, and followed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from adcgs.scene import Scene, load_scene
from adcgs.scene.capture import MovingCloud
from adcgs.scene.flights import Picture, flying_cloud
from adcgs.scene.hull import mask_of

from . import captures


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The red ball moves by a quarter of its diameter from one picture to the next."""
    return load_scene(captures.write_dnerf(tmp_path_factory.mktemp("balls"), frames=16, held_out=2))


@pytest.fixture(scope="module")
def pictures(scene: Scene) -> list[Picture]:
    """As if a model showed the green and the blue ball alone."""
    masks = [mask_of(scene, frame) for frame in sorted(scene.split("train"), key=lambda frame: frame.time)]
    others = [scene.similarity.apply(captures.balls(mask.frame.time)[1:].astype(np.float32)) for mask in masks]
    red = [mask.opaque & (mask.rgb[..., 0] > 128) for mask in masks]
    return [Picture(*parts) for parts in zip(masks, red, np.float64(others), strict=True)]


def off_the_ball(scene: Scene, cloud: MovingCloud, piece: int, instant: int) -> np.ndarray:
    """Distances of a piece's points at an instant to the red ball's surface, in radii."""
    points = cloud.points[cloud.track == piece]
    moved = points @ cloud.rotations[piece, instant].T + cloud.shifts[piece, instant]
    center = captures.balls(float(cloud.times[instant]))[0]
    gap = np.linalg.norm(scene.similarity.invert(moved.astype(np.float32)) - center, axis=1) - captures.RADIUS
    return np.abs(gap) / captures.RADIUS


def test_a_ball_that_no_anchor_shows_is_one_flight(scene: Scene, pictures: list[Picture]) -> None:
    cloud = flying_cloud(pictures, scene.bounds)
    assert cloud is not None
    longest = int(np.argmax(cloud.lives[:, 1] - cloud.lives[:, 0]))
    first, last = cloud.lives[longest]
    assert last - first >= 10  # of 15 at most
    for instant in range(first + 1, last):
        assert np.percentile(off_the_ball(scene, cloud, longest, instant), 80) < 0.5
    colors = cloud.colors[cloud.track == longest]
    assert (colors[:, 0] > 0.8).mean() > 0.9
    assert (colors[:, 1:] < 0.2).mean() > 0.9


def test_a_flight_goes_on_behind_what_hides_it(scene: Scene, pictures: list[Picture]) -> None:
    hidden = [replace(p, missing=np.zeros_like(p.missing)) if i in (7, 8) else p for i, p in enumerate(pictures)]
    cloud = flying_cloud(hidden, scene.bounds)
    assert cloud is not None
    spans = [(first, last) for first, last in cloud.lives if first < 7 and last > 8]
    assert len(spans) == 1


def test_where_nothing_is_missing_nothing_flies(scene: Scene, pictures: list[Picture]) -> None:
    assert flying_cloud([replace(p, missing=np.zeros_like(p.missing)) for p in pictures], scene.bounds) is None
    assert flying_cloud(pictures[:6], scene.bounds) is None  # too few to tell a way


def test_what_rests_does_not_fly(scene: Scene, pictures: list[Picture]) -> None:
    nowhere = np.zeros((0, 3))
    green = [replace(p, missing=p.mask.opaque & (p.mask.rgb[..., 1] > 128), there=nowhere) for p in pictures]
    assert flying_cloud(green, scene.bounds) is None


def test_what_the_model_has_there_though_otherwise_does_not_fly(scene: Scene, pictures: list[Picture]) -> None:
    generator = np.random.default_rng(0)
    known = []
    for picture in pictures:
        inside = generator.normal(size=(2000, 3))
        inside *= generator.random((2000, 1)) ** (1 / 3) / np.linalg.norm(inside, axis=1, keepdims=True)
        red = captures.balls(picture.time)[0] + captures.RADIUS * inside
        known.append(replace(picture, there=np.float64(scene.similarity.apply(red.astype(np.float32)))))
    assert flying_cloud(known, scene.bounds) is None


def test_specks_that_fit_no_way_are_no_flight(scene: Scene, pictures: list[Picture]) -> None:
    generator = np.random.default_rng(0)
    specks = []
    for picture in pictures:
        missing = np.zeros_like(picture.missing)
        row, column = generator.integers(5, missing.shape[0] - 5), generator.integers(5, missing.shape[1] - 5)
        missing[row - 3 : row + 3, column - 3 : column + 3] = True
        specks.append(replace(picture, missing=missing))
    assert flying_cloud(specks, scene.bounds) is None


def test_progress_is_told(scene: Scene, pictures: list[Picture]) -> None:
    told: list[float] = []
    flying_cloud(pictures[:8], scene.bounds, told.append)
    assert told == pytest.approx([(i + 1) / 8 for i in range(8)])
