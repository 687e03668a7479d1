"""From a trained model to one ``.adc`` file: seal, order, code, write (the right half of the paper's Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from .bitstream import SECTION_KINDS, write_container
from .errors import OptionError, SceneError
from .evaluation.metrics import psnr
from .evenly import evenly
from .features import Features
from .geometry import encode_positions, morton_order
from .training import Trainer
from .training.contents import plain_sections
from .training.steering import LAST_VIEWS, training_psnr

if TYPE_CHECKING:
    from .scene import Frame


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
        psnr_unrounded: the same with the attributes as they are trained: what is above ``psnr_model`` is the price
            of rounding them.
    """

    path: Path
    bytes: int
    anchors: int
    iterations: int
    minutes: float
    psnr_train: float
    psnr_model: float | None  # of held-out views, in memory; None where there are none, or ``note`` says why
    psnr_unrounded: float | None
    training_bytes: float
    estimated_bytes: float
    coded_bytes: int
    note: str = ""
    target: float | None = None  # bytes or dB, and what was reached, of a run that was steered
    target_unit: str = ""
    reached: float | None = None
    is_met: bool = True  # within the tolerance

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
        OptionError: ``unknown-coder``, ``coder-not-installed``; ``bad-option`` for other weights than int8 where the
            run trained for those (``target_weights``).
    """
    trainer.finish()
    if trainer.settled is not None and weights != "int8":
        problem = f"weights {weights}: this run rounded its networks to eight bits before it ended; give int8"
        raise OptionError("bad-option", problem)
    model = trainer.model
    grid = trainer.grid_positions()
    order = torch.from_numpy(morton_order(grid))
    features = Features(*(t.detach().cpu()[order] for t in (model.f_v, model.f_g, model.sigma, model.color)))

    assert trainer.sealed is not None  # since finish()
    sealed = replace(trainer.sealed, config=replace(trainer.sealed.config, coder=coder))
    coded = sealed.compress(features)
    estimate = sealed.estimate_bits(features)
    plain = plain_sections(trainer, weights, coder)
    sections = {**plain, "entropy": sealed.to_bytes(), "positions": encode_positions(grid), **coded.streams}
    size = write_container(path, [(name, sections[name]) for name in SECTION_KINDS if name in sections])
    status = trainer.status()
    held_out, unrounded, note = None, None, ""
    try:
        held_out, unrounded = held_out_psnr(trainer), held_out_psnr(trainer, trainer.model.features)
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
        psnr_unrounded=unrounded,
        training_bytes=sum(trainer.entropy.estimate_bits(model.features).values()) / 8,
        estimated_bytes=float(sum(estimate.values())) / 8,
        coded_bytes=coded.size,
        note=note,
        **_target(trainer, size),
    )


def _target(trainer: Trainer, size: int) -> dict[str, Any]:
    """The report's words on the target of a run that had one."""
    steering = trainer.steering
    if steering is None:
        return {}
    reached = size if steering.unit == "bytes" else training_psnr(trainer, LAST_VIEWS)
    return {
        "target": steering.target,
        "target_unit": steering.unit,
        "reached": reached,
        "is_met": steering.is_met(reached),
    }


def held_out_psnr(trainer: Trainer, features: Features | None = None, limit: int = 20) -> float | None:
    """Mean PSNR of the model in memory over at most ``limit`` test views, evenly spread; None without any.

    Args:
        features: the attributes to show; None rounds them.
    """
    frames: Sequence[Frame] = trainer.scene.split("test")
    if not frames:
        return None
    chosen = [
        frames[i] for i in evenly(len(frames), limit)
    ]
    features = trainer.rounded() if features is None else features
    shown = [psnr(trainer.render(frame, features).numpy(), trainer.scene.target(frame)) for frame in chosen]
    return float(np.mean(shown))
