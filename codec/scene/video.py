"""Videos are read once, into a frame cache on disk: random access to any frame afterwards is one file read.

A cache file is an ordinary ``.npy`` of shape (frames, H, W, 3) uint8 at the working resolution. It is named after
the video's path, size and modification time and the downscale factor, so a changed video never meets old
frames; it is written under another name and renamed when complete, so a half-written one is never read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .checks import scene_error
from .images import MAX_PIXELS, area_resize, scaled_size

MAX_VIDEO_FRAMES = 100_000
_HEADER_BYTES = 128
_VERSION = "1"  # of what is cached; to be raised when the same video would give other pixels


@dataclass(frozen=True)
class Clip:
    """A video whose frames lie in the cache.

    Attributes:
        cached: the ``.npy`` file; count, height, width: its shape. video: where it came from.
        full_size: width and height of the video itself. rate: frames per second.
    """

    video: Path
    cached: Path
    count: int
    width: int
    height: int
    full_size: tuple[int, int]
    rate: float


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a clip."""

    clip: Clip
    index: int
    has_alpha: bool = False

    @property
    def width(self) -> int:
        """In pixels, as cached."""
        return self.clip.width

    @property
    def height(self) -> int:
        """In pixels, as cached."""
        return self.clip.height

    def read(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8. A plain read, not a memory map: what is held stays what the image cache counts."""
        count = self.height * self.width * 3
        try:
            pixels = np.fromfile(self.clip.cached, np.uint8, count, offset=_HEADER_BYTES + self.index * count)
        except OSError:
            pixels = np.zeros(0, np.uint8)
        if pixels.size != count:
            raise scene_error(
                "frame-cache-lost", self.clip.cached, f"frame {self.index}", "cannot be read", "load the scene again"
            )
        return pixels.reshape(self.height, self.width, 3)


def default_cache_dir() -> Path:
    """``adcgs/frames`` in the user's cache directory (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "adcgs" / "frames"


def open_video(
    path: Path, downscale: float, cache_dir: Path | None, progress: Callable[[float], None] | None = None
) -> Clip:
    """The clip of a video, decoded into the cache first unless it is there already.

    Args:
        cache_dir: None takes :func:`default_cache_dir`.
        progress: called with the fraction done, while decoding.

    Raises:
        SceneError: missing-image, unreadable-video, too-large, rotated-video, too-many-frames, no-space.
    """
    directory = cache_dir or default_cache_dir()
    with _Container(path) as container:
        stream = container.streams.video[0]
        full = (int(stream.codec_context.width), int(stream.codec_context.height))
        rate = float(stream.average_rate or 30)
        expected = int(stream.frames or (container.duration or 0) / 1e6 * rate)
        if min(full) < 1 or full[0] * full[1] > MAX_PIXELS:
            raise scene_error("too-large", path, "", f"{full[0]}x{full[1]} pixels", f"1 to {MAX_PIXELS} are read")
        if expected > MAX_VIDEO_FRAMES:
            raise scene_error("too-many-frames", path, "", f"{expected} frames", f"at most {MAX_VIDEO_FRAMES}")
        size = scaled_size(*full, downscale)
        cached = directory / f"{path.stem}-{_key(path, downscale)}.npy"
        count = _cached_count(cached, size)
        if count is None:
            _check_space(directory, path, max(expected, 1) * size[0] * size[1] * 3)
            count = _write(cached, _frames(container, path, size), size, expected, progress)
    if count == 0:
        raise scene_error("unreadable-video", path, "", "holds no frames", "encode it again")
    return Clip(path, cached, count, *size, full, rate)


class _Container:
    """PyAV's container as a context, with its errors as ours."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        import av

        if not self.path.is_file():
            raise scene_error("missing-image", self.path, "", "the video is not there", "restore it")
        try:
            self.opened = av.open(str(self.path))
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise _unreadable(self.path, error) from None
        if not self.opened.streams.video:
            self.opened.close()
            raise scene_error("unreadable-video", self.path, "", "has no video stream", "encode it again")
        return self.opened

    def __exit__(self, *_: object) -> None:
        self.opened.close()


def _unreadable(path: Path, error: Exception) -> Exception:
    return scene_error("unreadable-video", path, "", f"cannot be decoded ({error})", "encode it again, as H.264")


def _frames(container: Any, path: Path, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    import av

    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    try:
        for number, frame in enumerate(container.decode(stream)):
            if number >= MAX_VIDEO_FRAMES:
                raise scene_error("too-many-frames", path, "", "the video is too long", f"at most {MAX_VIDEO_FRAMES}")
            if frame.rotation % 360:
                raise scene_error("rotated-video", path, "", f"is marked to be turned by {frame.rotation} degrees",
                                  "encode it upright")  # fmt: skip
            yield area_resize(frame.to_ndarray(format="rgb24"), *size)
    except (av.error.FFmpegError, ValueError) as error:
        raise _unreadable(path, error) from None


def _key(path: Path, downscale: float) -> str:
    stat = path.stat()
    text = f"{_VERSION}|{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{downscale!r}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _cached_count(cached: Path, size: tuple[int, int]) -> int | None:
    """Frames in a complete cache file of this size, None when there is none to use."""
    try:
        array = np.load(cached, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = array.dtype == np.uint8 and array.ndim == 4 and array.shape[1:] == (size[1], size[0], 3)
    return int(array.shape[0]) if fits and cached.stat().st_size == _HEADER_BYTES + array.nbytes else None


def _check_space(directory: Path, path: Path, wanted: int) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise scene_error(
            "no-space",
            directory,
            "",
            f"the frame cache cannot be made ({error.strerror})",
            "choose another cache folder",
        ) from None
    if wanted > free:
        raise scene_error(
            "no-space",
            directory,
            "",
            f"the frames of {path.name} need {wanted / 1e9:.1f} GB, {free / 1e9:.1f} are free",
            "free some, downscale, or choose another cache folder (XDG_CACHE_HOME)",
        )


def _write(
    cached: Path,
    frames: Iterator[NDArray[np.uint8]],
    size: tuple[int, int],
    expected: int,
    progress: Callable[[float], None] | None,
) -> int:
    """Write frames as they come, then put the file in its place. Returns their number."""
    handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=cached.parent)
    count = 0
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(bytes(_HEADER_BYTES))
            for image in frames:
                file.write(image.data if image.flags.c_contiguous else image.tobytes())
                count += 1
                if progress is not None:
                    progress(min(1.0, count / max(expected, count)))
            _write_header(file, (count, size[1], size[0], 3))
        os.replace(temporary, cached)
    except OSError as error:
        raise scene_error(
            "no-space", cached, "", f"cannot be written ({error.strerror})", "free some space on that disk"
        ) from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    return count


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """NPY format 1.0, padded to a fixed length because the number of frames is known last."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    file.seek(0)
    file.write(b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little"))
    file.write(text.ljust(_HEADER_BYTES - 11) + b"\n")
