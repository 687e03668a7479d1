"""The cameras section: the capture's views, so that a decoder can render what was held out.

Cameras live in the normalised space (the header has the similarity). Layout, ``column`` as in
:mod:`.columns`::

    u8, u8     fraction bits r of rotations and c of centres
    varint     intrinsics; each varint width, varint height, f32 fx, fy, cx, cy (pixel centres at +0.5)
    varint     poses; six columns over them: m_x, m_y, m_z in 2^-r, centre x, y, z in 2^-c
    three times, for train, val and test:
      varint   views n; where it is not 0:
      varint   times t: 0, time = k / (frames - 1), k / 1 where the clip has one frame;
               1, n x f64; t > 1, time = k / (t - 1)
      column   k, except where times are f64
      column   camera id + 1 (0: a camera that moves)
      column   intrinsics index
      column   pose index
      names    see :mod:`.names`

m are modified Rodrigues parameters: the quaternion is w = (1 - m.m) / (1 + m.m), (x, y, z) = 2 m / (1 +
m.m). Rational, bounded steps everywhere, so that a smooth camera path has small differences. The rotation R
is world to camera, the translation -R centre. Fraction bits are the writer's choice: :func:`pack_cameras`
keeps points within 0.01 pixels.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..errors import BitstreamError
from .columns import MAX_VALUE, pack_column, read_column
from .cursor import Cursor, varint
from .names import pack_names, read_names

Lens = tuple[int, int, float, float, float, float]
Row = TypeVar("Row", bound=tuple[Any, ...])

SPLITS = ("train", "val", "test")
MAX_IMAGE_SIDE = 1 << 14
MAX_IMAGE_PIXELS = 1 << 26
MAX_CAMERA_ID = 1 << 20
MAX_VIEWS = 1 << 16
"""Columns can be free, so nothing but this bounds what a small section can ask for."""

_INTRINSICS_BYTES = 18
_MAX_DENOMINATOR = 10**9
_MAX_FRACTION_BITS = 36
_ROTATION_PIXELS, _CENTER_PIXELS = 0.005, 0.004  # worst cases that the writer allows
_NEAREST = 0.2  # depth in units of the scene's size for which the second holds


@dataclass(frozen=True, eq=False)
class CameraView:
    """One view of the capture.

    Attributes:
        name: unique within the capture, safe as a relative path.
        split: ``"train"``, ``"val"`` or ``"test"``.
        camera_id: the same id means the same fixed camera; -1 for one that moves.
        time: in [0, 1].
        camera: in the normalised space.
    """

    name: str
    split: str
    camera_id: int
    time: float
    camera: Camera


def pack_cameras(views: Sequence[CameraView], frame_count: int) -> bytes:
    """Views to bytes, split by split; order is kept within each, reprojection errors stay below 0.01 pixels.

    Raises:
        BitstreamError: ``bad-camera`` for a view that the format cannot hold.
    """
    if len(views) > MAX_VIEWS:
        raise BitstreamError("limit-exceeded", f"{len(views)} views, the format holds {MAX_VIEWS}; leave some out")
    for view in views:
        _check(view)
    ordered = [view for split in SPLITS for view in views if view.split == split]
    lenses, lens_of = _distinct([_intrinsics(view.camera) for view in ordered])
    rotation_bits, center_bits = _fraction_bits([view.camera for view in ordered])
    poses, pose_of = _distinct(_quantised_poses([view.camera for view in ordered], rotation_bits, center_bits))
    out = bytes([rotation_bits, center_bits])
    out += varint(len(lenses)) + b"".join(varint(w) + varint(h) + struct.pack("<4f", *rest) for w, h, *rest in lenses)
    out += varint(len(poses)) + b"".join(pack_column([pose[axis] for pose in poses]) for axis in range(6))
    for split in SPLITS:
        rows = [index for index, view in enumerate(ordered) if view.split == split]
        out += varint(len(rows))
        if rows:
            out += _pack_times([ordered[row].time for row in rows], frame_count)
            out += pack_column([ordered[row].camera_id + 1 for row in rows])
            out += pack_column([lens_of[row] for row in rows]) + pack_column([pose_of[row] for row in rows])
            out += pack_names([ordered[row].name for row in rows])
    return out


def unpack_cameras(data: bytes, frame_count: int, source: str = "cameras") -> list[CameraView]:
    """The inverse of :func:`pack_cameras`: train, then val, then test views. Views share ``Camera`` objects.

    Args:
        data: the section's bytes.
        frame_count: of the clip, from the header.
        source: what to call the section in messages.

    Raises:
        BitstreamError: any damage.
    """
    cursor = Cursor(data, source)
    bits = [cursor.within(cursor.u8(f), f, 0, _MAX_FRACTION_BITS) for f in ("rotation bits", "centre bits")]
    lenses = [_read_intrinsics(cursor) for _ in range(cursor.count("intrinsics", MAX_VIEWS, _INTRINSICS_BYTES))]
    poses = _read_poses(cursor, bits[0], bits[1])
    cameras: dict[tuple[int, int], Camera] = {}
    views: list[CameraView] = []
    for split in SPLITS:
        count = cursor.varint(f"number of {split} views", 0, MAX_VIEWS - len(views))
        if count == 0:
            continue
        times = _read_times(cursor, count, frame_count)
        ids = read_column(cursor, count, "camera ids", 0, MAX_CAMERA_ID) - 1
        lens_of = read_column(cursor, count, "intrinsics of views", 0, len(lenses) - 1)
        pose_of = read_column(cursor, count, "poses of views", 0, len(poses) - 1)
        names = read_names(cursor, count)
        keys: list[tuple[int, int]] = list(zip(lens_of.tolist(), pose_of.tolist(), strict=True))
        for lens, pose in set(keys) - cameras.keys():
            cameras[lens, pose] = Camera(*lenses[lens], world_to_camera=poses[pose])
        columns = zip(names, ids.tolist(), times, keys, strict=True)
        views += [CameraView(name, split, identity, time, cameras[key]) for name, identity, time, key in columns]
    cursor.finish()
    return views


def _check(view: CameraView) -> None:
    camera = view.camera
    matrix = np.asarray(camera.world_to_camera, dtype=np.float64)
    numbers = [camera.fx, camera.fy, camera.cx, camera.cy, view.time, *matrix.ravel()]
    problem = ""
    if matrix.shape != (4, 4) or not all(math.isfinite(number) for number in numbers):
        problem = "has a number that is not finite, or no 4x4 matrix"
    elif view.split not in SPLITS or not 0 <= view.time <= 1 or not -1 <= view.camera_id < MAX_CAMERA_ID:
        problem = f"has split {view.split!r}, time {view.time}, camera id {view.camera_id}"
    elif not _is_size(camera.width, camera.height):
        problem = f"is {camera.width}x{camera.height} pixels"
    elif min(camera.fx, camera.fy) < 1e-3 or max(camera.fx, camera.fy, abs(camera.cx), abs(camera.cy)) > 1e7:
        problem = "has an impossible focal length or principal point"
    elif np.abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() > 1e-3 or np.linalg.det(matrix[:3, :3]) < 0:
        problem = "has a pose that is no rotation"
    if problem:
        raise BitstreamError("bad-camera", f"view '{view.name}' {problem}; repair the capture's camera")


def _is_size(width: int, height: int) -> bool:
    """Whether an image may have this size: a renderer allocates what a camera says."""
    return 1 <= width <= MAX_IMAGE_SIDE and 1 <= height <= MAX_IMAGE_SIDE and width * height <= MAX_IMAGE_PIXELS


def _distinct(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """Distinct rows in order of appearance, and the index of each row among them."""
    found: dict[Row, int] = {}
    index = [found.setdefault(row, len(found)) for row in rows]
    return list(found), index


def _intrinsics(camera: Camera) -> Lens:
    fx, fy, cx, cy = (float(np.float32(value)) for value in (camera.fx, camera.fy, camera.cx, camera.cy))
    return camera.width, camera.height, fx, fy, cx, cy


def _fraction_bits(cameras: Sequence[Camera]) -> tuple[int, int]:
    """Fraction bits of rotations and centres that keep within the allowed pixels at the longest focal.

    A step s in each of m turns by at most 2 sqrt(3) s; off the axis a turn moves pixels by up to 1 + tan^2
    more. A step s in each axis of the centre moves it by at most sqrt(3)/2 s.
    """
    reach = 1.0
    for camera in cameras:
        corner = math.hypot(
            max(camera.cx, camera.width - camera.cx) / camera.fx,
            max(camera.cy, camera.height - camera.cy) / camera.fy,
        )
        reach = max(reach, max(camera.fx, camera.fy) * (1 + corner * corner))
    rotation = math.log2(2 * math.sqrt(3) * reach / _ROTATION_PIXELS)
    center = math.log2(math.sqrt(3) / 2 * reach / _NEAREST / _CENTER_PIXELS)
    return min(math.ceil(rotation), 30), min(max(math.ceil(center), 0), 30)


def _quantised_poses(cameras: Sequence[Camera], rotation_bits: int, center_bits: int) -> list[tuple[int, ...]]:
    """Per camera its six integers."""
    if not cameras:
        return []
    quaternions = _quaternions(np.stack([camera.world_to_camera[:3, :3] for camera in cameras]))
    previous = quaternions[0]
    rows: list[tuple[int, ...]] = []
    for camera, quaternion in zip(cameras, quaternions, strict=True):
        # Of q and -q, the one near the previous pose; but m grows without bound towards w = -1.
        quaternion = quaternion if quaternion @ previous >= 0 else -quaternion
        quaternion = previous = quaternion if quaternion[0] > -0.25 else -quaternion
        m = quaternion[1:] / (1 + quaternion[0])
        center = np.rint(camera.center * 2.0**center_bits)
        if np.abs(center).max() >= MAX_VALUE // 2:
            raise BitstreamError("bad-camera", "a camera is too far away from the scene; repair the capture's camera")
        rows.append((*(int(v) for v in np.rint(m * 2.0**rotation_bits)), *(int(v) for v in center)))
    return rows


def _quaternions(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 3, 3) to the unit quaternions (P, 4) wxyz of the nearest rotations (Bar-Itzhack, 2000)."""
    r = rotations
    k = np.empty((len(r), 4, 4))
    k[:, 0, 0] = r[:, 0, 0] + r[:, 1, 1] + r[:, 2, 2]
    k[:, 0, 1] = k[:, 1, 0] = r[:, 2, 1] - r[:, 1, 2]
    k[:, 0, 2] = k[:, 2, 0] = r[:, 0, 2] - r[:, 2, 0]
    k[:, 0, 3] = k[:, 3, 0] = r[:, 1, 0] - r[:, 0, 1]
    for i in range(3):
        for j in range(3):
            k[:, i + 1, j + 1] = r[:, i, j] + r[:, j, i]
        k[:, i + 1, i + 1] -= k[:, 0, 0]
    return np.linalg.eigh(k)[1][:, :, -1]


def _pack_times(times: Sequence[float], frame_count: int) -> bytes:
    """Times as k / D for the first D that fits all within 1e-9: frames, another regular raster, decimals."""
    values = np.asarray(times, dtype=np.float64)
    candidates = [*range(1, 4097), 10**4, 10**5, 10**6, 10**7, 10**8]
    for code, denominator in [(0, max(frame_count - 1, 1)), *((d + 1, d) for d in candidates)]:
        steps = np.rint(values * denominator)
        if np.abs(steps / denominator - values).max() <= 1e-9:
            return varint(code) + pack_column(steps.astype(np.int64))
    return varint(1) + values.astype("<f8").tobytes()


def _read_times(cursor: Cursor, count: int, frame_count: int) -> list[float]:
    code = cursor.varint("coding of times", 0, _MAX_DENOMINATOR)
    if code != 1:
        denominator = code - 1 if code else max(frame_count - 1, 1)
        return [step / denominator for step in read_column(cursor, count, "times", 0, denominator).tolist()]
    times = np.frombuffer(cursor.take(8 * count, "times"), dtype="<f8")
    if not np.all((times >= 0) & (times <= 1)):
        raise cursor.fail("bad-camera", "times", "are not all in [0, 1]")
    return [float(time) for time in times]


def _read_intrinsics(cursor: Cursor) -> Lens:
    width, height = cursor.varint("image width"), cursor.varint("image height")
    if not _is_size(width, height):
        raise cursor.fail("limit-exceeded", "image size", f"is {width}x{height} pixels")
    fx, fy, cx, cy = (cursor.f32(field) for field in ("fx", "fy", "cx", "cy"))
    if min(fx, fy) < 1e-4 or max(fx, fy, abs(cx), abs(cy)) > 1e8:
        raise cursor.fail("bad-camera", "intrinsics", f"fx {fx:g}, fy {fy:g}, cx {cx:g}, cy {cy:g} are impossible")
    return width, height, fx, fy, cx, cy


def _read_poses(cursor: Cursor, rotation_bits: int, center_bits: int) -> NDArray[np.float64]:
    """(P, 4, 4) float64 world to camera."""
    count = cursor.varint("number of poses", 0, MAX_VIEWS)
    columns = [read_column(cursor, count, "poses", -MAX_VALUE, MAX_VALUE) for _ in range(6)]
    m = np.stack(columns[:3], axis=1) / 2.0**rotation_bits
    center = np.stack(columns[3:], axis=1) / 2.0**center_bits
    square = (m * m).sum(axis=1, keepdims=True)
    q = np.concatenate([1 - square, 2 * m], axis=1) / (1 + square)
    w, x, y, z = q.T
    pose = np.zeros((count, 4, 4))
    pose[:, 0, :3] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=1)
    pose[:, 1, :3] = np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=1)
    pose[:, 2, :3] = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)
    pose[:, :3, 3] = -np.einsum("pij,pj->pi", pose[:, :3, :3], center)
    pose[:, 3, 3] = 1.0
    return pose
