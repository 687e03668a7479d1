"""Rendered views on disk: PNG frames, an H.264 video, and cameras.json that says what they show."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decode import DecodedScene
from .errors import OptionError
from .viewpoints import Viewpoint, describe

_MAX_VIDEO_SIDE = 16384  # of libx264


@dataclass(frozen=True)
class RenderReport:
    """What :func:`render_frames` did.

    Attributes:
        seconds: spent in deformation, prediction, projection and rasterization; no file is written in it.
    """

    frames: int
    seconds: float
    folder: Path | None
    video: Path | None

    @property
    def fps(self) -> float:
        """Rendered frames per second of ``seconds``."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


def render_frames(
    scene: DecodedScene,
    viewpoints: Sequence[Viewpoint],
    folder: Path | None,
    video: Path | None = None,
    *,
    background: tuple[float, float, float] | None = None,
    frame_rate: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RenderReport:
    """Render viewpoints to ``folder``/NAME.png, to ``video``, or both; cameras.json goes with the PNGs.

    Each file appears whole or not at all.

    Raises:
        OptionError: ``bad-video`` where the views differ in size, or the video cannot be written.
    """
    sizes = {(v.camera.width, v.camera.height) for v in viewpoints}
    if video is not None and len(sizes) > 1:
        raise OptionError("bad-video", f"--video: the views have {len(sizes)} sizes; choose one with --size WxH")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    writer = None if video is None else _VideoWriter(video, *next(iter(sizes)), frame_rate or scene.header.frame_rate)
    spent = 0.0
    try:
        for index, view in enumerate(viewpoints):
            started = time.perf_counter()
            image = scene.render(view.camera, view.time, background, view.camera_id)
            pixels = image.cpu().numpy()  # waits for the device
            spent += time.perf_counter() - started
            quantised = np.rint(pixels * 255.0).astype(np.uint8)
            if folder is not None:
                save_png(folder / f"{view.name}.png", quantised)
            if writer is not None:
                writer.add(quantised)
            if progress is not None:
                progress(index + 1, len(viewpoints))
        if writer is not None:
            writer.finish()
    finally:
        if writer is not None:
            writer.discard()
    if folder is not None:
        document = json.dumps(describe(viewpoints, scene.similarity), indent=1)
        _replace(folder / "cameras.json", document.encode())
    return RenderReport(len(viewpoints), spent, folder, video)


def save_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) as PNG, atomically."""
    from PIL import Image

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        Image.fromarray(image).save(temporary, format="PNG", compress_level=4)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class _VideoWriter:
    """H.264 in MP4 through PyAV, into a temporary file that :meth:`finish` renames."""

    def __init__(self, path: Path, width: int, height: int, rate: float) -> None:
        """Raises OptionError ``bad-video`` for a name or a size that it cannot write."""
        import av

        if path.suffix.lower() not in (".mp4", ".mov", ".mkv"):
            raise OptionError("bad-video", f"{path}: use a name that ends in .mp4, .mov or .mkv")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
        if max(width, height) > _MAX_VIDEO_SIDE:
            problem = f"{path}: {width}x{height} is too large for H.264, which ends at {_MAX_VIDEO_SIDE} a side"
            raise OptionError("bad-video", f"{problem}; give a smaller --size")
        self._require_place()
        self.container: Any = av.open(str(self.temporary), "w")
        try:
            exact = max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001))  # a header allows slower clips
            self.stream: Any = self.container.add_stream("libx264", rate=exact)
            # Every player plays 4:2:0, which needs even sizes: the last row or column is repeated.
            self.stream.width, self.stream.height = width + width % 2, height + height % 2
            self.stream.pix_fmt = "yuv420p"
            self.stream.options = {"crf": "16", "preset": "medium"}
        except BaseException:
            self.discard()
            raise

    def _require_place(self) -> None:
        """The library opens its file with the first packet, behind minutes of rendering, and names none."""
        if self.path.is_dir():
            raise OptionError("bad-video", f"{self.path}: there is a folder of that name; give another")
        try:
            self.temporary.touch()
        except OSError as error:
            raise OptionError("bad-video", f"{self.path}: cannot be written ({error.strerror})") from error

    def add(self, image: NDArray[np.uint8]) -> None:
        import av

        padded = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        self.container.mux(self.stream.encode())
        self.container.close()
        os.replace(self.temporary, self.path)

    def discard(self) -> None:
        """Remove what is not finished; after :meth:`finish` there is nothing."""
        try:
            self.container.close()  # on a full disk this fails as well
        finally:
            self.temporary.unlink(missing_ok=True)
