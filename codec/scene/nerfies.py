"""Nerfies and HyperNeRF: ``dataset.json``, ``metadata.json``, ``camera/<id>.json``, ``rgb/<N>x/<id>.png``.

Cameras are in world units with OpenCV axes; ``orientation`` is the world-to-camera rotation and ``position`` the
camera's centre. They describe the 1x image; ``rgb/2x`` is about half that size, and the finest folder there is
gets read. ``scene.json`` (a scale and a centre for the authors' own normalisation) applies to neither cameras
nor points as stored, so it is only checked. An instant is ``warp_id`` over the largest one. The capture has no
test split: its ``val_ids`` serve as one.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..camera import Camera
from .capture import Capture, Lens, Shot, Split
from .checks import Field, contained_path, read_json, rotation_from, scene_error, world_to_camera_from
from .cloud import find_clouds
from .images import IMAGE_SUFFIXES, ImageFile, open_images


def read_nerfies(root: Path) -> Capture:
    """Read a capture in the layout of Nerfies and HyperNeRF.

    Raises:
        SceneError: for anything wrong with it.
    """
    dataset, metadata = read_json(root / "dataset.json"), read_json(root / "metadata.json")
    if (root / "scene.json").exists():
        _check_scene(read_json(root / "scene.json"))
    splits: list[tuple[Field, Split]] = [(entry, "train") for entry in dataset["train_ids"].elements()]
    splits += [(entry, "val") for entry in dataset["val_ids"].elements()]
    warps = {entry.identifier(): _metadata(metadata, entry)["warp_id"].integer() for entry, _ in splits}
    latest = max(warps.values(), default=0)
    folder, factor = _finest(root)
    suffix = _suffix(folder)
    images = open_images(
        [contained_path(folder, Field(f"{e.identifier()}{suffix}", e.file, e.name)) for e, _ in splits]
    )
    shots = []
    for (entry, split), image in zip(splits, images, strict=True):
        name = entry.identifier()
        camera, lens = _camera(read_json(_camera_path(root, entry)))
        _check_size(image, camera, factor)
        time = warps[name] / latest if latest else 0.0
        shots.append(Shot(f"{split}/{name}", camera, time, split, image, lens))
    return Capture("nerfies", shots, clouds=find_clouds(root))


def _metadata(metadata: Field, entry: Field) -> Field:
    return metadata[entry.identifier()]


def _camera_path(root: Path, entry: Field) -> Path:
    return contained_path(root / "camera", Field(f"{entry.identifier()}.json", entry.file, entry.name))


def _check_scene(scene: Field) -> None:
    scene["scale"].positive()
    scene["center"].array(3)


def _finest(root: Path) -> tuple[Path, int]:
    """The folder with the largest images and by what factor they were shrunk."""
    rgb = root / "rgb"
    found = [
        p for p in (rgb.iterdir() if rgb.is_dir() else ()) if p.is_dir() and re.fullmatch(r"[1-9]\d{0,2}x", p.name)
    ]
    if not found:
        raise scene_error("missing-image", rgb, "", "has no folder 1x, 2x, 4x ...", "put the images into rgb/1x")
    finest = min(found, key=lambda p: int(p.name[:-1]))
    return finest, int(finest.name[:-1])


def _suffix(folder: Path) -> str:
    present = {path.suffix for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    return ".png" if ".png" in present or not present else min(present)


def _camera(field: Field) -> tuple[Camera, Lens]:
    width, height = (e.integer(1, 1 << 15) for e in field["image_size"].elements(2, 2))
    focal = field["focal_length"].positive()
    aspect_field = field.get("pixel_aspect_ratio")
    aspect = 1.0 if aspect_field is None else aspect_field.number(0.01, 100)
    cx, cy = (float(v) for v in field["principal_point"].array(2))
    rotation = rotation_from(field["orientation"].array(3, 3), field["orientation"])
    pose = world_to_camera_from(rotation, field["position"].array(3))
    # Nerfies: the vertical focal length is the focal length times the pixel aspect ratio.
    camera = Camera(width, height, focal, focal * aspect, cx, cy, pose)
    radial, skew = field.get("radial_distortion"), field.get("skew")
    tangential = field.get("tangential_distortion") or field.get("tangential")  # the older name
    k = (0.0, 0.0, 0.0) if radial is None else tuple(float(v) for v in radial.array(3))
    p = (0.0, 0.0) if tangential is None else tuple(float(v) for v in tangential.array(2))
    return camera, Lens(k, p, 0.0 if skew is None else skew.number(-MAX_SKEW, MAX_SKEW))  # type: ignore[arg-type]


MAX_SKEW = 1e4  # pixels


def _check_size(image: ImageFile, camera: Camera, factor: int) -> None:
    # Real captures round either way when they shrink.
    if abs(image.width - camera.width / factor) > 1 or abs(image.height - camera.height / factor) > 1:
        raise scene_error(
            "size-mismatch", image.path, "", f"{image.width}x{image.height}, its camera's image_size is "
            f"{camera.width}x{camera.height}", f"rgb/{factor}x needs images of 1/{factor} of that",
        )  # fmt: skip
