"""Which pixels of a fixed camera show something that moves, and when.

A pixel of frame i *changes* when its largest channel difference from the camera's temporal median exceeds 10 %
of the range. The mask of frame i is every pixel that changes in frame i or in a neighbouring frame of the same
camera (``window`` frames to each side), grown by ``dilation`` pixels.

So the mask holds the moving thing where it is now, where it just was and where it is about to be: one that is
missing, blurred out, late or smeared along its path has its error inside the mask, while the still background,
which makes up most of a picture and of its PSNR, stays outside. The median over a whole clip is the background
wherever a thing passes; where a thing rests for more than half of the clip, the background it uncovers later is
what changes. For a moving camera no pixel is the same place twice: there is no such mask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError

THRESHOLD = 0.1
WINDOW = 1
DILATION = 1
MIN_FRAMES = 5
"""Of fewer instants a median says nothing about what stands still."""

BAND_BYTES = 256 * 2**20

Picture = NDArray[np.uint8]  # (H, W, 3)
Mask = NDArray[np.bool_]  # (H, W)


class MotionMasks:
    """The masks of one fixed camera.

    Args:
        load: frame index to its picture, (H, W, 3) uint8, in the order of time.
        count: number of frames, at least :data:`MIN_FRAMES`.
        threshold: smallest change that counts, a fraction of the range.
        window: neighbouring frames to each side whose changes count as well.
        dilation: pixels by which the changed region grows.
        band_bytes: most memory that the median holds of the clip; a longer clip is read several times,
            a band of rows each time.

    Raises:
        OptionError: ``too-few-frames``; ``shape-mismatch`` where frames differ in size.
    """

    def __init__(
        self,
        load: Callable[[int], Picture],
        count: int,
        threshold: float = THRESHOLD,
        window: int = WINDOW,
        dilation: int = DILATION,
        band_bytes: int = BAND_BYTES,
    ) -> None:
        if count < MIN_FRAMES:
            raise OptionError(
                "too-few-frames", f"a temporal median needs {MIN_FRAMES} frames of a camera, this one has {count}"
            )
        self.count, self.window, self.dilation = count, window, dilation
        self.median = temporal_median(load, count, band_bytes)
        self._limit = threshold * 255.0
        self._load = load
        self._changed = lru_cache(maxsize=2 * window + 2)(self._compare)

    def mask(self, index: int) -> Mask:
        """(H, W) bool: what moves at or next to frame ``index``."""
        first, last = max(0, index - self.window), min(self.count - 1, index + self.window)
        union = np.logical_or.reduce([self._changed(i) for i in range(first, last + 1)])
        return dilate(union, self.dilation)

    def _compare(self, index: int) -> Mask:
        difference = np.abs(self._load(index).astype(np.int16) - self.median)
        return difference.max(axis=2) > self._limit


def temporal_median(load: Callable[[int], Picture], count: int, band_bytes: int = BAND_BYTES) -> Picture:
    """Per-pixel, per-channel lower median over ``count`` frames, (H, W, 3) uint8.

    Holds at most about ``band_bytes`` of the frames at once (at least one row of each).
    """
    first = load(0)
    rows = max(1, band_bytes // (count * first[0].nbytes))
    median = np.empty_like(first)
    for top in range(0, len(first), rows):
        band = np.empty((count, *first[top : top + rows].shape), np.uint8)
        for index in range(count):
            picture = load(index)
            if picture.shape != first.shape:
                raise OptionError("shape-mismatch", f"frame {index} is {picture.shape}, frame 0 is {first.shape}")
            band[index] = picture[top : top + rows]
        median[top : top + rows] = _lower_median(band)
    return median


def _lower_median(band: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Element (n - 1) // 2 of the sorted first axis, found bit by bit: several times faster than a partition.

    It is the largest v for which at most (n - 1) // 2 values lie below v.
    """
    allowed = (len(band) - 1) // 2
    value = np.zeros(band.shape[1:], np.uint8)
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        candidate = value + np.uint8(bit)
        below = np.zeros(value.shape, np.int32)
        for picture in band:
            below += picture < candidate
        value = np.where(below <= allowed, candidate, value)
    return value


def dilate(mask: Mask, radius: int) -> Mask:
    """Grow a mask by ``radius`` pixels in the maximum norm."""
    grown = mask
    for _ in range(radius):
        padded = np.pad(grown, 1)
        wide = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
        grown = wide[:-2] | wide[1:-1] | wide[2:]
    return grown
