"""PanopticSports as Dynamic 3D Gaussians stores it: ``train_meta.json``, ``test_meta.json`` and ``ims/``.

``k[t][c]`` is a 3x3 matrix in pixels of ``w`` x ``h``, ``w2c[t][c]`` a 4x4 OpenCV world-to-camera pose,
``fn[t][c]`` an image under ``ims/`` and ``cam_id[t][c]`` the physical camera; t counts instants, c cameras.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..camera import Camera
from .capture import Capture, Lens, Shot, Split
from .checks import MAX_FRAMES, Field, check_last_row, contained_path, read_json, rotation_from
from .cloud import find_clouds
from .images import ImageFile, open_images


def read_panoptic(root: Path) -> Capture:
    """Read a capture in the layout of Dynamic 3D Gaussians.

    Raises:
        SceneError: for anything wrong with it.
    """
    train = read_json(root / "train_meta.json")
    shots = _read_meta(root, train, "train")
    if (root / "test_meta.json").exists():
        test = read_json(root / "test_meta.json")
        instants = len(train["fn"].elements()), len(test["fn"].elements())
        if instants[0] != instants[1]:
            raise test["fn"].error(
                "frame-count",
                f"{instants[1]} instants, the training cameras have {instants[0]}",
                "list the same instants",
            )
        shots += _read_meta(root, test, "test")
    return Capture("panoptic", shots, clouds=find_clouds(root))


def _read_meta(root: Path, meta: Field, split: Split) -> list[Shot]:
    width, height = meta["w"].integer(1, 1 << 15), meta["h"].integer(1, 1 << 15)
    rows = meta["fn"].elements(1)
    tables = {key: meta[key].elements(len(rows), len(rows)) for key in ("fn", "cam_id", "k", "w2c")}
    cells: list[tuple[int, dict[str, Field]]] = []
    for t, row in enumerate(rows):
        cameras = len(row.elements(1, MAX_FRAMES // len(rows)))
        columns = {key: table[t].elements(cameras, cameras) for key, table in tables.items()}
        cells += [(t, {key: column[c] for key, column in columns.items()}) for c in range(cameras)]
    images = open_images([contained_path(root / "ims", cell["fn"]) for _, cell in cells])
    last = max(len(rows) - 1, 1)
    return [
        _shot(cell, image, t / last, width, height, split)
        for (t, cell), image in zip(cells, images, strict=True)
    ]  # fmt: skip


def _shot(cell: dict[str, Field], image: ImageFile, time: float, width: int, height: int, split: Split) -> Shot:
    if (image.width, image.height) != (width, height):
        raise cell["fn"].error(
            "size-mismatch", f"the image is {image.width}x{image.height}, the file says {width}x{height}",
            "store images of the size that k belongs to",
        )  # fmt: skip
    camera_id = cell["cam_id"].integer()
    k = cell["k"].array(3, 3)
    if min(k[0, 0], k[1, 1]) <= 0 or k[1, 0] != 0 or (k[2] != [0, 0, 1]).any():
        raise cell["k"].error(
            "out-of-range", "is no matrix of intrinsics", "write [[fx, s, cx], [0, fy, cy], [0, 0, 1]]"
        )
    pose = cell["w2c"].array(4, 4)
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = rotation_from(pose[:3, :3], cell["w2c"])
    check_last_row(pose, cell["w2c"])
    world_to_camera[:3, 3] = pose[:3, 3]
    camera = Camera(width, height, k[0, 0], k[1, 1], k[0, 2], k[1, 2], world_to_camera)
    name = f"cam{camera_id:02d}/{image.path.stem}"
    return Shot(name, camera, time, split, image, Lens(skew=float(k[0, 1])), camera_id)
