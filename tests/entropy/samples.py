"""Synthetic anchors with the dependences that the entropy model is made for, and a model trained on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from adcgs.entropy import EntropyConfig, Features, MultiDimensionEntropyModel
from adcgs.errors import BitstreamError
from torch import Tensor

SMALL = EntropyConfig(f_v=8, primitives=3, f_g=8, chunks=4, hyper=2, hidden=12)


def anchors(count: int, config: EntropyConfig = SMALL, seed: int = 0) -> Features:
    """Few hidden causes shape f_v; f_v shapes everything else; each column has its own scale."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    f_v = torch.tanh(normal(count, 4) @ normal(4, config.f_v) * 0.5) * 0.6 + 0.1 * normal(count, config.f_v)
    width = config.primitives * config.f_g
    own = 0.2 * normal(count, width) * torch.exp(0.5 * normal(width))
    f_g = torch.tanh(f_v @ normal(config.f_v, width) * 0.3) * 0.5 + own
    sigma = f_v @ normal(config.f_v, config.sigma) * 0.2 + 0.05 * normal(count, config.sigma) - 4.0
    color = f_v @ normal(config.f_v, config.color) * 0.2 + 0.05 * normal(count, config.color)
    return Features(f_v=f_v, f_g=f_g.view(count, config.primitives, config.f_g), sigma=sigma, color=color)


def distortion(coded: Features, features: Features) -> Tensor:
    """A weighted squared error that prices a value about as rendering does."""
    weights = {"f_v": 300.0, "f_g": 300.0, "sigma": 3000.0, "color": 3000.0}
    errors = [(getattr(coded, k) - getattr(features, k)).square().sum() * w for k, w in weights.items()]
    return torch.stack(errors).sum()


def train(
    model: MultiDimensionEntropyModel, features: Features, steps: int, mode: str = "noise", price: float = 1.0
) -> list[float]:
    """Minimise rate + price * distortion; returns the total bits of each step."""
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    bits = []
    for _ in range(steps):
        coded, rate = model(features, mode, True)
        loss = (rate.total + price * distortion(coded, features)) / features.f_g.numel()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bits.append(float(rate.total.detach()))
    return bits


def outcome(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """(result, None), or (None, code) where the call refuses; anything else than a refusal goes through."""
    try:
        return call(), None
    except BitstreamError as refusal:
        return None, refusal.code


@cache
def trained() -> tuple[MultiDimensionEntropyModel, Features]:
    """A model of ``SMALL`` after a short training, in evaluation mode, and its 900 anchors."""
    torch.manual_seed(0)
    features = anchors(900)
    model = MultiDimensionEntropyModel(SMALL)
    train(model, features, 80)
    train(model, features, 20, "round")
    return model.eval(), features
