"""Compiled kernels and where their machine code is kept between runs."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import event

HINT = "compiling the rasterizer (once, about 30 s) ..."


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles ``function`` at its first call, without the GIL, and keeps the result on disk."""
    folder = _cache_folder()
    if folder is None:
        return numba.njit(nogil=True)(function)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        return numba.njit(nogil=True, cache=True)(function)
    finally:
        numba.config.CACHE_DIR = before


def _cache_folder() -> Path | None:
    """A writable folder of this very source, in NUMBA_CACHE_DIR or the user's cache; None if there is none.

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
    folder = base / "adcgs" / f"kernels-{_source_digest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _source_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class _Announce(event.Listener):  # type: ignore[misc]
    """Says on stderr, once per process, that one of our kernels is being compiled."""

    def __init__(self) -> None:
        self._said = threading.Event()

    def on_start(self, event: Any) -> None:
        module = getattr(event.data["dispatcher"].py_func, "__module__", "")
        if not self._said.is_set() and module.startswith(__name__.rpartition(".")[0]):
            self._said.set()
            hint = HINT if _cache_folder() else HINT + " at every start: set NUMBA_CACHE_DIR to a writable folder"
            print(hint, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announce())
