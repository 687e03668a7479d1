"""Compiled kernels, where their machine code is kept between runs, and the threads that run them.

Imports numba: import it where a kernel is about to run, not at a package's import. That also sets what glibc does with
freed memory (:mod:`.memory`).

Raises OptionError ``no-compiler`` where NUMBA_DISABLE_JIT has numba leave functions uncompiled.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numba
from numba import types
from numba.core import event
from numba.extending import intrinsic, register_jitable

from .errors import OptionError
from .memory import keep_freed_memory

if numba.config.DISABLE_JIT:
    raise OptionError("no-compiler", "NUMBA_DISABLE_JIT is set, but the kernels only exist compiled: unset it")
keep_freed_memory()


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compiles ``function`` at its first call, without the GIL, and keeps the result on disk.

    Args:
        options: further ones of ``numba.njit``.
    """
    folder = _cache_folder(Path(function.__code__.co_filename).parent)
    if folder is None:
        return numba.njit(nogil=True, **options)(function)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = before


@cache
def _cache_folder(room: Path) -> Path | None:
    """A writable folder for the kernels of this very source, in NUMBA_CACHE_DIR or the user's cache, or None.

    numba would not notice a change in a module that a kernel merely imports, so the folder's name does.
    Never a shared folder such as /tmp: what numba loads from there runs.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        base = Path(os.environ["NUMBA_CACHE_DIR"])
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "adcgs" / f"kernels-{room.name}-{_source_digest(room)}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _source_digest(room: Path) -> str:
    """Of the kernels' folder, and of what kernels of other folders may be made of."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    shared = (here / "jit.py", here / "render" / "simd.py", *sorted((here / "vectors").glob("*.py")))
    for path in (*shared, *sorted(room.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@intrinsic
def fetch_add(typingctx: Any, array: Any, index: Any, amount: Any) -> Any:
    """Atomically adds to an int64 array's element and returns what was there: how threads share out work."""
    if not isinstance(array, types.Array) or array.dtype != types.int64:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), args[2], "monotonic")

    return types.int64(array, types.intp, types.int64), codegen


@register_jitable  # type: ignore[misc]
def enlist(counter: Any) -> int:
    """What :func:`take` wants to know of a thread: how many came to this kernel before it."""
    return fetch_add(counter, 3, 1)


@register_jitable  # type: ignore[misc]
def take(counter: Any, rank: int, count: int) -> int:
    """The number of the next of ``count`` pieces of work, or ``count`` when none is left.

    Every other thread begins at the end and goes backwards. Neighbours, who share cache lines and much of what they
    read, are then mostly the same thread's, and a thread finds in its cache what it made in the last kernel.

    Args:
        counter: four or more int64, zeros at first.
        rank: the thread's, from :func:`enlist`.
    """
    if fetch_add(counter, 0, 1) >= count:
        return count
    return count - 1 - fetch_add(counter, 2, 1) if rank % 2 else fetch_add(counter, 1, 1)


class _Announce(event.Listener):  # type: ignore[misc]
    """Says on stderr, once per process, that one of our kernels is being compiled."""

    def __init__(self) -> None:
        self._said = threading.Event()

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        package = __name__.rpartition(".")[0] + "."
        if not self._said.is_set() and getattr(function, "__module__", "").startswith(package):
            self._said.set()
            kept = _cache_folder(Path(function.__code__.co_filename).parent) is not None
            when = "once" if kept else "at every start: set NUMBA_CACHE_DIR to a writable folder"
            print(f"compiling kernels (about half a minute, {when}) ...", file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announce())

Job = tuple[Callable[..., object], tuple[Any, ...], SimpleQueue]


class Pool:
    """A few threads that run one compiled kernel together; started when first needed, they end with the process.

    Every thread is given the same arguments; kernels share out their work by an atomic counter, so that a slow
    thread is no harm and no result depends on the schedule. Unlike numba's ``prange`` this needs no OpenMP or TBB,
    may be used from several Python threads at once, and survives a fork.
    """

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
                threading.Thread(target=self._work, name="adcgs-kernel", daemon=True).start()
                self._helpers += 1

    def _work(self) -> None:
        while True:
            kernel, args, done = self._jobs.get()
            try:
                kernel(*args)
                done.put(None)
            except BaseException as failure:
                done.put(failure)
            del kernel, args, done  # so that an idle thread keeps no array alive


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
