"""Training: losses (Eq. 10), schedule, refinement (Eq. 11), trainer, checkpoints."""

from .config import PRESETS, TrainingConfig, preset
from .trainer import Status, Trainer

__all__ = ["PRESETS", "Status", "Trainer", "TrainingConfig", "preset"]
