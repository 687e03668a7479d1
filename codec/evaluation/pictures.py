"""Pictures that show what numbers hide: side by side, error maps, a slice through time.

All pictures are (H, W, 3) uint8 arrays; :func:`to_uint8` makes them from images in [0, 1].
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError

Picture = NDArray[np.uint8]

ERROR_GAIN = 4
SMALL_FILE = 200_000
"""Bytes that a picture for a report may take."""

_GAP = 4
_LABEL_HEIGHT = 18
_SLICE_HEIGHT = 240
_GREY = 96


def to_uint8(image: NDArray[np.floating]) -> Picture:
    """(H, W, 3) in [0, 1] to 8 bits, rounded to nearest, clipped."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def error_map(truth: Picture, decoded: Picture, gain: int = ERROR_GAIN) -> Picture:
    """Absolute difference per channel times ``gain``; black is right."""
    _same_size([truth, decoded])
    difference = np.abs(truth.astype(np.int16) - decoded.astype(np.int16))
    return np.minimum(difference * gain, 255).astype(np.uint8)


def side_by_side(truth: Picture, decoded: Picture, caption: str = "", name: str = "") -> Picture:
    """Truth, decoded and the error times four in one row, each under its name.

    Args:
        caption: appended to the decoded picture's name, such as its PSNR.
        name: of the view, appended to the truth's.
    """
    panels = [
        _labelled(truth, f"truth {name}".rstrip()),
        _labelled(decoded, f"decoded {caption}".rstrip()),
        _labelled(error_map(truth, decoded), f"error x{ERROR_GAIN}"),
    ]
    return _join(panels, axis=1)


def time_slice(truth: Sequence[Picture], decoded: Sequence[Picture], row: int | None = None) -> Picture:
    """One row of pixels over time (time runs down), truth above decoded.

    Motion is a slanted edge; what the decoded scene lacks, blurs or makes jump shows as a gap, a smear or a step.
    The frames should be one fixed camera's; with a moving one the camera's own motion is in the slice, in both.

    Args:
        truth, decoded: the same instants, in order, at least two.
        row: image row; None takes the one in which the truth changes most over time.
    """
    _same_size([*truth, *decoded])
    if len(truth) != len(decoded) or len(truth) < 2:
        counts = f"{len(truth)} and {len(decoded)}"
        raise OptionError("too-few-frames", f"a time slice needs two or more frames of each, got {counts}")
    chosen = busiest_row(truth) if row is None else row
    strips = [
        time_strip(p, f"{name}, row {chosen} over time", chosen) for p, name in ((truth, "truth"), (decoded, "decoded"))
    ]
    return _join(strips, axis=0)


def time_strip(frames: Sequence[Picture], label: str, row: int | None = None) -> Picture:
    """One row of pixels of one camera over time, which runs down; about 240 pixels high, under a label."""
    _same_size(frames)
    chosen = busiest_row(frames) if row is None else row
    zoom = max(1, round(_SLICE_HEIGHT / len(frames)))
    return _labelled(np.stack([frame[chosen] for frame in frames]).repeat(zoom, axis=0), label)


def busiest_row(pictures: Sequence[Picture]) -> int:
    """The row whose pixels change most from frame to frame; single flickering pixels do not decide."""
    change = np.zeros(pictures[0].shape[:2])
    for before, after in pairwise(pictures):
        change += np.abs(after.astype(np.int16) - before.astype(np.int16)).max(axis=2)
    rows = change.mean(axis=1)
    return int(np.convolve(rows, np.ones(5), mode="same").argmax())


def save_picture(path: Path, picture: Picture, limit: int = SMALL_FILE) -> int:
    """Write a JPEG of at most ``limit`` bytes: quality goes down first, then size. Returns the bytes written."""
    from PIL import Image

    image = Image.fromarray(picture)
    for shrink in (1.0, 0.75, 0.5, 0.35, 0.25):
        size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
        scaled = image if shrink == 1.0 else image.resize(size, Image.Resampling.BOX)
        for quality in (92, 85, 75):
            buffer = io.BytesIO()
            scaled.save(buffer, format="JPEG", quality=quality, subsampling=0)
            if buffer.tell() <= limit:
                path.write_bytes(buffer.getvalue())
                return buffer.tell()
    raise OptionError("picture-too-large", f"{path}: cannot be made smaller than {limit} bytes; allow more")


def _labelled(picture: Picture, text: str) -> Picture:
    """The picture under a strip with a name."""
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (picture.shape[1], _LABEL_HEIGHT), "white")
    ImageDraw.Draw(strip).text((4, 3), text, fill="black")
    return np.concatenate([np.asarray(strip), picture])


def _join(panels: Sequence[Picture], axis: int) -> Picture:
    shape = list(panels[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, _GREY, np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=axis)


def _same_size(pictures: Sequence[Picture]) -> None:
    shapes = {p.shape for p in pictures}
    if len(shapes) != 1 or any(p.dtype != np.uint8 or p.ndim != 3 for p in pictures):
        raise OptionError("shape-mismatch", f"pictures must be (H, W, 3) uint8 of one size, got {sorted(shapes)}")
