"""Encodes, decodes and evaluates every capture in a folder: ``python benchmarks/scenes.py CAPTURES --minutes 10``.

For each capture the installed commands run one after another: adcgs-encode; adcgs-decode in an empty folder that
holds the file alone; adcgs-inspect; adcgs-eval. OUTPUT gets scenes.csv, scenes.md and a folder per scene with the
file, every command's report and log, side-by-side pictures (truth, decoded, error x4) of some held-out views,
and slices through time. A scene whose results are there with the same settings is not run again (--force does).

    python benchmarks/scenes.py captures/ --minutes 10 --downscale mutant=2 --only mutant,knight --jobs 2 --threads 1
    python benchmarks/scenes.py captures/ --minutes 10 --extra-encode-args="--weights int8 --lambda 2e-3"
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from adcgs.errors import AdcError
from adcgs.evaluation import pictures
from adcgs.evaluation.metrics import psnr
from adcgs.evaluation.smoothness import largest_jump
from adcgs.evaluation.tables import Column, Value, markdown, mean_row, write_csv
from adcgs.scene import detect_layout

QUALITY = [
    Column("scene", "scene"),
    Column("size", "size"),
    Column("views", "views"),
    Column("psnr", "PSNR", ".2f"),
    Column("psnr_dynamic", "PSNR moving", ".2f"),
    Column("psnr_foreground", "PSNR foregr.", ".2f"),
    Column("ssim", "SSIM", ".4f"),
    Column("ms_ssim", "MS-SSIM", ".4f"),
    Column("lpips", "LPIPS", ".4f"),
    Column("st_lpips", "ST-LPIPS", ".4f"),
    Column("psnr_model", "PSNR in memory", ".2f"),
    Column("psnr_loss", "lost by coding", ".3f"),
    Column("fps", "fps", ".1f"),
    Column("jump", "largest jump", ".1f"),
]
BYTES = [
    Column("scene", "scene"),
    Column("bytes", "bytes", ",.0f"),
    Column("positions", "positions", ",.0f"),
    Column("f_v", "f_v + hyper", ",.0f"),
    Column("f_g", "f_g", ",.0f"),
    Column("sigma", "Sigma", ",.0f"),
    Column("color", "C", ",.0f"),
    Column("networks", "networks", ",.0f"),
    Column("rest", "cameras, header", ",.0f"),
    Column("anchors", "anchors", ",.0f"),
    Column("bits_per_coefficient", "bits/coeff.", ".2f"),
    Column("minutes", "train min", ".1f"),
    Column("iterations", "steps", ",.0f"),
]
EXTRA = [Column("psnr_frames", "PSNR of adcgs-decode's PNGs"), Column("error", "error")]
SECTIONS = {
    "positions": ("positions",),
    "f_v": ("f_v", "hyper"),
    "f_g": ("f_g",),
    "sigma": ("sigma",),
    "color": ("color",),
    "networks": ("networks", "entropy"),
}
MODEL_VIEWS = 20  # adcgs-encode measures its model in memory on at most so many, evenly spread
SMOOTH_INSTANTS = 90


@dataclass(frozen=True)
class Settings:
    """What a result depends on; a result with other settings is not reused."""

    capture: str
    minutes: float | None
    iterations: int | None
    downscale: float
    threads: int
    encode_args: tuple[str, ...]
    st_lpips: bool


class StepError(Exception):
    """A command ended with an error; the message is its last line."""


def main() -> None:
    """Run what the command line asks for."""
    args = _parse()
    captures = find_captures(args.captures, args.only)
    downscales = _downscales(args.downscale, [c.name for c in captures])
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.jobs)
    args.output.mkdir(parents=True, exist_ok=True)
    settings = [
        Settings(
            capture=str(capture.resolve()),
            minutes=None if args.iterations else args.minutes,
            iterations=args.iterations,
            downscale=downscales.get(capture.name, 1.0),
            threads=threads,
            encode_args=tuple(shlex.split(args.extra_encode_args)),
            st_lpips=args.st_lpips,
        )
        for capture in captures
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda s: run_scene(s, args.output, args.force), settings))
    write_tables(rows, settings[0], args.output, args.jobs)
    print((args.output / "scenes.md").read_text(encoding="utf-8"))
    if any(row.get("error") for row in rows):
        sys.exit(1)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", type=Path, help="folder of captures, or one capture")
    parser.add_argument("--minutes", type=float, default=10.0, help="training time per scene (10)")
    parser.add_argument("--iterations", type=int, help="train for so many steps instead")
    parser.add_argument("--downscale", nargs="+", action="extend", default=[], metavar="NAME=N", help="size per scene")
    parser.add_argument("--only", help="names of scenes, separated by commas")
    parser.add_argument("--jobs", type=int, default=1, choices=(1, 2), help="scenes at a time (1)")
    parser.add_argument("--threads", type=int, help="threads of each command (the machine's by --jobs)")
    parser.add_argument("--extra-encode-args", default="", metavar="ARGS", help="one string, for adcgs-encode")
    parser.add_argument("--st-lpips", action="store_true", help="measure ST-LPIPS as well")
    parser.add_argument("--force", action="store_true", help="run again what is already there")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/scenes"))
    return parser.parse_args()


def find_captures(folder: Path, only: str | None) -> list[Path]:
    """The captures in a folder, by name; or the folder itself where it is one."""
    candidates = [folder] if _is_capture(folder) else sorted(p for p in folder.glob("*") if _is_capture(p))
    wanted = None if only is None else {name.strip() for name in only.split(",")}
    chosen = [path for path in candidates if wanted is None or path.name in wanted]
    missing = sorted((wanted or set()) - {path.name for path in chosen})
    if missing or not chosen:
        names = ", ".join(path.name for path in candidates) or "none"
        sys.exit(f"error: {folder}: no capture {', '.join(missing)}; there are: {names}")
    return chosen


def _is_capture(path: Path) -> bool:
    try:
        return path.is_dir() and bool(detect_layout(path))
    except AdcError:
        return False


def _downscales(pairs: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    found = {}
    for pair in pairs:
        name, _, factor = pair.partition("=")
        try:
            found[name] = float(factor)
        except ValueError:
            sys.exit(f"error: --downscale {pair}: give NAME=N, such as {names[0]}=2")
    return found


def run_scene(settings: Settings, output: Path, force: bool) -> dict[str, Value]:
    """One scene's row: from an earlier run with the same settings, or by running the commands."""
    name = Path(settings.capture).name
    folder = output / name
    stated = json.loads(json.dumps(asdict(settings)))
    if force or _read(folder / "settings.json") != stated:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(stated, indent=1), encoding="utf-8")
    earlier = _read(folder / "result.json")
    if earlier is not None:
        print(f"{name}: results are there", file=sys.stderr)
        return dict(earlier)
    print(f"{name}: started {time.strftime('%H:%M')}", file=sys.stderr)
    try:
        row = _measure(name, settings, folder)
    except StepError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return {"scene": name, "error": str(error)}
    (folder / "result.json").write_text(json.dumps(row, indent=1), encoding="utf-8")
    print(f"{name}: {row['psnr']:.2f} dB in {row['bytes']} bytes, {time.strftime('%H:%M')}", file=sys.stderr)
    return row


def _measure(name: str, settings: Settings, folder: Path) -> dict[str, Value]:
    file = folder / "scene.adc"
    threads = ["--threads", str(settings.threads)]
    if _read(folder / "encode.json") is None:
        length = (
            ["--minutes", str(settings.minutes)]
            if settings.iterations is None
            else ["--iterations", str(settings.iterations)]
        )
        size = ["--downscale", str(settings.downscale)]
        resume = ["--resume"] if (folder / "scene.adc.checkpoint").exists() else []
        options = [*length, *size, *threads, *resume, *settings.encode_args]
        command("encode", settings.capture, "-o", file, *options, log=folder)
    report = _read(folder / "encode.json") or {}
    sizes = command("inspect", file, log=folder)
    images = folder / "images"
    extra = ["--st-lpips"] if settings.st_lpips else []
    size = ["--downscale", str(settings.downscale)]
    scores = command("eval", file, settings.capture, "--save-images", images, *size, *threads, *extra, log=folder)
    with tempfile.TemporaryDirectory() as empty:
        frames = decode_alone(file, Path(empty), threads, folder)
        row = make_row(name, report, sizes, scores)
        row["psnr_frames"] = _psnr_of_frames(images / "truth", frames)
        smooth = _smooth_frames(file, Path(empty), threads, folder)
    row["jump"] = largest_jump(smooth)
    make_pictures(scores, images, smooth, folder)
    shutil.rmtree(images)
    return row


def command(verb: str, *arguments: object, log: Path, cwd: Path | None = None, name: str = "") -> dict[str, Any]:
    """Run adcgs-VERB with --json; its report, which also goes to VERB.json, as its stderr does to VERB.log.

    Raises:
        StepError: with the command's last line.
    """
    program = Path(sys.executable).with_name(f"adcgs-{verb}")
    line = [str(program), *map(str, arguments), "--json"]
    name = name or verb
    with (log / f"{name}.log").open("w", encoding="utf-8") as stderr:
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=stderr, cwd=cwd, text=True, check=False)
    if done.returncode:
        lines = (log / f"{name}.log").read_text(encoding="utf-8").strip().splitlines()
        raise StepError(f"adcgs-{verb} ended with {done.returncode}: {lines[-1] if lines else 'no message'}")
    report = json.loads(done.stdout)
    (log / f"{name}.json").write_text(done.stdout, encoding="utf-8")
    return dict(report)


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


def make_row(
    name: str, report: Mapping[str, Any], sizes: Mapping[str, Any], scores: Mapping[str, Any]
) -> dict[str, Value]:
    """A table row from the commands' reports."""
    row: dict[str, Value] = {
        "scene": name,
        "size": f"{scores['width']}x{scores['height']}",
        "views": f"{len(scores['views'])} {scores['split']}",
        **scores["mean"],
        "bytes": scores["bytes"],
        **component_bytes(sizes["components"]),
        "anchors": sizes["anchors"],
        "bits_per_coefficient": bits_per_coefficient(sizes),
        **{key: report.get(key) for key in ("minutes", "iterations", "psnr_model")},
    }
    if report.get("psnr_model") is not None:
        same = [scores["views"][i]["psnr"] for i in evenly(len(scores["views"]), MODEL_VIEWS)]
        row["psnr_loss"] = report["psnr_model"] - sum(same) / len(same)
    return row


def component_bytes(components: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes of each of :data:`SECTIONS`, and the rest."""
    totals = dict.fromkeys([*SECTIONS, "rest"], 0)
    for component in components:
        family = component["name"].split(".")[0]
        family = "f_g" if family.startswith("f_g_") else family
        key = next((k for k, names in SECTIONS.items() if family in names), "rest")
        totals[key] += component["bytes"]
    return totals


def bits_per_coefficient(sizes: Mapping[str, Any]) -> float:
    """Bits of f_v, f_g, Sigma and C, the hyperprior's included, over the number of those coefficients."""
    coded = [c for c in sizes["components"] if c["coefficients"] and c["name"] != "positions"]
    coefficients = sum(c["coefficients"] for c in coded if c["name"] != "hyper")
    return 8 * sum(c["bytes"] for c in coded) / (sizes["anchors"] * coefficients)


def evenly(count: int, limit: int) -> list[int]:
    """At most ``limit`` indices, evenly spread over ``count``."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(limit, count)).round())]


def _psnr_of_frames(truth: Path, frames: Path) -> float:
    """Mean PSNR of the PNGs that adcgs-decode wrote, 8 bits and all: must be that of adcgs-eval, give or take."""
    values = []
    for path in sorted(truth.glob("*.png")):
        if not (frames / path.name).is_file():
            raise StepError(f"adcgs-decode did not render {path.stem}")
        values.append(psnr(_float(_load(frames / path.name)), _float(_load(path))))
    return sum(values) / len(values)


def make_pictures(scores: Mapping[str, Any], images: Path, smooth: Sequence[pictures.Picture], folder: Path) -> None:
    """Side by side: the worst view and three spread over the split. Time slices of one camera."""
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
    if len(stems) > 1:
        truth, decoded = ([_load(images / kind / f"{stem}.png") for stem in stems] for kind in ("truth", "decoded"))
        pictures.save_picture(folder / "slice.jpg", pictures.time_slice(truth, decoded))
    strip = pictures.time_strip(smooth, f"decoded at {len(smooth)} instants, camera at rest")
    pictures.save_picture(folder / "smooth.jpg", strip)


def write_tables(rows: Sequence[Mapping[str, Value]], settings: Settings, output: Path, jobs: int) -> None:
    """scenes.csv with every number, scenes.md to read."""
    columns = list({c.key: c for c in [*QUALITY, *BYTES, *EXTRA]}.values())
    write_csv(output / "scenes.csv", rows, columns)
    good = [row for row in rows if not row.get("error")]
    length = f"{settings.iterations} steps" if settings.iterations else f"{settings.minutes:g} minutes"
    extra = f", `{shlex.join(settings.encode_args)}`" if settings.encode_args else ""
    text = [
        f"{length} of training a scene{extra}; {settings.threads} thread(s) a command, {jobs} scene(s) at a time, "
        f"{platform.machine()}, {os.cpu_count()} cores. Measured from the decoded file on held-out views. "
        "PSNR in dB; 'moving': over the pixels that change before a fixed camera. 'Lost by coding': PSNR of the model "
        "in memory less that of the file, on the same views. 'Largest jump': the largest change between two of "
        f"{SMOOTH_INSTANTS} instants before a camera at rest, over the median of its neighbours' (1 is even motion).\n"
    ]
    for columns in (QUALITY, BYTES):
        shown = [c for c in columns if any(row.get(c.key) is not None for row in good)]
        if good:
            text.append(markdown([*good, mean_row(good, shown)] if len(good) > 1 else good, shown))
    text += [f"**{row['scene']} failed**: {row['error']}\n" for row in rows if row.get("error")]
    for row in good:
        names = sorted(path.name for path in (output / str(row["scene"])).glob("*.jpg"))
        text.append("".join([f"### {row['scene']}\n\n", *(f"![{n}]({row['scene']}/{n})\n" for n in names)]))
    (output / "scenes.md").write_text("\n".join(text), encoding="utf-8")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _load(path: Path) -> pictures.Picture:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _float(picture: pictures.Picture) -> np.ndarray[Any, np.dtype[np.float32]]:
    return picture.astype(np.float32) / 255


if __name__ == "__main__":
    main()
