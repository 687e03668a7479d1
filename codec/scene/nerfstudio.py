"""nerfstudio: one ``transforms.json`` with intrinsics for all frames or for each, and a ``time`` per frame.

``transform_matrix`` is camera-to-world with OpenGL axes. Splits are the lists ``train_filenames``,
``val_filenames`` and ``test_filenames`` where there are any (frames in none are left out), else the 8th, 16th,
... frame is a test frame. Distortion is OpenCV's (``k1, k2, k3, p1, p2``); fisheye models are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..camera import Camera
from .capture import DEFAULT_FRAME_RATE, SPLITS, Capture, Lens, Shot, Split
from .checks import Field, contained_path, read_json, world_to_camera_from_opengl
from .cloud import find_clouds
from .images import ImageFile, open_images

_PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
HELD_OUT_EVERY = 8


def read_nerfstudio(root: Path) -> Capture:
    """Read a capture in nerfstudio's layout.

    Raises:
        SceneError: for anything wrong with it.
    """
    document = read_json(root / "transforms.json")
    entries = document["frames"].elements(1)
    splits = _splits(document, entries)
    used = [(entry, split) for entry, split in zip(entries, splits, strict=True) if split is not None]
    images = open_images([contained_path(root, entry["file_path"]) for entry, _ in used])
    shots = []
    for (entry, split), image in zip(used, images, strict=True):
        camera, lens = _camera(document, entry, image)
        name = str(Path(entry["file_path"].text()).with_suffix(""))
        shots.append(Shot(name, camera, _time(entry), split, image, lens))
    named = document.get("ply_file_path")
    clouds = find_clouds(root)
    if named is not None and (path := contained_path(root, named)).is_file() and path.suffix.lower() == ".ply":
        clouds = [path, *clouds]
    rate = document.get("fps")
    return Capture("nerfstudio", shots, DEFAULT_FRAME_RATE if rate is None else rate.positive(), clouds=clouds)


def _time(entry: Field) -> float:
    field = entry.get("time")
    if field is None:
        raise entry.error("missing-field", "the frame has no time", "give every frame its time in [0, 1] over the clip")
    return field.time()


def _splits(document: Field, entries: Sequence[Field]) -> list[Split | None]:
    lists = {split: document.get(f"{split}_filenames") for split in SPLITS}
    if all(names is None for names in lists.values()):
        return ["test" if i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else "train" for i in range(len(entries))]
    belongs: dict[str, Split] = {}
    for split, names in lists.items():
        for name in names.elements() if names is not None else ():
            if belongs.setdefault(name.text(), split) != split:
                raise name.error("in-two-splits", f"{name.text()!r} is listed twice", "list each image in one split")
    return [belongs.get(entry["file_path"].text()) for entry in entries]


def _camera(document: Field, entry: Field, image: ImageFile) -> tuple[Camera, Lens]:
    def find(key: str) -> Field | None:
        own = entry.get(key)
        return document.get(key) if own is None else own

    def number(key: str, default: float, limit: float = 1e6) -> float:
        field = find(key)
        return default if field is None else field.number(-limit, limit)

    model = find("camera_model")
    fisheye = find("is_fisheye")
    if (model is not None and model.text() not in _PERSPECTIVE) or (fisheye is not None and fisheye.value is True):
        raise (model or fisheye or document).error(
            "unsupported-camera", "only perspective cameras are read", "undistort the images to a pinhole first"
        )
    for key, size in (("w", image.width), ("h", image.height)):
        stated = find(key)
        if stated is not None and stated.number(1) != size:
            raise stated.error(
                "size-mismatch", f"{stated.number():g} here, but {image.path.name} is {image.width}x{image.height}",
                "store images of the size that the intrinsics belong to",
            )  # fmt: skip
    fx = _focal(find("fl_x"), find("camera_angle_x"), image.width, entry)
    vertical = find("fl_y")
    fy = fx if vertical is None else vertical.positive()
    fourth = find("k4")
    if fourth is not None and fourth.number() != 0:
        raise fourth.error("unsupported-camera", "k4 is not read", "undistort the images to a pinhole first")
    cx, cy = number("cx", image.width / 2), number("cy", image.height / 2)
    lens = Lens((number("k1", 0), number("k2", 0), number("k3", 0)), (number("p1", 0), number("p2", 0)))
    pose = world_to_camera_from_opengl(entry["transform_matrix"])
    return Camera(image.width, image.height, fx, fy, cx, cy, pose), lens


def _focal(focal: Field | None, angle: Field | None, width: int, entry: Field) -> float:
    if focal is not None:
        return focal.positive()
    if angle is not None:
        return 0.5 * width / math.tan(0.5 * angle.number(1e-3, math.pi - 1e-3))
    return entry["fl_x"].positive()  # says that it is missing
