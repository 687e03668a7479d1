"""Rigid pieces of what moves, followed from instant to instant.

Clouds carved at many instants say where something is, not what went where. A piece of one of them is laid onto the
next by iterating over closest points (ICP; Besl and McKay, 1992) in place and colour, and on from there, forwards and
backwards, for as long as nearly all of it finds its like. A ball is one piece for its whole flight; a body that bends
is a row of pieces, each of which holds for some instants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

MIN_POINTS = 12  # smaller pieces are specks
MIN_SHARE = 0.8  # of a piece's points that must find their like, or it is lost
REACH = 2.0  # cells; as far as a point's like may be
FIRST_REACH = 6.0  # the same at the start of a search
ITERATIONS = 12
COLOR_CELLS = 5.0  # a difference of 1 in a colour channel counts like so many cells
MOST_PIECES = 400


@dataclass(frozen=True, eq=False)
class Track:
    """A piece and its way.

    Attributes:
        instant: index of the instant at which its points are what was carved.
        members: (M,) indices into that instant's points.
        first: index of the first instant at which it was found.
        rotations, shifts: (L, 3, 3) and (L, 3), L instants from ``first`` on: ``x -> R x + s`` from where a point of
            the piece is at ``instant`` to where it is then.
    """

    instant: int
    members: NDArray[np.int64]
    first: int
    rotations: Points
    shifts: Points

    @property
    def last(self) -> int:
        """Index of the last instant at which it was found."""
        return self.first + len(self.shifts) - 1


@dataclass(frozen=True, eq=False)
class _Instant:
    points: Points
    colors: Points
    pieces: list[NDArray[np.int64]]  # connected parts, indices
    places: Any  # KD-trees: of places alone
    likes: Any  # and of places and colours, in cells
    free: NDArray[np.bool_]  # not yet part of a track


def find_tracks(clouds: Sequence[tuple[Points, Points]], times: Points, size: float) -> list[Track]:
    """Pieces that together explain the clouds, the largest first.

    Args:
        clouds: points (P, 3) and colours (P, 3) in [0, 1] of each instant, centres of cells.
        times: (T,) of the instants, increasing.
        size: edge of a cell.
    """
    instants = [_prepare(points, colors, size) for points, colors in clouds]
    tracks: list[Track] = []
    while len(tracks) < MOST_PIECES:
        where, members = _largest_free(instants)
        if len(members) < MIN_POINTS:
            break
        track = _follow(instants, times, where, members, size)
        _claim(instants, track, size)
        instants[where].free[members] = False
        tracks.append(track)
    return tracks


def _prepare(points: Points, colors: Points, size: float) -> _Instant:
    from scipy.spatial import cKDTree

    points, colors = np.asarray(points, np.float64), np.asarray(colors, np.float64)
    free = np.ones(len(points), bool)
    if len(points) == 0:
        return _Instant(points, colors, [], None, None, free)
    pieces = _connected(points, size)
    return _Instant(points, colors, pieces, cKDTree(points), cKDTree(_with_color(points, colors, size)), free)


def _with_color(points: Points, colors: Points, size: float) -> Points:
    return np.column_stack([points / size, COLOR_CELLS * colors])


def _connected(points: Points, size: float) -> list[NDArray[np.int64]]:
    """Indices of the parts of (P, 3) cell centres that touch, corners included."""
    from scipy.ndimage import label

    cells = np.round((points - points.min(axis=0)) / size).astype(np.int64)
    grid = np.zeros(cells.max(axis=0) + 1, bool)
    grid[tuple(cells.T)] = True
    parts = label(grid, np.ones((3, 3, 3)))[0][tuple(cells.T)]
    order = np.argsort(parts, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(parts[order])) + 1)


def _largest_free(instants: list[_Instant]) -> tuple[int, NDArray[np.int64]]:
    """The instant and members of the largest part that no track explains; nothing there, an empty array."""
    best, found = 0, np.zeros(0, np.int64)
    for index, instant in enumerate(instants):
        for piece in instant.pieces:
            if len(piece) > len(found):
                free = piece[instant.free[piece]]
                if len(free) > len(found):
                    best, found = index, free
    return best, found


def _follow(instants: list[_Instant], times: Points, where: int, members: NDArray[np.int64], size: float) -> Track:
    start = (np.eye(3), np.zeros(3))
    middle = instants[where].points[members].mean(axis=0)
    ways = []
    for step in (-1, 1):
        poses = [start]
        index = where
        while 0 <= index + step < len(instants):
            guess = _extrapolate(poses, middle, times, index, step)
            pose = _lay(instants[where], members, instants[index + step], guess, size)
            if pose is None:
                break
            poses.append(pose)
            index += step
        ways.append(poses[1:])
    poses = [*reversed(ways[0]), start, *ways[1]]
    rotations, shifts = (np.stack(part) for part in zip(*poses, strict=True))
    return Track(where, members, where - len(ways[0]), rotations, shifts)


def _extrapolate(
    poses: list[tuple[Points, Points]], middle: Points, times: Points, index: int, step: int
) -> tuple[Points, Points]:
    """Where a piece around ``middle`` will be if it goes on as it did between the last two instants."""
    rotation, shift = poses[-1]
    if len(poses) < 2:
        return rotation, shift
    pace = float(np.clip((times[index + step] - times[index]) / (times[index] - times[index - step]), 0, 2))
    before, at = poses[-2]
    here = rotation @ middle + shift
    there = here + pace * (here - (before @ middle + at))
    turned = _power(rotation @ before.T, pace) @ rotation
    return turned, there - turned @ middle


def _power(rotation: Points, exponent: float) -> Points:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(exponent * Rotation.from_matrix(rotation).as_rotvec()).as_matrix())


def _lay(
    source: _Instant, members: NDArray[np.int64], target: _Instant, guess: tuple[Points, Points], size: float
) -> tuple[Points, Points] | None:
    """The rigid motion that lays a piece onto another instant, near ``guess``; None where too little of it fits."""
    if target.likes is None:
        return None
    points, colors = source.points[members], source.colors[members]
    middle = points.mean(axis=0)
    rotation, shift = guess
    for reach in np.geomspace(FIRST_REACH, REACH, ITERATIONS):
        moved = points @ rotation.T + shift
        distance, nearest = target.likes.query(_with_color(moved, colors, size), distance_upper_bound=2 * reach)
        near = np.isfinite(distance)
        near[near] &= np.linalg.norm(target.points[nearest[near]] - moved[near], axis=1) < reach * size
        if near.sum() < MIN_POINTS // 2:
            return None
        rotation, shift = _rigid(points[near], target.points[nearest[near]])
    moved = points @ rotation.T + shift
    found = target.places.query(moved, distance_upper_bound=REACH * size)[0]
    if np.isfinite(found).mean() < MIN_SHARE:
        return None
    jump = np.linalg.norm((rotation @ middle + shift) - (guess[0] @ middle + guess[1]))
    return (rotation, shift) if jump < 2 * FIRST_REACH * size else None


def _rigid(source: Points, target: Points) -> tuple[Points, Points]:
    """The rotation and shift from (P, 3) onto (P, 3) with the least squared error (Kabsch, 1976)."""
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, _, v = np.linalg.svd((target - b).T @ (source - a))
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v)) or 1.0])
    rotation = u @ flip @ v
    return rotation, b - rotation @ a


def _claim(instants: list[_Instant], track: Track, size: float) -> None:
    """What a track's piece covers is explained, wherever it was found."""
    from scipy.spatial import cKDTree

    source = instants[track.instant]
    for offset, (rotation, shift) in enumerate(zip(track.rotations, track.shifts, strict=True)):
        there = instants[track.first + offset]
        moved = cKDTree(source.points[track.members] @ rotation.T + shift)
        there.free[np.isfinite(moved.query(there.points, distance_upper_bound=REACH * size)[0])] = False
