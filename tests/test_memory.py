"""Freed memory stays with the process: the pages of an image are not made anew for every frame."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
if sys.argv[1] == "kept":
    from adcgs.memory import keep_freed_memory
    assert keep_freed_memory({}) and not keep_freed_memory({"GLIBC_TUNABLES": ""})
def draw():
    images = [np.zeros(1920 * 1080 * 3, np.float32) + 1 for _ in range(3)]
    del images
draw()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    draw()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells glibc")
def test_images_find_their_memory_where_the_last_one_left_it() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
        return int(done.stdout)

    pages = 1920 * 1080 * 3 * 4 // 4096
    assert faults("default") > 5 * pages
    assert faults("kept") < pages
