"""A capture on disk becomes a :class:`Scene`: one normalised space, lazily decoded images, an initial cloud."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera, Similarity
from ..errors import SceneError
from .cache import ImageCache
from .capture import Capture, Frame, InitialCloud, Lens, Shot
from .checks import safe_name, scene_error
from .cloud import cloud_from_file, prepare_cloud
from .completion import completed_cloud
from .detect import detect_layout, read_capture
from .frustum import frustum_cloud
from .hull import DEFAULT_CARVING, CarveOptions, carve, carve_instants, content_box, has_silhouettes
from .images import scaled_size
from .near import near_plane
from .normalise import compose, content_similarity, robust_box, rough_similarity
from .views import Views

Progress = Callable[[str, float], None]  # what is being done, how much of it is done in [0, 1]

MIN_SIDE = 8  # pixels; below that no loss has a meaning


class Scene(Views):
    """A capture in its normalised space. Made by :func:`load_scene`.

    Attributes (besides those of :class:`Views`):
        root: the capture's folder. layout: which layout it was read as.
        frame_count: distinct instants of the clip. frame_rate: instants per second.
        similarity: from the capture's world to the normalised space.
        cloud: initial points; ``cloud.source`` says where they came from.
        bounds: (2, 3) float64 corners of the content over the whole clip, normalised.
        near: distance from every camera within which nothing is drawn, normalised.
    """

    def __init__(
        self,
        views: Views,
        frames: Sequence[Frame],
        capture: Capture,
        root: Path,
        similarity: Similarity,
        cloud: InitialCloud,
        bounds: NDArray[np.float64],
    ) -> None:
        super().__init__(frames, views._sources, views._lenses, views.background, views._cache)
        self.root = root
        self.layout = capture.layout
        self.frame_rate = capture.frame_rate
        self.frame_count = len({frame.time for frame in frames})
        self.similarity = similarity
        self.cloud = cloud
        self.bounds = bounds
        self.near = near_plane([f.camera for f in self.split("train")], cloud.points)

    def hulls(self, instants: Sequence[float], options: CarveOptions = DEFAULT_CARVING) -> InitialCloud | None:
        """Visual hulls at several instants with their ``times``; None where there are no silhouettes to carve from."""
        if not has_silhouettes(self):
            return None
        return carve_instants(self, instants, options, self.bounds)


def load_scene(
    root: Path,
    *,
    layout: str | None = None,
    downscale: float = 1.0,
    cache_gb: float = 2.0,
    cache_dir: Path | None = None,
    background: tuple[float, float, float] = (1, 1, 1),
    max_points: int = 100_000,
    progress: Progress | None = None,
) -> Scene:
    """Read a capture.

    Args:
        root: its folder.
        layout: one of ``detect.LAYOUTS``; None recognises it by content.
        downscale: at least 1; every side becomes side / downscale rounded half up, by an area filter.
        cache_gb: bound of the decoded images that are held in memory, in 10^9 bytes.
        cache_dir: where decoded videos are kept on disk; None takes a folder in the user's cache directory.
        background: what shows where alpha is zero, display-referred, in [0, 1].
        max_points: bound of the initial cloud.
        progress: called with (what, fraction) while something slow goes on.

    Raises:
        SceneError: for anything wrong with the capture or these options.
    """
    root = Path(root)
    _check_options(downscale, cache_gb, background)
    if not root.is_dir():
        raise scene_error("no-such-capture", root, "", "is not a folder", "give the folder of a capture")
    capture = read_capture(root, layout or detect_layout(root), downscale, cache_dir, progress)
    _check_shots(root, capture)
    cameras = _working_cameras(capture.shots, downscale, root)
    rough = rough_similarity([c for c, shot in zip(cameras, capture.shots, strict=True) if shot.split == "train"])
    cameras = [rough.apply_to_camera(camera) for camera in cameras]
    frames = _frames(capture.shots, cameras)
    views = Views(
        frames,
        [shot.source for shot in capture.shots],
        [_stored_lens(shot) for shot in capture.shots],
        background,
        ImageCache(int(cache_gb * 1e9)),
    )
    cloud, box, outer = _initial_cloud(views, capture, rough)
    final = content_similarity(box)
    cloud = _normalised(cloud, final, max_points)
    return Scene(views, views.transformed(final), capture, root, compose(rough, final), cloud, final.apply(outer))


def _check_options(downscale: float, cache_gb: float, background: Sequence[float]) -> None:
    if not 1 <= downscale <= 1024:
        raise SceneError("bad-option", f"downscale {downscale}: must lie in [1, 1024]; give a factor such as 2")
    if not 0 <= cache_gb <= 1e6:
        raise SceneError("bad-option", f"cache_gb {cache_gb}: must lie in [0, 1e6]; give a size such as 2")
    if len(background) != 3 or not all(0 <= value <= 1 for value in background):
        raise SceneError("bad-option", f"background {background}: give three numbers in [0, 1]")


def _check_shots(root: Path, capture: Capture) -> None:
    if not any(shot.split == "train" for shot in capture.shots):
        raise scene_error(
            "no-training-frames", root, "", f"the {capture.layout} capture has no training frames", "add some"
        )


def _working_cameras(shots: Sequence[Shot], downscale: float, root: Path) -> list[Camera]:
    """The shots' cameras on the grid that scenes work on; in the capture's world.

    The stored image counts, not the grid the layout gives its intrinsics on, except that a video's stored frames
    were already shrunk: the reader then states the original size in ``shot.full_size``.
    """
    cameras = []
    for shot in shots:
        full = shot.full_size or (shot.source.width, shot.source.height)
        width, height = scaled_size(*full, downscale)
        if min(width, height) < MIN_SIDE:
            raise scene_error(
                "too-small",
                root,
                shot.name,
                f"{width}x{height} pixels at downscale {downscale:g}",
                "downscale less",
            )
        cameras.append(shot.camera.resized(width, height))
    return cameras


def _stored_lens(shot: Shot) -> Lens:
    """The lens with its skew in pixels of the stored image; the other coefficients know no pixels."""
    return replace(shot.lens, skew=shot.lens.skew * shot.source.width / shot.camera.width)


def _frames(shots: Sequence[Shot], cameras: Sequence[Camera]) -> list[Frame]:
    ids = _camera_ids(shots)
    names = _unique_names([shot.name for shot in shots])
    return [
        Frame(name, camera, float(shot.time), camera_id, shot.split, index)
        for index, (name, camera, shot, camera_id) in enumerate(zip(names, cameras, shots, ids, strict=True))
    ]


def _camera_ids(shots: Sequence[Shot]) -> list[int]:
    """Ids of fixed cameras, -1 for moving ones: a camera is fixed if one pose shows several instants."""
    poses = [_pose_key(shot) for shot in shots]
    instants: dict[tuple[object, ...], set[float]] = {}
    for pose, shot in zip(poses, shots, strict=True):
        instants.setdefault(pose, set()).add(shot.time)
    fixed = {pose: number for number, pose in enumerate(p for p, times in instants.items() if len(times) > 1)}
    stated: dict[int, set[tuple[object, ...]]] = {}
    for pose, shot in zip(poses, shots, strict=True):
        if shot.camera_id is not None:
            stated.setdefault(shot.camera_id, set()).add(pose)
    return [
        fixed.get(pose, -1) if shot.camera_id is None else (shot.camera_id if len(stated[shot.camera_id]) == 1 else -1)
        for pose, shot in zip(poses, shots, strict=True)
    ]


def _pose_key(shot: Shot) -> tuple[object, ...]:
    camera = shot.camera
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy, *camera.world_to_camera[:3].ravel())
    return (camera.width, camera.height, *(round(float(n), 9) for n in numbers))


def _unique_names(names: Sequence[str]) -> list[str]:
    """Safe names; those that would share a file stem get their position in the capture appended."""
    safe = [safe_name(name) for name in names]
    count = Counter(name.replace("/", "_").lower() for name in safe)
    unique = [name if count[name.replace("/", "_").lower()] == 1 else f"{name}-{i:06d}" for i, name in enumerate(safe)]
    if len({name.replace("/", "_").lower() for name in unique}) != len(unique):  # someone's names end like ours
        unique = [f"{name}-{i:06d}-{i:06d}" for i, name in enumerate(safe)]
    return unique


def _initial_cloud(
    views: Views, capture: Capture, rough: Similarity
) -> tuple[InitialCloud, NDArray[np.float64], NDArray[np.float64]]:
    """A cloud, the box whose longest half-side becomes the unit, and the box of all content; in the views' space."""
    if capture.clouds:
        cloud = completed_cloud(cloud_from_file(capture.clouds[0], views, rough), views)
    else:
        if has_silhouettes(views):
            box = content_box(views)
            hull = carve(views, 0.0, box)
            if len(hull):
                return hull, box, box
        bounds = capture.depth_bounds
        cloud = frustum_cloud(views, bounds and (bounds[0] * rough.scale, bounds[1] * rough.scale))
    return cloud, robust_box(cloud.points, 5), _grown(robust_box(cloud.points, 0.5), 1.05)


def _grown(box: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    center = box.mean(axis=0)
    return center + factor * (box - center)


def _normalised(cloud: InitialCloud, final: Similarity, max_points: int) -> InitialCloud:
    """The cloud in the final space, cleaned and thinned to voxels of a hundredth of the content's half-extent."""
    points, colors = prepare_cloud(final.apply(cloud.points), cloud.colors, 0.01, max_points)
    times = None if cloud.times is None else np.full(len(points), cloud.times[0], np.float32)
    return replace(cloud, points=points, colors=colors, times=times)
