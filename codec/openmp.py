"""How long the threads of torch's OpenMP wait awake; must be said before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# What libgomp itself takes where there are more threads than processors: about ten microseconds.
SPIN_COUNT = "1000"
_ASKED_FOR = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def yield_when_idle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have torch's idle threads leave their processor to the compiled kernels', unless the user asked for a policy.

    After each parallel operation libgomp's threads turn in a loop for milliseconds, in case there is another one. A
    training step goes from torch to a kernel and back a dozen times, and the kernel's threads find the processors
    taken. libgomp reads the variable once, when it is loaded: where torch was imported first this does nothing.
    """
    if not any(name in environment for name in _ASKED_FOR):
        environment["GOMP_SPINCOUNT"] = SPIN_COUNT
