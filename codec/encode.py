"""From a trained model to one ``.adc`` file: seal, order, code, write (the right half of the paper's Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from . import __version__
from .bitstream import CameraView, Header, pack_arrays, pack_cameras, write_container
from .errors import SceneError
from .evaluation.metrics import psnr
from .features import Features
from .geometry import encode_positions, morton_order
from .training import Trainer

if TYPE_CHECKING:
    from .scene import Frame, Scene

@dataclass(frozen=True)
class EncodeReport:
    """What came out of an encoding.

    Attributes:
        bytes: size of the file.
        training_bytes: what training's estimate, which the rate term of Eq. 10 is, says the coded components take.
        estimated_bytes: what the sealed model's says.
        coded_bytes: what they do take.
        psnr_model: mean PSNR over test views of the trained model in memory, its attributes rounded as in training;
            None without test views.
    """

    path: Path
    bytes: int
    anchors: int
    iterations: int
    minutes: float
    psnr_train: float
    psnr_model: float | None  # of held-out views, in memory; None where there are none, or ``note`` says why
    training_bytes: float
    estimated_bytes: float
    coded_bytes: int
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "path": str(self.path)}


def write_scene(
    trainer: Trainer, path: Path, *, weights: Literal["fp32", "fp16", "int8"] = "fp32", coder: str = "constriction"
) -> EncodeReport:
    """Seal a trained model and write it to ``path``, atomically.

    Args:
        trainer: after :meth:`Trainer.train`, or restored from a checkpoint.
        weights: how the networks are stored.
        coder: of the attributes' symbols, ``constriction`` or ``torchac``.

    Raises:
        OptionError: ``unknown-coder``, ``coder-not-installed``.
    """
    trainer.finish()
    scene, model = trainer.scene, trainer.model
    grid = trainer.grid_positions()
    order = torch.from_numpy(morton_order(grid))
    features = Features(*(t.detach().cpu()[order] for t in (model.f_v, model.f_g, model.sigma, model.color)))

    assert trainer.sealed is not None  # since finish()
    sealed = replace(trainer.sealed, config=replace(trainer.sealed.config, coder=coder))
    coded = sealed.compress(features)
    estimate = sealed.estimate_bits(features)
    sections = [
        ("header", header_of(trainer, coder).to_bytes()),
        ("networks", pack_arrays({n: a.cpu().numpy() for n, a in model.network_arrays().items()}, weights)),
        ("entropy", sealed.to_bytes()),
        ("cameras", pack_cameras(camera_views(scene), scene.frame_count)),
        ("positions", encode_positions(grid)),
        *coded.streams.items(),
    ]
    size = write_container(path, sections)
    status = trainer.status()
    held_out, note = None, ""
    try:
        held_out = held_out_psnr(trainer)
    except SceneError as error:  # the file is good, whatever befell the pictures to compare it with
        note = f"not measured on held-out views: {error}"
    return EncodeReport(
        path=path,
        bytes=size,
        anchors=len(grid),
        iterations=trainer.iteration,
        minutes=trainer.seconds / 60,
        psnr_train=status.psnr,
        psnr_model=held_out,
        training_bytes=sum(trainer.entropy.estimate_bits(model.features).values()) / 8,
        estimated_bytes=float(sum(estimate.values())) / 8,
        coded_bytes=coded.size,
        note=note,
    )


def header_of(trainer: Trainer, coder: str = "constriction") -> Header:
    """The header section's contents for a trained model."""
    scene, entropy = trainer.scene, trainer.entropy.config
    config = {
        **trainer.config.model.to_dict(),
        "chunks": entropy.chunks,
        "hyper": entropy.hyper,
        "hidden": entropy.hidden,
    }
    origin, center, background = (
        tuple(map(float, v)) for v in (trainer.origin, scene.similarity.center, scene.background)
    )
    return Header(
        anchors=len(trainer.model.positions),
        frame_count=scene.frame_count,
        frame_rate=scene.frame_rate,
        scale=scene.similarity.scale,
        center=center,  # type: ignore[arg-type]
        background=background,  # type: ignore[arg-type]
        grid_origin=origin,  # type: ignore[arg-type]
        voxel=trainer.voxel,
        near=scene.near,
        coder=coder,
        encoder=f"adcgs {__version__}",
        config=config,
    )


def camera_views(scene: Scene) -> list[CameraView]:
    """The capture's cameras as the file keeps them."""
    return [CameraView(f.name, f.split, f.camera_id, f.time, f.camera) for f in scene.frames]


def held_out_psnr(trainer: Trainer, limit: int = 20) -> float | None:
    """Mean PSNR of the model in memory over at most ``limit`` test views, evenly spread; None without any."""
    frames: Sequence[Frame] = trainer.scene.split("test")
    if not frames:
        return None
    chosen = [
        frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, min(limit, len(frames))).round().astype(int))
    ]
    return float(np.mean([psnr(trainer.render(frame).numpy(), trainer.scene.target(frame)) for frame in chosen]))
