"""PSNR of a file on held-out views of its capture, and tables of it, for the benchmarks beside this one."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from adcgs.decode import open_scene
from adcgs.evaluation.metrics import psnr
from adcgs.scene import Scene


def heldout_psnr(path: Path, scene: Scene, views: int) -> float:
    """Mean over at most ``views`` test views, evenly spread; chunks that a cut file lacks take their means."""
    frames = scene.split("test")
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(views, len(frames))).round().astype(int))
    decoded = open_scene(path, allow_partial=True)
    pairs = ((decoded.render(frames[i].camera, frames[i].time), scene.target(frames[i])) for i in chosen)
    return float(np.mean([psnr(image.numpy(), target) for image, target in pairs]))


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    """Rows of the same keys, under a line that names them."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {path}", file=sys.stderr)
