"""The factorised prior of eta: a distribution, whose bits come down to the histogram's entropy."""

from __future__ import annotations

import numpy as np
import torch
from adcgs.entropy.prior import FactorisedPrior


def test_prior_of_eta_is_a_distribution() -> None:
    prior = FactorisedPrior(3)
    grid = torch.arange(-127.0, 128.0)[:, None].repeat(1, 3)
    torch.testing.assert_close(prior.probability(grid).sum(0), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_bits_count_rounded_values_and_pull_at_noisy_ones() -> None:
    torch.manual_seed(0)
    prior = FactorisedPrior(2)
    eta = (3 * torch.randn(500, 2)).requires_grad_()
    bits = prior.bits(eta, noise=True)
    expected = -torch.log2(prior.probability(torch.round(eta.detach()))).sum()
    torch.testing.assert_close(bits, expected)
    bits.backward()
    away = eta.grad[eta.detach().abs() > 2] * eta.detach()[eta.detach().abs() > 2].sign()
    assert float(away.mean()) > 0  # values far out cost more


def test_training_reaches_the_entropy_of_the_histogram() -> None:
    torch.manual_seed(1)
    eta = torch.cat([1.5 * torch.randn(2000, 1) + 2.0, 0.5 * torch.randn(2000, 1) - 1.0], dim=1)
    prior = FactorisedPrior(2)
    adam = torch.optim.Adam([p for p in prior.parameters() if p.requires_grad], lr=2e-2)
    for _ in range(400):
        adam.zero_grad()
        prior.bits(eta, noise=False).backward()
        adam.step()
    entropy = 0.0
    for column in torch.round(eta).numpy().T:
        counts = np.unique(column, return_counts=True)[1]
        entropy -= float((counts * np.log2(counts / counts.sum())).sum())
    assert entropy <= float(prior.bits(eta, noise=False)) <= 1.02 * entropy
