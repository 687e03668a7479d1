"""The image cache keeps to its bytes and lets threads share it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from adcgs.scene.cache import ImageCache


def image(value: int, size: int = 100) -> np.ndarray:
    return np.full((1, size, 1), value, np.uint8)


def test_least_recently_used_goes_first() -> None:
    cache = ImageCache(300)
    for key in (1, 2, 3):
        cache.get(key, lambda key=key: image(key))
    cache.get(1, lambda: pytest.fail("held"))
    cache.get(4, lambda: image(4))
    assert cache.held == 300
    assert cache.peek(2) is None
    assert cache.peek(1) is not None


def test_what_is_too_large_is_never_held() -> None:
    cache = ImageCache(50)
    assert cache.get("a", lambda: image(1)).max() == 1
    assert cache.held == 0
    assert ImageCache(0).get("a", lambda: image(1)).size == 100


def test_shared_images_cannot_be_written() -> None:
    held = ImageCache(1000).get("a", lambda: image(1))
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 2


def test_many_threads_get_the_right_images_within_the_bound() -> None:
    cache = ImageCache(1000)

    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        for key in rng.integers(0, 40, 500):
            if (cache.get(int(key), lambda key=key: image(key)) != key).any():
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert cache.held == sum(i.nbytes for i in cache._images.values()) <= 1000
