"""A small capture for tests: two ray-traced balls, one of which moves, in the D-NeRF layout."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOV = 0.7
DISTANCE = 4.0


def write_dnerf(folder: Path, size: int = 32, train: int = 12, test: int = 3) -> Path:
    """Write a capture of ``train`` + ``test`` + 2 RGBA images; returns the folder."""
    for split, count in (("train", train), ("test", test), ("val", 2)):
        (folder / split).mkdir(parents=True)
        frames = [_write_frame(folder, split, k, count, size) for k in range(count)]
        document: dict[str, Any] = {"camera_angle_x": FOV, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(document))
    return folder


def _write_frame(folder: Path, split: str, index: int, count: int, size: int) -> dict[str, Any]:
    time = index / max(count - 1, 1)
    angle = 2.4 * index + {"train": 0.0, "test": 1.0, "val": 2.0}[split]
    pose = camera_to_world(angle, elevation=0.4 + 0.3 * math.sin(3.0 * index))
    Image.fromarray(trace(pose, time, size)).save(folder / split / f"r_{index:03d}.png")
    return {"file_path": f"./{split}/r_{index:03d}", "time": time, "rotation": 0.0, "transform_matrix": pose.tolist()}


def camera_to_world(azimuth: float, elevation: float) -> NDArray[np.float64]:
    """OpenGL camera (looks along -z) on a sphere, aimed at the origin; z is up."""
    eye = DISTANCE * np.array(
        [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    back = eye / DISTANCE
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :4] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return matrix


def balls(time: float) -> list[tuple[NDArray[np.float64], float, NDArray[np.float64]]]:
    """Centre, radius and colour of each ball at an instant."""
    return [
        (np.array([0.0, 0.0, -0.2]), 0.6, np.array([0.85, 0.3, 0.2])),
        (np.array([0.8 * math.cos(2 * time), 0.8 * math.sin(2 * time), 0.5]), 0.3, np.array([0.2, 0.4, 0.9])),
    ]


def trace(pose: NDArray[np.float64], time: float, size: int, samples: int = 3) -> NDArray[np.uint8]:
    """(size, size, 4) straight alpha, shaded by the surface's height so that rotations show."""
    n = size * samples
    focal = 0.5 * n / math.tan(0.5 * FOV)
    axis = (np.arange(n) + 0.5 - n / 2) / focal
    directions = np.stack([*np.broadcast_arrays(axis[None, :], -axis[:, None], -1.0)], axis=-1) @ pose[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    eye, nearest = pose[:3, 3], np.full((n, n), np.inf)
    image = np.zeros((n, n, 4))
    for center, radius, color in balls(time):
        b = directions @ (eye - center)
        gap = b * b - ((eye - center) @ (eye - center) - radius**2)
        depth = np.where(gap > 0, -b - np.sqrt(np.maximum(gap, 0)), np.inf)
        hit = depth < nearest
        point = eye + np.where(hit, depth, 0)[..., None] * directions
        shade = 0.6 + 0.4 * (point[..., 2:3] - center[2]) / radius
        image[hit] = np.concatenate([color * shade, np.ones_like(shade)], axis=-1)[hit]
        nearest = np.minimum(nearest, depth)
    image = image.reshape(size, samples, size, samples, 4)
    alpha = image[..., 3].mean(axis=(1, 3))
    rgb = image[..., :3].sum(axis=(1, 3)) / np.maximum(image[..., 3:].sum(axis=(1, 3)), 1)
    return np.concatenate([np.clip(rgb, 0, 1) * 255, alpha[..., None] * 255], axis=-1).round().astype(np.uint8)


RIG_SIZE, RIG_CAMERAS, RIG_INSTANTS = 72, 8, 7
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL to OpenCV axes


def write_rig(folder: Path, cameras: int = RIG_CAMERAS) -> Path:
    """A PanopticSports capture of the two balls before ``cameras`` fixed cameras; camera 0 is held out."""
    poses = [camera_to_world(2.4 * c, 0.2 + 0.1 * c) for c in range(cameras)]
    focal = 0.5 * RIG_SIZE / np.tan(0.5 * FOV)
    k = [[focal, 0, RIG_SIZE / 2], [0, focal, RIG_SIZE / 2], [0, 0, 1]]
    for split, chosen in (("train", range(1, cameras)), ("test", range(1))):
        document: dict[str, object] = {"w": RIG_SIZE, "h": RIG_SIZE}
        document["k"] = [[k for _ in chosen] for _ in range(RIG_INSTANTS)]
        document["w2c"] = [[np.linalg.inv(poses[c] @ _FLIP).tolist() for c in chosen] for _ in range(RIG_INSTANTS)]
        document["fn"] = [[f"{c}/{t:06d}.png" for c in chosen] for t in range(RIG_INSTANTS)]
        document["cam_id"] = [list(chosen) for _ in range(RIG_INSTANTS)]
        (folder / f"{split}_meta.json").write_text(json.dumps(document))
    for c in range(cameras):
        (folder / "ims" / str(c)).mkdir(parents=True)
        for t in range(RIG_INSTANTS):
            picture = trace(poses[c], t / (RIG_INSTANTS - 1), RIG_SIZE).astype(float)
            alpha = picture[..., 3:] / 255
            rgb = picture[..., :3] * alpha + 255 * (1 - alpha)
            Image.fromarray(rgb.round().astype(np.uint8)).save(folder / "ims" / str(c) / f"{t:06d}.png")
    return folder
