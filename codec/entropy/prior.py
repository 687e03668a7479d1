"""The factorised prior of the hyperprior eta, in training: CompressAI's entropy bottleneck.

Only training needs it. What is sealed is the histogram of the rounded eta as a table of integers.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from ..vectors.dispatch import fusable

_SCALE = 4.0  # eta starts with a spread of a few steps


class FactorisedPrior(nn.Module):
    """One learned density per channel of eta, independent of everything else.

    Balle et al., "Variational image compression with a scale hyperprior" (2018), appendix 6.1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch.jit, which CompressAI uses where it is imported
            from compressai.entropy_models import EntropyBottleneck

        self.bottleneck = EntropyBottleneck(channels, init_scale=_SCALE)
        # Quantiles serve CompressAI's own coder, and are no parameters here; with medians of 0 its rounding is ours.
        quantiles = self.bottleneck.quantiles.detach()
        del self.bottleneck.quantiles
        self.bottleneck.register_buffer("quantiles", quantiles)

    def probability(self, eta: Tensor) -> Tensor:
        """Mass of (eta - 1/2, eta + 1/2), eta (N, C), same shape."""
        mass: Tensor = self.bottleneck._likelihood(eta.t()[:, None])[0]  # (C, 1, N)
        return self.bottleneck.likelihood_lower_bound(mass)[:, 0].t()

    def bits(self, eta: Tensor, noise: bool, count: bool = True) -> Tensor:
        """Total bits of round(eta), eta (N, C); with ``noise`` the gradient is that of noisy values' bits.

        Not to ``count`` is to want the gradient alone: on a CPU the number is zero.

        On a CPU compiled kernels compute :meth:`bits_plain`, with noise of their own.
        """
        found = self.bottleneck
        layers = (*found.matrices, *found.biases, *found.factors)
        if not fusable([self], (eta, *layers)):
            return self.bits_plain(eta, torch.rand_like(eta) - 0.5 if noise else None)
        from . import fused

        return fused.prior_bits(eta, self.channel_rows(), noise, count)

    def bits_plain(self, eta: Tensor, noise: Tensor | None) -> Tensor:
        """The definition of :meth:`bits`, by CompressAI in torch, with given noise (N, C) in [-1/2, 1/2), or none."""
        rounded = -torch.log2(self.probability(torch.round(eta))).sum()
        if noise is None:
            return rounded
        noisy = -torch.log2(self.probability(eta + noise)).sum()
        return noisy + (rounded - noisy).detach()

    def channel_rows(self) -> Tensor:
        """(C, P) of what each channel's density is made, as ``prior_kernels`` takes it."""
        found, parts = self.bottleneck, []
        for i, matrix in enumerate(found.matrices):
            parts += [nn.functional.softplus(matrix), found.biases[i]]
            if i < len(found.factors):
                parts.append(torch.tanh(found.factors[i]))
        return torch.cat([part.flatten(1) for part in parts], 1)
