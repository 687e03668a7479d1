"""Frames per second of playback: ``python benchmarks/playback.py [FILE] [--threads N] [--csv FOLDER] [--device cuda]
[--json]``.

A frame is what ``adcgs-decode`` counts: deformation of the anchors at the frame's instant, projection, rasterization,
and the clamp to [0, 1]. Prediction is made once for all frames; reading, writing PNGs and video are not counted. Scenes
are synthetic (see ``step.py``), with the model's default sizes: six primitives to an anchor, splats of about three
pixels at 400x400 that grow with the image.

Two more measurements of the same run. Anchors against primitives: the same networks are evaluated once per primitive,
as a method without anchors has to, compiled and in torch; the paper claims 3 to 8 times the frame rate. Start-up: a
process of its own from its start to the first frame of FILE (by default a small one of ``bitstream_spec``), with the
kernels in the cache; imports are most of it. On a CUDA device gsplat draws; start-up is left out there.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import adcgs
import numpy as np
import torch
from adcgs.decode import open_scene
from adcgs.evaluation.tables import Value
from adcgs.gaussians import Gaussians
from adcgs.model import AnchorModel, ModelConfig, Primitives
from adcgs.render import render
from command_lines import Parser, one_line, positive
from heldout import first_camera, write_rows
from per_primitive import per_primitive
from step import camera, synthetic_model, tensors
from timing import add_device, check_device, device_clock, medians
from torch import Tensor

SIZES = ((400, 400), (800, 800), (1920, 1080))
ANCHORS = (1_000, 4_000, 10_000)
FILE = Path(__file__).parents[1] / "bitstream_spec" / "conformance" / "valid" / "walk_int8.adc"
FIRST_FRAME = """
import sys, time
started = float(sys.argv[2])
from adcgs.decode import open_scene
scene = open_scene(sys.argv[1])
scene.render(scene.views[0].camera, 0.5).numpy()
print(time.time() - started)
"""


def instants() -> Iterator[float]:
    """No two frames show the same one."""
    while True:
        yield from np.linspace(0, 1, 997).tolist()


class Player:
    """A model that shows one instant after the other."""

    def __init__(self, model: AnchorModel, primitives: Primitives, plain: bool = False) -> None:
        self.features = model.features
        self.primitives = primitives
        self.deform = model.deform_plain if plain else model.deform
        self.seen_from = model.seen_from
        self.times = instants()

    def deformed(self) -> Gaussians:
        with torch.inference_mode():
            return self.deform(self.features, self.primitives, next(self.times))

    def frame(self, view: adcgs.Camera) -> Tensor:
        with torch.inference_mode():
            gaussians = self.seen_from(view, self.deformed(), self.features)
            return render(gaussians, view, gaussians.colors.new_zeros(3)).image.clamp(0, 1)


def predicted(model: AnchorModel) -> Primitives:
    with torch.inference_mode():
        return model.predict(model.features)


def frame_rates(
    sizes: tuple[tuple[int, int], ...], anchors: tuple[int, ...], repeats: int, device: str = "cpu"
) -> list[dict[str, Value]]:
    """A row for every number of anchors and size."""
    rows: list[dict[str, Value]] = []
    for count in anchors:
        model = synthetic_model(ModelConfig(), count).to(device)
        player = Player(model, predicted(model))
        steps: dict[str, Callable[[], object]] = {"deformation": player.deformed}
        for width, height in sizes:
            view = dataclasses.replace(camera(height), width=width, cx=width / 2)
            steps[f"{width}x{height}"] = partial(player.frame, view)
        times = medians(steps, repeats, device_clock(device))
        deformation = times.pop("deformation")
        for size, frame in times.items():
            row: dict[str, Value] = {"anchors": count, "primitives": count * model.config.primitives, "size": size}
            rows.append({**row, "deformation_ms": deformation, "frame_ms": frame, "fps": round(1e3 / frame, 1)})
    return rows


def against_primitives(
    anchors: int, primitives: int, size: int, repeats: int, device: str = "cpu"
) -> list[dict[str, Value]]:
    """Deformation and frames by anchors and by primitives, each compiled and in torch."""
    model = synthetic_model(ModelConfig(primitives=primitives), anchors).to(device)
    rows = predicted(model)
    single = per_primitive(model)
    singles = Primitives(*(value.flatten(0, 1)[:, None].contiguous() for value in tensors(rows)))
    view = camera(size)
    steps: dict[str, Callable[[], object]] = {}
    paths = ("compiled", "torch") if device == "cpu" else ("torch",)
    for path in paths:
        for unit, net, found in (("anchor", model, rows), ("primitive", single, singles)):
            player = Player(net, found, plain=path == "torch")
            steps[f"{path}, {unit}, deformation"] = player.deformed
            steps[f"{path}, {unit}, frame"] = partial(player.frame, view)
    times = medians(steps, repeats, device_clock(device))
    found_rows: list[dict[str, Value]] = []
    for path in paths:
        row: dict[str, Value] = {"networks": path, "anchors": anchors, "primitives": anchors * primitives}
        for part in ("deformation", "frame"):
            by_anchor, by_primitive = (times[f"{path}, {unit}, {part}"] for unit in ("anchor", "primitive"))
            row |= {f"{part}_by_anchor_ms": by_anchor, f"{part}_by_primitive_ms": by_primitive}
            row[f"{part}_ratio"] = round(by_primitive / by_anchor, 2)
        found_rows.append(row)
    return found_rows


def start_up(file: Path, repeats: int) -> float:
    """Seconds from the start of a process to the first frame, a median; the first one loads what a disk has to give."""
    seconds = []
    for _ in range(repeats + 1):
        command = [sys.executable, "-c", FIRST_FRAME, str(file), str(time.time())]
        seconds.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return round(statistics.median(seconds[1:]), 2)


def main() -> None:
    """Run what the command line asks for."""
    parser = Parser(__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=FILE, help="whose first frame is waited for")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=positive, default=15)
    add_device(parser)
    parser.add_argument("--csv", type=Path, help="folder for playback.csv and anchors_against_primitives.csv")
    parser.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")
    options = parser.parse_args()
    check_device(options.device)
    first_camera(open_scene(options.file))  # before minutes are spent on what comes first
    threads = options.threads if options.device == "cpu" else 1
    torch.set_num_threads(threads)

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    rates = frame_rates(SIZES, ANCHORS, options.repeats, options.device)
    say(f"{options.device}, {threads} threads; deformation, projection, rasterization, clamp")
    for row in rates:
        who = f"{row['anchors']:>6} anchors, {row['primitives']:>6} splats, {row['size']:>9}"
        parts = f"{row['frame_ms']:.1f} ms, {row['deformation_ms']:.1f} of it deformation"
        say(f"{who}: {row['fps']:6.1f} frames per second ({parts})")
    versus = against_primitives(5_000, 10, 400, options.repeats, options.device)
    for row in versus:
        gains = f"{row['frame_ratio']} times the frame rate, deformation alone {row['deformation_ratio']} times"
        say(f"networks {row['networks']}, 5,000 anchors against their 50,000 primitives, 400x400: {gains}")
    seconds = start_up(options.file, 3) if options.device == "cpu" else None
    if seconds is None:
        say("start-up: not measured on cuda")
    else:
        say(f"start-up: {seconds:.2f} s from the process's start to the first frame of {options.file.name}")
    if options.csv is not None:
        options.csv.mkdir(parents=True, exist_ok=True)
        for row in rates:
            row["threads"] = threads
        write_rows(options.csv / "playback.csv", rates)
        write_rows(options.csv / "anchors_against_primitives.csv", versus)
    if options.json:
        document = {"threads": threads, "device": options.device, "frames": rates, "anchors_against_primitives": versus}
        print(json.dumps({**document, "start_up_s": seconds}))


if __name__ == "__main__":
    one_line(main)
