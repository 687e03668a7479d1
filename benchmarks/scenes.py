"""Encodes, decodes and evaluates every capture in a folder: ``python benchmarks/scenes.py CAPTURES --minutes 10``.

For each capture the installed commands run one after another: adcgs-encode; adcgs-decode in an empty folder that
holds the file alone; adcgs-inspect; adcgs-eval. OUTPUT gets scenes.csv, scenes.md and a folder per scene with the
file, every command's report and log, side-by-side pictures (truth, decoded, error x4) of some held-out views,
and slices through time. A scene whose results are there with the same settings is not run again (--force does); those
of other settings are replaced, which is said.

    python benchmarks/scenes.py captures/ --minutes 10 --downscale mutant=2 --only mutant,knight --jobs 2 --threads 1
    python benchmarks/scenes.py captures/ --minutes 10 --extra-encode-args="--weights int8 --lambda 2e-3"
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from adcgs.bitstream import write_atomically
from adcgs.evaluation import pictures
from adcgs.evaluation.metrics import psnr
from adcgs.evaluation.smoothness import largest_jump
from adcgs.evaluation.tables import Column, Value, markdown, mean_row, write_csv
from adcgs.evenly import evenly
from command_lines import Parser, interruptible
from rows import BYTES, MODEL_VIEWS, QUALITY, Row, make_row
from runs import StepError, check_folders, command, describe, encode, in_parallel, keep, score
from settings import Settings, add_length, add_options, settings_of, threads_of

JUMP = Column("jump", "largest jump", ".1f")
EXTRA = [Column("psnr_frames", "PSNR of adcgs-decode's PNGs"), Column("error", "error")]
SMOOTH_INSTANTS = 90


def main() -> None:
    """Run what the command line asks for."""
    args = _parse()
    settings = settings_of(args)
    check_folders(settings, args.output, (args.output / one.scene for one in settings))
    args.output.mkdir(parents=True, exist_ok=True)
    rows = in_parallel(args.jobs, lambda s: run_scene(s, args.output, args.force), settings)
    write_tables(rows, settings[0], args.output, args.jobs)
    print((args.output / "scenes.md").read_text(encoding="utf-8"))
    if any(row.get("error") for row in rows):
        sys.exit(1)


def _parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_options(parser, output="out/scenes", jobs=1)
    add_length(parser, "per scene", 10.0)
    return parser.parse_args()


def run_scene(settings: Settings, output: Path, force: bool) -> Row:
    """One scene's row, and its folder with pictures."""
    return keep(settings, output / settings.scene, force, settings.scene, _measure)


def _measure(settings: Settings, folder: Path) -> Row:
    file, threads = folder / "scene.adc", threads_of(settings)
    report = encode(settings, folder)
    sizes = command("inspect", file, log=folder)
    images = folder / "images"
    scores = score(settings, folder, file, "--save-images", images)
    with tempfile.TemporaryDirectory() as empty:
        frames = decode_alone(file, Path(empty), threads, folder)
        row = make_row(settings.scene, report, sizes, scores)
        row["psnr_frames"] = _psnr_of_frames(images / "truth", frames)
        smooth = _smooth_frames(file, Path(empty), threads, folder)
    row["jump"] = largest_jump(smooth)
    make_pictures(scores, images, smooth, folder)
    shutil.rmtree(images)
    return row


def decode_alone(file: Path, empty: Path, threads: Sequence[str], log: Path) -> Path:
    """The held-out views' frames, rendered in a folder that holds nothing but the file."""
    shutil.copy(file, empty / "scene.adc")
    command("decode", "scene.adc", "--render", "frames", *threads, log=log, cwd=empty)
    return empty / "frames"


def _smooth_frames(file: Path, empty: Path, threads: Sequence[str], log: Path) -> list[pictures.Picture]:
    """One held-out camera at many instants, most of them between those of the capture."""
    cameras = json.loads((empty / "frames" / "cameras.json").read_text(encoding="utf-8"))
    (empty / "one.json").write_text(json.dumps(cameras[len(cameras) // 2 :][:1]), encoding="utf-8")
    options = ["--views", "one.json", "--times", SMOOTH_INSTANTS, "--render", "smooth"]
    report = command("decode", "scene.adc", *options, *threads, log=log, cwd=empty, name="smooth")
    return [_load(empty / "smooth" / f"{name}.png") for name in report["names"]]


def _psnr_of_frames(truth: Path, frames: Path) -> float:
    """Mean PSNR of the PNGs that adcgs-decode wrote, 8 bits and all: must be that of adcgs-eval, give or take."""
    values = []
    for path in sorted(truth.glob("*.png")):
        if not (frames / path.name).is_file():
            raise StepError(f"adcgs-decode did not render {path.stem}")
        values.append(psnr(_float(_load(frames / path.name)), _float(_load(path))))
    return sum(values) / len(values)


def make_pictures(scores: Mapping[str, Any], images: Path, smooth: Sequence[pictures.Picture], folder: Path) -> None:
    """Side by side: the worst view and three spread over the split. Slices through time before a camera at rest."""
    views = scores["views"]
    key = "psnr_dynamic" if scores["mean"]["psnr_dynamic"] is not None else "psnr"
    worst = min(range(len(views)), key=lambda i: views[i][key] if views[i][key] is not None else np.inf)
    chosen = dict.fromkeys([worst, *evenly(len(views), 3)])
    for number, index in enumerate(chosen):
        view = views[index]
        stem = view["name"].replace("/", "_")
        moving = "" if view["psnr_dynamic"] is None else f", moving {view['psnr_dynamic']:.2f}"
        caption = f"{'(worst) ' if number == 0 else ''}{view['psnr']:.2f} dB{moving}"
        pair = [_load(images / kind / f"{stem}.png") for kind in ("truth", "decoded")]
        pictures.save_picture(folder / f"view_{number}.jpg", pictures.side_by_side(pair[0], pair[1], caption, stem))
    camera = views[worst]["camera_id"]
    stems = [v["name"].replace("/", "_") for v in sorted(views, key=lambda v: v["time"]) if v["camera_id"] == camera]
    if camera >= 0 and len(stems) > 1:  # what moves before one that moves cannot be told from the camera's own way
        truth, decoded = ([_load(images / kind / f"{stem}.png") for stem in stems] for kind in ("truth", "decoded"))
        pictures.save_picture(folder / "slice.jpg", pictures.time_slice(truth, decoded))
    strip = pictures.time_strip(smooth, f"decoded at {len(smooth)} instants, camera at rest")
    pictures.save_picture(folder / "smooth.jpg", strip)


def write_tables(rows: Sequence[Mapping[str, Value]], settings: Settings, output: Path, jobs: int) -> None:
    """scenes.csv with every number, scenes.md to read."""
    quality = [*QUALITY, JUMP]
    columns = list({c.key: c for c in [*quality, *BYTES, *EXTRA]}.values())
    write_csv(output / "scenes.csv", rows, columns)
    good = [row for row in rows if not row.get("error")]
    text = [
        f"{describe(settings, jobs, rows)} 'Lost by coding': PSNR of the model in memory (with --weights int8 its "
        f"networks have eight bits by then) less that of the file, over at most {MODEL_VIEWS} of the views; 'lost by "
        "rounding': PSNR with the attributes as they are trained less that with rounded ones, over the same. 'Largest "
        f"jump': the largest change between two of {SMOOTH_INSTANTS} instants before a camera at rest, over the median "
        "of its neighbours' (1 is even motion).\n"
    ]
    for columns in (quality, BYTES):
        shown = [c for c in columns if any(row.get(c.key) is not None for row in good)]
        if good:
            text.append(markdown([*good, mean_row(good, shown)] if len(good) > 1 else good, shown))
    text += [f"**{row['scene']} failed**: {row['error']}\n" for row in rows if row.get("error")]
    for row in good:
        names = sorted(path.name for path in (output / str(row["scene"])).glob("*.jpg"))
        text.append("".join([f"### {row['scene']}\n\n", *(f"![{n}]({row['scene']}/{n})\n" for n in names)]))
    write_atomically(output / "scenes.md", "\n".join(text).encode())


def _load(path: Path) -> pictures.Picture:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _float(picture: pictures.Picture) -> np.ndarray[Any, np.dtype[np.float32]]:
    return picture.astype(np.float32) / 255


if __name__ == "__main__":
    interruptible(main)
