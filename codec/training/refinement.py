"""Anchors where they are needed: growing by temporal significance, pruning by opacity (paper, section 3.5, Eq. 11)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..model import AnchorModel, Primitives
from .config import TrainingConfig
from .shapes import LARGEST

# A new anchor covers a part of what its parent covered.
_SHRINK = math.log(1.6)


class Significance:
    """Running sums over the views since the last refinement, for M = N x K primitives.

    ``gradient`` / ``weight`` is Eq. 11: the 2D position gradient's norm averaged with each view's blending weight Psi.
    Not ``weighted``, it is 3DGS's criterion, ``gradient`` / ``seen``: the plain mean over the views that saw it.
    """

    def __init__(self, anchors: int, primitives: int, device: torch.device, weighted: bool = True) -> None:
        self.primitives = primitives
        self.weighted = weighted
        self.gradient = torch.zeros(anchors * primitives, device=device)
        self.weight = torch.zeros(anchors * primitives, device=device)
        self.seen = torch.zeros(anchors * primitives, device=device)
        self.opacity = torch.zeros(anchors, device=device)
        self.views = 0

    def add(self, mean2d_gradient: Tensor, weights: Tensor, opacities: Tensor, half_size: float) -> None:
        """One view: 2D gradients (M, 2) per pixel, blending weights (M,), opacities (M,).

        Args:
            half_size: half of the image's longer side in pixels; makes the gradient independent of resolution.
        """
        share = weights if self.weighted else (weights > 0).float()
        x, y = mean2d_gradient.unbind(1)
        length = torch.addcmul(x * x, y, y).sqrt_()  # a third of the time of norm(dim=1)
        self.gradient.add_(share * length, alpha=half_size)
        self.weight.add_(weights)
        if not self.weighted:
            self.seen.add_(share)
        self.opacity.add_(opacities.detach().view(-1, self.primitives).amax(dim=1))
        self.views += 1

    def score(self) -> Tensor:
        """Eq. 11 for each primitive, (M,); or the plain mean."""
        return self.gradient / (self.weight if self.weighted else self.seen).clamp_min(1e-8)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        views = torch.tensor([self.views])
        sums = {"gradient": self.gradient, "weight": self.weight, "seen": self.seen, "opacity": self.opacity}
        return {**sums, "views": views}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`."""
        names = ("gradient", "weight", "seen", "opacity")
        self.gradient, self.weight, self.seen, self.opacity = (state[name].clone() for name in names)
        self.views = int(state["views"][0])


def prunable(significance: Significance, config: TrainingConfig) -> Tensor:
    """Mask (N,) of anchors that the views since the last refinement did not need."""
    views = max(significance.views, 1)
    weight = significance.weight.view(-1, significance.primitives).sum(dim=1) / views
    return (significance.opacity / views < config.prune_opacity) | (weight < config.prune_weight)


def grow(
    model: AnchorModel,
    primitives: Primitives,
    significance: Significance,
    keep: Tensor,
    flies: Tensor,
    config: TrainingConfig,
) -> dict[str, Tensor]:
    """New anchors at the most significant primitives over the threshold, at most one per cell of ``grow_spacing``.

    A new anchor stands where its primitive stood in the canonical space, takes over the primitive's scale and colour
    and inherits its parent's latents.

    Args:
        keep: (N,) mask of the anchors that stay; children of others are not born.
        flies: (N,) mask of those that came to be in flight, which children inherit.

    Returns:
        Rows for every anchor tensor, and ``flies``; possibly none.
    """
    n, k = primitives.logits.shape
    room = config.max_anchors - int(keep.sum())
    budget = min(room, math.ceil(config.grow_share * n))
    score = significance.score()
    score = score * keep.repeat_interleave(k)
    seen = significance.weight > 0.5 * max(significance.views, 1) * config.prune_weight
    candidates = torch.nonzero((score > config.grow_threshold) & seen).flatten()
    if budget <= 0 or len(candidates) == 0:
        candidates = candidates[:0]
    order = torch.argsort(score[candidates], descending=True, stable=True)
    candidates = candidates[order][: 4 * max(budget, 0)]
    positions = (model.positions.detach()[:, None, :] + primitives.offsets.detach()).flatten(0, 1)[candidates]
    alone = _one_per_voxel(positions, model.positions.detach()[keep], config.grow_spacing)
    chosen = candidates[alone][: max(budget, 0)]
    return {**_children(model, primitives, chosen), "flies": flies[torch.div(chosen, k, rounding_mode="floor")]}


def _one_per_voxel(candidates: Tensor, existing: Tensor, voxel: float) -> Tensor:
    """Indices of candidates, best first, that fall into voxels of their own."""
    taken = {tuple(c) for c in torch.round(existing / voxel).long().tolist()}
    chosen = []
    for index, cell in enumerate(map(tuple, torch.round(candidates / voxel).long().tolist())):
        if cell not in taken:
            taken.add(cell)
            chosen.append(index)
    return torch.tensor(chosen, dtype=torch.long, device=candidates.device)


def _children(model: AnchorModel, primitives: Primitives, chosen: Tensor) -> dict[str, Tensor]:
    parent = torch.div(chosen, model.config.primitives, rounding_mode="floor")
    with torch.no_grad():
        offset = primitives.offsets.flatten(0, 1)[chosen]
        relative = primitives.log_scales - primitives.log_scales.mean(dim=1, keepdim=True)
        own_scale = model.sigma[parent, 3:] + relative.flatten(0, 1)[chosen] - _SHRINK
        tint = primitives.colors - primitives.colors.mean(dim=1, keepdim=True)
        return {
            "positions": model.positions[parent] + offset,
            "f_v": model.f_v[parent].clone(),
            "f_g": model.f_g[parent].clone(),
            "sigma": torch.cat([model.sigma[parent, :3] - _SHRINK, own_scale], dim=1).clamp_max(LARGEST),
            "color": model.color[parent] + tint.flatten(0, 1)[chosen],
        }
