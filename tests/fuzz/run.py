"""A fuzzing run over several processes: crashes, hangs and memory are findings, and so is any unexpected exception."""

from __future__ import annotations

import multiprocessing as mp
import os
import resource
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from . import samples
from .mutators import mutate
from .targets import TARGETS, Target, outcome

HANG_SECONDS = 10.0  # of processor time; a process that waits is killed after thirty times that by the clock
MEMORY_FACTOR = 4.0
REPORT_SECONDS = 10.0
_WARM_UP = 3


@dataclass
class Findings:
    """What a run saw.

    Attributes:
        outcomes: how often each code, or ``ok``, came out.
        failures: (index, what happened) of every finding.
        slowest: (seconds, index).
        memory: peak resident bytes of a worker over the clean decode's peak.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    memory: float = 1.0

    def add(self, other: Findings) -> None:
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.slowest = max(self.slowest, other.slowest)
        self.memory = max(self.memory, other.memory)


def inputs(target: str, weights: str = "fp32") -> Mapping[str, bytes]:
    """The sections that a target's inputs are made from."""
    if target not in ("container", "dying"):
        return samples.sections(weights)  # type: ignore[arg-type]
    return samples.light_sections(weights)  # type: ignore[arg-type]


def fuzz_here(target: str, seed: int, indices: range, progress: Any = None) -> Findings:
    """Run in this process. ``progress`` is a shared (index, start time) pair that a watcher reads."""
    found = Findings()
    for _ in range(_WARM_UP):
        for weights in ("fp32", "int8"):
            sample = inputs(target, weights)
            TARGETS[target](mutate_nothing(sample))
    clean = _peak_memory()
    for index in indices:
        data = mutate(seed, index, inputs(target, "int8" if index % 3 == 2 else "fp32"))
        if progress is not None:
            progress[0], progress[1] = index, time.monotonic()
        start = time.process_time()
        try:
            found.outcomes[outcome(TARGETS[target], data)] += 1
        except Exception:
            found.failures.append((index, traceback.format_exc(limit=-4)))
        seconds = time.process_time() - start
        if seconds > HANG_SECONDS:  # once more: compiling a kernel for the first time is no hang
            seconds = _seconds_again(TARGETS[target], data)
        found.slowest = max(found.slowest, (seconds, index))
        if seconds > HANG_SECONDS:
            found.failures.append((index, f"took {seconds:.1f} s"))
        memory = _peak_memory() / clean
        if memory > MEMORY_FACTOR and found.memory <= MEMORY_FACTOR:
            found.failures.append((index, f"peak memory {memory:.1f} times the clean decode's"))
        found.memory = max(found.memory, memory)
    return found


def _seconds_again(target: Target, data: bytes) -> float:
    start = time.process_time()
    with suppress(Exception):
        outcome(target, data)
    return time.process_time() - start


def mutate_nothing(sections: Mapping[str, bytes]) -> bytes:
    """The undamaged file."""
    from .mutators import assemble, rows_of

    return assemble(rows_of(sections))


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _worker(target: str, seed: int, indices: range, progress: Any, results: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    # Output of a dying native library would tear the parent's progress line.
    results.put(fuzz_here(target, seed, indices, progress))


def fuzz(target: str, seed: int, count: int, jobs: int, report: Any = None) -> Findings:
    """Run inputs 0 .. count - 1 over ``jobs`` processes in blocks; a process that dies or hangs is a finding.

    ``report`` is called every ten seconds and at the end: inputs done, and what was found in the blocks that are done.
    """
    context = mp.get_context("spawn")
    block = max(1, min(2000, -(-count // jobs)))
    todo = [range(start, min(count, start + block)) for start in range(0, count, block)][::-1]
    running: list[tuple[Any, Any, Any, range]] = []
    found, done, reported = Findings(), 0, time.monotonic()
    while todo or running:
        while todo and len(running) < jobs:
            indices = todo.pop()
            progress, results = context.Array("d", [-1, time.monotonic() + 300]), context.Queue()
            process = context.Process(target=_worker, args=(target, seed, indices, progress, results))
            process.start()
            running.append((process, progress, results, indices))
        time.sleep(0.05)
        for entry in list(running):
            process, progress, results, indices = entry
            verdict = ""
            if not results.empty():
                found.add(results.get())
                process.join()
            elif not process.is_alive():
                verdict = f"the process died with status {process.exitcode}"
            elif time.monotonic() - progress[1] > 30 * HANG_SECONDS:
                process.kill()
                verdict = f"hangs for more than {30 * HANG_SECONDS:.0f} s"
            else:
                continue
            running.remove(entry)
            last = indices.stop - 1
            if verdict and progress[0] < 0:
                raise RuntimeError(f"the undamaged samples do not decode: {verdict}")
            if verdict:
                last = int(progress[0])
                found.failures.append((last, verdict))
                if last + 1 < indices.stop:
                    todo.append(range(last + 1, indices.stop))
            done += last + 1 - indices.start
        if report is not None and (time.monotonic() - reported > REPORT_SECONDS or not (todo or running)):
            reported = time.monotonic()
            report(done + sum(max(0, int(progress[0]) - at.start) for _, progress, _, at in running), found)
    return found
