"""Quaternion algebra on tensors, wxyz."""

from __future__ import annotations

import torch
from torch import Tensor

from ..constants import constant


def identity(like: Tensor) -> Tensor:
    """(4,) no rotation, of the type and on the device of ``like``; not to be changed."""
    return constant((1.0, 0.0, 0.0, 0.0), like)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product a * b (apply b, then a); (..., 4) broadcast."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def to_matrix(q: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4)."""
    w, x, y, z = q.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
