"""What counts as moving: a square on a textured wall, seen by a camera that stands still."""

from __future__ import annotations

import numpy as np
import pytest
from adcgs.errors import OptionError
from adcgs.evaluation import metrics
from adcgs.evaluation.dynamic import MotionMasks, dilate, temporal_median
from numpy.typing import NDArray

HEIGHT, WIDTH, FRAMES, SIDE = 48, 120, 30, 8


def wall() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(60, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def clip() -> list[NDArray[np.uint8]]:
    """A bright square crosses a still wall, three pixels a frame."""
    frames = []
    for i in range(FRAMES):
        picture = wall()
        picture[20 : 20 + SIDE, 3 * i : 3 * i + SIDE] = (230, 200, 40)
        frames.append(picture)
    return frames


def as_float(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return picture.astype(np.float32) / 255


@pytest.mark.parametrize("count", [5, 6, 31])
def test_the_median_is_numpys_whatever_the_band(count: int) -> None:
    frames = np.random.default_rng(count).integers(0, 256, (count, 13, 7, 3), dtype=np.uint8)
    expected = np.sort(frames, axis=0)[(count - 1) // 2]
    for band_bytes in (1, count * 7 * 3 * 4, 10**9):
        np.testing.assert_array_equal(temporal_median(lambda i: frames[i], count, band_bytes), expected)


def test_a_passing_square_is_not_in_the_median() -> None:
    frames = clip()
    np.testing.assert_array_equal(MotionMasks(frames.__getitem__, FRAMES).median, wall())


def test_the_mask_holds_the_square_now_and_next_door_and_no_still_pixel() -> None:
    frames = clip()
    masks = MotionMasks(frames.__getitem__, FRAMES)
    for i in (0, 7, FRAMES - 1):
        mask = masks.mask(i)
        expected = np.zeros((HEIGHT, WIDTH), bool)
        for j in range(max(0, i - 1), min(FRAMES, i + 2)):
            expected[19 : 20 + SIDE + 1, max(0, 3 * j - 1) : 3 * j + SIDE + 1] = True
        np.testing.assert_array_equal(mask, expected)


def test_a_missing_square_is_bad_inside_the_mask_though_the_frame_looks_fair() -> None:
    frames = clip()
    masks = MotionMasks(frames.__getitem__, FRAMES)
    noisy = np.random.default_rng(5).normal(0, 0.003, (HEIGHT, WIDTH, 3)).astype(np.float32)
    truth = as_float(frames[12])
    without = np.clip(as_float(masks.median) + noisy, 0, 1)
    with_square = np.clip(truth + noisy, 0, 1)
    assert metrics.psnr(without, truth) > 22
    assert metrics.psnr(without, truth, masks.mask(12)) < 13
    assert metrics.psnr(with_square, truth, masks.mask(12)) > 45


def test_a_late_square_is_bad_too() -> None:
    frames = clip()
    masks = MotionMasks(frames.__getitem__, FRAMES)
    late = as_float(frames[10])
    assert metrics.psnr(late, as_float(frames[12]), masks.mask(12)) < 15


def test_what_rests_most_of_the_clip_is_still_until_it_leaves() -> None:
    frames = [wall() for _ in range(20)]
    for picture in frames[:15]:
        picture[5:15, 5:15] = 250
    masks = MotionMasks(frames.__getitem__, 20, dilation=0)
    assert not masks.mask(3).any()
    assert masks.mask(14).sum() == 100  # its neighbour is the first frame without it
    assert masks.mask(17).sum() == 100


def test_noise_under_the_threshold_moves_nothing() -> None:
    rng = np.random.default_rng(0)
    frames = [np.clip(128 + rng.normal(0, 4, (20, 20, 3)), 0, 255).astype(np.uint8) for _ in range(40)]
    assert not MotionMasks(frames.__getitem__, 40).mask(4).any()


def test_too_few_frames_and_changing_sizes_are_refused() -> None:
    frames = clip()
    with pytest.raises(OptionError, match="needs 5 frames"):
        MotionMasks(frames.__getitem__, 4)
    frames[7] = frames[7][:-1]
    with pytest.raises(OptionError, match="frame 7"):
        MotionMasks(frames.__getitem__, FRAMES)


def test_dilation_is_a_box_and_stops_at_the_border() -> None:
    mask = np.zeros((6, 8), bool)
    mask[0, 4] = True
    np.testing.assert_array_equal(np.argwhere(dilate(mask, 2)).min(0), [0, 2])
    assert dilate(mask, 2).sum() == 3 * 5
    np.testing.assert_array_equal(dilate(mask, 0), mask)
