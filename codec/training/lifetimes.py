"""When an anchor on something that moves is there: F_omega's first lesson, before any picture is drawn.

Anchors carved at one instant stand where the thing was at that instant only. Seen at all times, most of them are wrong
most of the time, and training would fade them for good before it finds out when to show them. So the coarse
deformation (Eq. 2) is first fitted to each such anchor's lifetime: opaque around its instant, transparent elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model import AnchorModel

STEPS = 1500
ALWAYS_THERE = 500  # anchors that are always there, to hold them where they are: a sample will do
RATE = 5e-3
SHOWN, HIDDEN = 1.0, -5.0  # what is added to an anchor's opacity logits
RAMP = 0.35  # of the spacing of instants, from shown to hidden


def lifetime(time: float, instants: Tensor, spacing: float) -> Tensor:
    """Offset of the opacity logit at ``time`` of anchors carved at ``instants`` (N,); 0 where that is NaN.

    Neighbouring lifetimes overlap: an anchor is half hidden 0.5 + RAMP spacings from its instant.
    """
    distance = (time - instants).abs() / spacing
    shown = ((0.5 + 2 * RAMP - distance) / (2 * RAMP)).clamp(0, 1)
    return torch.where(instants.isnan(), 0.0, HIDDEN + (SHOWN - HIDDEN) * shown)


def teach_lifetimes(model: AnchorModel, instants: Tensor, spacing: float, seed: int) -> float:
    """Fit F_omega, Z and f_v of the anchors that come and go; everything but their opacity stays where it is.

    Args:
        instants: (N,) of each anchor in [0, 1], NaN for anchors that are always there.
        spacing: between instants.

    Returns:
        The root mean square error of the last steps' opacity logits.
    """
    net, z = model.coarse_net, model.z
    generator = torch.Generator().manual_seed(seed)
    passing = torch.nonzero(~instants.isnan()).flatten()
    always = torch.nonzero(instants.isnan()).flatten()
    always = always[:: max(1, len(always) // ALWAYS_THERE)]
    f_v = model.f_v.detach()[passing].requires_grad_()
    others = model.f_v.detach()[always]
    instants = instants[torch.cat([passing, always])]
    adam = torch.optim.Adam([*net.parameters(), f_v, *([] if z is None else [z])], lr=RATE)
    error = 0.0
    for step in range(STEPS):
        time = float(torch.rand((), generator=generator))
        delta = net(torch.cat([f_v, others]), time, z)
        wanted = lifetime(time, instants, spacing)
        fading = F.mse_loss(delta[:, -1], wanted)
        loss = fading + 100.0 * delta[:, :-1].square().mean()
        adam.zero_grad()
        loss.backward()
        for group in adam.param_groups:
            group["lr"] = RATE * 0.02 ** (step / STEPS)
        adam.step()
        error += (float(fading.detach()) - error) / min(step + 1, 50)
    model.zero_grad()
    with torch.no_grad():
        model.f_v[passing] = f_v
    return error**0.5
