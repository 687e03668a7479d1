"""Residuals to bytes: every integer survives, and the estimate is what is written."""

import numpy as np
import pytest
from adcgs.entropy.symbols import RESIDUAL_LIMIT, decode_residuals, encode_residuals, residual_bits
from adcgs.entropy.tables import gaussian_tables, sigmas
from hypothesis import given, settings
from hypothesis import strategies as st

from .samples import outcome


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 63), st.one_of(st.integers(-3, 3), st.integers(-RESIDUAL_LIMIT, RESIDUAL_LIMIT))),
        min_size=1,
        max_size=60,
    )
)
def test_any_residual_under_any_level_comes_back(pairs: list[tuple[int, int]]):
    levels = np.array([level for level, _ in pairs], np.uint8)
    residuals = np.array([residual for _, residual in pairs], np.int64)
    data = encode_residuals("constriction", residuals, levels)
    np.testing.assert_array_equal(decode_residuals("constriction", data, levels), residuals)


@pytest.mark.parametrize("level", [0, 17, 31, 63])
def test_escapes_begin_right_beyond_the_reach(level: int):
    reach = gaussian_tables()[level].reach
    ends = [reach, reach + 1, reach + 2, reach + 3, RESIDUAL_LIMIT]
    residuals = np.array([[*ends], [-end for end in ends]], np.int64)
    levels = np.full(residuals.shape, level, np.uint8)
    data = encode_residuals("constriction", residuals, levels)
    np.testing.assert_array_equal(decode_residuals("constriction", data, levels), residuals)


def test_residuals_beyond_the_limit_are_a_bug_of_the_encoder():
    with pytest.raises(ValueError, match="beyond"):
        encode_residuals("constriction", np.array([RESIDUAL_LIMIT + 1]), np.zeros(1, np.uint8))


def test_estimate_is_what_is_written():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 64, size=(500, 40)).astype(np.uint8)
    residuals = np.rint(rng.normal(size=levels.shape) * np.array(sigmas())[levels]).astype(np.int64)
    residuals[rng.random(levels.shape) < 0.002] += 3000
    bits = residual_bits(residuals, levels)
    assert len(encode_residuals("constriction", residuals, levels)) * 8 == pytest.approx(bits, rel=0.002, abs=64)


def test_damage_gives_integers_or_one_error():
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 30, size=(50, 8)).astype(np.uint8)
    residuals = rng.integers(-40, 40, size=levels.shape)
    clean = encode_residuals("constriction", residuals, levels)
    for trial in range(300):
        data = bytearray(clean)
        if trial % 3 == 0:
            data = data[: int(rng.integers(len(data)))]
        for _ in range(int(rng.integers(1, 5))):
            if data:
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
        decoded, code = outcome(lambda data=data: decode_residuals("constriction", bytes(data), levels))
        assert code in (None, "corrupt-stream")
        if code is None:
            assert np.abs(decoded).max() <= RESIDUAL_LIMIT + 512


def test_escapes_of_a_hostile_stream_stay_bounded():
    """All ones under narrow tables is mostly escapes; each takes at most 16 more bits."""
    levels = np.zeros((2000, 10), np.uint8)
    decoded, code = outcome(lambda: decode_residuals("constriction", b"\xff\xff\xff\x7f" * 2000, levels))
    assert code == "corrupt-stream" or np.abs(decoded).max() <= RESIDUAL_LIMIT + 512
