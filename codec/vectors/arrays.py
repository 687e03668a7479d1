"""Torch tensors as the flat numpy arrays that kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Partial sums of the weights' gradients: by the number of blocks, so that no result depends on that of threads.
CHUNKS = 16


def flat(tensor: Tensor) -> NDArray[Any]:
    """The tensor's values as a contiguous array; its own memory where it is contiguous already."""
    return tensor.detach().contiguous().numpy().reshape(-1)


def concatenate(weights: Sequence[Tensor]) -> NDArray[Any]:
    """The values of several tensors, one after the other."""
    return np.concatenate([flat(weight) for weight in weights]) if weights else np.empty(0, np.float32)


def split(values: NDArray[Any], like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of :func:`concatenate`."""
    ends = np.cumsum([weight.numel() for weight in like])
    parts = zip(like, ends, strict=True)
    return [torch.from_numpy(values[end - weight.numel() : end]).view(weight.shape) for weight, end in parts]


class PaddedRows:
    """Uninitialised rows for whole blocks, of which the caller sees the first ``count``."""

    def __init__(self, count: int, block: int) -> None:
        self.count = count
        self.padded = -(-count // block) * block

    def __call__(self, *shape: int) -> Tensor:
        return torch.empty(self.padded, *shape)[: self.count]


def whole(tensor: Tensor) -> NDArray[Any]:
    """The rows of :class:`PaddedRows` with those that hang over, which kernels write too."""
    size = tensor.untyped_storage().nbytes() // 4
    return tensor.detach().as_strided((size,), (1,)).numpy()


def counter() -> NDArray[np.int64]:
    """Zero, in a cache line of its own."""
    return np.zeros(8, np.int64)
