"""The near plane lies between the cameras and what they film."""

from __future__ import annotations

import numpy as np
from adcgs.camera import Camera
from adcgs.scene.near import LEAST, near_plane


def camera(z: float) -> Camera:
    """Looks along z from (0, 0, z) with a right angle of view."""
    pose = np.eye(4)
    pose[2, 3] = -z
    return Camera(100, 80, 50.0, 50.0, 50.0, 40.0, pose)


def wall(depth: float, count: int = 500) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.column_stack([generator.uniform(-0.1, 0.1, (count, 2)), np.full(count, depth)]).astype(np.float32)


def test_it_is_a_quarter_of_the_way_to_the_nearest_content() -> None:
    assert np.isclose(near_plane([camera(0.0)], wall(2.0)), 0.5)


def test_the_camera_that_comes_nearest_decides() -> None:
    assert np.isclose(near_plane([camera(0.0), camera(1.5)], wall(2.0)), 0.125)


def test_a_few_stray_points_before_the_camera_do_not_count() -> None:
    strays = np.array([[0, 0, 0.02], [0, 0, 0.03]], np.float32)
    assert near_plane([camera(0.0)], np.concatenate([wall(2.0), strays])) > 0.45


def test_what_is_behind_or_beside_a_camera_does_not_count() -> None:
    beside = wall(0.5) + np.array([5, 0, 0], np.float32)
    assert np.isclose(near_plane([camera(0.0)], np.concatenate([wall(2.0), beside, wall(-0.5)])), 0.5)


def test_it_never_vanishes() -> None:
    assert near_plane([camera(0.0)], wall(0.001)) == LEAST
    assert near_plane([camera(0.0)], wall(-1.0)) == LEAST  # nothing in view at all
