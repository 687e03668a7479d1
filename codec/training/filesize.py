"""How large the file of a run would be if it were written now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..entropy.sealing import choose_weight_bits
from ..geometry import encode_positions
from .contents import plain_sections

if TYPE_CHECKING:
    from .trainer import Trainer

_HEAD, _ROW = 16, 8  # bytes of the container before its table of contents, and of a row of it


def coded_bytes(trainer: Trainer, weight_bits: int) -> float:
    """Of the attributes, under an entropy model that were sealed now with weights of so many bits."""
    features = trainer.model.features
    return float(sum(trainer.entropy.seal(features, weight_bits).estimate_bits(features).values())) / 8


def smallest_weight_bits(trainer: Trainer) -> int:
    """With how many bits a weight the entropy model would be sealed now."""
    return choose_weight_bits(trainer.entropy, trainer.model.features)[0]


def bytes_besides(trainer: Trainer, weight_bits: int) -> float:
    """Of all but the coded attributes: networks, cameras, positions, the entropy model, header and table of contents.

    Positions are estimated until they are on their grid.
    """
    plain = plain_sections(trainer, trainer.config.target_weights)
    sealed = trainer.entropy.seal(trainer.model.features, weight_bits)
    rows = len(plain) + 2 + len(trainer.entropy.config.components)
    size = sum(map(len, plain.values())) + len(sealed.to_bytes()) + _HEAD + _ROW * rows
    if trainer.frozen:
        return size + len(encode_positions(trainer.grid_positions()))
    return size + float(trainer.position_bits()) / 8
