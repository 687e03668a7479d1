"""Which way the anchors on what moves go, and when they are there: F_omega's first lesson, before any picture is drawn.

Gradients of pictures move an anchor by about its own size. What flies across the scene was therefore followed
beforehand (:mod:`adcgs.scene.tracks`), and the coarse deformation (Eq. 2) is first fitted to those ways: along its
piece's path while that was found, transparent before and after, and everything else as it was, which is at rest before
training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..model import AnchorModel

STEPS = 2000
ALWAYS_THERE = 500  # anchors that are always there, to hold them where they are: a sample will do
RATE = 5e-3
SHOWN, HIDDEN = 1.0, -5.0  # what is added to an anchor's opacity logits
RAMP = 0.35  # of the time between two instants: half of what it takes from shown to hidden
PLACE_WEIGHT = 300.0  # a squared distance in the normalised space against a squared logit
TURN_WEIGHT = 30.0  # the same for quaternions
REST_WEIGHT = 100.0  # for the sizes and colours, which nobody asked to change


@dataclass(frozen=True)
class Motion:
    """Ways of N anchors at T instants.

    Attributes:
        times: (T,) increasing, in [0, 1].
        moves: (N, T, 3) from an anchor's position; 0 for those at rest.
        turns: (N, T, 4) unit quaternions.
        lives: (N, 2) first and last instant at which an anchor is there; NaN for those that are always.
    """

    times: Tensor
    moves: Tensor
    turns: Tensor
    lives: Tensor

    @property
    def spacing(self) -> float:
        """Between two instants; the whole clip if there is only one."""
        return float(torch.diff(self.times).median()) if len(self.times) > 1 else 1.0

    def passing(self) -> Tensor:
        """Indices of the anchors that come and go."""
        return torch.nonzero(~self.lives[:, 0].isnan()).flatten()

    def at(self, time: float) -> tuple[Tensor, Tensor, Tensor]:
        """Moves (N, 3), quaternions (N, 4) and the logits' offsets (N,) at ``time``, linear between instants."""
        count = len(self.times)
        left = int(torch.searchsorted(self.times, torch.tensor(time, dtype=self.times.dtype), right=True)) - 1
        left = min(max(left, 0), max(count - 2, 0))
        right = min(left + 1, count - 1)
        gap = float(self.times[right] - self.times[left])
        share = min(max((time - float(self.times[left])) / gap, 0.0), 1.0) if gap > 0 else 0.0
        move = torch.lerp(self.moves[:, left], self.moves[:, right], share)
        turn = F.normalize(torch.lerp(self.turns[:, left], self.turns[:, right], share), dim=-1)
        return move, turn, self.fade(time)

    def fade(self, time: float) -> Tensor:
        """(N,) offsets of the logits: neighbouring lives overlap, each is half over 0.5 + RAMP spacings later."""
        first, last = self.lives.unbind(1)
        outside = torch.maximum(first - time, time - last).clamp_min(0) / self.spacing
        shown = ((0.5 + 2 * RAMP - outside) / (2 * RAMP)).clamp(0, 1)
        return torch.where(first.isnan(), 0.0, HIDDEN + (SHOWN - HIDDEN) * shown)


def teach_motion(model: AnchorModel, motion: Motion, seed: int) -> tuple[float, float]:
    """Fit F_omega, Z and f_v of the anchors that come and go; where those are hidden, they may be anywhere.

    Of the others F_omega goes on saying what it said before.

    Returns:
        Root mean square errors of the last steps' places (of what is shown) and opacity logits.
    """
    net, z = model.coarse_net, model.z
    generator = torch.Generator().manual_seed(seed)
    passing = motion.passing()
    always = torch.nonzero(motion.lives[:, 0].isnan()).flatten()
    f_v = model.f_v.detach()[passing].requires_grad_()
    part = Motion(motion.times, motion.moves[passing], motion.turns[passing], motion.lives[passing])
    before, z_before = copy.deepcopy(net).requires_grad_(False), None if z is None else z.detach().clone()
    # The same all the time: another sample each step is noise that F_omega's opacities do not get over.
    others = model.f_v.detach()[always[:: max(1, len(always) // ALWAYS_THERE)]]
    adam = torch.optim.Adam([*net.parameters(), f_v, *([] if z is None else [z])], lr=RATE)
    errors = np.zeros(2)
    for step in range(STEPS):
        time = float(torch.rand((), generator=generator))
        delta = net(torch.cat([f_v, others]), time, z)
        known = before(others, time, z_before)
        move, turn, fade = part.at(time)
        here = torch.cat([fade > HIDDEN, torch.ones(len(others), dtype=torch.bool)])[:, None]
        move, fade = torch.cat([move, known[:, :3]]), torch.cat([fade, known[:, -1]])
        turn = torch.cat([turn, _unit(known[:, 6:10])])
        place = (torch.where(here, delta[:, :3] - move, 0.0)).square().sum(dim=1).mean()
        turned = torch.where(here, _unit(delta[:, 6:10]) - turn, 0.0).square().sum(dim=1).mean()
        fading = F.mse_loss(delta[:, -1], fade)
        rest = torch.cat([delta[:, 3:6], delta[:, 10:13]], dim=1)
        rest = torch.cat([rest[: len(f_v)], rest[len(f_v) :] - torch.cat([known[:, 3:6], known[:, 10:13]], dim=1)])
        loss = fading + PLACE_WEIGHT * place + TURN_WEIGHT * turned + REST_WEIGHT * 2 * rest.square().mean()
        adam.zero_grad()
        loss.backward()
        for group in adam.param_groups:
            group["lr"] = RATE * 0.02 ** (step / STEPS)
        adam.step()
        errors += (np.array([float(place.detach()), float(fading.detach())]) - errors) / min(step + 1, 50)
    model.zero_grad()
    with torch.no_grad():
        model.f_v[passing] = f_v
    return float(errors[0] ** 0.5), float(errors[1] ** 0.5)


def _unit(difference: Tensor) -> Tensor:
    """Unit quaternions (N, 4) of F_omega's outputs, which are differences from the identity."""
    return F.normalize(difference + difference.new_tensor([1.0, 0.0, 0.0, 0.0]), dim=-1)
