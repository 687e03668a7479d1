"""What the model does not show though the pictures do: found by its errors and given anchors of its own.

Anchors are born where others are (Eq. 11), and gradients move them by about their size; before one moving camera a
ball that flies faster belongs to no hull either, and never comes to be. Once the rest has its shape, what is still
missing is looked for (:mod:`adcgs.scene.flights`), and F_omega learns its ways while it keeps those that it knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..evenly import evenly
from ..render import render
from ..scene.flights import REACH, Picture, flying_cloud
from ..scene.hull import has_silhouettes, mask_of
from .initialise import add_anchors

if TYPE_CHECKING:
    from ..scene import Frame
    from .trainer import Trainer

LEAST_MINUTES = 5.0  # of a run that can spare the seconds of a search
SEARCHES = 2  # in a run: what hid the rest of a thing, or had its place, is mostly gone the second time
MOST_PICTURES = 128
DIFFERENCE = 0.25  # in the colour channel, or the alpha, that differs most
VISIBLE = 0.1  # opacity of primitives that are there
MOST_MISSING = 0.25  # of what is there; more says that the model is not ready to tell
_LEAST_ANCHORS = 10
_POINTS = 3  # carved, an anchor


def can_search(trainer: Trainer) -> bool:
    """Whether there is one view an instant, whose pictures tell what is there from what is empty, anchors fade, and
    there is time.
    """
    model, minutes = trainer.config.model, trainer.config.minutes
    if minutes is not None and minutes < LEAST_MINUTES:
        return False
    alone = trainer.order.one_view and len(trainer.frames) > 2 * REACH and has_silhouettes(trainer.scene)
    return bool(alone and model.coarse and model.coarse_opacity)


@torch.no_grad()
def missing_pictures(trainer: Trainer) -> list[Picture]:
    """The training frames, or as many as can be afforded, with what the model does not show of them."""
    frames = sorted(trainer.frames, key=lambda frame: frame.time)
    chosen = evenly(len(frames), MOST_PICTURES)
    features = trainer.model.features
    primitives = trainer.model.predict(features)
    background = torch.tensor(trainer.scene.background, dtype=torch.float32, device=trainer.device)
    pictures = []
    for frame in (frames[i] for i in chosen):
        mask = mask_of(trainer.scene, frame)
        height, width = mask.opaque.shape
        gaussians = trainer.model.deform(features, primitives, frame.time)
        gaussians = trainer.model.seen_from(frame.camera, gaussians, features)
        view = render(gaussians, frame.camera.resized(width, height), background, trainer.raster)
        shown = torch.cat([trainer.seen_by(frame, view.image).clamp(0, 1), view.alpha[..., None]], dim=2).cpu().numpy()
        there = gaussians.means[gaussians.opacities > VISIBLE].cpu().numpy()
        pictures.append(Picture(mask, _differs(trainer, frame, shown) & mask.opaque, there))
    return pictures


def _differs(trainer: Trainer, frame: Frame, shown: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Blobs of pixels that are shown otherwise than they are; edges and specks, which nothing new would mend, are none.

    Args:
        shown: (H, W, 4) colours over the scene's background, and alpha.
    """
    from scipy.ndimage import binary_closing, binary_opening, uniform_filter

    downscale = round(frame.camera.width / shown.shape[1])
    alpha = trainer.scene.image(frame, downscale)[..., 3:] / np.float32(255)
    truth = np.concatenate([trainer.scene.target(frame, downscale=downscale), alpha], axis=2)
    difference = np.abs(uniform_filter(shown - truth, (3, 3, 1))).max(axis=2)
    return np.asarray(binary_closing(binary_opening(difference > DIFFERENCE), iterations=2), bool)


def search_missing(trainer: Trainer) -> int:
    """Give anchors to what is missing, in place of those that show least; how many came to be."""
    pictures = missing_pictures(trainer)
    if np.mean([p.missing.sum() for p in pictures]) > MOST_MISSING * np.mean([p.mask.opaque.sum() for p in pictures]):
        return 0
    moving = flying_cloud(pictures, np.asarray(trainer.scene.bounds, np.float64))
    if moving is None or len(moving) < _POINTS * _LEAST_ANCHORS:
        return 0
    count = min(trainer.config.missing_anchors, trainer.config.max_anchors // 4, len(moving) // _POINTS)
    _make_room(trainer, count)
    return add_anchors(trainer.model, trainer.optimiser.append, moving, count, trainer.config.seed)


def _make_room(trainer: Trainer, count: int) -> None:
    """Drop the anchors that weighed least since the last refinement, so that ``count`` new ones keep the budget."""
    total = len(trainer.model.positions)
    excess = total + count - trainer.config.max_anchors
    if excess > 0:
        weight = trainer.significance.weight.view(total, -1).sum(dim=1)
        trainer.optimiser.select(torch.sort(torch.argsort(weight, stable=True)[excess:]).values)
