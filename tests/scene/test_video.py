"""Videos are decoded once into the frame cache, and never read wrongly from it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from adcgs.errors import SceneError
from adcgs.scene import load_scene
from adcgs.scene.images import area_resize
from adcgs.scene.video import VideoFrame, default_cache_dir, open_video

from . import captures


def images(count: int = 5, seed: int = 0) -> list[np.ndarray]:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return list(coarse.repeat(8, 1).repeat(8, 2))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "cam00.mp4"
    captures.write_video(path, images())
    return path


def test_frames_come_back_exactly(video: Path, tmp_path: Path) -> None:
    clip = open_video(video, 1, tmp_path / "cache")
    assert (clip.count, clip.width, clip.height, clip.rate) == (5, 64, 48, 25)
    for k in (4, 0, 2):
        np.testing.assert_array_equal(VideoFrame(clip, k).read(), images()[k])
    np.testing.assert_array_equal(np.load(clip.cached), np.stack(images()))


def test_downscaling_happens_before_the_cache(video: Path, tmp_path: Path) -> None:
    clip = open_video(video, 1.5, tmp_path / "cache")
    assert (clip.width, clip.height, clip.full_size) == (43, 32, (64, 48))
    np.testing.assert_array_equal(VideoFrame(clip, 1).read(), area_resize(images()[1], 43, 32))


def test_a_video_is_decoded_once_and_again_when_it_changes(video: Path, tmp_path: Path) -> None:
    cache, calls = tmp_path / "cache", []
    clip = open_video(video, 1, cache, calls.append)
    assert calls[-1] == 1
    assert open_video(video, 1, cache, lambda _: pytest.fail("decoded again")) == clip
    captures.write_video(video, images(4, seed=9))
    os.utime(video, (1, 1))
    changed = open_video(video, 1, cache)
    assert changed.count == 4
    np.testing.assert_array_equal(VideoFrame(changed, 3).read(), images(4, seed=9)[3])


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_file_is_made_again(video: Path, tmp_path: Path, damage: bytes | None) -> None:
    clip = open_video(video, 1, tmp_path / "cache")
    whole = clip.cached.read_bytes()
    clip.cached.write_bytes(whole[:-1] if damage is None else damage)
    assert open_video(video, 1, tmp_path / "cache").cached.read_bytes() == whole


def test_an_interrupted_decode_leaves_nothing_behind(video: Path, tmp_path: Path) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_video(video, 1, tmp_path / "cache", stop)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_lost_cache_is_said_so(video: Path, tmp_path: Path) -> None:
    clip = open_video(video, 1, tmp_path / "cache")
    clip.cached.unlink()
    with pytest.raises(SceneError) as caught:
        VideoFrame(clip, 0).read()
    assert caught.value.code == "frame-cache-lost"


def test_the_cache_respects_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "adcgs" / "frames"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_dir() == Path.home() / ".cache" / "adcgs" / "frames"


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cam00.mp4"
    path.write_bytes(bytes(1000))
    with pytest.raises(SceneError) as caught:
        open_video(path, 1, tmp_path / "cache")
    assert caught.value.code == "unreadable-video"


def test_a_disk_that_is_too_small_is_said_so(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(SceneError) as caught:
        open_video(video, 1, tmp_path / "cache")
    assert caught.value.code == "no-space"


def test_a_capture_of_videos_agrees_with_its_cameras(tmp_path: Path) -> None:
    root = tmp_path / "capture"
    rows = []
    for c in range(4):
        rig = captures.look_at(0.25 * c)
        rows.append(captures.neural3d_row(rig, 0.5))
        frames = [captures.opaque(captures.picture(rig, k / 2)) for k in range(3)]
        captures.write_video(root / f"cam{c:02d}.mp4", frames)
    np.save(root / "poses_bounds.npy", np.array(rows))
    captures.write_points(root)
    for downscale in (1.0, 1.6):
        scene = load_scene(root, cache_dir=tmp_path / "cache", downscale=downscale)
        assert (scene.frame_count, scene.frame_rate) == (3, 25)
        for frame in scene.split("train")[:4]:
            pixels, _ = frame.camera.project(scene.similarity.apply(captures.balls(frame.time)))
            found = captures.centroid(scene.image(frame), 0)
            assert np.abs(found - pixels[0]).max() < 0.15
