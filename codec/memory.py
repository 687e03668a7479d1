"""Freed memory stays with the process, so that the next frame or step finds it there."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

# malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT = 256 << 20  # bytes free at the heap's end beyond which they go back to the system
SINGLE = 64 << 20  # bytes of one array from which on it is the system's directly
_ASKED_FOR = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell glibc, unless the user told it something; whether it was told. Other C libraries are left as they are.

    By default glibc takes arrays of some megabytes from the system and gives them back when they are freed. Each page
    of each image is then made and cleared anew at its first touch, which takes longer than drawing the image.
    """
    if not sys.platform.startswith("linux") or any(name in environment for name in _ASKED_FOR):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT)) and bool(mallopt(_MMAP_THRESHOLD, SINGLE))
