"""Small constant tensors, brought to their device once: each copy from the host would make a GPU wait for it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """(C,) of the type and on the device of ``like``; shared between callers, who must not change it."""
    return _constant(values, like.dtype, like.device)


@lru_cache(maxsize=64)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # A tensor made in inference mode could not be used for training afterwards.
    with torch.inference_mode(False), torch.no_grad():
        return torch.tensor(values, dtype=dtype, device=device)
