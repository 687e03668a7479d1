"""The factorised prior of the hyperprior eta, in training: CompressAI's entropy bottleneck.

Only training needs it. What is sealed is the histogram of the rounded eta as a table of integers.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

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
        """Mass of (eta - 1/2, eta + 1/2) at integers eta (N, C), same shape."""
        return self._likelihood(eta, noise=False)

    def bits(self, eta: Tensor, noise: bool) -> Tensor:
        """Total bits of round(eta), eta (N, C); with ``noise`` the gradient is that of noisy values' bits."""
        rounded = -torch.log2(self._likelihood(eta, noise=False)).sum()
        if not noise:
            return rounded
        noisy = -torch.log2(self._likelihood(eta, noise=True)).sum()
        return noisy + (rounded - noisy).detach()

    def _likelihood(self, eta: Tensor, noise: bool) -> Tensor:
        _, likelihood = self.bottleneck(eta.t()[None], training=noise)  # (1, C, N)
        return likelihood[0].t()
