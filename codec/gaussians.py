"""A set of Gaussian primitives, as the model makes them and a rasterizer draws them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Gaussians:
    """M primitives with activated attributes (what a rasterizer takes, no logits or log scales).

    Attributes:
        means: (M, 3) centres in the normalised world.
        quaternions: (M, 4) rotations, wxyz, not necessarily of unit length (rasterizers normalise).
        scales: (M, 3) positive standard deviations along the principal axes.
        opacities: (M,) in [0, 1].
        colors: (M, C) display-referred, C >= 1 channels.
    """

    means: Tensor  # (M, 3)
    quaternions: Tensor  # (M, 4)
    scales: Tensor  # (M, 3)
    opacities: Tensor  # (M,)
    colors: Tensor  # (M, C)

    def __len__(self) -> int:
        return int(self.means.shape[0])
