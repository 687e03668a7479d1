"""Which views to render: those of the capture, an orbit around what it looks at, or a JSON file of cameras.

The JSON is a list of objects with ``name``, ``time`` (0 to 1), ``width``, ``height``, ``fx``, ``fy``, ``cx``, ``cy``
and ``world_to_camera`` (4x4, OpenCV axes, in the capture's world), and optionally ``camera_id``, the number of one of
the capture's cameras, to see the scene in its colours. ``adcgs-decode`` writes the same as cameras.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bitstream import CameraView
from .camera import Camera, Similarity
from .errors import OptionError

MAX_PIXELS = 1 << 26
MAX_NUMBER = 1e12  # of a camera's coordinates and intrinsics
_NUMBERS = ("width", "height", "fx", "fy", "cx", "cy")


@dataclass(frozen=True)
class Viewpoint:
    """One image to render: a camera in the normalised space, an instant in [0, 1], a name that is a safe file stem.

    ``camera_id`` is that of the capture's camera in whose own colours the scene is to be shown; None: as it is.
    """

    name: str
    camera: Camera
    time: float
    camera_id: int | None = None


def select_viewpoints(
    spec: str,
    views: Sequence[CameraView],
    similarity: Similarity,
    times: Sequence[float] | None,
    orbit_frames: int,
) -> list[Viewpoint]:
    """Viewpoints for ``--views``.

    Args:
        spec: ``test``, ``val``, ``train``, ``all``, ``orbit`` or the path of a JSON file.
        views: the cameras stored in the file.
        times: instants that replace each view's own (every camera at every instant); None keeps them.
        orbit_frames: frames of an orbit where ``times`` does not say.

    Raises:
        OptionError: ``no-views`` where the file has none of that kind, ``bad-views`` for a JSON file that is wrong.
    """
    if spec == "orbit":
        return orbit(views, np.linspace(0, 1, orbit_frames) if times is None else times)
    if spec.endswith(".json"):
        chosen = read_viewpoints(Path(spec), similarity)
    else:
        found = _split(spec, views)
        stems = [_stem(view.name) for view in found]
        if len({stem.lower() for stem in stems}) < len(stems):  # names that differ in what files cannot be called
            stems = [f"{stem[:110]}_{index:06d}" for index, stem in enumerate(stems)]
        chosen = [
            Viewpoint(stem, view.camera, view.time, None if view.camera_id < 0 else view.camera_id)
            for stem, view in zip(stems, found, strict=True)
        ]
    return chosen if times is None else _at_times(chosen, times)


def _split(spec: str, views: Sequence[CameraView]) -> list[CameraView]:
    if spec not in ("test", "val", "train", "all"):
        raise OptionError("bad-views", f"--views {spec!r}: use test, val, train, all, orbit or a .json file")
    chosen = [v for v in views if spec in ("all", v.split)]
    if not chosen and spec == "test":  # captures without a test split are measured on their validation views
        chosen = [v for v in views if v.split == "val"]
    if not chosen:
        present = sorted({v.split for v in views}) or ["none"]
        raise OptionError(
            "no-views",
            f"--views {spec}: the file has no such cameras (it has: {', '.join(present)}); try --views orbit",
        )
    return chosen


def _at_times(chosen: Sequence[Viewpoint], times: Sequence[float]) -> list[Viewpoint]:
    """Every distinct camera at every instant."""
    distinct: dict[tuple[Any, ...], Viewpoint] = {}
    for view in chosen:
        c = view.camera
        distinct.setdefault((c.width, c.height, c.fx, c.fy, c.cx, c.cy, c.world_to_camera.tobytes()), view)
    digits = max(4, len(str(len(times))))
    return [
        Viewpoint(f"{view.name}_t{index:0{digits}d}", view.camera, float(time), view.camera_id)
        for view in distinct.values()
        for index, time in enumerate(times)
    ]


def resize(viewpoints: Sequence[Viewpoint], width: int, height: int) -> list[Viewpoint]:
    """The same views at another size."""
    if not (width > 0 and height > 0 and width * height <= MAX_PIXELS):
        raise OptionError("bad-size", f"--size {width}x{height}: give positive sizes of at most {MAX_PIXELS} pixels")
    return [replace(view, camera=view.camera.resized(width, height)) for view in viewpoints]


def orbit(views: Sequence[CameraView], times: Sequence[float] | NDArray[np.float64]) -> list[Viewpoint]:
    """A smooth path around what the capture's cameras look at, one camera per instant.

    Where the cameras stand around the content the path goes all the way round; where they stand on one side of it, it
    sways within the angle that they cover.

    Raises:
        OptionError: ``no-views`` for a file without cameras.
    """
    cameras = [v.camera for v in views if v.split == "train"] or [v.camera for v in views]
    if not cameras:
        raise OptionError(
            "no-views", "--views orbit: the file has no cameras to orbit near; give a .json file of cameras"
        )
    centers = np.array([c.center for c in cameras])
    forward = np.array([c.world_to_camera[2, :3] for c in cameras])
    up = _unit(-np.mean([c.world_to_camera[1, :3] for c in cameras], axis=0), np.array([0.0, 0.0, 1.0]))
    target = _closest_to_axes(centers, forward)
    relative = centers - target
    height = relative @ up
    flat = relative - height[:, None] * up
    radius = float(np.median(np.linalg.norm(flat, axis=1)))
    east = _unit(np.median(flat, axis=0) if np.ptp(_angles(flat, up)) < 3.0 else flat[0], np.array([1.0, 0.0, 0.0]))
    north = np.cross(up, east)
    angle = np.arctan2(flat @ north, flat @ east)
    span = float(np.quantile(angle, 0.95) - np.quantile(angle, 0.05))
    middle = float(np.median(height))
    template = cameras[0]
    found = []
    for index, time in enumerate(np.asarray(times, float)):
        phase = 2 * math.pi * index / max(len(times), 1)
        theta = phase if span > math.pi else 0.5 * 0.8 * span * math.sin(phase)
        eye = target + radius * (math.cos(theta) * east + math.sin(theta) * north) + middle * up
        found.append(Viewpoint(f"orbit_{index:04d}", _look_at(template, eye, target, up), float(time)))
    return found


def _angles(flat: NDArray[np.float64], up: NDArray[np.float64]) -> NDArray[np.float64]:
    east = _unit(np.cross(up, [0.0, 0.0, 1.0]), _unit(np.cross(up, [1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])))
    return np.asarray(np.arctan2(flat @ np.cross(up, east), flat @ east))


def _unit(vector: NDArray[np.float64], otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length > 1e-9 else otherwise)


def _closest_to_axes(centers: NDArray[np.float64], forward: NDArray[np.float64]) -> NDArray[np.float64]:
    """The point nearest to all optical axes in the least-squares sense, held near where the cameras look."""
    projector = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    # The small pull to the content's centre (the origin of the normalised space) settles parallel cameras.
    matrix = projector.sum(axis=0) + 1e-3 * len(centers) * np.eye(3)
    return np.asarray(np.linalg.solve(matrix, np.einsum("nij,nj->i", projector, centers)))


def _look_at(
    template: Camera, eye: NDArray[np.float64], target: NDArray[np.float64], up: NDArray[np.float64]
) -> Camera:
    z = _unit(target - eye, np.array([0.0, 0.0, 1.0]))
    x = _unit(np.cross(z, up), np.array([1.0, 0.0, 0.0]))
    rotation = np.stack([x, np.cross(z, x), z])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ eye
    return replace(template, world_to_camera=matrix)


def read_viewpoints(path: Path, similarity: Similarity) -> list[Viewpoint]:
    """Viewpoints of a JSON file, moved from the capture's world to the normalised space.

    Raises:
        OptionError: ``bad-views``, naming file, entry and field.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError("bad-views", f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise OptionError(
            "bad-views", f"{path}: must be a non-empty list of cameras, as adcgs-decode writes cameras.json"
        )
    found = [_viewpoint(path, index, entry, similarity) for index, entry in enumerate(entries)]
    if len({v.name for v in found}) != len(found):
        raise OptionError("bad-views", f"{path}: two cameras have the same 'name'; names become file names")
    return found


def _viewpoint(path: Path, index: int, entry: object, similarity: Similarity) -> Viewpoint:
    def refuse(field: str, why: str) -> OptionError:
        return OptionError("bad-views", f"{path}: camera {index}, field '{field}' {why}")

    if not isinstance(entry, dict):
        raise OptionError("bad-views", f"{path}: camera {index} is not an object")
    numbers = {}
    for field in (*_NUMBERS, "time"):
        value = entry.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_NUMBER:
            raise refuse(field, f"is {value!r}; give a number")
        numbers[field] = float(value)
    width, height = int(numbers["width"]), int(numbers["height"])
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise refuse("width", f"with height gives {width}x{height}; give 1 to {MAX_PIXELS} pixels")
    if not 0 <= numbers["time"] <= 1:
        raise refuse("time", f"is {numbers['time']}; times are in 0..1 over the clip")
    if numbers["fx"] <= 0 or numbers["fy"] <= 0:
        raise refuse("fx", "and 'fy' must be positive")
    try:
        matrix = np.array(entry.get("world_to_camera"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.zeros(0)
    if matrix.shape != (4, 4) or not (np.abs(matrix) < MAX_NUMBER).all():
        raise refuse("world_to_camera", "must be 4x4 finite numbers")
    rotation = matrix[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4) or np.linalg.det(rotation) < 0:
        raise refuse("world_to_camera", "has no rotation in its upper left 3x3")
    if not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6):
        raise refuse("world_to_camera", "must end with the row 0 0 0 1")
    camera = Camera(width, height, numbers["fx"], numbers["fy"], numbers["cx"], numbers["cy"], matrix)
    name = entry.get("name", f"view_{index:04d}")
    if not isinstance(name, str) or not name.strip(". "):
        raise refuse("name", "must be text")
    camera_id = entry.get("camera_id")
    if camera_id is not None and (isinstance(camera_id, bool) or not isinstance(camera_id, int)):
        raise refuse("camera_id", f"is {camera_id!r}; give the number of one of the file's cameras, or leave it out")
    return Viewpoint(_stem(name), similarity.apply_to_camera(camera), numbers["time"], camera_id)


def describe(viewpoints: Sequence[Viewpoint], similarity: Similarity) -> list[dict[str, Any]]:
    """The JSON form of viewpoints, in the capture's world."""
    found = []
    for view in viewpoints:
        camera = similarity.invert_camera(view.camera)
        entry: dict[str, Any] = {"name": view.name, "time": view.time}
        entry |= {} if view.camera_id is None else {"camera_id": view.camera_id}
        entry |= {key: getattr(camera, key) for key in _NUMBERS}
        entry["world_to_camera"] = camera.world_to_camera.tolist()
        found.append(entry)
    return found


def _stem(name: str) -> str:
    """A file stem that stays inside its folder on any system."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")
    return safe[:120] or "view"
