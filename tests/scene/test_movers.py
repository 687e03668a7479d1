"""What moves before fixed cameras is found where it is, and followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from adcgs.scene import load_scene
from adcgs.scene.movers import moving_cloud

from ..captures import balls, write_rig


def test_the_moving_ball_is_followed_along_its_path_and_the_still_one_is_not_found(tmp_path: Path) -> None:
    scene = load_scene(write_rig(tmp_path))
    cloud = moving_cloud(scene, 100)
    assert cloud is not None
    seen = [0.0] * len(cloud.times)
    for piece, (first, last) in enumerate(cloud.lives):
        points = cloud.points[cloud.track == piece]
        for index in range(first, last + 1):
            here = points @ cloud.rotations[piece, index].T + cloud.shifts[piece, index]
            center, radius, _ = balls(float(cloud.times[index]))[1]
            distance = np.linalg.norm(scene.similarity.invert(here) - center, axis=1)
            assert np.quantile(distance, 0.9) < 1.6 * radius
            seen[index] += len(points)
    assert min(seen) > 50
    center, radius, color = balls(0.0)[1]
    assert np.argmax(cloud.colors.mean(axis=0)) == np.argmax(color) == 2


def test_at_most_so_many_instants_are_looked_at(tmp_path: Path) -> None:
    scene = load_scene(write_rig(tmp_path))
    cloud = moving_cloud(scene, 3)
    assert cloud is not None
    assert len(cloud.times) == 3
    assert (cloud.times[0], cloud.times[-1]) == (0, 1)
    assert moving_cloud(scene, 0) is None


def test_there_is_nothing_to_say_with_too_few_fixed_cameras(tmp_path: Path, balls: Path) -> None:
    assert moving_cloud(load_scene(write_rig(tmp_path, cameras=4)), 8) is None
    assert moving_cloud(load_scene(balls), 8) is None


def test_the_result_does_not_depend_on_the_call(tmp_path: Path) -> None:
    scene = load_scene(write_rig(tmp_path))
    first, second = moving_cloud(scene, 8), moving_cloud(scene, 8)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.points, second.points)
    assert np.array_equal(first.shifts, second.shifts)
