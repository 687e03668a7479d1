"""Does this file belong to this capture, and at which size was it made?

A file keeps the capture's views: names, instants, cameras. They say how far the capture must be shrunk to compare
pixel with pixel, and they must agree with the capture's own before any number means anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..errors import OptionError

if TYPE_CHECKING:
    from ..bitstream import CameraView
    from ..decode import DecodedScene
    from ..scene import Frame, Scene

Size = tuple[int, int]  # width, height

MAX_CAMERA_ERROR = 0.5
"""Pixels; the file keeps cameras to 0.01, another capture's are off by far more."""

MAX_TIME_ERROR = 1e-6


def load_matching_scene(
    root: Path,
    decoded: DecodedScene,
    *,
    layout: str | None = None,
    downscale: float | None = None,
    cache_gb: float = 2.0,
    progress: Callable[[str, float], None] | None = None,
) -> Scene:
    """The capture at the size that the file was made for, over the file's background.

    Args:
        downscale: as it was given to the encoder; None derives it from the file's views.

    Raises:
        SceneError: anything wrong with the capture.
        OptionError: ``other-capture`` where it is not the one that the file was made from.
    """
    from ..scene import load_scene

    if downscale is None:
        downscale = derive_downscale(root, decoded, layout)
    scene = load_scene(
        root,
        layout=layout,
        downscale=downscale,
        cache_gb=cache_gb,
        background=decoded.header.background,
        progress=progress,
    )
    check_match(decoded, scene)
    return scene


def check_match(decoded: DecodedScene, scene: Scene) -> None:
    """Refuse a capture whose views are not those in the file.

    Views that only one of the two has are fine (a capture may have been encoded without its test views), as long as
    some are common and those agree in size, instant and camera.

    Raises:
        OptionError: ``other-capture``, or ``no-views`` for a file without cameras.
    """
    stored = _stored_views(decoded)
    common = [(frame, stored[frame.name]) for frame in scene.frames if frame.name in stored]
    if not common:
        have, want = next(iter(stored)), scene.frames[0].name
        _refuse(decoded, scene.root, f"the file's views are named like '{have}', the capture's like '{want}'")
    for frame, view in common:
        ours, theirs = frame.camera, view.camera
        if (ours.width, ours.height) != (theirs.width, theirs.height):
            sizes = f"{theirs.width}x{theirs.height} in the file, {ours.width}x{ours.height} in the capture"
            _refuse(decoded, scene.root, f"view '{frame.name}' is {sizes}", "give the encoder's --downscale")
        if abs(frame.time - view.time) > MAX_TIME_ERROR:
            times = f"{view.time:.6g} in the file, {frame.time:.6g} in the capture"
            _refuse(decoded, scene.root, f"view '{frame.name}' has time {times}")
        error = camera_error(theirs, camera_in_file(decoded, scene, frame))
        if not error <= MAX_CAMERA_ERROR:
            _refuse(decoded, scene.root, f"the cameras of view '{frame.name}' are {error:.3g} pixels apart")


def camera_in_file(decoded: DecodedScene, scene: Scene, frame: Frame) -> Camera:
    """The frame's own camera in the file's normalised space; the two spaces meet in the capture's world."""
    return decoded.similarity.apply_to_camera(scene.similarity.invert_camera(frame.camera))


def camera_error(a: Camera, b: Camera) -> float:
    """Largest distance in pixels between where two cameras see the same points.

    The points lie on ``a``'s corner and centre rays, as far away as the origin, the middle of the normalised content.
    """
    depth = max(float(np.linalg.norm(a.center)), 0.1)
    corners = np.array([[0, 0], [a.width, 0], [0, a.height], [a.width, a.height], [a.width / 2, a.height / 2]], float)
    pixels, depths = b.project(_unproject(a, corners, depth))
    return float("inf") if (depths <= 0).any() else float(np.linalg.norm(pixels - corners, axis=1).max())


def _unproject(camera: Camera, pixels: NDArray[np.float64], depth: float) -> NDArray[np.float64]:
    """World points (N, 3) at ``depth`` behind pixels (N, 2)."""
    local = np.stack(
        [(pixels[:, 0] - camera.cx) / camera.fx, (pixels[:, 1] - camera.cy) / camera.fy, np.ones(len(pixels))], axis=1
    )
    rotation, translation = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    return np.asarray((local * depth - translation) @ rotation)


def derive_downscale(root: Path, decoded: DecodedScene, layout: str | None) -> float:
    """The ``--downscale`` that brings the capture to the size of the file's views.

    Raises:
        SceneError: anything wrong with the capture.
        OptionError: ``other-capture`` where no factor does.
    """
    stored = _stored_views(decoded)
    sizes = _full_sizes(root, layout)
    pairs = {
        (size, (view.camera.width, view.camera.height))
        for name, view in stored.items()
        if (size := sizes.get(name, sizes.get(""))) is not None
    }
    if not pairs:  # names that the loader had to make unique; the check after loading settles it
        first = next(iter(stored.values())).camera
        pairs = {(next(iter(sizes.values())), (first.width, first.height))}
    factor = fitting_downscale(pairs)
    if factor is None:
        full, small = min(pairs)
        _refuse(decoded, root, f"no --downscale brings {full[0]}x{full[1]} to the file's {small[0]}x{small[1]}")
    return factor


def fitting_downscale(pairs: set[tuple[Size, Size]]) -> float | None:
    """A factor of at least 1 that shrinks every first size to its second; the roundest number that does.

    The roundest is most likely the one that the encoder was given: a video's cached frames are then found again.
    """
    from ..scene.images import scaled_size

    full, small = max(pairs)
    exact = full[0] / small[0]
    rounded = [round(exact * step) / step for step in (1, 2, 3, 4, 5, 10, 100, 1000)]
    for factor in [*rounded, exact, full[1] / small[1]]:
        if factor >= 1 and all(scaled_size(*a, factor) == b for a, b in pairs):
            return factor
    return None


def _full_sizes(root: Path, layout: str | None) -> Mapping[str, Size]:
    """Name of each view to the size it is stored at; under "" the size of all, where videos hold the frames.

    Reads image and video headers only: no pixel is decoded, no cloud is made.
    """
    from ..scene import detect_layout
    from ..scene.checks import safe_name
    from ..scene.detect import read_capture

    layout = layout or detect_layout(root)
    if layout == "neural3d" and (videos := _loose_videos(root)):
        return {"": _video_size(videos[0])}
    capture = read_capture(root, layout, 1.0, None, None)
    return {safe_name(shot.name): (shot.source.width, shot.source.height) for shot in capture.shots}


def _loose_videos(root: Path) -> Sequence[Path]:
    """camNN.mp4 and the like, where the frames are not in folders: opening such a capture would decode them all."""
    if any(path.is_dir() for base in (root, root / "images") for path in base.glob("cam*")):
        return []
    return sorted(path for path in root.glob("cam*.*") if path.suffix.lower() in (".mp4", ".mkv", ".mov", ".webm"))


def _video_size(path: Path) -> Size:
    import av

    try:
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            return int(context.width), int(context.height)
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise OptionError("unreadable-video", f"{path}: cannot be read ({error}); encode it again, as H.264") from None


def _stored_views(decoded: DecodedScene) -> dict[str, CameraView]:
    if not decoded.views:
        raise OptionError("no-views", f"{decoded.path}: holds no cameras, so nothing says what to compare it with")
    return {view.name: view for view in decoded.views}


def _refuse(decoded: DecodedScene, root: Path, why: str, remedy: str = "") -> NoReturn:
    remedy = remedy or "give the capture that the file was encoded from"
    raise OptionError("other-capture", f"{decoded.path}: was not made from {root}: {why}; {remedy}")
