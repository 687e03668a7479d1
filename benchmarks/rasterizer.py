"""Times the rasterizer: ``python benchmarks/rasterizer.py [--threads N,...] [--device cuda] [--json]``.

Workloads are random clouds that fill the view, with splats of log-normal size (median radius about 5 px, as
``Render.radii`` measures it), mild anisotropy and opacities around one half. Times are medians after warm-up; one
thread and all threads take turns, and the ratio of their times is printed. For more threads than a machine has, the
share of one thread's time that is spent outside the kernels which threads share bounds what can be gained.
Forward is ``render`` with gradients wanted, backward is ``image.backward`` down to the primitives' attributes.
Yardsticks of the same run: a 2048^3 float32 matrix product, and the plain torch twin on a small workload.
On a CUDA device gsplat draws the same workloads; threads and the twin are left out there.
``--memory`` instead draws a million splats at 1920x1080 and says what that needs.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import adcgs
import numpy as np
import torch
from adcgs.gaussians import Gaussians
from adcgs.render import RasterSettings, Render, cpu, render
from command_lines import Parser, one_line, positive
from timing import WARM_UP, add_device, add_threads, by_threads, check_device, device_clock, medians

WORKLOADS = {"10k_256": (10_000, 256), "50k_400": (50_000, 400), "200k_800": (200_000, 800)}
TARGETS = {"10k_256": (3, 4), "50k_400": (12, 18), "200k_800": (48, 80)}
TWIN = (1_000, 64)
PARTS = ("forward", "backward", "inference")


def cloud(count: int, size: int, seed: int = 0) -> tuple[Gaussians, adcgs.Camera]:
    """``count`` primitives in a ``size`` x ``size`` view, 2 to 6 units away."""
    generator = torch.Generator().manual_seed(seed)
    focal = 1.1 * size
    depth = 2.0 + 4.0 * torch.rand(count, generator=generator)
    pixels = size * (1.1 * torch.rand(count, 2, generator=generator) - 0.05)
    means = torch.cat([(pixels - size / 2) / focal * depth[:, None], depth[:, None]], 1)
    sigma = 1.2 * torch.exp(0.4 * torch.randn(count, 1, generator=generator))  # pixels
    scales = sigma * torch.exp(0.3 * torch.randn(count, 3, generator=generator)) / focal * depth[:, None]
    gaussians = Gaussians(
        means=means,
        quaternions=torch.randn(count, 4, generator=generator),
        scales=scales,
        opacities=torch.sigmoid(1.5 * torch.randn(count, generator=generator)),
        colors=torch.rand(count, 3, generator=generator),
    )
    return gaussians, adcgs.Camera(size, size, focal, focal, size / 2, size / 2, np.eye(4))


class Workload:
    """A cloud's forward and backward pass, one at a time."""

    def __init__(self, count: int, size: int, backend: str, device: str = "cpu") -> None:
        gaussians, self.camera = cloud(count, size)
        self.gaussians = Gaussians(*(value.to(device) for value in vars(gaussians).values()))
        self.backend = backend
        self.leaves = [value.requires_grad_() for value in vars(self.gaussians).values()]
        self.gradient = torch.randn(size, size, 3, generator=torch.Generator().manual_seed(1)) / size**2
        self.gradient = self.gradient.to(device)
        self.drawn = self.draw()

    def draw(self) -> Render:
        return render(self.gaussians, self.camera, torch.zeros(3), backend=self.backend)

    def forward(self) -> None:
        self.drawn = self.draw()

    def backward(self) -> None:
        for leaf in self.leaves:
            leaf.grad = None
        self.drawn.image.backward(self.gradient)

    def inference(self) -> None:
        with torch.no_grad():
            self.draw()

    def median_radius(self) -> float:
        radii = self.drawn.radii
        return float(radii[radii > 0].float().median())


def measure(
    count: int, size: int, backend: str, counts: Sequence[int], repeats: int, device: str = "cpu"
) -> dict[str, Any]:
    """Median milliseconds of the training forward, the backward and the inference forward, on the most threads.

    And on one thread; and by number of threads where ``counts`` has more than one.
    """
    threads = max(counts)
    workload = Workload(count, size, backend, device)
    parts: dict[str, Callable[[], object]] = {
        "forward": workload.forward, "backward": workload.backward, "inference": workload.inference
    }  # fmt: skip
    times = by_threads(parts, sorted({1, *counts}), repeats, device_clock(device))
    result: dict[str, Any] = {f"{name}_ms": value for name, value in times[threads].items()}
    if threads > 1:
        result |= {f"one_thread_{name}_ms": value for name, value in times[1].items()}
    if len(counts) > 1:
        result["by_threads"] = {n: {f"{name}_ms": value for name, value in row.items()} for n, row in times.items()}
    return {**result, "median_radius_px": workload.median_radius()}


def serial_shares(count: int, size: int, repeats: int) -> dict[str, float]:
    """What does not get faster with threads, as shares of one thread's time: all but the kernels that threads share.

    ``largest_tile`` is its share of all pairs: no thread can be done with blending before the one that has this tile.
    """
    workload = Workload(count, size, "cpu")
    inside = 0.0
    shared = cpu.run

    def timed(kernel: Callable[..., object], args: tuple[Any, ...], threads: int) -> None:
        nonlocal inside
        start = time.perf_counter()
        shared(kernel, args, threads)
        inside += time.perf_counter() - start

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    shares: dict[str, list[float]] = {name: [] for name in PARTS}
    cpu.run = timed
    try:
        for _ in range(repeats + WARM_UP):
            for name in PARTS:
                inside, start = 0.0, time.perf_counter()
                getattr(workload, name)()
                whole = time.perf_counter() - start
                shares[name].append((whole - inside) / whole)
    finally:
        cpu.run = shared
        torch.set_num_threads(before)
    frame = cpu.Frame(workload.gaussians, workload.camera, torch.zeros(3), RasterSettings())
    frame.project()
    result = {name: round(statistics.median(values[WARM_UP:]), 4) for name, values in shares.items()}
    return {**result, "largest_tile": round(float(np.diff(frame.tile_starts).max()) / frame.pairs, 4)}


def speed_up(serial: float, threads: int) -> float:
    """Amdahl's law."""
    return 1 / (serial + (1 - serial) / threads)


def memory(count: int = 1_000_000, width: int = 1920, height: int = 1080) -> dict[str, float]:
    """Peak resident megabytes of drawing ``count`` splats: the process before, an inference, a training step."""
    gaussians, square = cloud(count, width)
    camera = replace(square, height=height, cy=height / 2)
    background, peaks = torch.zeros(3), {}
    with torch.no_grad():
        render(cloud(100, 64)[0], cloud(100, 64)[1], background)  # compiles
        peaks["before_mb"] = _peak_mb()
        render(gaussians, camera, background)
        peaks["inference_mb"] = _peak_mb()
    for value in vars(gaussians).values():
        value.requires_grad_()
    render(gaussians, camera, background).image.sum().backward()
    peaks["training_mb"] = _peak_mb()
    return peaks


def _peak_mb() -> float:
    """Of this program alone: what getrusage says on Linux begins with the peak of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return round(int(line.split()[1]) / 1024, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def main() -> None:
    """Run what the command line asks for."""
    parser = Parser(__doc__)
    add_threads(parser)
    parser.add_argument("--repeats", type=positive, default=21)
    add_device(parser)
    parser.add_argument("--only", choices=list(WORKLOADS), help="one workload, without the yardsticks")
    parser.add_argument("--memory", action="store_true", help="peak memory of a million splats, and nothing else")
    parser.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")
    options = parser.parse_args()
    check_device(options.device)
    on_cpu = options.device == "cpu"
    counts = options.threads if on_cpu else [1]
    threads = max(counts)
    torch.set_num_threads(threads)

    if options.memory:
        if not on_cpu:
            parser.error("--memory is the CPU rasterizer's; leave out --device")
        peaks = memory()
        print(", ".join(f"{name[:-3]} {peak:.0f} MB" for name, peak in peaks.items()), file=sys.stderr)
        if options.json:
            print(json.dumps(peaks))
        return
    results: dict[str, object] = {"threads": threads, "device": options.device}
    if options.only is None:
        matrix, clock = torch.randn(2048, 2048, device=options.device), device_clock(options.device)
        product = medians({"product": lambda: matrix @ matrix}, options.repeats, clock)
        results["matmul_2048_ms"] = product["product"]
        print(f"matrix product 2048^3    {results['matmul_2048_ms']:8.1f} ms", file=sys.stderr)
    for name, (count, size) in WORKLOADS.items():
        if options.only not in (None, name):
            continue
        times = results[name] = measure(count, size, options.device, counts, options.repeats, options.device)
        line = f"{name:<10} forward {times['forward_ms']:7.2f}  backward {times['backward_ms']:7.2f}"
        line += f"  inference {times['inference_ms']:7.2f} ms  (target {TARGETS[name][0]} / {TARGETS[name][1]},"
        print(f"{line} median radius {times['median_radius_px']:.0f} px)", file=sys.stderr)
        if threads > 1:
            gains = [f"{part} {times[f'one_thread_{part}_ms'] / times[f'{part}_ms']:.2f}" for part in PARTS]
            print(f"{'':<10} one thread takes, in times that: {', '.join(gains)}", file=sys.stderr)
        for n, row in times.get("by_threads", {}).items():
            parts = ", ".join(f"{part} {row[f'{part}_ms']:.2f} ms" for part in PARTS)
            print(f"{'':<10} {n:>2} threads: {parts}", file=sys.stderr)
    if not on_cpu:
        print("threads, and what they cannot share: not measured on cuda", file=sys.stderr)
    elif options.only in (None, "200k_800"):
        shares = results["serial_200k_800"] = serial_shares(*WORKLOADS["200k_800"], options.repeats)
        for name in PARTS:
            best = ", ".join(f"{n} threads {speed_up(shares[name], n):.1f}" for n in (2, 16))
            print(
                f"200k_800   {name} outside shared kernels {100 * shares[name]:.2f} %: at best {best}", file=sys.stderr
            )
        print(f"200k_800   largest tile {100 * shares['largest_tile']:.2f} % of the pairs", file=sys.stderr)
    if options.only is None and on_cpu:
        name = f"twin_{TWIN[0] // 1000}k_{TWIN[1]}"
        times = results[name] = measure(*TWIN, "reference", [1], 3)
        line = f"the plain torch twin at {TWIN[0]} splats, {TWIN[1]}x{TWIN[1]}: forward {times['forward_ms']:.0f}"
        print(f"{line}, backward {times['backward_ms']:.0f} ms", file=sys.stderr)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    one_line(main)
