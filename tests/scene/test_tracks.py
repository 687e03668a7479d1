"""Rigid pieces are followed as far as they go, and laid where they are."""

from __future__ import annotations

import numpy as np
from adcgs.scene.tracks import find_tracks
from scipy.spatial.transform import Rotation

SIZE = 0.02
TIMES = np.linspace(0, 1, 12)


def rounded(points: np.ndarray) -> np.ndarray:
    """To centres of cells, as carving leaves them."""
    return (np.floor(points / SIZE) + 0.5) * SIZE


def box() -> tuple[np.ndarray, np.ndarray]:
    """The surface of a box with a colour for each face, so that it can be seen turning."""
    generator = np.random.default_rng(0)
    points = generator.uniform(-1, 1, (6, 160, 3))
    for face in range(6):
        points[face, :, face % 3] = 1 if face < 3 else -1
    colors = np.repeat(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]]), 160, axis=0)
    return points.reshape(-1, 3) * [0.12, 0.08, 0.05], colors.astype(float)


def pose(time: float) -> tuple[np.ndarray, np.ndarray]:
    turn = Rotation.from_euler("z", 80 * time, degrees=True).as_matrix()
    return turn, np.array([0.9 * time - 0.4, 0.3 * time * (1 - time), 0.0])


def clouds(visible: slice) -> list[tuple[np.ndarray, np.ndarray]]:
    points, colors = box()
    nothing = np.zeros((0, 3))
    found = [(rounded(points @ turn.T + shift), colors) for turn, shift in map(pose, TIMES)]
    return [found[i] if i in range(*visible.indices(len(TIMES))) else (nothing, nothing) for i in range(len(TIMES))]


def test_a_box_that_flies_and_turns_is_one_piece_for_its_whole_flight() -> None:
    tracks = find_tracks(clouds(slice(None)), TIMES, SIZE)
    assert len(tracks) == 1
    track = tracks[0]
    assert (track.first, track.last) == (0, len(TIMES) - 1)
    points, _ = box()
    turn0, shift0 = pose(TIMES[track.instant])
    there = points @ turn0.T + shift0
    for index, time in enumerate(TIMES):
        turn, shift = pose(time)
        error = (there @ track.rotations[index].T + track.shifts[index]) - (points @ turn.T + shift)
        assert np.linalg.norm(error, axis=1).mean() < SIZE


def test_a_piece_lives_while_it_is_there() -> None:
    (track,) = find_tracks(clouds(slice(3, 9)), TIMES, SIZE)
    assert (track.first, track.last) == (3, 8)


def test_a_piece_is_not_continued_by_something_of_another_shape() -> None:
    cut = clouds(slice(0, 6))
    generator = np.random.default_rng(1)
    far = rounded(generator.normal(size=(300, 3)) * 0.02 + [0.3, 0.6, 0.4])
    for index in range(6, len(TIMES)):
        cut[index] = (far, np.full((300, 3), 0.5))
    tracks = find_tracks(cut, TIMES, SIZE)
    assert sorted((t.first, t.last) for t in tracks) == [(0, 5), (6, len(TIMES) - 1)]


def test_specks_and_emptiness_are_no_pieces() -> None:
    nothing = (np.zeros((0, 3)), np.zeros((0, 3)))
    speck = (rounded(np.zeros((3, 3))), np.zeros((3, 3)))
    assert find_tracks([nothing, speck, nothing], TIMES[:3], SIZE) == []


def test_tracks_do_not_depend_on_the_call() -> None:
    first, second = (find_tracks(clouds(slice(None)), TIMES, SIZE) for _ in range(2))
    assert np.array_equal(first[0].shifts, second[0].shifts)
    assert np.array_equal(first[0].members, second[0].members)
