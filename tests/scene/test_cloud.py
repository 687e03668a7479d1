"""Clouds from files, cleaned and coloured, and clouds from nothing but images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from adcgs.errors import SceneError
from adcgs.scene import load_scene, prepare_cloud
from adcgs.scene.cloud import read_cloud
from adcgs.scene.completion import coverage
from adcgs.scene.stereo import continued

from . import captures

POINTS = np.array([[0.1, 0.2, 0.3], [1, 2, 3], [-1, -2, -3.5]], np.float32)
COLORS = np.array([[255, 0, 0], [0, 128, 0], [3, 2, 1]], np.uint8)


def ply(points: np.ndarray, colors: np.ndarray, text: bool) -> bytes:
    kind = "ascii" if text else "binary_little_endian"
    header = f"ply\nformat {kind} 1.0\nelement vertex {len(points)}\n"
    header += "".join(f"property float {a}\n" for a in "xyz")
    header += "".join(f"property uchar {a}\n" for a in ("red", "green", "blue")) + "end_header\n"
    if text:
        rows = (" ".join(map(str, [*p, *c])) for p, c in zip(points.tolist(), colors.tolist(), strict=True))
        return (header + "\n".join(rows) + "\n").encode()
    rows = [p.astype("<f4").tobytes() + c.tobytes() for p, c in zip(points, colors, strict=True)]
    return header.encode() + b"".join(rows)


@pytest.mark.parametrize("text", [True, False])
def test_ply(tmp_path: Path, text: bool) -> None:
    path = tmp_path / "points.ply"
    path.write_bytes(ply(POINTS, COLORS, text))
    points, colors = read_cloud(path)
    np.testing.assert_allclose(points, POINTS)
    np.testing.assert_allclose(colors, COLORS / 255)


def test_npy_and_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", POINTS)
    points, colors = read_cloud(tmp_path / "points.npy")
    np.testing.assert_array_equal(points, POINTS)
    assert colors is None
    np.savez(tmp_path / "init_pt_cld.npz", data=np.c_[POINTS, COLORS / 255, np.ones(3)])
    points, colors = read_cloud(tmp_path / "init_pt_cld.npz")
    np.testing.assert_allclose(points, POINTS)
    np.testing.assert_allclose(colors, COLORS / 255)


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("points.ply", b"", "bad-cloud"),
        ("points.ply", b"ply\nformat ascii 1.0\nelement vertex 4000000000\nproperty float x\nproperty float y\n"
         b"property float z\nend_header\n", "too-many-points"),
        ("points.ply", ply(POINTS, COLORS, False).replace(b"vertex 3", b"vertex 9000"), "bad-cloud"),
        ("points.ply", ply(POINTS, COLORS, False).replace(b"vertex 3", b"vertex -1"), "too-many-points"),
        ("points.ply", ply(POINTS[:0], COLORS[:0], True), "bad-cloud"),
        ("points.ply", ply(POINTS * np.nan, COLORS, True), "not-finite"),
        ("points.npy", b"", "bad-cloud"),
        ("points.npy", pickled(), "bad-cloud"),
        ("points.npy", npy(np.zeros((3, 2))), "bad-cloud"),
        ("points.npy", npy(np.zeros((0, 3))), "bad-cloud"),
        ("points.npy", npy(np.array(["x"])), "bad-cloud"),
        ("points.npy", npy(np.array([[0, 0, np.inf]])), "not-finite"),
        ("init_pt_cld.npz", b"PK\x03\x04", "bad-cloud"),
        ("init_pt_cld.npz", npy(POINTS), "bad-cloud"),
    ],
)  # fmt: skip
def test_bad_clouds_are_refused(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(SceneError) as caught:
        read_cloud(path)
    assert caught.value.code == code
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_outliers_go_and_voxels_thin() -> None:
    rng = np.random.default_rng(0)
    points = np.r_[rng.random((5000, 3)) * (1, 1, 0), [[30.0, 0, 0], [0, -40, 0]]]
    kept, colors = prepare_cloud(points, np.full_like(points, 0.25), 0.05)
    assert np.abs(kept).max() < 2
    assert 350 < len(kept) < 500  # a unit square in voxels of 0.05, and their neighbours
    assert colors == pytest.approx(0.25)
    fewer, _ = prepare_cloud(points, np.full_like(points, 0.25), 0.05, max_points=100)
    assert 30 < len(fewer) <= 100


def test_a_coloured_file_is_preferred_and_bare_points_are_coloured(tmp_path: Path) -> None:
    captures.write_panoptic(tmp_path)
    scene = load_scene(tmp_path)
    assert "points.npy, coloured from the images" in scene.cloud.source
    points = np.load(tmp_path / "points.npy")
    (tmp_path / "points3D.ply").write_bytes(ply(points, np.full(points.shape, 51, np.uint8), False))
    scene = load_scene(tmp_path)
    assert "points3D.ply" in scene.cloud.source
    assert scene.cloud.colors == pytest.approx(0.2)


def test_a_cloud_in_other_units_is_noticed(tmp_path: Path) -> None:
    captures.write_panoptic(tmp_path)
    np.save(tmp_path / "points.npy", np.load(tmp_path / "points.npy") + 1000)
    with pytest.raises(SceneError) as caught:
        load_scene(tmp_path)
    assert caught.value.code == "cloud-out-of-view"


def write_wall(root: Path, cameras: int) -> None:
    """A textured wall at x = 0 before a row of cameras, 4 away, at one instant."""
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 256, (40, 40, 3)).astype(float)
    rigs = [captures.look_at(0.12 * (c - cameras // 2), 0.3, fx=90, fy=90) for c in range(cameras)]
    meta: dict[str, list] = {"k": [[]], "w2c": [[]], "fn": [[]], "cam_id": [[]]}
    for c, rig in enumerate(rigs):
        rays = rig.rays(2)
        hit = rig.center + rays * (-rig.center[0] / rays[..., :1])
        cell = np.clip((hit[..., 1:] * 5 + 20).astype(int), 0, 39)
        image = texture[cell[..., 0], cell[..., 1]].reshape(72, 2, 96, 2, 3).mean((1, 3))
        captures.save(root / "ims" / f"{c}.png", np.round(image).astype(np.uint8))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rig.axes, -rig.axes @ rig.center
        meta["k"][0].append([[90, 0, 48], [0, 90, 36], [0, 0, 1]])
        meta["w2c"][0].append(pose.tolist())
        meta["fn"][0].append(f"{c}.png")
        meta["cam_id"][0].append(c)
    captures.dump(root / "train_meta.json", {"w": 96, "h": 72, **meta})


def test_without_points_and_masks_the_images_are_matched(tmp_path: Path) -> None:
    write_wall(tmp_path, 7)
    scene = load_scene(tmp_path)
    assert "by stereo" in scene.cloud.source
    world = scene.similarity.invert(scene.cloud.points)
    assert len(world) > 1000
    assert np.percentile(np.abs(world[:, 0]), 80) < 0.25  # cameras are 4 away


def test_a_cloud_that_leaves_the_views_empty_is_completed(tmp_path: Path) -> None:
    write_wall(tmp_path, 8)
    rng = np.random.default_rng(0)
    patch = np.column_stack([np.zeros(60), rng.uniform(-0.2, 0.2, (60, 2))])  # of the wall, which is 4 across
    floating = np.column_stack([np.full(60, 1.5), rng.uniform(-0.2, 0.2, (60, 2))])  # between wall and cameras
    np.save(tmp_path / "points.npy", np.concatenate([patch, floating]))
    scene = load_scene(tmp_path)
    assert "120 points of points.npy" in scene.cloud.source
    assert "60 dropped" in scene.cloud.source
    world = scene.similarity.invert(scene.cloud.points)
    assert np.percentile(np.abs(world[:, 0]), 80) < 0.25
    assert np.ptp(world[:, 1]) > 2
    assert coverage(scene.cloud.points, scene) > 0.7


def test_a_cloud_that_covers_the_views_is_left_alone(tmp_path: Path) -> None:
    write_wall(tmp_path, 8)
    wall = np.random.default_rng(0).uniform(-3, 3, (4000, 3)) * (0, 1, 1)
    np.save(tmp_path / "points.npy", wall)
    assert "stereo" not in load_scene(tmp_path).cloud.source


def test_continuation_is_harmonic() -> None:
    """Linear functions are: what is known at two sides of a strip comes back in between."""
    ramp = np.tile(np.linspace(0.0, 1.0, 33), (20, 1))
    known = np.zeros(ramp.shape, bool)
    known[:, [0, -1]] = True
    np.testing.assert_allclose(continued(ramp, known, relaxations=400), ramp, atol=0.01)


def test_without_anything_to_match_the_frustum_is_sampled(tmp_path: Path) -> None:
    captures.write_panoptic(tmp_path)
    (tmp_path / "points.npy").unlink()
    for path in tmp_path.glob("ims/*/*.png"):
        captures.save(path, np.full((72, 96, 3), 90, np.uint8))
    scene = load_scene(tmp_path)
    assert "sampled in the cameras' common frustum" in scene.cloud.source
    assert len(scene.cloud) > 1000
    assert scene.cloud.colors == pytest.approx(90 / 255, abs=1e-3)
