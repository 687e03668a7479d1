"""The cameras section: small, and exact enough to render held-out views from."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest
from adcgs import BitstreamError, Camera
from adcgs.bitstream import CameraView, pack_cameras, safe_name, unpack_cameras
from adcgs.bitstream.cursor import Cursor
from adcgs.bitstream.names import pack_names, read_names
from adcgs.bitstream.printable import is_printable
from hypothesis import given
from hypothesis import strategies as st


def rotation(generator: np.random.Generator) -> np.ndarray:
    """Uniform over all rotations, by QR: shares nothing with the code under test."""
    q, r = np.linalg.qr(generator.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def camera(generator: np.random.Generator, distance: float = 3.0, focal: float = 1000.0) -> Camera:
    pose = np.eye(4)
    pose[:3, :3] = rotation(generator)
    pose[:3, 3] = -pose[:3, :3] @ (generator.normal(size=3) * distance)
    return Camera(1000, 800, focal, 1.1 * focal, 510.25, 390.5, pose)


def moving(count: int, seed: int = 0) -> list[CameraView]:
    generator = np.random.default_rng(seed)
    return [CameraView(f"train/r_{k:03d}", "train", -1, k / (count - 1), camera(generator)) for k in range(count)]


def rig(cameras: int, times: int) -> list[CameraView]:
    generator = np.random.default_rng(0)
    heads = [camera(generator) for _ in range(cameras)]
    return [
        CameraView(
            f"{'test' if c == 0 else 'train'}/t{t:04d}_cam{c:02d}", "test" if c == 0 else "train", c, t / 149, heads[c]
        )
        for t in range(times)
        for c in range(cameras)
    ]


def reprojection_error(first: Camera, second: Camera, points: np.ndarray) -> float:
    """Largest distance in pixels between two projections of the points that the first camera sees."""
    a, depth = first.project(points)
    b, _ = second.project(points)
    seen = (depth > 0.2) & (a >= 0).all(1) & (a[:, 0] <= first.width) & (a[:, 1] <= first.height)
    return float(np.abs(a - b)[seen].max(initial=0.0))


@pytest.mark.parametrize("focal", [50.0, 1000.0, 5000.0])
def test_points_stay_within_a_hundredth_of_a_pixel(focal: float) -> None:
    generator = np.random.default_rng(1)
    views = [CameraView(f"v{i}", "test", -1, 0.0, camera(generator, focal=focal)) for i in range(200)]
    points = generator.normal(size=(3000, 3))
    for before, after in zip(views, unpack_cameras(pack_cameras(views, 1), 1), strict=True):
        assert reprojection_error(before.camera, after.camera, points) < 0.01


def test_poses_are_rotations_to_the_last_bits() -> None:
    for view in unpack_cameras(pack_cameras(moving(50), 50), 50):
        matrix = view.camera.world_to_camera
        assert np.abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() < 1e-14
        assert np.array_equal(matrix[3], [0, 0, 0, 1])


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)])
@pytest.mark.parametrize("degrees", [0.0, 90.0, 179.999999, 180.0, 270.0])
def test_half_turns_are_no_special_case(axis: tuple[float, float, float], degrees: float) -> None:
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.radians(degrees)
    pose = np.eye(4)
    pose[:3, :3] = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    view = CameraView("v", "train", 0, 0.0, Camera(100, 100, 1000.0, 1000.0, 50.0, 50.0, pose))
    back = unpack_cameras(pack_cameras([view], 1), 1)[0].camera
    assert np.abs(back.world_to_camera - pose).max() < 5e-6


def test_everything_but_the_pose_comes_back_as_it_was() -> None:
    views = moving(40) + [
        replace(view, split="val", camera_id=7, time=k / 19) for k, view in enumerate(moving(20, seed=1))
    ]
    back = unpack_cameras(pack_cameras(views, 40), 40)
    for before, after in zip(views, back, strict=True):
        assert (after.name, after.split, after.camera_id) == (before.name, before.split, before.camera_id)
        assert abs(after.time - before.time) <= 1e-9
        assert (after.camera.width, after.camera.height) == (1000, 800)
        assert after.camera.fx == np.float32(before.camera.fx)


def test_views_come_split_by_split_in_order() -> None:
    views = [replace(view, split=("test", "train")[k % 2]) for k, view in enumerate(moving(10))]
    names = [view.name for view in unpack_cameras(pack_cameras(views, 10), 10)]
    assert names == [f"train/r_{k:03d}" for k in (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)]


def test_a_rig_stores_its_cameras_once() -> None:
    views = rig(31, 150)
    data = pack_cameras(views, 150)
    assert len(data) < 1000  # 4650 views
    back = unpack_cameras(data, 150)
    expected = [view.name for split in ("train", "test") for view in views if view.split == split]
    assert [view.name for view in back] == expected
    assert len({id(view.camera) for view in back}) == 31


def test_moving_cameras_cost_under_twenty_bytes_each_and_a_smooth_path_less() -> None:
    assert len(pack_cameras(moving(150), 150)) < 20 * 150
    smooth = []
    for k in range(150):
        angle = 2 * math.pi * k / 150
        pose = np.eye(4)
        pose[:3, :3] = [[math.cos(angle), 0, -math.sin(angle)], [0, 1, 0], [math.sin(angle), 0, math.cos(angle)]]
        pose[:3, 3] = [0.0, 0.1, 3.0]
        smooth.append(CameraView(f"f{k}", "train", -1, k / 149, Camera(1000, 800, 1e3, 1e3, 500.0, 400.0, pose)))
    assert len(pack_cameras(smooth, 150)) < 9 * 150


@pytest.mark.parametrize("times", [[0.0, 1.0], [0.1, 0.123456], [k / 37 for k in range(38)], [math.pi / 4, 1 / math.e]])
def test_times_on_any_raster_come_back(times: list[float]) -> None:
    views = [replace(moving(2)[0], time=time) for time in times]
    back = unpack_cameras(pack_cameras(views, 150), 150)
    assert [view.time for view in back] == pytest.approx(times, abs=1e-9)


def test_no_views_is_a_section_too() -> None:
    assert unpack_cameras(pack_cameras([], 1), 1) == []


VIEW = moving(2)[0]


@pytest.mark.parametrize(
    "view",
    [
        replace(VIEW, split="holdout"),
        replace(VIEW, time=1.5),
        replace(VIEW, time=math.nan),
        replace(VIEW, camera=replace(VIEW.camera, fx=math.inf)),
        replace(VIEW, camera=replace(VIEW.camera, fx=0.0)),
        replace(VIEW, camera=replace(VIEW.camera, width=0)),
        replace(VIEW, camera=replace(VIEW.camera, world_to_camera=np.zeros((4, 4)))),
        replace(VIEW, camera=replace(VIEW.camera, world_to_camera=np.diag([1.0, 1.0, -1.0, 1.0]))),
        replace(VIEW, camera=replace(VIEW.camera, world_to_camera=np.eye(4) + 1e12 * np.eye(4, k=3))),
    ],
)
def test_an_impossible_view_is_refused_when_it_is_written(view: CameraView) -> None:
    with pytest.raises(BitstreamError) as caught:
        pack_cameras([view], 10)
    assert caught.value.code == "bad-camera"


def test_every_cut_and_every_flipped_byte_is_refused_or_read() -> None:
    data = pack_cameras([*moving(5), replace(VIEW, split="test", name="odd name")], 5)
    for end in range(len(data)):
        with pytest.raises(BitstreamError):
            unpack_cameras(data[:end], 5)
    for at in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= flip
            with contextlib.suppress(BitstreamError):
                unpack_cameras(bytes(damaged), 5)


# ---- names


@given(st.lists(st.text(max_size=30), max_size=20))
def test_any_names_come_back_made_safe(names: list[str]) -> None:
    safe = [safe_name(name) for name in names]
    cursor = Cursor(pack_names(names), "x")
    assert read_names(cursor, len(names)) == safe
    cursor.finish()


@given(st.text(max_size=300))
def test_a_safe_name_is_a_relative_path_within_its_folder_and_stays_what_it_is(name: str) -> None:
    safe = safe_name(name)
    assert safe_name(safe) == safe
    assert len(safe.encode()) <= 255
    assert is_printable(safe)
    assert not safe.startswith("/")
    assert not set(safe.split("/")) & {"", ".", ".."}
    assert not set(safe) & set('\\:*?"<>|')


@pytest.mark.parametrize("name", ["train/r_000", "cam03/0001.png", "épreuve 7", "a-b_c.d"])
def test_ordinary_names_are_left_alone(name: str) -> None:
    assert safe_name(name) == name


def test_padded_and_unpadded_numbers_keep_their_form() -> None:
    names = ["r_7", "r_07", "r_007", "r_10", "r_100", "r_1000", "x", "r_000000000000000012", "r_1_2_03"]
    assert read_names(Cursor(pack_names(names), "x"), len(names)) == names


def test_a_name_that_leaves_the_folder_is_refused_when_read() -> None:
    safe = pack_names(["aa/bb"])
    for evil in (b"../bb", b"/a/bb", b"aa//b", b"a\\/bb", b"aa/\x07b"):
        damaged = safe.replace(b"aa/bb", evil)
        with pytest.raises(BitstreamError) as caught:
            read_names(Cursor(damaged, "x"), 1)
        assert caught.value.code == "bad-name"
