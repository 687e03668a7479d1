"""``python -m tests.fuzz N``: N damaged files through the decoder. Exit 1 where one of them is a finding."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .mutators import mutate
from .run import Findings, fuzz, inputs
from .targets import TARGETS


def progress_line(done: int, count: int, seconds: float, findings: int) -> str:
    """How far a run is, how fast, and how long it will still take."""
    rate = done / seconds
    minutes, rest = divmod(round((count - done) / rate), 60) if done else (0, 0)
    left = f"{minutes}:{rest:02d} left" if done else "starting"
    return f"{done}/{count}  {rate:.0f} inputs a second  {left}  {findings} findings"


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=10_000, help="number of inputs")
    parser.add_argument("--target", choices=[name for name in TARGETS if name != "dying"], default="decode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("out/fuzz"), help="folder for findings")
    options = parser.parse_args()
    start = time.monotonic()

    def report(done: int, found: Findings) -> None:
        print(progress_line(done, options.count, time.monotonic() - start, len(found.failures)), file=sys.stderr)

    found = fuzz(options.target, options.seed, options.count, options.jobs, report)
    for code, times in found.outcomes.most_common():
        print(f"{times:8d}  {code}")
    print(
        f"slowest {found.slowest[0]:.2f} s (input {found.slowest[1]}), memory x{found.memory:.2f} of the clean decode"
    )
    print(f"{options.count} inputs in {time.monotonic() - start:.0f} s, {len(found.failures)} findings")
    for index, what in found.failures[:20]:
        data = mutate(options.seed, index, inputs(options.target, "int8" if index % 3 == 2 else "fp32"))
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / f"{options.target}-{options.seed}-{index}.adc"
        path.write_bytes(data)
        print(f"\n{path}: {what}")
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
