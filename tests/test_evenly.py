"""A few of many: the ends are there, gaps differ by one at most, and none comes twice."""

from __future__ import annotations

import numpy as np
import pytest
from adcgs.evenly import evenly


@pytest.mark.parametrize(("count", "most"), [(100, 8), (7, 3), (5, 5), (2, 2), (1000, 999)])
def test_ends_are_there_and_gaps_are_alike(count: int, most: int) -> None:
    chosen = evenly(count, most)
    assert len(chosen) == most
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = np.diff(chosen)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("most", [3, 4, 100])
def test_no_more_than_there_are(most: int) -> None:
    assert evenly(3, most).tolist() == [0, 1, 2]


def test_of_none_there_are_none_and_one_is_the_first() -> None:
    assert evenly(0, 5).tolist() == []
    assert evenly(9, 1).tolist() == [0]
