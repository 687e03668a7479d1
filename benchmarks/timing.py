"""Medians of things that are run in turn, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable

import torch

WARM_UP = 2


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``, which :func:`check_device` and :func:`device_clock` take."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda draws by gsplat")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Adds ``--threads``, a list of counts, ascending."""
    several = "a number of CPU threads, or several with commas: they take turns, and one thread with them"
    parser.add_argument("--threads", type=thread_counts, default=[torch.get_num_threads()], help=several)


def thread_counts(text: str) -> list[int]:
    """``1,4,2`` to [1, 2, 4]."""
    counts = sorted({int(part) for part in text.split(",")})
    if counts[0] < 1:
        raise argparse.ArgumentTypeError(f"{text}: a number of threads is 1 or more")
    return counts


def check_device(device: str) -> None:
    """Ends the program, in one line, where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        print("error: --device cuda: torch sees no CUDA device on this machine; use --device cpu", file=sys.stderr)
        sys.exit(2)


def device_clock(device: str, clock: Callable[[], float] = time.perf_counter) -> Callable[[], float]:
    """``clock``, read when the device has done all that it was given: a launch is not yet a result."""
    if device == "cpu":
        return clock

    def after_all_work() -> float:
        torch.cuda.synchronize()
        return clock()

    return after_all_work


def medians(
    steps: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Milliseconds of every step; all are run in turn, as often as asked for."""
    [times] = by_threads(steps, [torch.get_num_threads()], repeats, clock).values()
    return times


def by_threads(
    steps: dict[str, Callable[[], object]],
    counts: Iterable[int],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, dict[str, float]]:
    """:func:`medians` for several numbers of threads, which take turns as well; torch's own number is restored."""
    before = torch.get_num_threads()
    times: dict[int, dict[str, list[float]]] = {count: {name: [] for name in steps} for count in counts}
    try:
        for _ in range(repeats + WARM_UP):
            for count, rows in times.items():
                torch.set_num_threads(count)
                for name, step in steps.items():
                    start = clock()
                    step()
                    rows[name].append(1e3 * (clock() - start))
    finally:
        torch.set_num_threads(before)
    return {
        count: {name: round(statistics.median(values[WARM_UP:]), 3) for name, values in rows.items()}
        for count, rows in times.items()
    }
