"""Times a training step by part: ``python benchmarks/step.py [--threads N,...] [--device cuda] [--csv FILE]
[--json]``.

The scene is synthetic: 5,000 anchors in the unit ball with 10 primitives each (``--anchors``, ``--primitives``), seen
at 400x400, with deformation networks that already move things. A step does what ``adcgs.training`` does: quantise with
noise, predict, deform, draw, compare, pull everything back, and let Adam move all parameters; the rate's term is timed
on its own, since training adds it every few steps. Parts are timed apart, each with its own piece of the graph;
``whole step`` is timed in one piece. Both are timed on one thread and on all in turns, and the ratio is printed. The
model and Adam are also timed by their definitions in torch, without compiled kernels.

Several views of an instant share quantisation, prediction and deformation, so a view of a step of four costs less
than a step of one; what is left of the ratio of their times is the rasterizer's and the loss's.

Times are medians after warm-up; ``--clock cpu`` counts the process's own seconds, for a machine that is busy.
On a CUDA device gsplat draws and torch does the rest; threads are left out there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import adcgs
import numpy as np
import torch
from adcgs.entropy import EntropyConfig, MultiDimensionEntropyModel
from adcgs.evaluation.tables import Value
from adcgs.features import Features
from adcgs.gaussians import Gaussians
from adcgs.model import AnchorModel, ModelConfig, Primitives
from adcgs.render import Render, render
from adcgs.training import TrainingConfig
from adcgs.training.losses import l1_dssim
from adcgs.training.optimiser import AnchorOptimiser
from adcgs.training.refinement import Significance
from adcgs.training.rigidity import Rigidity
from adcgs.training.shapes import needle_penalty, residual_penalty
from command_lines import Parser, one_line, positive
from heldout import write_rows
from timing import add_device, add_threads, by_threads, check_device, device_clock, medians
from torch import Tensor

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def camera(size: int) -> adcgs.Camera:
    """Three units from the origin, which it looks at."""
    pose = np.eye(4)
    pose[2, 3] = 3.0
    return adcgs.Camera(size, size, 1.1 * size, 1.1 * size, size / 2, size / 2, pose)


def synthetic_model(config: ModelConfig, anchors: int, seed: int = 0) -> AnchorModel:
    """Anchors in the unit ball; splats of about three pixels; networks that deform a little."""
    torch.manual_seed(seed)
    positions = torch.nn.functional.normalize(torch.randn(anchors, 3), dim=1) * torch.rand(anchors, 1) ** (1 / 3)
    sigma = torch.cat([torch.full((anchors, 3), -2.5), -4.8 + 0.4 * torch.randn(anchors, 3)], dim=1)
    features = Features(
        f_v=torch.randn(anchors, config.reference_dim),
        f_g=0.3 * torch.randn(anchors, config.primitives, config.residual_dim),
        sigma=sigma,
        color=torch.randn(anchors, 3),
    )
    model = AnchorModel(config, positions, features)
    for net in (model.coarse_net, model.fine_net):
        torch.nn.init.normal_(net.last.weight, std=0.003)
    return model


def tensors(rows: Gaussians | Primitives | Features) -> list[Tensor]:
    return list(vars(rows).values())


def leaves(rows: Gaussians | Primitives | Features) -> list[Tensor]:
    """The same values, cut off from what made them."""
    return [value.detach().requires_grad_() for value in tensors(rows)]


class Step:
    """One training step's ingredients, and its parts one by one."""

    def __init__(self, config: ModelConfig, anchors: int, size: int, device: str = "cpu") -> None:
        self.model = synthetic_model(config, anchors).to(device)
        sizes = EntropyConfig(f_v=config.reference_dim, primitives=config.primitives, f_g=config.residual_dim)
        self.entropy = MultiDimensionEntropyModel(sizes).to(device)
        self.training = TrainingConfig(model=config)
        self.optimiser = AnchorOptimiser(self.model, self.entropy, self.training)
        # Adam works as ever, but every step sees the same model.
        self.optimiser.initial = [0.0 for _ in self.optimiser.initial]
        self.significance = Significance(anchors, config.primitives, torch.device(device))
        self.rigidity = Rigidity()
        self.camera, self.background = camera(size), torch.zeros(3, device=device)
        self.size = size
        with torch.no_grad():
            self.target = self.draw(self.model.gaussians_at(0.2)).image.clamp(0, 1)
        self.entropy(self.model.features, "noise", True)  # steps without rate reuse its means

    def draw(self, gaussians: Gaussians) -> Render:
        return render(gaussians, self.camera, self.background)

    def penalties(self, features: Features, primitives: Primitives, gaussians: Gaussians) -> Tensor:
        """What a capture of one moving camera is held together by."""
        training, places = self.training, (self.model.positions, primitives.offsets, gaussians.means)
        shapes = training.residuals * residual_penalty(primitives.log_scales, features.sigma[:, 3:])
        shapes = shapes + training.needles * needle_penalty(primitives.log_scales)
        return shapes + training.rigidity * self.rigidity.penalty(*places, iteration=1)

    def whole(self, with_rate: bool = False, views: int = 1) -> None:
        """In one piece, as the trainer does it; several views of an instant share prediction and deformation."""
        features, rate = self.entropy(self.model.features, "noise", with_rate, count_bits=False)
        primitives = self.model.predict(features)
        gaussians = self.model.deform(features, primitives, 0.3)
        drawn = [self.draw(gaussians) for _ in range(views)]
        losses = [l1_dssim(view.image, self.target, self.training.ssim_weight) for view in drawn]
        loss = torch.stack(losses).mean() + self.penalties(features, primitives, gaussians)
        if rate is not None:
            loss = loss + 1e-9 * rate.total
        loss.backward()
        for view in drawn:
            self.significance.add(view.mean2d_grad(), view.weights, gaussians.opacities, self.size / 2)
        self.optimiser.step(0.5, 0)

    def parts(self, plain: bool, with_rate: bool) -> dict[str, Callable[[], object]]:
        """Forward and backward of every part, each on the last one's values."""
        model = self.model
        predict = model.predict_plain if plain else model.predict
        deform = model.deform_plain if plain else model.deform
        state: dict[str, list[Tensor]] = {}
        views: dict[str, Render] = {}
        outputs: dict[str, list[Tensor]] = {}

        def forward(name: str, run: Callable[[], list[Tensor]]) -> Callable[[], None]:
            def timed() -> None:
                outputs[name] = run()

            return timed

        def backward(name: str) -> Callable[[], None]:
            """Pulls ones back; what they are has no influence on the time."""

            def timed() -> None:
                torch.autograd.backward(outputs[name], state[f"{name} gradient"])

            return timed

        def code() -> list[Tensor]:
            features, rate = self.entropy(model.features, "noise", with_rate, count_bits=False)
            return [*tensors(features), *([] if rate is None else [rate.total])]

        def compare() -> list[Tensor]:
            return [l1_dssim(state["image"][0], self.target, self.training.ssim_weight)]

        def drawn() -> list[Tensor]:
            views["drawn"] = self.draw(Gaussians(*state["gaussians"]))
            return [views["drawn"].image]

        state["features"] = leaves(model.features)
        state["primitives"] = leaves(predict(model.features))
        state["gaussians"] = leaves(deform(model.features, Primitives(*state["primitives"]), 0.3))
        state["image"] = [self.draw(Gaussians(*state["gaussians"])).image.detach().requires_grad_()]
        runs = {
            "quantisation": code,
            "prediction": lambda: tensors(predict(Features(*state["features"]))),
            "deformation": lambda: tensors(deform(Features(*state["features"]), Primitives(*state["primitives"]), 0.3)),
            "rasterization": drawn,
            "loss": compare,
            "penalties": lambda: [
                self.penalties(
                    Features(*state["features"]), Primitives(*state["primitives"]), Gaussians(*state["gaussians"])
                )
            ],
        }
        for name, run in runs.items():
            state[f"{name} gradient"] = [torch.full_like(value, 1e-6) for value in run()]
        steps: dict[str, Callable[[], object]] = {f"{name} forward": forward(name, run) for name, run in runs.items()}
        steps |= {f"{name} backward": backward(name) for name in reversed(runs)}
        steps["statistics"] = lambda: self.significance.add(
            views["drawn"].mean2d_grad(), views["drawn"].weights, state["gaussians"][3], self.size / 2
        )
        steps["adam"] = self.adam_in_torch() if plain else lambda: self.optimiser.step(0.5, 0)
        return steps

    def adam_in_torch(self) -> Callable[[], None]:
        """torch's own on the same tensors, with moments of its own."""
        groups = [{"params": group["params"], "lr": 0.0} for group in self.optimiser.adam.param_groups]
        adam = torch.optim.Adam(groups, eps=1e-15, betas=(0.9, 0.99), fused=True)

        def timed() -> None:
            adam.step()
            adam.zero_grad(set_to_none=True)

        return timed


def row(name: str, times: dict[int, float]) -> str:
    """A line of milliseconds; with several numbers of threads, how many times as long one of them takes."""
    threads = max(times)
    line = f"{name:<32} {times[threads]:7.2f}"
    if len(times) > 2:
        return line + "".join(f"  on {n} {ms:.2f}" for n, ms in times.items() if n < threads)
    if threads > 1:
        line += f"  on one thread {times[1]:7.2f}: {times[1] / times[threads]:.2f} times as long"
    return line


def by_part(times: dict[int, dict[str, float]]) -> dict[str, dict[int, float]]:
    """By part, then by number of threads."""
    return {name: {count: rows[name] for count, rows in times.items()} for name in times[max(times)]}


def csv_rows(name: str, times: dict[int, float]) -> list[dict[str, Value]]:
    """A row for every number of threads but one, if there are others."""
    chosen = [n for n in times if n > 1] or [1]
    rows = ((n, times[n], times[1], round(times[1] / times[n], 2)) for n in chosen)
    return [dict(zip(("part", "threads", "ms", "one_thread_ms", "gain"), (name, *row), strict=True)) for row in rows]


def main() -> None:
    """Run what the command line asks for."""
    options = _parse()
    check_device(options.device)
    asked = options.threads if options.device == "cpu" else [1]
    torch.set_num_threads(max(asked))
    config = ModelConfig(primitives=options.primitives)
    if options.width:
        config = dataclasses.replace(config, prediction_width=options.width, deformation_width=options.width)
    say(
        f"{options.anchors} anchors x {config.primitives}, {options.size}x{options.size}, {options.device}, "
        f"{max(asked)} threads, widths {config.prediction_width} and {config.deformation_width}, {options.clock} ms"
    )
    step = Step(config, options.anchors, options.size, options.device)
    times = measure(step, asked, options.repeats, device_clock(options.device, CLOCKS[options.clock]))
    report(times)
    if options.csv is not None:
        extra = {f"{name}, with rate": counts for name, counts in by_part(times.rate).items() if "quantisation" in name}
        rows = {**by_part(times.parts), **extra, **by_part(times.whole)}
        write_rows(options.csv, [row for name, counts in rows.items() for row in csv_rows(name, counts)])
    if options.json:
        print(json.dumps({**as_json(times), **{k: vars(options)[k] for k in ("device", "clock", "width")}}))


def _parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_threads(parser)
    parser.add_argument("--repeats", type=positive, default=21)
    parser.add_argument("--anchors", type=positive, default=5000)
    parser.add_argument("--primitives", type=positive, default=10, help="of an anchor")
    parser.add_argument("--size", type=positive, default=400, help="pixels of a side")
    parser.add_argument("--width", type=positive, help="hidden width of all networks; the default is the model's own")
    add_device(parser)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--csv", type=Path, help="file for a row per part")
    parser.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, file=sys.stderr)


@dataclass(frozen=True)
class Times:
    """Milliseconds by number of threads, then by part; ``definition`` in torch, on all threads."""

    parts: dict[int, dict[str, float]]
    rate: dict[int, dict[str, float]]
    whole: dict[int, dict[str, float]]
    definition: dict[str, float]

    @property
    def threads(self) -> int:
        return max(self.parts)

    @property
    def per_view(self) -> dict[int, float]:
        """What a view of a step of several takes, in times a step of one."""
        whole = self.whole[self.threads]
        return {n: whole[f"whole step, {n} views"] / n / whole["whole step"] for n in (2, 4)}


def measure(step: Step, asked: list[int], repeats: int, clock: Callable[[], float]) -> Times:
    counts = sorted({1, *asked})
    parts = by_threads(step.parts(plain=False, with_rate=False), counts, repeats, clock)
    rate = by_threads(step.parts(plain=False, with_rate=True), counts, repeats, clock)
    plain = medians(step.parts(plain=True, with_rate=False), max(repeats // 2, 3), clock)
    steps: dict[str, Callable[[], object]] = {
        "whole step": step.whole,
        "whole step, with rate": lambda: step.whole(True),
        "whole step, 2 views": lambda: step.whole(views=2),
        "whole step, 4 views": lambda: step.whole(views=4),
    }
    definition = {name: plain[name] for name in plain if name.startswith(("prediction", "deformation", "adam"))}
    return Times(parts, rate, by_threads(steps, counts, repeats, clock), definition)


def report(times: Times) -> None:
    """Lines for a person."""
    for name, counts in by_part(times.parts).items():
        say(row(name, counts))
    say(row("sum of parts", {count: sum(parts.values()) for count, parts in times.parts.items()}))
    for name in ("quantisation forward", "quantisation backward"):
        say(row(f"{name}, with rate", by_part(times.rate)[name]))
    for name, counts in by_part(times.whole).items():
        say(row(name, counts))
    shares = ", ".join(f"{n} views {share:.2f}" for n, share in times.per_view.items())
    say(f"time for each view, in times a step of one: {shares}")
    for name in ("prediction", "deformation"):
        forward, backward = (times.definition[f"{name} {kind}"] for kind in ("forward", "backward"))
        say(f"{name + ' in torch':<24} forward {forward:7.2f}  backward {backward:7.2f}")
    say(f"{'adam in torch':<24} {times.definition['adam']:7.2f}")


def as_json(times: Times) -> dict[str, object]:
    threads = times.threads
    quantisation = {n: {k: times.rate[n][f"quantisation {k}"] for k in ("forward", "backward")} for n in (1, threads)}
    return {
        "threads": threads,
        "parts": times.parts[threads],
        "parts_one_thread": times.parts[1],
        "whole": times.whole[threads],
        "whole_one_thread": times.whole[1],
        "whole_by_threads": times.whole,
        "rate": quantisation[threads],
        "rate_one_thread": quantisation[1],
        "definition": times.definition,
        "per_view": times.per_view,
    }


if __name__ == "__main__":
    one_line(main)
