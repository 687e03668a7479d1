"""Cameras of a rig differ in exposure and white balance: an affine colour per camera, trained with the model.

A view of camera c shows p + D_c p + b_c where the scene has colour p. All differences begin at zero, and after every
step their mean over the cameras is taken off, so that the scene's own colours are the cameras' mean and cannot drift:
that is what views of other cameras show.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..bitstream.colors import MAX_DIFFERENCE

# Fixed cameras from which on their colours are told apart without being asked for: the mean of fewer says little about
# what another camera would see.
_RIG = 4


def fixed_cameras(ids: Iterable[int], asked: bool | None) -> list[int]:
    """The ids, ascending, of the fixed cameras whose colours a run tells apart; none where it does not.

    Args:
        ids: of the training views' cameras; those of moving cameras are -1.
        asked: what the configuration says; None: as there are enough of them.
    """
    fixed = sorted(set(ids) - {-1})
    return fixed if asked or (asked is None and len(fixed) >= _RIG) else []


class CameraColors(nn.Module):
    """Colour differences of fixed cameras.

    Args:
        ids: of these cameras, ascending.
    """

    def __init__(self, ids: Iterable[int]) -> None:
        super().__init__()
        self.index = {camera_id: i for i, camera_id in enumerate(ids)}
        self.differences = nn.Parameter(torch.zeros(len(self.index), 3, 4))

    def show(self, image: Tensor, camera_id: int) -> Tensor:
        """What the camera shows of (H, W, 3) in the scene's colours; a camera that is not known shows just that."""
        if camera_id not in self.index:
            return image
        row = self.differences[self.index[camera_id]]
        return image + image @ row[:, :3].T + row[:, 3]

    @torch.no_grad()
    def recentre(self) -> None:
        """Take the cameras' mean off, and keep each within what a file holds."""
        self.differences.sub_(self.differences.mean(dim=0, keepdim=True))
        self.differences.clamp_(-MAX_DIFFERENCE, MAX_DIFFERENCE)

    def rows(self) -> dict[int, NDArray[np.float32]]:
        """Camera id to its (3, 4), for the file."""
        values: NDArray[np.float32] = self.differences.detach().cpu().numpy()
        return {camera_id: values[i] for camera_id, i in self.index.items()}
