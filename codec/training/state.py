"""What of a run a checkpoint holds, and how a run is given it back: all that an uninterrupted run would have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import AdcError, TrainingError
from .checkpoint import checked, section
from .config import TrainingConfig
from .fingerprint import differences
from .optimiser import ANCHOR_TENSORS
from .settling import hold, matrices_of, tensors_of

if TYPE_CHECKING:
    from .trainer import Trainer


def of_run(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and the rest, which JSON can hold."""
    tensors = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    tensors |= {f"entropy.{k}": v for k, v in trainer.entropy.state_dict().items()}
    tensors |= {f"steps.{k}": v for k, v in trainer.entropy.steps_state().items()}
    tensors |= {f"adam.{k}": v for k, v in trainer.optimiser.state().items()}
    tensors |= {f"significance.{k}": v for k, v in trainer.significance.state().items()}
    if trainer.rigidity is not None:
        tensors |= {f"rigidity.{k}": v for k, v in trainer.rigidity.state().items()}
    tensors["flies"] = trainer.optimiser.flies
    tensors["origin"] = trainer.origin
    tensors |= {f"capture.{k}": v for k, v in trainer.fingerprint.items()}
    if trainer.colors is not None:
        tensors |= {f"colors.{k}": v for k, v in trainer.colors.state_dict().items()}
    if trainer.sealed is not None:
        tensors["sealed"] = torch.frombuffer(bytearray(trainer.sealed.to_bytes()), dtype=torch.uint8)
    if trainer.settled is not None:
        tensors |= {f"settled.{k}": v for k, v in tensors_of(trainer.settled).items()}
    rest = {
        "config": trainer.config.to_dict(),
        "iteration": trainer.iteration,
        "seconds": trainer.seconds,
        "frozen": trainer.frozen,
        "searches_left": trainer.searches_left,
        "taught": trainer.optimiser.taught,
        "voxel": trainer.voxel,
        "error": trainer.error,
        "knows_rate": trainer.knows_rate,
        "steering": None if trainer.steering is None else trainer.steering.state(),
        "adjusted": trainer.adjusted,
        "scene": capture_of(trainer),
        "asked": trainer.asked,
    }
    return tensors, rest


def stored_config(path: Path, rest: dict[str, Any]) -> TrainingConfig:
    """The configuration of the run of the checkpoint at ``path``.

    Raises:
        TrainingError: ``bad-checkpoint`` where it is none of this version.
    """
    try:
        return TrainingConfig.from_dict(rest["config"])
    except (AdcError, AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"{path}: its configuration is not of this version ({error})"
        raise TrainingError("bad-checkpoint", problem) from error


def capture_of(trainer: Trainer) -> dict[str, Any]:
    """What tells one capture, or one way of reading it, from another."""
    scene, camera = trainer.scene, trainer.frames[0].camera
    return {
        "layout": scene.layout,
        "frames": len(scene.frames),
        "width": camera.width,
        "height": camera.height,
        "background": [float(value) for value in scene.background],
        "scale": scene.similarity.scale,
    }


def require_capture_of(trainer: Trainer, path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Refuse the checkpoint at ``path`` for another capture than that which it was made of.

    Raises:
        TrainingError: ``bad-checkpoint``, naming what differs.
    """
    made, given = meta.get("scene"), capture_of(trainer)
    if made == given:
        others = _other_pictures(trainer, path, tensors)
    else:
        made = made if isinstance(made, dict) else {}
        others = [f"{key} {made.get(key)!r} (here {value!r})" for key, value in given.items() if made.get(key) != value]
        others = others or ["other fields"]
    if others:
        problem = f"{path}: made from a capture with {', '.join(others)}"
        raise TrainingError("bad-checkpoint", f"{problem}; use the same capture, --downscale and --background")


def _other_pictures(trainer: Trainer, path: Path, tensors: dict[str, Tensor]) -> list[str]:
    try:
        made = {k: checked(tensors, f"capture.{k}", v.shape, v.dtype) for k, v in trainer.fingerprint.items()}
    except ValueError as error:
        raise TrainingError("bad-checkpoint", f"{path}: {error}; start without it") from error
    return differences(made, trainer.fingerprint)


def restore(trainer: Trainer, path: Path, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Bring a new run to where that of the checkpoint at ``path`` was.

    Raises:
        TrainingError: ``bad-checkpoint`` where it does not fit.
    """
    tensors = {name: value.to(trainer.device) for name, value in tensors.items()}
    try:
        _restore(trainer, tensors, rest)
    except (AdcError, AttributeError, LookupError, OverflowError, RuntimeError, ValueError, TypeError) as error:
        message = str(error).splitlines()[0]
        problem = f"{path}: does not fit this scene and configuration ({message})"
        raise TrainingError("bad-checkpoint", problem) from error
    if trainer.frozen:
        trainer.model.positions.requires_grad_(False)
        trainer.optimiser.frozen.add("positions")


def _flies(flies: Tensor, anchors: int) -> Tensor:
    if flies.dtype != torch.bool or flies.shape != (anchors,):
        raise ValueError("'flies' says nothing of its anchors")
    return flies.clone()


def _anchor_tensors(trainer: Trainer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the checkpoint's anchors: one row for each in all of them, else as the trainer's own."""
    found, rows = {}, tensors["model.positions"].shape[:1]
    if rows == (0,):
        raise ValueError("tensor 'model.positions' holds no anchors")
    for name in ANCHOR_TENSORS:
        own = getattr(trainer.model, name)
        found[name] = checked(tensors, f"model.{name}", (*rows, *own.shape[1:]), own.dtype).clone()
    return found


def _significance(trainer: Trainer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sums over the views since the last refinement, of the restored anchors and their primitives."""
    anchors, sums = len(trainer.model.positions), section(tensors, "significance")
    for name in ("gradient", "weight", "seen", "opacity"):
        size = anchors * (1 if name == "opacity" else trainer.significance.primitives)
        checked(sums, name, (size,), torch.float32, "significance")
    checked(sums, "views", (1,), torch.int64, "significance")
    return sums


def _steps(trainer: Trainer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What calls without rate reuse, of as many anchors as there were at the last call with rate; none is fine."""
    steps = section(tensors, "steps")
    if not steps:
        return steps
    config = trainer.entropy.config
    components = config.components[1:]  # without eta
    rows = steps["factor.f_v"].shape[:1]
    shapes = {f"log_q.{name}": (getattr(config, name),) for name in ("f_v", "f_g", "sigma", "color")}
    shapes |= {f"factor.{name}": (*rows, 1) for name in components}
    for name, shape in shapes.items():
        checked(steps, name, shape, torch.float32, "steps")
        if f"gradient.{name}" in steps:
            checked(steps, f"gradient.{name}", shape, torch.float32, "steps")
    for name in components:
        checked(steps, f"mean.{name}", (*rows, config.width(name)), torch.float32, "steps")
    checked(steps, "gathers", (), torch.bool, "steps")
    return steps


def _restore(trainer: Trainer, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    model = section(tensors, "model")
    settled = section(tensors, "settled")
    if settled:
        trainer.model.fold()
    for name, value in _anchor_tensors(trainer, tensors).items():
        trainer.optimiser.replace(name, value)
    trainer.model.load_state_dict(model)
    if settled:
        trainer.settled = matrices_of(trainer.model, settled)
        hold(trainer.model, trainer.settled)
    trainer.entropy.load_state_dict(section(tensors, "entropy"))
    if trainer.colors is not None:
        trainer.colors.load_state_dict(section(tensors, "colors"))
    trainer.entropy.load_steps_state(_steps(trainer, tensors))
    trainer.optimiser.load_state(section(tensors, "adam"))
    trainer.significance.load_state(_significance(trainer, tensors))
    trainer.optimiser.taught = bool(rest["taught"])
    trainer.optimiser.flies = _flies(tensors["flies"], len(trainer.model.positions))
    if trainer.rigidity is not None:
        trainer.rigidity.load_state(section(tensors, "rigidity"), len(trainer.model.positions))
    trainer.asked = {str(name): str(value) for name, value in dict(rest["asked"]).items()}
    trainer.origin = checked(tensors, "origin", trainer.origin.shape, trainer.origin.dtype).clone()
    trainer.iteration, trainer.seconds = int(rest["iteration"]), float(rest["seconds"])
    if trainer.iteration < 0 or not math.isfinite(trainer.seconds):
        raise ValueError("it says that the run went backwards")
    trainer.error, trainer.knows_rate = float(rest["error"]), bool(rest["knows_rate"])
    trainer.frozen, trainer.voxel = bool(rest["frozen"]), float(rest["voxel"])
    trainer.adjusted, trainer.searches_left = bool(rest["adjusted"]), int(rest["searches_left"])
    if trainer.steering is not None:
        trainer.steering.load_state(rest["steering"])
    if "sealed" in tensors:
        trainer.sealed = trainer.entropy.reopen(tensors["sealed"].cpu().numpy().tobytes())
