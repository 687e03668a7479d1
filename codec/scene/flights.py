"""What flies before one moving camera, found by what a model of the scene fails to show.

With one picture an instant nothing can be carved at that instant, and what leaves its own place within a few pictures
is in no hull. Nor does a gradient bring it there: a model that lacks it paints its shadow on what stands behind. So
blobs of a picture that the model does not show are looked for in space and velocity: where a point would be
unexplained in the pictures before and after, too. Masks that fly along with it then carve it as if it had rested.
Where the model has something already, or where the blob goes slowly, gradients do without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .capture import MovingCloud
from .hull import Mask, carve_cells, mask_colors, surface
from .movers import joined
from .tracks import Track

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

Points = NDArray[np.float64]

RESOLUTION = 144  # cells of what is carved along the box's longest side
REACH = 3  # pictures to each side in which a blob is looked for
LEAST_BLOB = 12  # pixels; smaller ones are noise
MOST_BLOBS = 6  # of a picture, the largest
LEAST_POINTS = 8  # that must be carved of a blob
MOST_GAP = 4  # pictures from one sight of a flight to the next
LIKE = 60  # of 255: as much may the mean colour of a flight change, in any channel
LEAST_SIGHTS = 5  # of a flight
LEAST_WAY = 1.0  # of a flight's width; gradients bring anchors as far
LEAST_PACE = 0.2  # widths from one picture to the next; what goes slower overlaps itself there, and gradients follow it
DEPTHS = 48  # on a blob's ray that are tried
SPEEDS = 9  # along each axis, up to
FASTEST = 0.06  # of the box's longest side from one picture to the next
TRANSPARENT = -2.0  # what a way earns where it leads through the empty part of a picture; 1 where that is unexplained
LEAST_SCORE = 0.6  # of a picture, on average
AGREEMENT = 0.7  # of the masks around a cell: in some, what flies looks like what is behind it
GROWTH = 2  # pixels by which a blob may be larger than what differed
NEAR = 0.5  # of a blob's radius: what the model has so near, its gradients can move there
MOST_THERE = 0.4  # of what is carved of a blob may be so near to what the model has


@dataclass(frozen=True, eq=False)
class Picture:
    """What a frame shows, and where a model of the scene does not show it.

    Attributes:
        mask: the frame's silhouette and colours.
        missing: (H, W) pixels of the silhouette that the model shows otherwise.
        there: (N, 3) where the model has something at that instant.
    """

    mask: Mask
    missing: NDArray[np.bool_]
    there: NDArray[np.floating]

    @property
    def time(self) -> float:
        return self.mask.frame.time


@dataclass(frozen=True, eq=False)
class _Sight:
    """A blob in space: its place and velocity (3,), radius and mean colour (3,) of 255; what was carved."""

    instant: int
    place: Points
    velocity: Points
    radius: float
    color: Points
    points: Points
    colors: Points


def flying_cloud(
    pictures: Sequence[Picture], box: NDArray[np.floating], progress: Callable[[float], None] | None = None
) -> MovingCloud | None:
    """Surfaces of what is missing in pictures of one moving camera, each with its way; None where nothing is found.

    Args:
        pictures: in the order of their times, which all differ.
        box: (2, 3) corners of the scene.
        progress: told the share of the pictures that are done.
    """
    if len(pictures) <= 2 * REACH:
        return None
    size = float((box[1] - box[0]).max()) / RESOLUTION
    times = np.array([picture.time for picture in pictures])
    flights: list[list[_Sight]] = []
    for index in range(len(pictures)):
        _continue(flights, _sights(pictures, index, np.asarray(box, np.float64), size), times, size)
        if progress is not None:
            progress((index + 1) / len(pictures))
    tracks, clouds = [], [(np.zeros((0, 3)), np.zeros((0, 3))) for _ in times]
    for flight in sorted(flights, key=len, reverse=True):
        if len(flight) >= LEAST_SIGHTS and _is_fast(flight):
            tracks.append(_track(flight, times, clouds))
    if not tracks:
        return None
    return joined(tracks, clouds, times, f"{len(tracks)} flights in {len(pictures)} pictures")


def _sights(pictures: Sequence[Picture], index: int, box: Points, size: float) -> list[_Sight]:
    """All that one picture misses, that has a way, and of which the model has nothing."""
    from scipy.spatial import cKDTree

    first = min(max(index - REACH, 0), len(pictures) - 2 * REACH - 1)
    here = pictures[index]
    near = sorted(pictures[first : first + 2 * REACH + 1], key=lambda p: abs(p.time - here.time))
    known = cKDTree(here.there)
    sights = []
    for blob in _blobs(here.missing):
        way = _way(near, blob, box)
        if way is None:
            continue
        depth = float(here.mask.matrix[2, :3] @ way[0] + here.mask.matrix[2, 3])
        radius = depth * float(np.sqrt(len(blob) / np.pi) / np.linalg.norm(here.mask.matrix[0, :3]))
        points, colors = _carve(near, *way, radius, size)
        if len(points) >= LEAST_POINTS and not _is_there(known, points, max(NEAR * radius, 2 * size)):
            color = here.mask.rgb[tuple(blob.T)].mean(axis=0)
            # Where it was carved says better where it is than the middle of what was seen of it.
            sights.append(_Sight(index, points.mean(axis=0), way[1], radius, color, points, colors))
    return sights


def _is_there(known: cKDTree, points: Points, reach: float) -> bool:
    """Whether the model has something where ``points`` are, if not as it should be: no new anchors are needed."""
    distance, _ = known.query(points, distance_upper_bound=reach)
    return float(np.isfinite(distance).mean()) > MOST_THERE


def _continue(flights: list[list[_Sight]], sights: list[_Sight], times: Points, size: float) -> None:
    """Each sight goes on with the flight that led nearest to it, or begins one."""
    pairs = []
    for s, sight in enumerate(sights):
        for f, flight in enumerate(flights):
            last = flight[-1]
            if not 0 < sight.instant - last.instant <= MOST_GAP:
                continue
            passed = times[sight.instant] - times[last.instant]
            reach = max((last.radius + sight.radius) / 2, 3 * size)
            if np.abs(sight.color - last.color).max() < LIKE:
                pairs.append((_miss(last, sight, passed) / reach, s, f))
    taken: set[int] = set()
    led: set[int] = set()
    for distance, s, f in sorted(pairs):
        if distance < 1 and s not in taken and f not in led:
            flights[f].append(sights[s])
            taken.add(s)
            led.add(f)
    flights.extend([sight] for s, sight in enumerate(sights) if s not in taken)


def _is_fast(flight: list[_Sight]) -> bool:
    """Whether it leads far, and fast, for its width."""
    width = 2 * float(np.median([sight.radius for sight in flight]))
    places = np.stack([sight.place for sight in flight])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1) / np.diff([sight.instant for sight in flight])
    way = np.linalg.norm(np.ptp(places, axis=0))
    return bool(way > LEAST_WAY * width and np.median(steps) > LEAST_PACE * width)


def _miss(last: _Sight, sight: _Sight, passed: float) -> float:
    """How far a sight is from where the last one led, on that one's course, its own (it may have bounced) or both."""
    way = sight.place - last.place
    courses = (last.velocity, sight.velocity, (last.velocity + sight.velocity) / 2)
    return min(float(np.linalg.norm(way - passed * course)) for course in courses)


def _track(flight: list[_Sight], times: Points, clouds: list[tuple[Points, Points]]) -> Track:
    """A flight's way, without turns, of a typical one of its carved shapes, which joins the clouds."""
    best = sorted(flight, key=lambda sight: len(sight.points))[len(flight) // 2]
    here = clouds[best.instant]
    members = len(here[0]) + np.arange(len(best.points))
    clouds[best.instant] = (np.concatenate([here[0], best.points]), np.concatenate([here[1], best.colors]))
    seen = [sight.instant for sight in flight]
    places = np.stack([sight.place for sight in flight])
    lasting = np.arange(seen[0], seen[-1] + 1)
    way = np.stack([np.interp(times[lasting], times[seen], places[:, i]) for i in range(3)], axis=1)
    return Track(best.instant, members, seen[0], np.tile(np.eye(3), (len(way), 1, 1)), way - best.place)


def _blobs(missing: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Rows and columns (P, 2) of the largest connected parts."""
    from scipy.ndimage import label

    parts, count = label(missing, np.ones((3, 3)))
    blobs = [np.argwhere(parts == part) for part in range(1, count + 1)]
    blobs = sorted((blob for blob in blobs if len(blob) >= LEAST_BLOB), key=len, reverse=True)
    return blobs[:MOST_BLOBS]


def _way(near: Sequence[Picture], blob: NDArray[np.int64], box: Points) -> tuple[Points, Points] | None:
    """Where a blob of the first of ``near`` is, (3,), and its velocity (3,) per unit of time; None where no way fits.

    Depths on its ray and velocities are tried on a grid in the nearest pictures; around the best of them on finer
    ones, in more pictures.
    """
    here, others = near[0], near[1:]
    inverse = np.linalg.inv(here.mask.matrix[:, :3].astype(np.float64))
    origin = -inverse @ here.mask.matrix[:, 3]
    row, column = blob.mean(axis=0) + 0.5
    ray = inverse @ np.array([column, row, 1.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        enter, leave = (box[0] - origin) / ray, (box[1] - origin) / ray
    first, last = max(float(np.fmin(enter, leave).max()), 0.0), float(np.fmax(enter, leave).min())
    if not first < last:
        return None
    pace = float(np.median(np.diff(sorted(picture.time for picture in near))))
    top = FASTEST * float((box[1] - box[0]).max()) / pace
    depths, speeds = np.linspace(first, last, DEPTHS), np.linspace(-top, top, SPEEDS)
    ways = np.stack(np.meshgrid(depths, speeds, speeds, speeds, indexing="ij"), axis=-1).reshape(-1, 4)
    step = np.array([depths[1] - depths[0], *[speeds[1] - speeds[0]] * 3])
    around = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    for count, keep in ((2, 150), (4, 100), (len(others), 0)):
        scores = np.zeros(len(ways))
        for picture in others[:count]:
            scores += _score(picture, here, origin + ways[:, :1] * ray, ways[:, 1:])
        if keep:
            step = step / 2
            # Of many that are equally good the best are not the first: all over the grid.
            order = np.argsort(-scores, kind="stable")
            best = order[np.linspace(0, max(int((scores == scores.max()).sum()), keep) - 1, keep).astype(int)]
            ways = (ways[best, None] + step * around).reshape(-1, 4)
    if scores.max() < LEAST_SCORE * len(others):
        return None
    depth, *velocity = ways[scores >= scores.max() - 1e-6].mean(axis=0)
    return origin + depth * ray, np.array(velocity)


def _score(picture: Picture, here: Picture, places: Points, velocities: Points) -> Points:
    """What each way (N, 3), (N, 3) from ``here`` earns in a picture, (N,)."""
    points = places + velocities * (picture.time - here.time)
    local = points @ picture.mask.matrix[:, :3].T + picture.mask.matrix[:, 3]
    height, width = picture.missing.shape
    depth = np.maximum(local[:, 2], 1e-6)
    column, row = local[:, 0] / depth, local[:, 1] / depth
    inside = (local[:, 2] > 1e-6) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    earned = np.zeros(len(points))
    pixel = row[inside].astype(np.int64), column[inside].astype(np.int64)
    earned[inside] = np.where(picture.missing[pixel], 1.0, np.where(picture.mask.opaque[pixel], 0.0, TRANSPARENT))
    return earned


def _carve(
    near: Sequence[Picture], place: Points, velocity: Points, radius: float, size: float
) -> tuple[Points, Points]:
    """Points and colours of the surface of what goes that way, at the instant of the first of ``near``."""
    here = near[0]
    half = 2.5 * radius + 2 * size
    masks = []
    for picture in near:
        matrix = picture.mask.matrix.copy()
        matrix[:, 3] += matrix[:, :3] @ (velocity * (picture.time - here.time)).astype(np.float32)
        masks.append(replace(picture.mask, matrix=matrix, opaque=picture.missing))
    grown = [replace(mask, opaque=_grown(picture)) for mask, picture in zip(masks, near, strict=True)]
    # On one raster for all pieces, whose cells may touch.
    low = np.floor((place - half) / size) * size
    cells = surface(carve_cells(grown, np.stack([low, place + half]), size, AGREEMENT))
    points = (low + (cells + 0.5) * size).astype(np.float32)
    return points.astype(np.float64), mask_colors(points, masks, size).astype(np.float64)


def _grown(picture: Picture) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(picture.missing, iterations=GROWTH) & picture.mask.opaque)
