"""Every layout: where a ball is in the picture is where the loaded camera says it is, at any resolution."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from adcgs.errors import SceneError
from adcgs.scene import LAYOUTS, Scene, detect_layout, load_scene

from . import captures


def reprojection_error(scene: Scene, downscale: int = 1) -> float:
    """The largest distance in pixels between a ball and its predicted place, over all frames and balls."""
    worst = 0.0
    for frame in scene.frames:
        camera = scene.camera(frame, downscale)
        image = scene.image(frame, downscale)
        assert image.shape[:2] == (camera.height, camera.width)
        pixels, depth = camera.project(scene.similarity.apply(captures.balls(frame.time)))
        for ball in range(3):
            if (
                depth[ball] > 0
                and (pixels[ball] > 4).all()
                and (pixels[ball] < np.subtract(image.shape[1::-1], 4)).all()
            ):
                if _hidden(scene, frame.time, camera.center, ball):
                    continue
                worst = max(worst, float(np.abs(captures.centroid(image, ball) - pixels[ball]).max()))
    return worst


def _hidden(scene: Scene, time: float, center: np.ndarray, ball: int) -> bool:
    """Whether two balls come near each other in the picture, which spoils centroids."""
    toward = scene.similarity.apply(captures.balls(time)) - center
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    others = np.delete(toward, ball, axis=0)
    return bool((others @ toward[ball] > np.cos(3.5 * captures.RADIUS / 3.3)).any())


@pytest.mark.parametrize("layout", captures.WRITERS)
@pytest.mark.parametrize("downscale", [1.0, 1.5, 2.0])
def test_cameras_and_pixels_agree(intact: dict[str, Path], layout: str, downscale: float) -> None:
    scene = load_scene(intact[layout], downscale=downscale)
    assert scene.layout == layout
    assert reprojection_error(scene) < 0.15
    if downscale == 1:
        assert reprojection_error(scene, downscale=2) < 0.15


@pytest.mark.parametrize("layout", captures.WRITERS)
def test_what_every_scene_promises(intact: dict[str, Path], layout: str) -> None:
    scene = load_scene(intact[layout])
    stems = [frame.name.replace("/", "_") for frame in scene.frames]
    assert len(set(stems)) == len(stems)
    assert all(set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for stem in stems)
    assert [frame.index for frame in scene.frames] == list(range(len(scene.frames)))
    assert all(0 <= frame.time <= 1 for frame in scene.frames)
    assert scene.frame_count == len({frame.time for frame in scene.frames})
    assert scene.split("train")
    assert scene.split("test")
    assert scene.has_alpha == (layout == "dnerf")
    points = scene.cloud.points
    assert points.dtype == scene.cloud.colors.dtype == np.float32
    assert points.shape == scene.cloud.colors.shape
    assert len(points) > 10
    assert scene.cloud.source
    assert 0 <= scene.cloud.colors.min() <= scene.cloud.colors.max() <= 1
    half = np.percentile(points, 95, axis=0) - np.percentile(points, 5, axis=0)
    assert 0.8 < half.max() < 2.2  # unit half-extent
    assert (scene.bounds[0] < scene.bounds[1]).all()
    target = scene.target(scene.frames[0])
    assert target.dtype == np.float32
    assert 0 <= target.min() <= target.max() <= 1


def test_dnerf_splits_and_background(intact: dict[str, Path]) -> None:
    scene = load_scene(intact["dnerf"], background=(0, 0, 1))
    assert [len(scene.split(s)) for s in ("train", "val", "test")] == [24, 3, 3]
    assert {frame.camera_id for frame in scene.frames} == {-1}
    frame = scene.frames[0]
    empty = scene.image(frame)[..., 3] == 0
    np.testing.assert_array_equal(scene.target(frame)[empty], np.broadcast_to([0, 0, 1], (empty.sum(), 3)))
    np.testing.assert_array_equal(scene.target(frame, (1, 0, 0))[empty][0], [1, 0, 0])


def test_nerfies_serves_val_as_test(intact: dict[str, Path]) -> None:
    scene = load_scene(intact["nerfies"])
    assert [f.name for f in scene.split("test")] == [f.name for f in scene.split("val")] == ["val/000002", "val/000005"]
    assert [f.time for f in scene.split("train")] == pytest.approx([0, 0.2, 0.6, 0.8])


def test_neural3d_holds_out_the_first_camera(intact: dict[str, Path]) -> None:
    scene = load_scene(intact["neural3d"])
    assert {f.camera_id for f in scene.split("test")} == {0}
    assert {f.camera_id for f in scene.split("train")} == {1, 2, 3}
    assert scene.frames[4].name == "cam01/0001"
    assert [f.time for f in scene.split("test")] == [0, 0.5, 1]


@pytest.mark.parametrize("folder", ["{}", "{}/images", "images/{}"])
def test_neural3d_finds_frames(tmp_path: Path, folder: str) -> None:
    captures.write_neural3d(tmp_path, 3, 2, folder)
    assert len(load_scene(tmp_path).frames) == 6


def test_panoptic_keeps_ids_and_off_centre_intrinsics(intact: dict[str, Path]) -> None:
    scene = load_scene(intact["panoptic"])
    assert {f.camera_id for f in scene.split("test")} == {0}
    camera = scene.split("train")[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (121, 100, 44, 40)


def test_nerfstudio_splits(intact: dict[str, Path], tmp_path: Path) -> None:
    assert [f.index for f in load_scene(intact["nerfstudio"]).split("test")] == [7]
    captures.write_nerfstudio(tmp_path)
    document = json.loads((tmp_path / "transforms.json").read_text())
    names = [entry["file_path"] for entry in document["frames"]]
    document |= {"train_filenames": names[:6], "val_filenames": names[6:7], "test_filenames": names[8:]}
    captures.dump(tmp_path / "transforms.json", document)
    scene = load_scene(tmp_path)
    assert [len(scene.split(s)) for s in ("train", "val", "test")] == [6, 1, 2]


def test_nerfstudio_recognises_fixed_cameras(tmp_path: Path) -> None:
    captures.write_nerfstudio(tmp_path)
    document = json.loads((tmp_path / "transforms.json").read_text())
    for k in (0, 1, 2):
        document["frames"][k]["transform_matrix"] = document["frames"][0]["transform_matrix"]
    captures.dump(tmp_path / "transforms.json", document)
    ids = [frame.camera_id for frame in load_scene(tmp_path).frames]
    assert ids[0] == ids[1] == ids[2] >= 0
    assert set(ids[3:]) == {-1}


def test_one_similarity_takes_the_units_out(tmp_path: Path) -> None:
    """The same capture in other units and about another origin gives the same normalised scene."""
    captures.write_panoptic(tmp_path / "a")
    captures.write_panoptic(tmp_path / "b")
    shift = np.array([700.0, -30, 12])
    for split in ("train", "test"):
        path = tmp_path / "b" / f"{split}_meta.json"
        meta = json.loads(path.read_text())
        poses = np.array(meta["w2c"])
        poses[..., :3, 3] = 250 * (poses[..., :3, 3]) - poses[..., :3, :3] @ shift
        meta["w2c"] = poses.tolist()
        captures.dump(path, meta)
    points = np.load(tmp_path / "a" / "points.npy").astype(np.float64)
    np.save(tmp_path / "b" / "points.npy", 250 * points + shift)
    a, b = load_scene(tmp_path / "a"), load_scene(tmp_path / "b")
    assert a.similarity.scale / b.similarity.scale == pytest.approx(250, rel=1e-6)
    for f, g in zip(a.frames, b.frames, strict=True):
        np.testing.assert_allclose(f.camera.world_to_camera, g.camera.world_to_camera, atol=1e-6)
    original = np.load(tmp_path / "a" / "points.npy")
    back = a.similarity.invert(a.cloud.points)
    assert np.linalg.norm(original[:, None] - back[None], axis=-1).min(axis=0).max() < 0.05


def test_layouts_are_told_apart_and_can_be_forced(intact: dict[str, Path], tmp_path: Path) -> None:
    assert {name: detect_layout(root) for name, root in intact.items()} == {name: name for name in LAYOUTS}
    with pytest.raises(SceneError) as caught:
        detect_layout(tmp_path)
    assert caught.value.code == "unknown-layout"
    assert all(sign in str(caught.value) for signs in LAYOUTS.values() for sign in signs)
    captures.write_dnerf(tmp_path)
    captures.write_nerfstudio(tmp_path)
    with pytest.raises(SceneError) as caught:
        load_scene(tmp_path)
    assert caught.value.code == "ambiguous-layout"
    assert load_scene(tmp_path, layout="dnerf").layout == "dnerf"
    assert load_scene(tmp_path, layout="nerfstudio").layout == "nerfstudio"
