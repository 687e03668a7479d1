"""D-NeRF: ``transforms_{train,val,test}.json`` with a ``time`` per frame, usually RGBA renderings.

``camera_angle_x`` is the horizontal field of view in radians, ``transform_matrix`` camera-to-world with OpenGL
axes, ``file_path`` an image relative to the capture, ``.png`` unless it has an image's suffix. The principal
point is the image's centre, pixels are square.
"""

from __future__ import annotations

import math
from pathlib import Path

from ..camera import Camera
from .capture import SPLITS, Capture, Shot, Split
from .checks import Field, contained_path, read_json, safe_name, world_to_camera_from_opengl
from .cloud import find_clouds
from .images import IMAGE_SUFFIXES, ImageFile, open_images


def read_dnerf(root: Path) -> Capture:
    """Read a capture in D-NeRF's layout.

    Raises:
        SceneError: for anything wrong with it.
    """
    shots: list[Shot] = []
    for split in SPLITS:
        path = root / f"transforms_{split}.json"
        if split == "train" or path.exists():
            shots += _read_split(root, read_json(path), split, shots[0].source if shots else None)
    return Capture("dnerf", shots, clouds=find_clouds(root))


def _read_split(root: Path, document: Field, split: Split, like: object) -> list[Shot]:
    angle = document["camera_angle_x"].number(1e-3, math.pi - 1e-3)
    entries = document["frames"].elements(least=1 if split == "train" else 0)
    images = open_images([_image_path(root, entry["file_path"]) for entry in entries])
    first = like if isinstance(like, ImageFile) else (images[0] if images else None)
    shots = []
    for entry, image in zip(entries, images, strict=True):
        assert first is not None
        if (image.width, image.height) != (first.width, first.height):
            raise entry["file_path"].error(
                "size-mismatch",
                f"the image is {image.width}x{image.height}, the capture's first is {first.width}x{first.height}",
                "one camera_angle_x needs images of one size",
            )
        focal = 0.5 * image.width / math.tan(0.5 * angle)
        camera = Camera(
            image.width, image.height, focal, focal, image.width / 2, image.height / 2,
            world_to_camera_from_opengl(entry["transform_matrix"]),
        )  # fmt: skip
        name = safe_name(f"{split}/{image.path.stem}")
        shots.append(Shot(name, camera, entry["time"].time(), split, image))
    return shots


def _image_path(root: Path, field: Field) -> Path:
    path = contained_path(root, field)
    return path if path.suffix.lower() in IMAGE_SUFFIXES else path.with_name(path.name + ".png")
