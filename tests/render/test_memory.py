"""What a million splats need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_million_splats_at_1920x1080_need_under_3_gb() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "rasterizer.py"
    done = subprocess.run(
        [sys.executable, str(script), "--memory", "--json"], capture_output=True, text=True, check=True, timeout=600
    )
    peaks = json.loads(done.stdout)
    assert 100 < peaks["before_mb"] < peaks["inference_mb"] < 3000
    assert peaks["training_mb"] - peaks["before_mb"] < 4000
