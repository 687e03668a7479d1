"""When compiled kernels may stand in for torch. Imports no numba."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def fusable(nets: Iterable[nn.Module], tensors: Iterable[Tensor]) -> bool:
    """Whether all tensors are plain float32 on the CPU, and nobody watches or rewrites torch's own steps.

    Args:
        nets: networks of plain layers; one with hooks, on itself or on a layer, is left to torch, which calls them.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"):
        return False
    if any(part._forward_hooks or part._forward_pre_hooks for net in nets for part in (net, *net.children())):
        return False
    return all(
        type(tensor) in (Tensor, nn.Parameter) and tensor.device.type == "cpu" and tensor.dtype == torch.float32
        for tensor in tensors
    )
