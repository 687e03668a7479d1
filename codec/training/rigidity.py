"""Neighbours keep their distance: what one camera sees of an instant does not say how the rest of it moved.

With one view an instant, anchors can fly apart unseen and still show that view; from elsewhere the scene is torn. The
penalty is the squared change of the distance between near anchors' primitives against the canonical space, relative to
that distance (as-isometric-as-possible: Kilian et al. 2007; for Gaussians, Luiten et al., Dynamic 3D Gaussians, 2024).
Where many cameras see every instant they say it better, and the penalty is off.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NEAREST = 4
_EVERY = 300  # steps after which neighbours are looked for anew: positions move
_LEAST = 1e-3  # of a distance, in the normalised space: anchors in one place weigh no more than those so near
_SLACK = 1.0  # lengths by which the distance from what flies past has changed
_TINY = 1e-12  # keeps the gradient of a root finite


class Rigidity:
    """The penalty, and who is whose neighbour."""

    def __init__(self) -> None:
        self._others: Tensor | None = None  # (N, nearest), indices of anchors

    def penalty(
        self, positions: Tensor, offsets: Tensor, means: Tensor, iteration: int, flies: Tensor | None = None
    ) -> Tensor:
        """Mean relative squared change of distances, a scalar; 0 where nothing but a rigid motion happened.

        Args:
            positions: (N, 3) of the anchors in the canonical space.
            offsets: (N, K, 3) of the primitives from them, there.
            means: (N K, 3) of the primitives at an instant.
            iteration: of the training; now and then neighbours are looked for anew.
            flies: (N,) mask of anchors that fly past others: their distances may change much at no higher price.
        """
        count, primitives, _ = offsets.shape
        if self._others is None or iteration % _EVERY == 0:
            self._others = neighbours(positions.detach())
        before = _distances(positions + offsets.mean(dim=1), self._others)
        if before.numel() == 0:
            return before.sum()
        after = _distances(means.view(count, primitives, 3).mean(dim=1), self._others)
        length = before.detach()
        change = (after - before).square()
        if flies is not None and bool(flies.any()):  # saturates (Geman and McClure, 1985)
            parts = flies[:, None] | flies[self._others]
            most = (_SLACK * length.clamp_min(_LEAST)).square()
            change = torch.where(parts, change / (1 + change / most), change)
        return (change / length.clamp_min(_LEAST)).mean() / length.mean().clamp_min(_LEAST)

    def forget(self) -> None:
        """The anchors are not those that they were."""
        self._others = None

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {} if self._others is None else {"others": self._others}

    def load_state(self, state: dict[str, Tensor], anchors: int) -> None:
        """The inverse of :meth:`state`; ValueError for what are no neighbours among so many anchors."""
        others = state.get("others")
        if others is not None and not (
            others.dtype == torch.int64
            and others.shape == (anchors, min(_NEAREST, anchors - 1))
            and bool(((others >= 0) & (others < anchors)).all())
        ):
            raise ValueError("its neighbours are none of its anchors")
        self._others = others


def neighbours(positions: Tensor) -> Tensor:
    """Of every anchor those nearest to it, at most four: indices, (N, nearest)."""
    from scipy.spatial import cKDTree

    points = positions.cpu().numpy()
    nearest = max(min(_NEAREST, len(points) - 1), 0)
    if nearest == 0:
        return torch.zeros(len(points), 0, dtype=torch.int64, device=positions.device)
    found = cKDTree(points).query(points, k=range(2, nearest + 2))[1]
    return torch.from_numpy(found.astype("int64")).to(positions.device)


def _distances(points: Tensor, others: Tensor) -> Tensor:
    """From every point to its neighbours, (N, nearest)."""
    there = points.index_select(0, others.flatten()).view(*others.shape, 3)
    return ((points[:, None] - there).square().sum(dim=2) + _TINY).sqrt()
