"""Frames and their pixels, decoded on demand: what clouds are made from and what training reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..camera import Camera, Similarity
from .cache import ImageCache
from .capture import Frame, Lens, PixelSource, Split
from .images import area_resize, scaled_size, undistort


class Views:
    """A set of frames, their cameras in one space, and their images behind one bounded cache.

    Attributes:
        frames: in the capture's order; ``frames[i].index == i``.
        has_alpha: images have four channels with straight alpha.
        background: (3,) float32, what shows where alpha is zero.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        sources: Sequence[PixelSource],
        lenses: Sequence[Lens],
        background: ArrayLike,
        cache: ImageCache,
    ) -> None:
        """``lenses[i].skew`` is in pixels of ``sources[i]``."""
        self.frames = tuple(frames)
        self.background: NDArray[np.float32] = np.asarray(background, np.float32).reshape(3)
        self.has_alpha = any(source.has_alpha for source in sources)
        self._sources = tuple(sources)
        self._lenses = tuple(lenses)
        self._cache = cache

    def split(self, name: Split) -> list[Frame]:
        """The frames of a split, in order. ``"test"`` means the val frames where the capture has no test split."""
        chosen = [frame for frame in self.frames if frame.split == name]
        if name == "test" and not chosen:
            chosen = [frame for frame in self.frames if frame.split == "val"]
        return chosen

    def camera(self, frame: Frame, downscale: int = 1) -> Camera:
        """The frame's camera on the grid of :meth:`image` with the same ``downscale``."""
        if downscale == 1:
            return frame.camera
        return frame.camera.resized(*scaled_size(frame.camera.width, frame.camera.height, downscale))

    def image(self, frame: Frame, downscale: int = 1) -> NDArray[np.uint8]:
        """The frame's pixels, undistorted and area-filtered; read-only, shared with the cache.

        Args:
            downscale: a whole factor on top of the working resolution. Each side becomes side / downscale rounded
                half up (``camera(frame, downscale)`` has exactly that size).

        Returns:
            (H, W, 3) uint8, or (H, W, 4) with straight alpha when ``has_alpha``.

        Raises:
            SceneError: unreadable-image when the file broke since the scene was loaded.
        """
        if downscale < 1:
            raise ValueError(f"downscale {downscale} is below 1")
        return self._cache.get((frame.index, downscale), lambda: self._make(frame, downscale))

    def target(self, frame: Frame, background: ArrayLike | None = None, downscale: int = 1) -> NDArray[np.float32]:
        """The frame composited over a background, (H, W, 3) float32 in [0, 1], display-referred."""
        image = self.image(frame, downscale)
        if not self.has_alpha:
            return np.divide(image, 255, dtype=np.float32)
        from .compositing import composite

        behind = self.background if background is None else np.asarray(background, np.float32)
        out = np.empty((*image.shape[:2], 3), np.float32)
        composite(image.reshape(-1), behind, out.reshape(-1))
        return out

    def transformed(self, similarity: Similarity) -> tuple[Frame, ...]:
        """The frames with their cameras moved to another space."""
        return tuple(replace(f, camera=similarity.apply_to_camera(f.camera)) for f in self.frames)

    def _make(self, frame: Frame, downscale: int) -> NDArray[np.uint8]:
        # Small images come from the full one, but only they are kept: coarse training must not fill the cache.
        image = self._cache.peek((frame.index, 1)) if downscale > 1 else None
        if image is None:
            image = self._full(frame)
        return area_resize(image, *scaled_size(frame.camera.width, frame.camera.height, downscale))

    def _full(self, frame: Frame) -> NDArray[np.uint8]:
        source, lens = self._sources[frame.index], self._lenses[frame.index]
        image = source.read()
        if self.has_alpha and image.shape[2] == 3:
            image = np.concatenate([image, np.full_like(image[..., :1], 255)], axis=2)
        if not lens.is_pinhole:
            image = undistort(image, frame.camera.resized(source.width, source.height), lens)
        return area_resize(image, frame.camera.width, frame.camera.height)
