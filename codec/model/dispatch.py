"""When the compiled kernels of :mod:`.fused` may stand in for torch. Imports no numba."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def fusable(modules: Iterable[nn.Module], tensors: Iterable[Tensor]) -> bool:
    """Whether all is plain float32 on the CPU, and nobody watches or rewrites torch's own steps."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"):
        return False
    nets = [part for module in modules for part in module.modules()]
    if any(part._forward_hooks or part._forward_pre_hooks for part in nets):
        return False
    parameters = (parameter for part in nets for parameter in part.parameters(recurse=False))
    return all(_is_plain(tensor) for tensor in (*tensors, *parameters))


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter) and tensor.device.type == "cpu" and tensor.dtype == torch.float32
    )
