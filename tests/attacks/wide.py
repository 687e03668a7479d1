"""A valid .adc file whose anchors have as many values as the format allows, for a chosen number of anchors."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from adcgs.bitstream import Header, pack_arrays

from tests.fuzz import samples
from tests.fuzz.mutators import assemble, rows_of

MODEL = samples.MODEL | {"primitives": 64, "residual_dim": 32}
ENTROPY = samples.ENTROPY | {"chunks": 1}
# eta, f_v, sigma, color and f_g
VALUES = ENTROPY["hyper"] + MODEL["reference_dim"] + 6 + 3 + MODEL["primitives"] * MODEL["residual_dim"]


def wide_file(anchors: int, **streams: bytes) -> bytes:
    """So many anchors; streams that are not given are empty, which the range coder reads as zeros."""
    from adcgs.geometry import encode_positions

    header = Header.from_bytes(samples.sections()["header"], minor=1)
    header = replace(header, anchors=anchors, config=MODEL | ENTROPY)
    grid = np.random.default_rng(0).choice(64**3, anchors, replace=False)
    sections = {
        "header": header.to_bytes(),
        **_networks(),
        "positions": encode_positions(np.stack([grid // 4096, grid // 64 % 64, grid % 64], axis=1).astype(np.uint32)),
        **{name: streams.get(name, b"") for name in ("hyper", "f_v", "sigma", "color", "f_g_0")},
    }
    return assemble(rows_of(sections))


@functools.cache
def _networks() -> Mapping[str, bytes]:
    """The sections of the model's and of the entropy model's networks, untrained."""
    import torch
    from adcgs.entropy import EntropyConfig, MultiDimensionEntropyModel
    from adcgs.features import Features
    from adcgs.model import AnchorModel, ModelConfig

    torch.manual_seed(0)
    config = ModelConfig.from_dict(MODEL)
    entropy = EntropyConfig(f_v=config.reference_dim, primitives=config.primitives, f_g=config.residual_dim, **ENTROPY)
    features = Features(
        torch.randn(4, config.reference_dim),
        torch.randn(4, config.primitives, config.residual_dim),
        torch.randn(4, 6),
        torch.randn(4, 3),
    )
    model = AnchorModel(config, torch.rand(4, 3), features)
    arrays = {name: array.cpu().numpy() for name, array in model.network_arrays().items()}
    return {
        "networks": pack_arrays(arrays, "fp16"),
        "entropy": MultiDimensionEntropyModel(entropy).seal(features).to_bytes(),
    }
