"""The integer tables: valid, close to the real functions, and the same bits as written in the specification."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from adcgs.entropy import tables

PINNED = "3d76f0518aead366e2fe0a0fbcb3dcfbc406ceeb4b641396567ff986df9f2249"
SPEC = Path(__file__).parents[2] / "bitstream_spec" / "entropy_tables.json"


def test_every_table_is_positive_and_sums_to_two_to_the_sixteen():
    for table in (*tables.gaussian_tables(), tables.magnitude_table(), tables.bit_table()):
        assert table.frequencies.min() >= 1
        assert table.frequencies.sum() == 65536


def test_gaussian_tables_are_symmetric_and_end_in_the_escape():
    for table in tables.gaussian_tables():
        inside = table.frequencies[: 2 * table.reach + 1]
        assert (inside == inside[::-1]).all()
        assert table.escape == len(table) - 1 == 2 * table.reach + 1


@pytest.mark.parametrize("level", range(0, 64, 7))
def test_gaussian_frequencies_follow_the_normal_distribution(level: int):
    sigma, table = tables.sigmas()[level], tables.gaussian_tables()[level]
    edges = [math.erf((k + 0.5) / sigma / math.sqrt(2)) / 2 for k in range(-table.reach - 1, table.reach + 1)]
    mass = np.append(np.diff(edges), max(1.0 - 2.0 * edges[-1], 1e-300))
    wasted = float(np.sum(mass * np.log2(np.maximum(mass, 1e-300) * 65536 / table.frequencies)))
    assert (
        0 <= wasted < 0.013
    )  # bits a symbol lost to integer frequencies and their floor; 0.2 % of the widest's 8 bits


def test_scales_reach_from_a_tenth_to_over_64_steps():
    assert tables.sigmas()[0] == 0.11
    assert 64 < tables.sigmas()[-1] < 128
    ratios = np.diff(np.log(tables.sigmas()))
    np.testing.assert_allclose(ratios, math.log(1.115), rtol=1e-12)


def test_step_factors_are_one_plus_tanh_and_their_logarithms_fit():
    factor, log = tables.factor_tables()
    x = (np.arange(256) - 128) / 64
    np.testing.assert_allclose(factor, 4096 * (1 + np.tanh(x)), atol=0.5000001)
    np.testing.assert_allclose(log, 256 * np.log(factor / 4096) / math.log(1.115), atol=0.5000001)
    assert factor[128] == 4096
    assert factor.min() > 0


def test_own_exponential_and_logarithm_agree_with_the_library():
    for x in np.linspace(-40, 40, 401):
        assert tables.exponential(x) == pytest.approx(math.exp(x), rel=1e-12)
    for x in np.linspace(0.01, 8, 400):
        assert tables.logarithm(x) == pytest.approx(math.log(x), abs=1e-13)


def test_tables_are_pinned():
    assert tables.tables_digest() == PINNED


def test_specification_holds_these_tables():
    written = json.loads(SPEC.read_text())
    digest = hashlib.sha256()
    for row in written["gaussian"]:
        digest.update(np.array(row["frequencies"], "<i4").tobytes())
    for name in ("factor", "log"):
        digest.update(np.array(written[name], "<i4").tobytes())
    assert digest.hexdigest() == written["sha256"] == PINNED
    assert SPEC.read_text() == tables.tables_json()
