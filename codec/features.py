"""What an anchor carries besides its position: the four attributes that the entropy model codes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Features:
    """Attributes of N anchors (paper, section 3.2; sizes are configuration).

    Attributes:
        f_v: (N, 32) reference feature, what an anchor's K primitives share.
        f_g: (N, K, 16) residual features, one per primitive.
        sigma: (N, 6) log extents (3) that scale the primitives' offsets, then log scales (3).
        color: (N, 3) base colour before activation.
    """

    f_v: Tensor  # (N, Nv)
    f_g: Tensor  # (N, K, Ng)
    sigma: Tensor  # (N, 6)
    color: Tensor  # (N, 3)

    def __len__(self) -> int:
        return int(self.f_v.shape[0])
