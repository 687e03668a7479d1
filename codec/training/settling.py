"""Networks in eight bits before the end of a run whose file will hold them so: the rest still learns what they say.

Once rounded (see rounding.py) all that is a matrix stays as it is: weights, the rows of the time table's product with
the first layers, and the primitives' own rows. Biases and the anchors' attributes are trained on, so what rounding
changed in the pictures is made up for as far as these can, and the model in memory is the one in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..bitstream import LEVELS, Rounded, quantise
from ..model import AnchorModel
from .rounding import round_networks

if TYPE_CHECKING:
    from .trainer import Trainer


def settle_networks(trainer: Trainer) -> None:
    """Round the networks of a model in training for good; it has a decoder's form from here on."""
    arrays, rounded = round_networks(trainer.model, trainer.rounded())
    others = {name: array for name, array in arrays.items() if array.ndim >= 2 and name not in rounded}
    matrices = rounded | {name: quantise(array, LEVELS) for name, array in others.items()}
    trainer.model.fold()
    values = {name: matrices[name].values() if name in matrices else array for name, array in arrays.items()}
    trainer.model.load_network_arrays({name: torch.from_numpy(value) for name, value in values.items()})
    hold(trainer.model, matrices)
    trainer.settled = matrices


def hold(model: AnchorModel, matrices: Mapping[str, Rounded]) -> None:
    """Train these no more."""
    parameters = model.named_network_parameters()
    for name in matrices:
        parameters[name].requires_grad_(False)
        parameters[name].grad = None


def tensors_of(matrices: Mapping[str, Rounded]) -> dict[str, Tensor]:
    """For a checkpoint: scales and symbols by name."""
    scales = {f"{name}.scales": torch.from_numpy(found.scales.astype(np.int32)) for name, found in matrices.items()}
    symbols = {f"{name}.symbols": torch.from_numpy(found.symbols.astype(np.int8)) for name, found in matrices.items()}
    return scales | symbols


def matrices_of(model: AnchorModel, tensors: Mapping[str, Tensor]) -> dict[str, Rounded]:
    """The inverse of :func:`tensors_of`, for a folded model that was given its weights.

    Raises:
        ValueError: they are not what the model has.
    """
    matrices = {}
    for name, array in model.network_arrays().items():
        if array.dim() >= 2:
            scales, symbols = (tensors[f"{name}.{part}"].cpu().numpy() for part in ("scales", "symbols"))
            matrices[name] = Rounded(scales.astype(np.uint16), symbols.astype(np.int64))
            if symbols.shape != array.shape or not np.array_equal(matrices[name].values(), array.cpu().numpy()):
                raise ValueError(f"the rounded '{name}' is not that of the model")
    return matrices
