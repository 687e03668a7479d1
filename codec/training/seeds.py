"""What a run's steps draw at random, from its seed and their number: a resumed run repeats an uninterrupted one."""

from __future__ import annotations

# 2^32 over the golden ratio, odd: neighbouring seeds start 2.6e9 steps apart.
_STRIDE = 0x9E3779B1


def seed_of(seed: int, step: int) -> int:
    """For a step, or an epoch, of the run with that seed; below 2^32: torch's CPU generator takes no more bits."""
    return (seed * _STRIDE + step) & 0xFFFFFFFF
