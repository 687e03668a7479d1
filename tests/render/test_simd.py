"""The vector type's functions against numpy, lane by lane."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from adcgs.jit import fetch_add
from adcgs.render import simd

LANES = simd.LANES


@numba.njit
def _unary(x, y, logarithm):
    for place in range(0, x.size, simd.LANES):
        value = simd.load(x, place)
        simd.store(y, place, simd.log2(value) if logarithm else simd.exp2(value))


@numba.njit
def _lanes(x, y, sums):
    a, b = simd.load(x, 0), simd.load(x, simd.LANES)
    mask = (a < b) & (a > simd.splat(-1.0)) | (a >= simd.splat(1e9))
    simd.store(y, 0, simd.select(mask, a, b))
    simd.store(y, simd.LANES, simd.minimum(a, b))
    simd.store(y, 2 * simd.LANES, simd.maximum(a, b))
    simd.store(y, 3 * simd.LANES, simd.fma(a, b, a) / simd.square_root(simd.absolute(b)))
    simd.store(y, 4 * simd.LANES, simd.negative_of(a))
    sums[0] = simd.lane_sum(a)
    return simd.any_lane(mask), simd.any_lane(a > simd.splat(1e9))


@numba.njit
def _table(table, last, out):
    value = simd.gather(table, 2, last, 3, 1)
    simd.scatter(out, 0, 2, 1, value)


@numba.njit
def _count(counter):
    return fetch_add(counter, 1, 5)


def test_exp2_over_its_whole_range() -> None:
    x = np.linspace(-126, 127, 4096).astype(np.float32)
    y = np.empty_like(x)
    _unary(x, y, False)
    assert np.abs(y / np.exp2(x.astype(np.float64)) - 1).max() < 4e-7


def test_log2_over_all_magnitudes() -> None:
    x = np.exp2(np.linspace(-100, 100, 4096)).astype(np.float32)
    y = np.empty_like(x)
    _unary(x, y, True)
    expected = np.log2(x.astype(np.float64))
    assert (np.abs(y - expected) < 3e-7 * np.maximum(1, np.abs(expected))).all()


def test_lane_wise_functions() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=2 * LANES).astype(np.float32) * 3
    a, b = x[:LANES], x[LANES:]
    y, sums = np.empty(5 * LANES, np.float32), np.empty(1, np.float32)
    some, none = _lanes(x, y, sums)
    got = y.reshape(5, LANES)
    mask = (a < b) & (a > -1)
    np.testing.assert_array_equal(got[0], np.where(mask, a, b))
    np.testing.assert_array_equal(got[1], np.minimum(a, b))
    np.testing.assert_array_equal(got[2], np.maximum(a, b))
    np.testing.assert_allclose(got[3], (a * b + a) / np.sqrt(np.abs(b)), rtol=1e-5)
    np.testing.assert_array_equal(got[4], -np.abs(a))
    assert sums[0] == pytest.approx(a.sum(), rel=1e-5)
    assert some == mask.any()
    assert not none


def test_columns_of_tables_with_the_last_row_repeated() -> None:
    table = np.arange(3 * (LANES + 4), dtype=np.float32)
    out = np.full(2 * LANES, -1, np.float32)
    _table(table, LANES, out)
    rows = np.minimum(2 + np.arange(LANES), LANES)
    np.testing.assert_array_equal(out[1::2], table.reshape(-1, 3)[rows, 1])
    assert (out[::2] == -1).all()


def test_the_counter_returns_what_was_there() -> None:
    counter = np.zeros(2, np.int64)
    assert [_count(counter) for _ in range(3)] == [0, 5, 10]
    assert counter.tolist() == [0, 15]
