"""Training: losses (Eq. 10), schedule, refinement (Eq. 11), trainer, checkpoints."""

from .config import TrainingConfig, preset
from .trainer import Status, Trainer

__all__ = ["Status", "Trainer", "TrainingConfig", "preset"]
