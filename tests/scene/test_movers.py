"""What moves before fixed cameras is found where it is, instant by instant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from adcgs.scene import load_scene
from adcgs.scene.movers import moving_cloud

from ..captures import balls, write_rig


def test_the_moving_ball_is_found_at_each_instant_and_the_still_one_is_not(tmp_path: Path) -> None:
    scene = load_scene(write_rig(tmp_path))
    cloud = moving_cloud(scene, [0.0, 0.5, 1.0])
    assert cloud is not None
    assert cloud.times is not None
    for instant in (0.0, 0.5, 1.0):
        here = scene.similarity.invert(cloud.points[cloud.times == np.float32(instant)])
        center, radius, color = balls(instant)[1]
        distance = np.linalg.norm(here - center, axis=1)
        assert len(here) > 50
        assert np.quantile(distance, 0.9) < 1.5 * radius
        assert np.linalg.norm(np.median(here, axis=0) - center) < 0.5 * radius
        bluest = cloud.colors[cloud.times == np.float32(instant)].mean(axis=0)
        assert np.argmax(bluest) == np.argmax(color) == 2


def test_there_is_nothing_to_say_with_too_few_fixed_cameras(tmp_path: Path, balls: Path) -> None:
    assert moving_cloud(load_scene(write_rig(tmp_path, cameras=4)), [0.0]) is None
    assert moving_cloud(load_scene(balls), [0.0]) is None


def test_the_result_does_not_depend_on_the_call(tmp_path: Path) -> None:
    scene = load_scene(write_rig(tmp_path))
    first, second = moving_cloud(scene, [0.5]), moving_cloud(scene, [0.5])
    assert first is not None
    assert second is not None
    assert np.array_equal(first.points, second.points)
