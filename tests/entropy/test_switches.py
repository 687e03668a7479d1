"""The entropy model's parts can be left out in training; the format and its decoders stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adcgs.entropy import MultiDimensionEntropyModel, SealedEntropyModel
from adcgs.entropy.tables import FACTOR_ONE

from .samples import SMALL, anchors, train


@pytest.mark.parametrize(("hyperprior", "adaptive_step"), [(False, True), (True, False), (False, False)])
def test_a_model_without_parts_codes_like_a_whole_one(hyperprior: bool, adaptive_step: bool) -> None:
    torch.manual_seed(0)
    features = anchors(600)
    model = MultiDimensionEntropyModel(SMALL, hyperprior=hyperprior, adaptive_step=adaptive_step)
    bits = train(model, features, 40)
    assert bits[-1] < 0.9 * bits[0]
    sealed = model.eval().seal(features)
    coded = sealed.compress(features)
    decoder = SealedEntropyModel.from_bytes(sealed.to_bytes(), SMALL)
    assert decoder.decompress(coded.streams, 600).digest() == coded.decoded.digest()
    # What training counted is what is paid, short of the rounding of networks.
    rate = model(features, "round", True)[1]
    assert 8 * coded.size == pytest.approx(float(rate.total.detach()), rel=0.05)

    factors = np.concatenate([factor.ravel() for _, factor, _ in sealed.lattice(features).values()])
    assert (np.unique(factors).tolist() == [1.0]) != adaptive_step
    assert FACTOR_ONE == 4096
    assert coded.decoded.values["hyper"].any() == hyperprior
    if not hyperprior:
        assert len(coded.streams["hyper"]) < 12


def test_statistics_start_again_on_request() -> None:
    model = MultiDimensionEntropyModel(SMALL)
    model(anchors(300), "noise", True)
    later = anchors(300, seed=5)
    model.restart_statistics(later)
    torch.testing.assert_close(model.mean_f_v, later.f_v.mean(0))
