"""``kernel``: numba.njit that keeps its compiled code where it can write, and works where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compiles ``function`` on its first call; the machine code is cached on disk if any cache folder is writable."""
    try:
        return cast(F, numba.njit(cache=True)(function))
    except RuntimeError:  # numba found no folder to cache in: compile once per process
        return cast(F, numba.njit(function))
