"""A jump is told from motion, however fast, and from stillness."""

from __future__ import annotations

import numpy as np
import pytest
from adcgs.errors import OptionError
from adcgs.evaluation.pictures import Picture
from adcgs.evaluation.smoothness import largest_jump, steps


def frame(left: float, brightness: int = 0) -> Picture:
    """A soft bump at ``left`` on a plain ground."""
    x = np.arange(100)
    row = 60 + brightness + 150 * np.exp(-(((x - left) / 6) ** 2))
    return np.broadcast_to(np.rint(row).astype(np.uint8)[None, :, None], (10, 100, 3)).copy()


def test_even_and_accelerating_motion_do_not_jump() -> None:
    assert largest_jump([frame(10 + 2.0 * k) for k in range(40)]) < 1.3
    assert largest_jump([frame(10 + 0.04 * k * k) for k in range(40)]) < 2


def test_a_pop_is_found_in_motion_and_in_stillness() -> None:
    assert largest_jump([frame(10 + k + (8 if k >= 20 else 0)) for k in range(40)]) > 4
    assert largest_jump([frame(30, brightness=3 if k >= 20 else 0) for k in range(40)]) > 40


def test_a_still_clip_has_no_jump() -> None:
    assert largest_jump([frame(30)] * 10) == 1


def test_steps_are_mean_levels() -> None:
    np.testing.assert_allclose(steps([frame(30), frame(30, 2), frame(30, 7)]), [2, 5])


def test_two_frames_are_too_few() -> None:
    with pytest.raises(OptionError, match="give 3 frames"):
        largest_jump([frame(1), frame(2)])
