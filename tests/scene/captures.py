"""Small captures of a world that is known exactly, written in every layout by its own definition.

The world holds three small balls, the red one moving. Pictures are cast ray by ray from a camera given by its
centre, its axes in the world and K, so nothing here shares code or conventions with what is tested.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

RADIUS = 0.12
COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], float)
GREY = 110.0
SUPERSAMPLES = 4


def balls(time: float) -> np.ndarray:
    """Centres (3, 3) at an instant: red moves, green and blue rest."""
    return np.array([[0.5 - 0.8 * time, 0.1, 0.2 + 0.3 * time], [-0.4, 0.45, 0.1], [0.2, -0.5, -0.3]])


@dataclass
class Rig:
    """A camera by its centre, right / down / forward axes (rows) and K."""

    center: np.ndarray
    axes: np.ndarray
    width: int = 96
    height: int = 72
    fx: float = 110.0
    fy: float = 110.0
    cx: float = 48.0
    cy: float = 36.0
    skew: float = 0.0
    radial: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tangential: tuple[float, float] = (0.0, 0.0)

    def rays(self, scale: int) -> np.ndarray:
        """World directions (H, W, 3) of sub-pixels, the lens undone by fixed-point iteration."""
        v, u = (np.mgrid[0 : self.height * scale, 0 : self.width * scale] + 0.5) / scale
        y = (v - self.cy) / self.fy
        x = (u - self.cx - self.skew * y) / self.fx
        a, b = x.copy(), y.copy()
        (k1, k2, k3), (p1, p2) = self.radial, self.tangential
        for _ in range(20 if any(self.radial + self.tangential) else 0):
            r = a * a + b * b
            d = 1 + k1 * r + k2 * r**2 + k3 * r**3
            a, b = (
                (x - 2 * p1 * a * b - p2 * (r + 2 * a * a)) / d,
                (y - 2 * p2 * a * b - p1 * (r + 2 * b * b)) / d,
            )
        return np.stack([a, b, np.ones_like(a)], -1) @ self.axes


def look_at(angle: float, lift: float = 0.7, distance: float = 4.0, **kw: float) -> Rig:
    """A rig on a circle about the z axis, looking at the origin with z up."""
    center = np.array([distance * np.cos(angle), distance * np.sin(angle), lift])
    forward = -center / np.linalg.norm(center)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return Rig(center, np.stack([right, np.cross(forward, right), forward]), **kw)  # type: ignore[arg-type]


def picture(rig: Rig, time: float, radius: float = RADIUS) -> np.ndarray:
    """(H, W, 4) uint8 RGBA with straight alpha, anti-aliased."""
    rays = rig.rays(SUPERSAMPLES)
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    nearest = np.full(rays.shape[:2], np.inf)
    color = np.zeros_like(rays)
    for center, tint in zip(balls(time), COLORS, strict=True):
        toward = center - rig.center
        along = rays @ toward
        gap = toward @ toward - along**2
        hit = (gap < radius**2) & (along > 0) & (along < nearest)
        nearest[hit] = along[hit]
        color[hit] = tint
    n = SUPERSAMPLES
    opaque = np.isfinite(nearest).astype(float)
    block = lambda a: a.reshape(rig.height, n, rig.width, n, -1).mean((1, 3))  # noqa: E731
    alpha = block(opaque)
    rgb = block(color) / np.maximum(alpha, 1e-9)
    return np.round(np.concatenate([rgb, 255 * alpha], -1)).astype(np.uint8)


def opaque(rgba: np.ndarray) -> np.ndarray:
    """The picture over grey, (H, W, 3)."""
    alpha = rgba[..., 3:] / 255
    return np.round(rgba[..., :3] * alpha + GREY * (1 - alpha)).astype(np.uint8)


def centroid(image: np.ndarray, ball: int) -> np.ndarray:
    """Where a ball is in an image (H, W, 3 or 4), in pixels with centres at +0.5."""
    values = image[..., :3].astype(float)
    others = np.delete(values, ball, axis=-1).max(-1)
    weight = np.clip(values[..., ball] - others - 40, 0, None)
    if image.shape[-1] == 4:
        weight *= image[..., 3]
    v, u = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def dump(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_points(root: Path, name: str = "points.npy", count: int = 400) -> None:
    """A cloud about the balls, without colours."""
    rng = np.random.default_rng(0)
    centers = balls(0.0)[rng.integers(0, 3, count)]
    np.save(root / name, (centers + rng.normal(0, 0.05, (count, 3))).astype(np.float32))


def opengl(rig: Rig) -> list[list[float]]:
    """Camera-to-world with x right, y up, z backwards."""
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = rig.axes[0], -rig.axes[1], -rig.axes[2]
    matrix[:3, 3] = rig.center
    return matrix.tolist()


def write_dnerf(root: Path, frames: int = 24, held_out: int = 3) -> Path:
    angle = 2 * np.arctan(96 / 2 / 110.0)
    for split, count in (("train", frames), ("val", held_out), ("test", held_out)):
        entries = []
        for k in range(count):
            time = k / (count - 1)
            rig = look_at(2.4 * k + (0 if split == "train" else 1), 0.5 + 2.5 * (k * 0.618 % 1))
            save(root / split / f"r_{k:03d}.png", picture(rig, time))
            entries.append({"file_path": f"./{split}/r_{k:03d}", "time": time, "transform_matrix": opengl(rig)})
        dump(root / f"transforms_{split}.json", {"camera_angle_x": angle, "frames": entries})
    return root


def nerfies_rig(k: int) -> Rig:
    return look_at(
        0.2 * k, 0.3 + 0.1 * k, width=192, height=144, fx=200, fy=230, cx=101, cy=67,
        skew=3, radial=(0.08, 0.02, 0), tangential=(0.004, -0.003),
    )  # fmt: skip


def write_nerfies(root: Path, frames: int = 6) -> Path:
    """Distorted pictures in rgb/2x; cameras for 1x. Every third frame validates."""
    names = [f"{k:06d}" for k in range(frames)]
    for k, name in enumerate(names):
        rig = nerfies_rig(k)
        full = picture(rig, k / (frames - 1))
        small = opaque(full).reshape(72, 2, 96, 2, 3).astype(float).mean((1, 3))
        save(root / "rgb" / "2x" / f"{name}.png", np.round(small).astype(np.uint8))
        dump(
            root / "camera" / f"{name}.json",
            {
                "orientation": rig.axes.tolist(), "position": rig.center.tolist(), "focal_length": rig.fx,
                "principal_point": [rig.cx, rig.cy], "skew": rig.skew, "pixel_aspect_ratio": rig.fy / rig.fx,
                "radial_distortion": rig.radial, "tangential_distortion": rig.tangential,
                "image_size": [rig.width, rig.height],
            },
        )  # fmt: skip
    val = names[2::3]
    train = [name for name in names if name not in val]
    dump(root / "dataset.json", {"count": frames, "ids": names, "train_ids": train, "val_ids": val})
    dump(root / "metadata.json", {n: {"warp_id": k, "appearance_id": k, "camera_id": 0} for k, n in enumerate(names)})
    dump(root / "scene.json", {"scale": 0.1, "center": [3.0, 2.0, 1.0], "near": 0.1, "far": 1.0})
    write_points(root)
    return root


def neural3d_row(rig: Rig, stated: float = 1.0) -> np.ndarray:
    """A row of poses_bounds.npy whose size is ``stated`` times the pictures'."""
    columns = [rig.axes[1], rig.axes[0], -rig.axes[2], rig.center, np.array([rig.height, rig.width, rig.fx]) * stated]
    return np.concatenate([np.stack(columns, 1).ravel(), [1.0, 8.0]])


def write_neural3d(root: Path, cameras: int = 4, frames: int = 3, folder: str = "{}", stated: float = 2.0) -> Path:
    rows = []
    for c in range(cameras):
        rig = look_at(0.25 * c)
        rows.append(neural3d_row(rig, stated))
        for k in range(frames):
            save(root / folder.format(f"cam{c:02d}") / f"{k:04d}.png", opaque(picture(rig, k / max(frames - 1, 1))))
    np.save(root / "poses_bounds.npy", np.array(rows))
    write_points(root)
    return root


def write_video(path: Path, images: list[np.ndarray], rate: int = 25) -> None:
    """Lossless H.264 in RGB, so that what comes back can be compared exactly."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=rate, options={"crf": "0"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "rgb24"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def write_panoptic(root: Path, cameras: int = 4, frames: int = 3) -> Path:
    metas = {"train": range(1, cameras), "test": range(1)}
    for split, ids in metas.items():
        meta: dict[str, object] = {"w": 96, "h": 72, "k": [], "w2c": [], "fn": [], "cam_id": []}
        for t in range(frames):
            rows: dict[str, list[object]] = {"k": [], "w2c": [], "fn": [], "cam_id": []}
            for c in ids:
                rig = look_at(0.25 * c, fx=120 + c, fy=100, cx=44, cy=40)
                save(root / "ims" / str(c) / f"{t:06d}.png", opaque(picture(rig, t / (frames - 1))))
                pose = np.eye(4)
                pose[:3, :3], pose[:3, 3] = rig.axes, -rig.axes @ rig.center
                rows["k"].append([[rig.fx, 0, rig.cx], [0, rig.fy, rig.cy], [0, 0, 1]])
                rows["w2c"].append(pose.tolist())
                rows["fn"].append(f"{c}/{t:06d}.png")
                rows["cam_id"].append(c)
            for key, row in rows.items():
                meta[key].append(row)  # type: ignore[attr-defined]
        dump(root / f"{split}_meta.json", meta)
    write_points(root)
    return root


def write_nerfstudio(root: Path, frames: int = 10) -> Path:
    entries = []
    for k in range(frames):
        rig = look_at(0.15 * k, fx=118, fy=104, cx=45, cy=38, radial=(-0.05, 0.01, 0), tangential=(0.002, 0.003))
        save(root / "images" / f"frame_{k}.png", opaque(picture(rig, k / (frames - 1))))
        entries.append(
            {"file_path": f"images/frame_{k}.png", "time": k / (frames - 1), "transform_matrix": opengl(rig),
             "fl_y": 104, "k1": -0.05, "k2": 0.01}
        )  # fmt: skip
    shared = {
        "camera_model": "OPENCV",
        "fl_x": 118,
        "fl_y": 1,
        "cx": 45,
        "cy": 38,
        "w": 96,
        "h": 72,
        "p1": 0.002,
        "p2": 0.003,
    }
    dump(root / "transforms.json", {**shared, "frames": entries})
    write_points(root)
    return root


WRITERS = {
    "dnerf": write_dnerf,
    "nerfies": write_nerfies,
    "neural3d": write_neural3d,
    "panoptic": write_panoptic,
    "nerfstudio": write_nerfstudio,
}
