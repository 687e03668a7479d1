"""A few threads that run one compiled kernel together.

Every thread is given the same arguments; kernels share out their work by an atomic counter, so that a slow
thread is no harm and no result depends on the schedule. Unlike numba's ``prange`` this needs no OpenMP or TBB,
may be used from several Python threads at once, and survives a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Job = tuple[Callable[..., object], tuple[Any, ...], SimpleQueue]


class Pool:
    """Helper threads, started when they are first needed, that end with the process."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._helpers = 0
        self._lock = threading.Lock()

    def run(self, kernel: Callable[..., object], args: tuple[Any, ...], threads: int) -> None:
        """Calls ``kernel(*args)`` on ``threads`` threads at once, this one included, and waits for all."""
        if threads > self._helpers + 1:
            self._grow(threads - 1)
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for _ in range(threads - 1):
            self._jobs.put((kernel, args, done))
        try:
            kernel(*args)
        finally:
            failures = [done.get() for _ in range(threads - 1)]
        for failure in failures:
            if failure is not None:
                raise failure

    def _grow(self, helpers: int) -> None:
        with self._lock:
            while self._helpers < helpers:
                threading.Thread(target=self._work, name="adcgs-raster", daemon=True).start()
                self._helpers += 1

    def _work(self) -> None:
        while True:
            kernel, args, done = self._jobs.get()
            try:
                kernel(*args)
                done.put(None)
            except BaseException as failure:
                done.put(failure)
            del kernel, args, done  # so that an idle thread keeps no image alive


_pool = Pool()


def _start_over() -> None:
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over)


def run(kernel: Callable[..., object], args: tuple[Any, ...], threads: int) -> None:
    """:meth:`Pool.run` on the process's own pool."""
    _pool.run(kernel, args, threads)


def thread_count() -> int:
    """How many threads a kernel gets: torch's own number, and no more than NUMBA_NUM_THREADS if that is set."""
    import torch

    limit = os.environ.get("NUMBA_NUM_THREADS", "")
    count = torch.get_num_threads()
    return max(1, min(count, int(limit)) if limit.isdigit() else count)
