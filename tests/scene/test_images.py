"""The area filter against its definition, alpha, undistortion, headers."""

from __future__ import annotations

import numpy as np
import pytest
from adcgs.camera import Camera
from adcgs.errors import SceneError
from adcgs.scene.capture import Lens
from adcgs.scene.images import area_resize, distort, open_image, scaled_size, undistort
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image


def coverage(length: int, size: int) -> np.ndarray:
    """(size, length): the share of output i's footprint that input j makes up, by its definition."""
    edges = np.arange(size + 1) * length / size
    j = np.arange(length)
    overlap = np.minimum(edges[1:, None], j + 1) - np.maximum(edges[:-1, None], j)
    return np.clip(overlap, 0, None) * size / length


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@example(1, 3, 1, 1, 0)  # a third is where a fast integer mean rounds wrongly
@example(8, 40, 8, 10, 0)
@example(32, 16, 4, 8, 0)
def test_area_filter_averages_exact_footprints(h: int, w: int, a: int, b: int, seed: int) -> None:
    height, width = min(h, a), min(w, b)
    image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    expected = np.einsum("ij,jkc,lk->ilc", coverage(h, height), image.astype(float), coverage(w, width))
    assert np.abs(area_resize(image, width, height) - expected).max() <= 0.501


def test_hidden_colours_do_not_bleed() -> None:
    image = np.zeros((4, 4, 4), np.uint8)
    image[..., :3] = (0, 255, 0)  # transparent green everywhere
    image[:, :1] = (200, 10, 20, 255)
    small = area_resize(image, 1, 1)[0, 0]
    assert tuple(small) == (200, 10, 20, 64)


def test_scaled_sizes_round_half_up() -> None:
    assert scaled_size(1352, 1014, 2) == (676, 507)
    assert scaled_size(5, 3, 2) == (3, 2)
    assert scaled_size(3, 3, 100) == (1, 1)


def test_a_lens_that_is_none_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    camera = Camera(8, 9, 10.0, 10.0, 4.0, 4.5, np.eye(4))
    assert undistort(image, camera, Lens()) is image


def test_undistortion_shows_a_straight_pattern() -> None:
    """A smooth pattern of the viewing direction, seen through a lens, becomes the same pattern without it."""
    camera = Camera(80, 60, 70.0, 75.0, 37.0, 31.0, np.eye(4))
    lens = Lens((-0.12, 0.03, 0.0), (0.005, -0.004), 2.0)

    def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.stack([128 + 100 * np.sin(7 * x), 128 + 100 * np.cos(6 * y), 128 + 100 * np.sin(5 * (x + y))], -1)

    v, u = np.mgrid[0:60, 0:80] + 0.5
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    straight = pattern(x, y)
    # The stored pixel (u, v) shows the direction whose distorted image is there: found by fixed-point iteration.
    yd = (v - camera.cy) / camera.fy
    xd = (u - camera.cx - lens.skew * yd) / camera.fx
    a, b = xd.copy(), yd.copy()
    for _ in range(60):
        c, d = distort(a, b, lens)
        a, b = a + xd - c, b + yd - d
    stored = np.round(pattern(a, b)).astype(np.uint8)
    result = undistort(stored, camera, lens)[8:-8, 8:-8]
    assert np.abs(stored[8:-8, 8:-8] - straight[8:-8, 8:-8]).max() > 20  # the lens matters
    assert np.abs(result - straight[8:-8, 8:-8]).max() < 2


@pytest.mark.parametrize(
    ("mode", "alpha"), [("RGB", False), ("RGBA", True), ("L", False), ("LA", True), ("P", False), ("I;16", False)]
)
def test_every_common_kind_of_image_reads(tmp_path, mode: str, alpha: bool) -> None:
    path = tmp_path / "a.png"
    if mode == "I;16":
        Image.fromarray(np.full((5, 6), 0x8040, np.uint16)).save(path)
    else:
        plain = Image.new("RGBA" if alpha else "RGB", (6, 5), "#808080")
        (plain.quantize(4) if mode == "P" else plain.convert(mode)).save(path)
    image = open_image(path)
    assert (image.width, image.height, image.has_alpha) == (6, 5, alpha)
    pixels = image.read()
    assert pixels.shape == (5, 6, 4 if alpha else 3)
    assert (abs(pixels[..., :3].astype(int) - 128) <= 1).all()


def test_damaged_images_are_refused(tmp_path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    image = open_image(path)
    for damage in (image.read, lambda: open_image(tmp_path / "none.png")):
        with pytest.raises(SceneError) as caught:
            damage()
        assert caught.value.code in ("unreadable-image", "missing-image")
    path.write_bytes(b"no image")
    with pytest.raises(SceneError, match=r"a\.png"):
        open_image(path)
