"""Reads files one after the other in a process of its own, whose peak of resident memory says what each one took.

    python -m tests.attacks.reading READ_FIRST FILE ...

The file that is read first is a sound one: what libraries and kernels need is there before anything is measured. For
each other file one line of JSON: code (null where it was read), message, seconds of processor time, and by how many
bytes the process grew beyond the largest that it had been.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from adcgs import AdcError
from adcgs.decode import open_scene


def refusal(path: str) -> tuple[str | None, str]:
    """Code and message, None and nothing for a file that is read."""
    try:
        open_scene(path, threads=1)
    except AdcError as error:
        return error.code, str(error)
    return None, ""


def peak() -> int:
    """The most bytes that this process ever had in memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # getrusage of Linux begins with what the parent had.
    lines = status.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main(sound: str, *paths: str) -> None:
    """Read all, and report each at once: after a crash the last line's successor is known."""
    assert refusal(sound) == (None, "")
    for path in paths:
        before, start = peak(), time.process_time()
        code, message = refusal(path)
        seconds = time.process_time() - start
        report = {"code": code, "message": message, "seconds": seconds, "memory": peak() - before}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
