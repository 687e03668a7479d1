"""Other processors and other homes: no AVX, a first start that compiles, later ones that do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.gaussians import Gaussians
from adcgs.render import render

from .scenes import random_scene

PROGRAM = """
import sys, time
import numpy as np, torch
from tests.render.scenes import draw, random_scene, upstream_of
values, camera = random_scene(7, 200)
everywhere = torch.ones(camera.height, camera.width, dtype=torch.bool)
drawn, gradients = draw(values, camera, "cpu", torch.float32, upstream_of(camera, 3, everywhere))
np.savez(sys.argv[1], image=drawn.image.detach(), **gradients)
"""


def run(folder: Path, name: str, **environment: str) -> tuple[dict[str, np.ndarray], str]:
    """The program's arrays and what it said, in a process of its own."""
    target = folder / f"{name}.npz"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(target)],
        env={**os.environ, **environment}, cwd=root, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    with np.load(target) as arrays:
        return dict(arrays), done.stderr


@pytest.mark.parametrize("processor", ["x86-64"])
def test_a_processor_without_avx_draws_the_same_and_compiles_once(processor: str, tmp_path: Path) -> None:
    if "avx" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("made for x86 on Linux")
    other = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    first, said = run(tmp_path, "first", **other)
    assert said.count("compiling kernels (about half a minute, once)") == 1
    second, said = run(tmp_path, "second", **other)
    assert "compiling" not in said
    host, _ = run(tmp_path, "host")
    for name, array in host.items():
        np.testing.assert_array_equal(first[name], second[name])
        assert np.abs(array - first[name]).max() <= 1e-4 * max(1.0, np.abs(array).max()), name


def test_without_a_writable_cache_it_compiles_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adcgs import jit

    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(blocked))
    assert jit._cache_folder(tmp_path) is None

    def double(x: float) -> float:
        return 2 * x

    assert jit.kernel(double)(3.0) == 6.0


def test_a_numba_that_does_not_compile_is_refused_in_one_line(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    file = root / "bitstream_spec" / "conformance" / "valid" / "one_anchor.adc"
    program = "from adcgs.cli.decode import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, str(file), "--render", "frames", "--views", "orbit", "--times", "2"],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: NUMBA_DISABLE_JIT is set")
    assert "Traceback" not in done.stderr


def test_threads_follow_torch_and_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    from adcgs import jit

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
        assert jit.thread_count() == 4
        monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
        assert jit.thread_count() == 3
    finally:
        torch.set_num_threads(before)


def test_a_failing_kernel_is_reported_from_any_thread() -> None:
    from adcgs.jit import Pool

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        Pool().run(fail, (), 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_may_render() -> None:
    values, camera = random_scene(8, 50)
    expected = render(Gaussians(**values), camera, torch.zeros(3)).image
    child = os.fork()
    if child == 0:
        same = torch.equal(render(Gaussians(**values), camera, torch.zeros(3)).image, expected)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
