"""Initial clouds: files that captures bring along, cleaning, colouring."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..camera import Similarity
from ..evenly import evenly
from .capture import InitialCloud
from .checks import MAX_COORDINATE, scene_error
from .views import Views

MAX_POINTS = 20_000_000
_PLY_HEADER_BYTES = 65536


def find_clouds(root: Path) -> list[Path]:
    """Files in a capture that hold initial points in world units, best first: coloured ones before bare ones."""
    named = sorted(root.glob("points3D*.ply"), key=lambda p: (len(p.name), p.name))
    others = ("points3d.ply", "points.ply", "sparse_pc.ply", "init_pt_cld.npz", "points.npy")
    return [p for p in named + [root / name for name in others] if p.is_file()]


def read_cloud(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Points (P, 3) in world units and colours (P, 3) in [0, 1], None when the file has none.

    PLY (ASCII or binary), ``.npy`` with (P, 3) or (P, 6), or Dynamic 3D Gaussians' ``init_pt_cld.npz``.

    Raises:
        SceneError: bad-cloud, too-many-points or not-finite.
    """
    reader = {".ply": _read_ply, ".npy": _read_npy, ".npz": _read_npz}[path.suffix.lower()]
    points, colors = reader(path)
    if len(points) == 0:
        raise scene_error("bad-cloud", path.name, "", "holds no points", "remove the file and a cloud is made")
    if not np.isfinite(points).all() or np.abs(points).max() > MAX_COORDINATE:
        raise scene_error("not-finite", path.name, "points", "a coordinate is NaN, infinite or huge", "clean the cloud")
    if colors is not None:
        if not np.isfinite(colors).all():
            raise scene_error("not-finite", path.name, "colours", "a colour is NaN or infinite", "clean the cloud")
        colors = np.clip(colors, 0, 1)
    return points, colors


def _read_ply(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    _check_ply_header(path)
    import open3d as o3d

    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        cloud = o3d.io.read_point_cloud(str(path), format="ply", remove_nan_points=False)
    points = np.asarray(cloud.points, np.float64)
    return points, np.asarray(cloud.colors, np.float64) if cloud.has_colors() else None


def _check_ply_header(path: Path) -> None:
    """Refuse a header that promises more than the file holds, before a library allocates for it."""
    with path.open("rb") as file:
        head = file.read(_PLY_HEADER_BYTES)
    text, end, _ = head.partition(b"end_header")
    words = [line.split() for line in text.decode("latin-1").splitlines()]
    counts = [w[2] for w in words if len(w) == 3 and w[:2] == ["element", "vertex"]]
    names = {w[-1] for w in words if w and w[0] == "property"}
    if not head.startswith(b"ply") or not end or len(counts) != 1 or not {"x", "y", "z"} <= names:
        raise scene_error("bad-cloud", path.name, "header", "is not a PLY cloud with x, y, z", "export it again")
    count = int(counts[0]) if counts[0].isascii() and counts[0].isdigit() and len(counts[0]) < 12 else -1
    if not 0 <= count <= MAX_POINTS:
        raise scene_error(
            "too-many-points", path.name, "element vertex", f"{counts[0]} points", f"at most {MAX_POINTS}"
        )
    if count * 6 > path.stat().st_size:  # three numbers take at least six bytes, as text and as binary
        raise scene_error("bad-cloud", path.name, "element vertex", "more points than bytes", "export it again")


def _read_npy(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise scene_error("bad-cloud", path.name, "", f"is no array ({error})", "save it with numpy.save") from None
    return _split_columns(path, array)


def _read_npz(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("data.npy").file_size
            if size > MAX_POINTS * 7 * 8:
                raise scene_error("too-many-points", path.name, "data", f"{size} bytes", f"at most {MAX_POINTS} points")
        with np.load(path, allow_pickle=False) as archive_arrays:
            array = archive_arrays["data"]
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise scene_error("bad-cloud", path.name, "data", f"cannot be read ({error})", "export it again") from None
    return _split_columns(path, array)


def _split_columns(path: Path, array: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Columns x, y, z and, from the fourth on when there are six or more, r, g, b in [0, 1] or, as bytes, 0..255."""
    if array.ndim != 2 or array.shape[1] not in (3, 6, 7) or array.dtype.kind not in "fiu":
        raise scene_error(
            "bad-cloud",
            path.name,
            "",
            f"has shape {array.shape} of {array.dtype}",
            "save (P, 3) or (P, 6) numbers",
        )
    if len(array) > MAX_POINTS:
        raise scene_error("too-many-points", path.name, "", f"{len(array)} points", f"at most {MAX_POINTS} are read")
    values = np.array(array, np.float64)
    if values.shape[1] == 3:
        return values, None
    colors = values[:, 3:6]
    return values[:, :3], colors / 255 if colors.size and colors.max() > 1 else colors


def prepare_cloud(
    points: NDArray[np.floating],
    colors: NDArray[np.floating],
    voxel: float,
    max_points: int = 100_000,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Drop outliers, then keep one averaged point per voxel; larger voxels until at most ``max_points`` remain.

    Outliers are points whose mean distance to 16 neighbours is beyond two standard deviations (open3d).

    Args:
        points: (P, 3). colors: (P, 3) in [0, 1]. voxel: side, in the points' units.
    """
    import open3d as o3d

    cloud = o3d.geometry.PointCloud()
    cloud.points = o3d.utility.Vector3dVector(np.asarray(points, np.float64))
    cloud.colors = o3d.utility.Vector3dVector(np.asarray(colors, np.float64))
    if len(points) > 32:
        cloud, _ = cloud.remove_statistical_outlier(nb_neighbors=16, std_ratio=2.0)
    reduced = cloud.voxel_down_sample(voxel)
    while len(reduced.points) > max_points:
        # A surface's share of voxels falls with the square of their side.
        voxel *= max(1.05, (len(reduced.points) / max_points) ** 0.5)
        reduced = cloud.voxel_down_sample(voxel)
    return np.asarray(reduced.points, np.float32), np.asarray(reduced.colors, np.float32)


def seen_fraction(points: NDArray[np.floating], views: Views, frames: int = 32) -> float:
    """The fraction of points that at least one training camera has in its image."""
    chosen = _sample_frames(views, frames)
    seen = np.zeros(len(points), bool)
    for index in chosen:
        camera = views.frames[index].camera
        pixels, depth = camera.project(np.asarray(points, np.float64))
        seen |= (depth > 0) & (pixels >= 0).all(1) & (pixels < [camera.width, camera.height]).all(1)
    return float(seen.mean()) if len(points) else 0.0


def colors_from_images(points: NDArray[np.floating], views: Views, frames: int = 12) -> NDArray[np.float32]:
    """Median colour of each point over a few training images that have it in view, (P, 3) in [0, 1].

    Occlusion is not known: the median outvotes what stands in front now and then. Points in no view are grey.
    """
    samples = np.full((frames, len(points), 3), np.nan, np.float32)
    for row, index in enumerate(_sample_frames(views, frames)):
        frame = views.frames[index]
        pixels, depth = frame.camera.project(np.asarray(points, np.float64))
        inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < [frame.camera.width, frame.camera.height]).all(1)
        column, line = pixels[inside].astype(np.int64).T
        samples[row, inside] = views.image(frame)[line, column, :3].astype(np.float32) / 255
    unseen = np.isnan(samples).all(axis=(0, 2))
    samples[:, unseen] = 0.5
    return np.nanmedian(samples, axis=0).astype(np.float32)


def _sample_frames(views: Views, count: int) -> list[int]:
    train = views.split("train")
    chosen = evenly(len(train), count)
    return [train[i].index for i in chosen]


def cloud_from_file(path: Path, views: Views, similarity: Similarity) -> InitialCloud:
    """The capture's own points, coloured from the images when the file has no colours.

    Args:
        similarity: from the capture's world to the views' space.

    Raises:
        SceneError: anything :func:`read_cloud` refuses, or cloud-out-of-view when hardly a camera sees the points.
    """
    points, colors = read_cloud(path)
    points = similarity.apply(points)
    if seen_fraction(points, views) < 0.05:
        raise scene_error(
            "cloud-out-of-view",
            path.name,
            "",
            "under 5 % of the points fall into any training image",
            "store the points in the cameras' world units, or remove the file and a cloud is made",
        )
    how = ""
    if colors is None:
        colors, how = np.asarray(colors_from_images(points, views), np.float64), ", coloured from the images"
    source = f"{len(points)} points of {path.name}{how}"
    return InitialCloud(points.astype(np.float32), colors.astype(np.float32), source)
