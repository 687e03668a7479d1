"""Neural 3D Video (Neu3D, DyNeRF): ``poses_bounds.npy`` beside ``camNN.mp4``, or folders of frames.

One row a camera, in name order: a 3x5 matrix, row by row, whose columns are [down, right, backwards, position,
(height, width, focal)] of camera-to-world (LLFF), then the nearest and the farthest depth. The focal length
belongs to the size that the row states; images of another size with the same shape scale it. The first camera
in name order, cam00, is the test view. Frames may lie in ``camNN/``, ``camNN/images/`` or ``images/camNN/``;
where both exist, frames are taken rather than videos, because nothing needs to be decoded ahead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from .capture import DEFAULT_FRAME_RATE, Capture, PixelSource, Shot
from .checks import MAX_COORDINATE, MAX_FRAMES, Field, rotation_from, scene_error, world_to_camera_from
from .cloud import find_clouds
from .images import IMAGE_SUFFIXES, open_images
from .video import VideoFrame, open_video

_POSES = "poses_bounds.npy"
_VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")


def read_neural3d(
    root: Path,
    downscale: float = 1.0,
    cache_dir: Path | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Capture:
    """Read a capture in Neural 3D Video's layout; see :func:`adcgs.scene.load_scene` for the arguments.

    Raises:
        SceneError: for anything wrong with it.
    """
    poses = _read_poses(root)
    folders, videos = _frame_folders(root), _videos(root)
    names = sorted(folders or videos)
    if len(names) != len(poses):
        raise scene_error(
            "camera-count", _POSES, "", f"{len(poses)} rows for {len(names)} cameras ({', '.join(names[:4])} ...)",
            "one row per camera, in name order",
        )  # fmt: skip
    rate = DEFAULT_FRAME_RATE
    shots: list[Shot] = []
    frames = 0
    for number, name in enumerate(names):
        full_size = None
        if folders:
            sources = _open_frames(folders[name])
        else:
            ahead = _ahead(progress, f"reading {videos[name].name}", number, len(names))
            clip = open_video(videos[name], downscale, cache_dir, ahead)
            sources, full_size, rate = [VideoFrame(clip, k) for k in range(clip.count)], clip.full_size, clip.rate
        frames = frames or len(sources)
        if len(sources) != frames:
            raise scene_error(
                "frame-count", root / name, "", f"{len(sources)} frames, {names[0]} has {frames}",
                "cut all cameras to the same instants",
            )  # fmt: skip
        shots += _camera_shots(name, number, poses[number], sources, full_size)
    bounds = (float(poses[:, 15].min()), float(poses[:, 16].max()))
    return Capture("neural3d", shots, rate, bounds, find_clouds(root))


def _camera_shots(
    name: str, number: int, row: NDArray[np.float64], sources: Sequence[PixelSource], full: tuple[int, int] | None
) -> list[Shot]:
    width, height = full or (sources[0].width, sources[0].height)
    camera = _camera(row, width, height, name, number)
    last = max(len(sources) - 1, 1)
    return [
        Shot(
            f"{name}/{k:04d}", camera, k / last, "train" if number else "test", source, camera_id=number, full_size=full
        )
        for k, source in enumerate(sources)
    ]


def _camera(row: NDArray[np.float64], width: int, height: int, name: str, number: int) -> Camera:
    matrix = row[:15].reshape(3, 5)
    stated_height, stated_width, focal = matrix[:, 4]
    if abs(width * stated_height / stated_width - height) > 1:
        raise scene_error(
            "size-mismatch", _POSES, f"row {number}",
            f"{name} is {width}x{height}, the row says {stated_width:g}x{stated_height:g}",
            "store images of the shape the poses were made for",
        )  # fmt: skip
    # LLFF's columns are down, right, backwards; ours are right, down, forward.
    axes = np.stack([matrix[:, 1], matrix[:, 0], -matrix[:, 2]], axis=1)
    rotation = rotation_from(axes, Field(None, Path(_POSES), f"row {number}")).T
    pose = world_to_camera_from(rotation, matrix[:, 3])
    full = Camera(1, 1, focal / stated_width, focal / stated_height, 0.5, 0.5, pose)
    return full.resized(width, height)


def _read_poses(root: Path) -> NDArray[np.float64]:
    try:
        array = np.load(root / _POSES, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise scene_error("missing-file", root / _POSES, "", "the file is not there", "restore it") from None
    except (OSError, ValueError, EOFError) as error:
        raise scene_error("bad-poses", _POSES, "", f"is no array ({error})", "save it with numpy.save") from None
    if array.ndim != 2 or array.shape[1] != 17 or not 1 <= len(array) <= 10_000 or array.dtype.kind != "f":
        raise scene_error(
            "bad-poses", _POSES, "", f"has shape {array.shape} of {array.dtype}", "(cameras, 17) numbers are needed"
        )
    poses = np.array(array, np.float64)
    bad = np.flatnonzero(~(np.abs(poses) <= MAX_COORDINATE).all(axis=1))
    if len(bad):
        raise scene_error("not-finite", _POSES, f"row {bad[0]}", "a number is NaN, infinite or huge", "correct it")
    wrong = np.flatnonzero(
        (poses[:, [4, 9, 14]] <= 0).any(axis=1) | (poses[:, 15] <= 0) | (poses[:, 16] <= poses[:, 15])
    )
    if len(wrong):
        raise scene_error(
            "out-of-range", _POSES, f"row {wrong[0]}", "height, width, focal length and 0 < near < far are not kept",
            "correct the row",
        )  # fmt: skip
    return poses


def _videos(root: Path) -> dict[str, Path]:
    found = (p for p in root.iterdir() if p.suffix.lower() in _VIDEO_SUFFIXES and re.fullmatch(r"cam\d+", p.stem))
    return {path.stem: path for path in found}


def _frame_folders(root: Path) -> dict[str, Path]:
    """Camera name to its folder of frames; empty when there are none."""
    for base in (root, root / "images"):
        found = {}
        for path in sorted(base.glob("cam*")):
            if path.is_dir() and re.fullmatch(r"cam\d+", path.name):
                inner = path / "images"
                found[path.name] = inner if inner.is_dir() else path
        if found:
            return found
    return {}


def _open_frames(folder: Path) -> Sequence[PixelSource]:
    paths = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
    if not 1 <= len(paths) <= MAX_FRAMES:
        raise scene_error("missing-image", folder, "", f"holds {len(paths)} images", "put the camera's frames there")
    # frame_2 comes before frame_10, whether or not the numbers are padded
    paths.sort(key=lambda p: [(len(d), d) if d.isdigit() else (0, d) for d in re.split(r"(\d+)", p.stem)])
    images = open_images(paths)
    for image in images:
        if (image.width, image.height) != (images[0].width, images[0].height):
            raise scene_error(
                "size-mismatch", image.path, "", f"{image.width}x{image.height}, the camera's first frame is "
                f"{images[0].width}x{images[0].height}", "one camera needs images of one size",
            )  # fmt: skip
    return images


def _ahead(
    progress: Callable[[str, float], None] | None, what: str, number: int, total: int
) -> Callable[[float], None] | None:
    return None if progress is None else lambda part: progress(what, (number + part) / total)
