"""Colours that depend on the view: gradients, that they are learned, kept in the file and resumed; off by default."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.bitstream import Container, pack_view_colors
from adcgs.camera import Camera
from adcgs.decode import open_scene
from adcgs.encode import write_scene
from adcgs.evaluation.metrics import psnr
from adcgs.gaussians import Gaussians
from adcgs.model import ViewColors
from adcgs.scene import Scene, load_scene
from adcgs.training import Trainer
from PIL import Image

from ..captures import write_dnerf
from .test_trainer import TINY, stop_after

CONFIG = replace(TINY, iterations=400, initial_anchors=200, max_anchors=300, view_colors=True)


@pytest.fixture(scope="module")
def glossy(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The balls, redder from the one side and bluer from the other."""
    folder = write_dnerf(tmp_path_factory.mktemp("glossy"), train=24)
    for split in ("train", "val", "test"):
        for frame in json.loads((folder / f"transforms_{split}.json").read_text())["frames"]:
            eye = np.array(frame["transform_matrix"])[:3, 3]
            tilt = 0.4 * eye[0] / np.linalg.norm(eye)
            path = folder / f"{frame['file_path']}.png"
            with Image.open(path) as image:
                pixels = np.asarray(image, float)
            pixels[..., :3] += 255 * tilt * np.array([1.0, 0.0, -1.0])
            Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(path)
    return load_scene(folder)


@pytest.fixture(scope="module")
def trained(glossy: Scene) -> Trainer:
    trainer = Trainer(glossy, CONFIG)
    trainer.train()
    return trainer


def mean_psnr(trainer: Trainer, split: str) -> float:
    scene = trainer.scene
    return float(np.mean([psnr(trainer.render(frame), scene.target(frame)) for frame in scene.split(split)]))


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    anchors, primitives = 3, 2
    view = ViewColors(4).double()
    camera = Camera(8, 8, 8.0, 8.0, 4.0, 4.0, np.eye(4))
    rest = [torch.rand(anchors * primitives, size, dtype=torch.float64) for size in (3, 4, 3)]
    opacities = torch.rand(anchors * primitives, dtype=torch.float64)
    inputs = [
        torch.rand(anchors * primitives, 3, dtype=torch.float64) + 0.5,  # none of them reaches zero
        torch.rand(anchors, 4, dtype=torch.float64),
        0.1 * torch.randn(9, 4, dtype=torch.float64),
        0.1 * torch.randn(9, dtype=torch.float64),
    ]

    def seen(colors: torch.Tensor, f_v: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        given = {"view.layer.weight": weight, "view.layer.bias": bias}
        gaussians = Gaussians(*rest, opacities, colors)
        shown: Gaussians = torch.func.functional_call(_Call(view), given, (camera, gaussians, f_v))
        return shown.colors

    assert torch.autograd.gradcheck(seen, [value.requires_grad_() for value in inputs])


class _Call(torch.nn.Module):
    def __init__(self, view: ViewColors) -> None:
        super().__init__()
        self.view = view

    def forward(self, camera: Camera, gaussians: Gaussians, f_v: torch.Tensor) -> Gaussians:
        return self.view.seen_from(camera, gaussians, f_v)


def test_what_depends_on_the_view_is_learned(trained: Trainer, glossy: Scene) -> None:
    plain = Trainer(glossy, replace(CONFIG, view_colors=False))
    plain.train()
    assert mean_psnr(trained, "train") > mean_psnr(plain, "train") + 2
    assert mean_psnr(trained, "test") > mean_psnr(plain, "test") + 2


def test_what_memory_shows_is_what_the_file_shows(trained: Trainer, tmp_path: Path) -> None:
    write_scene(trained, tmp_path / "scene.adc")
    decoded = open_scene(tmp_path / "scene.adc")
    for frame in trained.scene.split("test"):
        memory, file = trained.render(frame).numpy(), decoded.render(frame.camera, frame.time).numpy()
        np.testing.assert_allclose(memory, file, atol=2e-4)
    with Container.open(tmp_path / "scene.adc") as container:
        assert len(container.read("view_colors")) == 1 + 2 * 9 * (CONFIG.model.reference_dim + 1)


def test_weights_that_no_file_holds_are_held_back() -> None:
    view = ViewColors(4)
    with torch.no_grad():
        view.layer.weight[0, 0], view.layer.bias[1] = 1e30, -1e6
    view.round()
    pack_view_colors(view.layer.weight.detach().numpy(), view.layer.bias.detach().numpy())


def test_a_run_resumes_alike(glossy: Scene, tmp_path: Path) -> None:
    config = replace(CONFIG, iterations=60, target_weights="int8")
    whole = Trainer(glossy, config)
    whole.train()
    write_scene(whole, tmp_path / "whole.adc", weights="int8")
    state = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        Trainer(glossy, config, state).train(stop_after(30), report_every=0.0)
    resumed = Trainer.from_checkpoint(glossy, state, state)
    resumed.train()
    write_scene(resumed, tmp_path / "resumed.adc", weights="int8")
    assert (tmp_path / "resumed.adc").read_bytes() == (tmp_path / "whole.adc").read_bytes()


def test_it_is_off_by_default_and_then_nothing_of_it_is_in_the_file(glossy: Scene, tmp_path: Path) -> None:
    trainer = Trainer(glossy, replace(TINY, iterations=10))
    assert trainer.model.view_colors is None
    write_scene(trainer, tmp_path / "scene.adc")
    with Container.open(tmp_path / "scene.adc") as container:
        assert "view_colors" not in container
