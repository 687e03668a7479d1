"""Pixels: headers and decoding, the area filter, undistortion."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from .capture import Lens
from .checks import scene_error

MAX_PIXELS = 120_000_000
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True)
class ImageFile:
    """An image on disk whose header was read."""

    path: Path
    width: int
    height: int
    has_alpha: bool

    def read(self) -> NDArray[np.uint8]:
        """Decode to (H, W, 3) or (H, W, 4) uint8 with straight alpha.

        Raises:
            SceneError: unreadable-image.
        """
        from PIL import Image

        try:
            with Image.open(self.path) as image:
                if image.mode.startswith("I;16"):
                    eight = (np.asarray(image, np.uint16) >> 8).astype(np.uint8)
                    return np.repeat(eight[..., None], 3, axis=2)
                return np.array(image.convert("RGBA" if self.has_alpha else "RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise scene_error(
                "unreadable-image", self.path, "", f"cannot be decoded ({error})", "restore the image"
            ) from None


def open_images(paths: Sequence[Path]) -> list[ImageFile]:
    """Read the headers of many images, in order.

    Raises:
        SceneError: missing-image, unreadable-image or too-large, for the first one in order.
    """
    from PIL import Image

    Image.init()  # registering the formats is not safe to do from several threads at once
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(open_image, paths, chunksize=64))


def open_image(path: Path) -> ImageFile:
    """Read one image's header; see :func:`open_images`."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            (width, height), mode = image.size, image.mode
            has_alpha = mode in _ALPHA_MODES or "transparency" in image.info
    except FileNotFoundError:
        raise scene_error(
            "missing-image",
            path,
            "",
            "the capture names this image, but it is not there",
            "restore it or drop its frame",
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise scene_error(
            "unreadable-image", path, "", f"is not an image ({type(error).__name__})", "restore the image"
        ) from None
    if width * height > MAX_PIXELS:
        raise scene_error("too-large", path, "", f"{width}x{height} pixels", f"at most {MAX_PIXELS} are read")
    return ImageFile(path, width, height, has_alpha)


def scaled_size(width: int, height: int, factor: float) -> tuple[int, int]:
    """The pixel grid after shrinking by ``factor``: each side rounded half up, never below one pixel.

    ``camera.resized(*scaled_size(...))`` is exact on that grid: it uses each axis' true ratio.
    """
    return max(1, int(width / factor + 0.5)), max(1, int(height / factor + 0.5))


def area_resize(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Shrink by averaging over each output pixel's exact footprint, fractions of input pixels included.

    With a fourth channel colours are weighted by alpha, so that what is hidden does not bleed in.

    Args:
        image: (H, W, 3) or (H, W, 4) uint8, straight alpha.
    """
    if image.shape[:2] == (height, width):
        return image
    factors = (image.shape[1] / width, image.shape[0] / height)
    if image.shape[2] == 3 and all(factor in (1, 2, 4, 8) for factor in factors):
        from PIL import Image  # the same numbers several times faster; with odd factors it rounds down too often

        return np.array(Image.fromarray(image).reduce((int(factors[0]), int(factors[1]))))
    planes = np.ascontiguousarray(np.moveaxis(image, 2, 0), np.float32)  # (C, H, W): rows stay long
    if len(planes) == 4:
        planes[:3] *= planes[3] * np.float32(1 / 255)
    planes = _average(_average(planes, height, 1), width, 2)
    if len(planes) == 4:
        planes[:3] *= 255 / np.maximum(planes[3], 1e-6)
    planes += 0.5
    return np.ascontiguousarray(np.moveaxis(np.minimum(planes, 255).astype(np.uint8), 0, 2))


def _average(values: NDArray[np.float32], size: int, axis: int) -> NDArray[np.float32]:
    """Mean over ``size`` equal, possibly fractional intervals of one axis."""
    length = values.shape[axis]
    if length % size == 0:
        step = length // size
        picks = [(slice(None),) * axis + (slice(k, None, step),) for k in range(step)]
        total = values[picks[0]].copy()
        for pick in picks[1:]:
            total += values[pick]
        return total / np.float32(step)
    # Tap k of every output is its (k+1)th input pixel, weighted by how much of it the footprint covers.
    edges = np.arange(size + 1) * (length / size)
    first = np.floor(edges[:-1]).astype(np.int64)
    total = np.zeros([size if a == axis else n for a, n in enumerate(values.shape)], np.float32)
    for k in range(int(np.ceil(length / size)) + 1):
        covered = np.minimum(edges[1:], first + k + 1) - np.maximum(edges[:-1], first + k)
        weight = (np.maximum(covered, 0) * (size / length)).astype(np.float32)
        shape = [-1 if a == axis else 1 for a in range(values.ndim)]
        total += np.take(values, np.minimum(first + k, length - 1), axis) * weight.reshape(shape)
    return total


def undistort(image: NDArray[np.uint8], camera: Camera, lens: Lens) -> NDArray[np.uint8]:
    """What a pinhole with the same K would have seen: each of its pixels looks up the stored image, bilinearly.

    Rays that the stored image does not hold take the nearest pixel of its border.

    Args:
        image: (H, W, C) as stored.
        camera: intrinsics on the same pixel grid.
    """
    if lens.is_pinhole:
        return image
    flat, weights = _lookup(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, lens)
    pixels = image.reshape(-1, image.shape[2]).astype(np.float32)
    if image.shape[2] == 4:
        pixels[:, :3] *= pixels[:, 3:] / 255
    steps = (0, 1, camera.width, camera.width + 1)
    mixed = sum((pixels[flat + step] * weight[:, None] for step, weight in zip(steps, weights, strict=True)))
    result = np.asarray(mixed, np.float32)
    if image.shape[2] == 4:
        alpha = result[:, 3:] / 255
        np.divide(result[:, :3], alpha, out=result[:, :3], where=alpha > 0)
    return np.clip(result + 0.5, 0, 255).astype(np.uint8).reshape(image.shape)


@lru_cache(maxsize=4)
def _lookup(
    width: int, height: int, fx: float, fy: float, cx: float, cy: float, lens: Lens
) -> tuple[NDArray[np.int32], tuple[NDArray[np.float32], ...]]:
    """Where each pinhole pixel looks in the stored image: its upper left neighbour and four bilinear weights."""
    v, u = np.mgrid[0:height, 0:width].reshape(2, -1) + 0.5
    x, y = distort((u - cx) / fx, (v - cy) / fy, lens)
    # Positions are compared with pixel centres, hence the half pixel.
    column = np.clip(fx * x + lens.skew * y + cx - 0.5, 0, width - 1)
    row = np.clip(fy * y + cy - 0.5, 0, height - 1)
    left = np.minimum(column.astype(np.int64), max(width - 2, 0))
    top = np.minimum(row.astype(np.int64), max(height - 2, 0))
    a, b = column - left, row - top
    weights = ((1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b)
    return (top * width + left).astype(np.int32), tuple(w.astype(np.float32) for w in weights)


def distort(
    x: NDArray[np.float64], y: NDArray[np.float64], lens: Lens
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pinhole image-plane coordinates to distorted ones (Brown-Conrady, OpenCV's order of coefficients)."""
    (k1, k2, k3), (p1, p2) = lens.radial, lens.tangential
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    dx = 2 * p1 * x * y + p2 * (square + 2 * x * x)
    dy = 2 * p2 * x * y + p1 * (square + 2 * y * y)
    return x * radial + dx, y * radial + dy
