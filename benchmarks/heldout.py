"""The capture of files, PSNR on its held-out views, and tables of it, for the benchmarks beside this one."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from adcgs.decode import open_scene
from adcgs.evaluation.matching import check_match, load_matching_scene
from adcgs.evaluation.metrics import psnr
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
    """Mean over at most ``views`` test views, evenly spread; chunks that a cut file lacks take their means."""
    frames = scene.split("test")
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(views, len(frames))).round().astype(int))
    decoded = open_scene(path, allow_partial=True)
    scores = []
    for frame in (frames[i] for i in chosen):
        image = decoded.render(frame.camera, frame.time, camera_id=frame.camera_id)
        scores.append(psnr(image.numpy(), scene.target(frame)))
    return float(np.mean(scores))


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    """Rows of the same keys, under a line that names them."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {path}", file=sys.stderr)
