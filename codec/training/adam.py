"""Adam over all tensors at once: on a CPU one compiled, threaded kernel, elsewhere torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Adam(torch.optim.Adam):
    """``torch.optim.Adam``, fused, with its groups and its state.

    On a CPU torch goes through the groups one after the other, each with threads of its own; here the threads of the
    kernels share out all tensors' floats, and the results have the same bits on any number of them. Where a parameter
    or a gradient is not contiguous float32 on the CPU the step is left to torch.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        moving = [
            (group["lr"], parameter, gradient)
            for group in self.param_groups
            for parameter in group["params"]
            if (gradient := parameter.grad) is not None
        ]
        if closure is not None or not all(_is_plain(parameter, gradient) for _, parameter, gradient in moving):
            return super().step(closure)
        if moving:
            self._update(moving)
        return None

    def _update(self, moving: list[tuple[float, Tensor, Tensor]]) -> None:
        from ..jit import run, thread_count
        from ..vectors.arrays import counter
        from . import adam_kernels

        states = [self._state_of(parameter) for _, parameter, _ in moving]
        torch._foreach_add_([state["step"] for state in states], 1.0)
        tensors = np.array(
            [
                (
                    parameter.data_ptr(), gradient.data_ptr(), state["exp_avg"].data_ptr(),
                    state["exp_avg_sq"].data_ptr(), parameter.numel(),
                )
                for (_, parameter, gradient), state in zip(moving, states, strict=True)
            ]
        )  # fmt: skip
        decay, decay_square = self.defaults["betas"]
        found: dict[tuple[float, float], tuple[float, float]] = {}  # most tensors of a group have made as many steps
        rates = []
        for (rate, _, _), state in zip(moving, states, strict=True):
            key = rate, state["step"].item()
            if key not in found:
                found[key] = rate / (1.0 - decay ** key[1]), 1.0 / math.sqrt(1.0 - decay_square ** key[1])
            rates.append(found[key])
        owners, begins = _pieces(tensors[:, adam_kernels.SIZE], adam_kernels.PIECE)
        arguments = (
            tensors, np.array(rates, np.float32), owners, begins, decay, decay_square, self.defaults["eps"], counter()
        )  # fmt: skip
        run(adam_kernels.update, arguments, max(1, min(thread_count(), len(owners))))

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """As torch makes it, so that either path, and a checkpoint, can go on where the other was."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state


def _is_plain(parameter: Tensor, gradient: Tensor) -> bool:
    """A gradient has its parameter's type and device, says torch."""
    if parameter.dtype != torch.float32 or gradient.layout != torch.strided:
        return False
    return parameter.device.type == "cpu" and parameter.is_contiguous() and gradient.is_contiguous()


def _pieces(sizes: NDArray[np.int64], piece: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each piece's tensor, and where in it the piece begins; the same for any number of threads."""
    counts = -(-sizes // piece)
    owners = np.repeat(np.arange(len(sizes)), counts)
    return owners, (np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)) * piece
