"""A file made or shown on a CUDA device: a CPU decodes the same values from it, and shows the same pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.decode import decoded_digest, open_scene

from .test_end_to_end import run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

ON_CUDA = ["--iterations", "120", "--max-anchors", "80", "--threads", "2", "--device", "cuda"]


@pytest.fixture(scope="module")
def encoded(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda")
    result = run("encode", balls, "-o", "balls.adc", *ON_CUDA, "--json", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["iterations"] == 120
    return folder / "balls.adc"


def test_a_file_of_a_cuda_run_is_the_same_values_on_every_device(encoded: Path) -> None:
    on_cpu, on_cuda = (open_scene(encoded, device=device) for device in ("cpu", "cuda"))
    assert len(decoded_digest(encoded)) == 64
    for name, value in vars(on_cpu.model.features).items():
        assert torch.equal(value, getattr(on_cuda.model.features, name).cpu()), name
    assert torch.equal(on_cpu.model.positions, on_cuda.model.positions.cpu())


def test_both_devices_show_the_same_pictures(encoded: Path) -> None:
    on_cpu, on_cuda = (open_scene(encoded, device=device) for device in ("cpu", "cuda"))
    for view in on_cpu.views[::4]:
        a = on_cpu.render(view.camera, view.time).numpy()
        b = on_cuda.render(view.camera, view.time).cpu().numpy()
        assert -10 * np.log10(np.mean((a - b) ** 2)) > 45, view.name


def test_a_checkpoint_of_one_device_is_coded_on_another(balls: Path, tmp_path: Path) -> None:
    first = run("encode", balls, "-o", "a.adc", *ON_CUDA, "--keep-checkpoint", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    second = run("encode", balls, "-o", "b.adc", "--checkpoint", "a.adc.checkpoint", "--device", "cpu", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert decoded_digest(tmp_path / "a.adc") == decoded_digest(tmp_path / "b.adc")


def test_the_commands_show_and_measure_on_it(encoded: Path, balls: Path, tmp_path: Path) -> None:
    shown = run("decode", encoded, "--render", "frames", "--device", "cuda", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert list((tmp_path / "frames").glob("*.png"))
    scored = run("eval", encoded, balls, "--device", "cuda", "--json", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["device"].startswith("cuda")


def test_networks_that_are_rounded_in_a_cuda_run_are_those_of_its_file(balls: Path, tmp_path: Path) -> None:
    line = ["-o", "a.adc", *ON_CUDA, "--weights", "int8", "--set", "settle_from=0.5", "--keep-checkpoint"]
    first = run("encode", balls, *line, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    second = run("encode", balls, "-o", "b.adc", "--checkpoint", "a.adc.checkpoint", "--device", "cpu", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    a, b = (open_scene(tmp_path / name).model.network_arrays() for name in ("a.adc", "b.adc"))
    for name, array in a.items():
        assert torch.equal(array, b[name]), name
