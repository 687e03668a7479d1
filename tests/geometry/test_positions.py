"""Positions survive a round trip through bytes, exactly and in Morton order."""

from __future__ import annotations

import numpy as np
import pytest
from adcgs.errors import BitstreamError
from adcgs.geometry import decode_positions, encode_positions, morton_order


@pytest.mark.parametrize("bits", [1, 2, 5, 10, 14, 21])
def test_a_random_cloud_round_trips(bits: int) -> None:
    rng = np.random.default_rng(bits)
    points = np.unique(rng.integers(0, 1 << bits, (2000, 3)).astype(np.uint32), axis=0)
    points = points[rng.permutation(len(points))]
    assert np.array_equal(decode_positions(encode_positions(points)), points[morton_order(points)])


def test_every_truncation_is_refused() -> None:
    data = encode_positions(np.random.default_rng(0).integers(0, 1 << 21, (50, 3)).astype(np.uint32))
    for end in range(len(data)):
        with pytest.raises(BitstreamError):
            decode_positions(data[:end])
