"""How torch's idle threads wait, as libgomp itself reports it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def reported(program: str, **environment: str) -> str:
    """What libgomp, asked to show its settings, prints when torch loads it in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**clean, "OMP_DISPLAY_ENV": "verbose", **environment}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has another OpenMP than libgomp")
    return done.stderr


def test_importing_adcgs_before_torch_lets_idle_threads_sleep() -> None:
    assert "GOMP_SPINCOUNT = '1000'" in reported("import adcgs, torch")


def test_a_users_own_choice_stays() -> None:
    assert "GOMP_SPINCOUNT = '77'" in reported("import adcgs, torch", GOMP_SPINCOUNT="77")
    said = reported("import adcgs, torch", OMP_WAIT_POLICY="active")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in said
    assert "GOMP_SPINCOUNT = '1000'" not in said


def test_after_torch_it_is_too_late() -> None:
    assert "GOMP_SPINCOUNT = '1000'" not in reported("import torch, adcgs")
