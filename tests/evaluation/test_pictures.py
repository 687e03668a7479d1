"""The pictures of a report hold what they claim to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adcgs.errors import OptionError
from adcgs.evaluation import pictures
from PIL import Image


def noise(height: int, width: int, seed: int = 0) -> pictures.Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_rounding_to_eight_bits_clips_and_takes_the_nearest() -> None:
    image = np.array([[[-1.0, 0.4999 / 255, 0.5001 / 255], [1.0, 1.7, 254.4 / 255]]])
    np.testing.assert_array_equal(pictures.to_uint8(image), [[[0, 0, 1], [255, 255, 254]]])


def test_the_error_map_is_four_times_the_difference() -> None:
    truth = np.full((2, 2, 3), 100, np.uint8)
    decoded = truth.copy()
    decoded[0, 0] = (90, 110, 255)
    np.testing.assert_array_equal(pictures.error_map(truth, decoded)[0, 0], [40, 40, 255])
    assert not pictures.error_map(truth, decoded)[1].any()


def test_side_by_side_holds_all_three_unchanged() -> None:
    truth, decoded = noise(40, 90), noise(40, 90, 1)
    joined = pictures.side_by_side(truth, decoded, "31.4 dB")
    assert joined.shape[1] == 3 * 90 + 2 * 4
    body = joined[-40:]
    np.testing.assert_array_equal(body[:, :90], truth)
    np.testing.assert_array_equal(body[:, 94:184], decoded)
    np.testing.assert_array_equal(body[:, 188:], pictures.error_map(truth, decoded))


def test_a_time_slice_follows_the_row_that_moves() -> None:
    frames = []
    for i in range(20):
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[18:22, 3 * i : 3 * i + 4] = 255
        frames.append(picture)
    assert 18 <= pictures.busiest_row(frames) <= 21
    sliced = pictures.time_slice(frames, frames)
    zoom = 240 // 20
    top = sliced[18 : 18 + 20 * zoom]
    for i in range(20):
        np.testing.assert_array_equal(np.flatnonzero(top[i * zoom, :, 0]), np.arange(3 * i, 3 * i + 4))
    np.testing.assert_array_equal(sliced[-20 * zoom :], top)


def test_saved_pictures_stay_under_their_limit(tmp_path: Path) -> None:
    picture = noise(600, 900)
    written = pictures.save_picture(tmp_path / "p.jpg", picture, 100_000)
    assert written == (tmp_path / "p.jpg").stat().st_size <= 100_000
    smooth = np.broadcast_to(np.linspace(0, 255, 900).astype(np.uint8)[None, :, None], (600, 900, 3)).copy()
    pictures.save_picture(tmp_path / "s.jpg", smooth)
    assert Image.open(tmp_path / "s.jpg").size == (900, 600)
    with pytest.raises(OptionError, match="cannot be made smaller"):
        pictures.save_picture(tmp_path / "t.jpg", picture, 100)


def test_sizes_must_agree() -> None:
    with pytest.raises(OptionError, match="one size"):
        pictures.side_by_side(noise(4, 5), noise(5, 4))
    with pytest.raises(OptionError, match="two or more"):
        pictures.time_slice([noise(4, 4)], [noise(4, 4)])
