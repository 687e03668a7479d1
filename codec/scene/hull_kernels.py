"""Compiled carving: which cells of a grid the silhouettes leave standing.

Imports numba: import it where something is about to be carved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..jit import fetch_add, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel
def carve_slabs(
    counter: NDArray[np.int64],
    standing: NDArray[np.bool_],
    corner: NDArray[np.float64],
    size: float,
    matrices: NDArray[np.float32],
    pixels: NDArray[np.bool_],
    shapes: NDArray[np.int64],
    agreement: float,
) -> None:
    """Sets ``standing`` (X, Y, Z) where the masks agree; threads take slabs of constant x by ``counter`` (1,).

    Args:
        corner, size: cell (x, y, z) has its centre at ``corner + (index + 0.5) * size``.
        matrices: (M, 3, 4), space to a mask's pixels.
        pixels: the masks one after another, each in rows.
        shapes: (M, 3): where each begins in ``pixels``, its height and its width.
        agreement: the least share of the masks seeing a cell that must call it opaque.
    """
    masks = len(matrices)
    allowed = (1 - agreement) * masks
    enough = max(1, 2 * masks // 3)  # a cell that few masks see is no evidence of anything
    while True:
        x = fetch_add(counter, 0, 1)
        if x >= standing.shape[0]:
            return
        px = np.float32(corner[0] + (x + 0.5) * size)
        for y in range(standing.shape[1]):
            py = np.float32(corner[1] + (y + 0.5) * size)
            for z in range(standing.shape[2]):
                pz = np.float32(corner[2] + (z + 0.5) * size)
                seen = 0
                hit = 0
                for m in range(masks):
                    a = matrices[m]
                    depth = a[2, 0] * px + a[2, 1] * py + a[2, 2] * pz + a[2, 3]
                    if depth <= 1e-6:
                        continue
                    column = (a[0, 0] * px + a[0, 1] * py + a[0, 2] * pz + a[0, 3]) / depth
                    row = (a[1, 0] * px + a[1, 1] * py + a[1, 2] * pz + a[1, 3]) / depth
                    # Compared before any cast: numbers beyond an integer's range are outside.
                    if not (column >= 0 and column < shapes[m, 2] and row >= 0 and row < shapes[m, 1]):
                        continue
                    seen += 1
                    hit += pixels[shapes[m, 0] + np.int64(row) * shapes[m, 2] + np.int64(column)]
                    if seen - hit > allowed:
                        break
                standing[x, y, z] = seen - hit <= allowed and seen >= enough and hit >= agreement * seen


def arguments(
    masks: list[Any], standing: NDArray[np.bool_], corner: NDArray[np.float64], size: float
) -> tuple[Any, ...]:
    """What :func:`carve_slabs` takes, up to ``shapes``, for masks with ``matrix`` (3, 4) and ``opaque`` (H, W)."""
    sizes = [mask.opaque.shape for mask in masks]
    starts = np.cumsum([0, *(height * width for height, width in sizes)])[:-1]
    shapes = np.column_stack([starts, sizes]).astype(np.int64)
    matrices = np.stack([mask.matrix for mask in masks]).astype(np.float32)
    pixels = np.concatenate([mask.opaque.reshape(-1) for mask in masks])
    return np.zeros(1, np.int64), standing, corner.astype(np.float64), float(size), matrices, pixels, shapes
