"""Files and their captures: cameras, PSNR on held-out views, and tables of it, for the benchmarks beside this one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from adcgs.camera import Camera
from adcgs.decode import DecodedScene, open_scene
from adcgs.errors import OptionError
from adcgs.evaluation.matching import camera_in_file, check_match, load_matching_scene
from adcgs.evaluation.metrics import psnr
from adcgs.evaluation.tables import Column, Row, write_csv
from adcgs.evenly import evenly
from adcgs.scene import Scene


def load_scene_of(files: Sequence[Path], capture: Path) -> Scene:
    """The capture at the size that all of the files were made for.

    Raises:
        OptionError: ``other-capture``, naming the first file that was made from another one, or at another size.
    """
    first, *others = files
    scene = load_matching_scene(capture, open_scene(first))
    for file in others:
        check_match(open_scene(file), scene)
    return scene


def heldout_psnr(path: Path, scene: Scene, views: int) -> float:
    """Mean over at most ``views`` test views, evenly spread; chunks that a cut file lacks take their means.

    Args:
        scene: the file's own, from :func:`load_scene_of`.

    Raises:
        OptionError: ``no-views`` for a capture without any.
    """
    frames = scene.split("test")
    if not frames:
        problem = "has no test or validation views to measure on; give a capture, and the file made from it, with some"
        raise OptionError("no-views", f"{scene.root}: {problem}")
    chosen = evenly(len(frames), views)
    decoded = open_scene(path, allow_partial=True)
    scores = []
    for frame in (frames[i] for i in chosen):
        camera = camera_in_file(decoded, scene, frame)
        image = decoded.render(camera, frame.time, camera_id=frame.camera_id)
        scores.append(psnr(image.numpy(), scene.target(frame)))
    return float(np.mean(scores))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Rows of the same keys, under a line that names them."""
    write_csv(path, rows, [Column(key, key) for key in rows[0]])
    print(f"wrote {path}", file=sys.stderr)


def first_camera(decoded: DecodedScene) -> Camera:
    """That of the first of a file's views.

    Raises:
        OptionError: ``no-views`` for a file without cameras, which the format allows.
    """
    if not decoded.views:
        problem = "holds no cameras, so there is no view to draw; give a file that holds some"
        raise OptionError("no-views", f"{decoded.path}: {problem}")
    return decoded.views[0].camera
