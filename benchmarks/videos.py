"""The training videos by AV1 and H.265 in the bytes of a file: ``python benchmarks/videos.py SCENE FILE [FILE ...]``.

A bound, not a rival: a video codec is given the very pictures that it is measured on, and renders no other view. So
PSNR is over training views, for the codecs and for the files alike. A rig gives one video per camera, which share the
bytes at one quality; a capture by one moving camera gives one video, its training frames in the order of time. All
files must be of one capture and size.

Bytes are exactly the file's. A constant quality (CRF) is a whole number, which hardly ever gives just those; so PSNR is
read off between the two neighbours whose bytes, the packets' alone without a container, are more and fewer: linearly
in the logarithm of bytes, as a BD-rate joins its points. Where even the best quality takes fewer bytes than the file,
or even the worst more, nothing is read off: that quality stands in the table as measured, with its own bytes and a
note.
Pictures are 4:2:0 in 8 bits, as these codecs are used; one key frame a video. The encoders are PyAV's libsvtav1
(preset 6) and libx265 (medium).
"""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from adcgs.decode import open_scene
from adcgs.evaluation.matching import camera_in_file
from adcgs.evaluation.metrics import psnr
from adcgs.evaluation.pictures import Picture, to_uint8
from adcgs.evaluation.tables import Column, Value, markdown, write_csv
from adcgs.evenly import evenly
from adcgs.scene import Frame, Scene
from command_lines import Parser, one_line
from heldout import load_scene_of

MEASURED = 100  # most training views that are compared, evenly spread
MIN_SIDE = 64  # of SVT-AV1's pictures
COLUMNS = [
    Column("scene", "scene"),
    Column("method", "method"),
    Column("bytes", "bytes", ",.0f"),
    Column("psnr_train", "PSNR on training views", ".2f"),
    Column("crf", "CRF"),
    Column("bytes_better", "bytes at the first", ",.0f"),
    Column("bytes_worse", "at the second", ",.0f"),
    Column("note", "note"),
    Column("of", "in the bytes of"),
]
ALL_SMALLER = "the best quality, in fewer bytes than the file"
ALL_LARGER = "the worst quality, in more bytes than the file"


@dataclass(frozen=True)
class Codec:
    """An encoder of PyAV: its name there, quality range (best, worst), and options."""

    title: str
    name: str
    crf: tuple[int, int]
    options: tuple[tuple[str, str], ...]


CODECS = (
    Codec("AV1", "libsvtav1", (1, 63), (("preset", "6"), ("svtav1-params", "lp=1"))),
    Codec("H.265", "libx265", (0, 51), (("preset", "medium"), ("x265-params", "log-level=error:pools=1"))),
)


def clips(scene: Scene) -> list[list[Frame]]:
    """The training frames as videos: one per fixed camera, and one of those by a camera that moves."""
    videos: dict[int, list[Frame]] = {}
    for frame in sorted(scene.split("train"), key=lambda frame: (frame.time, frame.name)):
        videos.setdefault(frame.camera_id, []).append(frame)
    return list(videos.values())


class Videos:
    """A scene's training videos; each quality of each codec is encoded once."""

    def __init__(self, scene: Scene) -> None:
        self.clips = clips(scene)
        self.rate = max(1, round(scene.frame_rate))
        self.pictures = {f.name: to_uint8(scene.target(f)) for clip in self.clips for f in clip}
        self.measured = {f.name for f in measured_frames(scene)}
        self.at = cache(self._at)

    def _at(self, codec: Codec, crf: int) -> tuple[int, float]:
        """Bytes of all videos at a quality, and PSNR over the measured frames."""
        size, scores = 0, []
        for clip in self.clips:
            pictures = [self.pictures[frame.name] for frame in clip]
            found, stream = encode(pictures, codec, crf, self.rate)
            size += found
            for frame, truth, decoded in zip(clip, pictures, decode(stream), strict=True):
                if frame.name in self.measured:
                    scores.append(psnr(_unit(decoded[: truth.shape[0], : truth.shape[1]]), _unit(truth)))
        return size, float(np.mean(scores))


def in_bytes(at: Callable[[int], tuple[int, float]], best: int, worst: int, budget: int) -> dict[str, Value]:
    """What a codec reaches in exactly ``budget`` bytes, as columns of the table.

    Args:
        at: bytes and PSNR at a quality.
        best: the lowest CRF. worst: the highest.
    """
    crf = _best_within(at, best, worst, budget)
    size, quality = at(crf)
    measured: dict[str, Value] = {"bytes": size, "psnr_train": quality, "crf": crf}
    if size > budget:
        return measured | {"note": ALL_LARGER}
    if size == budget:
        return measured
    if crf == best:
        return measured | {"note": ALL_SMALLER}
    larger, better = at(crf - 1)
    share = math.log(budget / size) / math.log(larger / size)
    return {
        "bytes": budget,
        "psnr_train": quality + share * (better - quality),
        "crf": f"{crf - 1}-{crf}",
        "bytes_better": larger,
        "bytes_worse": size,
    }


def _best_within(at: Callable[[int], tuple[int, float]], best: int, worst: int, budget: int) -> int:
    """A CRF that fits in the budget while the one before does not; the worst where none fits.

    Bytes need not fall with every step of the CRF: these two were measured, whatever the others take.
    """
    low, high = best, worst
    while low < high:
        middle = (low + high) // 2
        if at(middle)[0] <= budget:
            high = middle
        else:
            low = middle + 1
    return low


def encode(pictures: Sequence[Picture], codec: Codec, crf: int, rate: int) -> tuple[int, bytes]:
    """Bytes of the packets, and a file to decode them from."""
    import av

    buffer, size = io.BytesIO(), 0
    height, width = (max(MIN_SIDE, side + side % 2) for side in pictures[0].shape[:2])
    with av.open(buffer, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec.name, rate=rate, options={"crf": str(crf), **dict(codec.options)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = max(len(pictures), 2)
        for picture in [*pictures, None]:
            frame = None if picture is None else av.VideoFrame.from_ndarray(_padded(picture, height, width), "rgb24")
            for packet in stream.encode(frame):
                size += packet.size
                container.mux(packet)
    return size, buffer.getvalue()


def decode(data: bytes) -> Iterator[Picture]:
    """The pictures of a file."""
    import av

    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _padded(picture: Picture, height: int, width: int) -> Picture:
    """At the right and below, by its last column and row."""
    rows, columns = height - picture.shape[0], width - picture.shape[1]
    return np.ascontiguousarray(np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge"))


def _unit(picture: Picture) -> np.ndarray[Any, np.dtype[np.float32]]:
    return picture.astype(np.float32) / 255


def measured_frames(scene: Scene) -> list[Frame]:
    """The training views that are compared."""
    frames = scene.split("train")
    chosen = evenly(len(frames), MEASURED)
    return [frames[i] for i in chosen]


def ours(file: Path, scene: Scene) -> float:
    """PSNR of a file on the measured training views, after the same rounding to 8 bits."""
    decoded = open_scene(file)
    scores = []
    for frame in measured_frames(scene):
        camera = camera_in_file(decoded, scene, frame)
        image = decoded.render(camera, frame.time, camera_id=frame.camera_id).numpy()
        scores.append(psnr(_unit(to_uint8(image)), _unit(to_uint8(scene.target(frame)))))
    return float(np.mean(scores))


def compare(capture: Path, files: Sequence[Path]) -> list[dict[str, Value]]:
    """Rows of the files, and of each codec in exactly the bytes of each file."""
    scene = load_scene_of(files, capture)
    rows: list[dict[str, Value]] = []
    for file in files:
        size = file.stat().st_size
        rows.append({"method": "adcgs", "bytes": size, "psnr_train": ours(file, scene), "of": str(file)})
    videos = Videos(scene)
    for codec in CODECS:
        for file in files:
            found = in_bytes(partial(videos.at, codec), *codec.crf, file.stat().st_size)
            reached = f"{found['psnr_train']:.2f} dB in {found['bytes']} bytes, CRF {found['crf']}"
            print(f"{scene.root.name}: {codec.title} {reached}", file=sys.stderr)
            rows.append({"method": codec.title, **found, "of": str(file)})
    return [{"scene": scene.root.name, **row} for row in rows]


def main() -> None:
    """Run what the command line asks for."""
    parser = Parser(__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, help="CSV")
    options = parser.parse_args()
    os.environ.setdefault("SVT_LOG", "1")  # errors alone
    rows = compare(options.scene, options.files)
    print(markdown(rows, [c for c in COLUMNS if any(row.get(c.key) is not None for row in rows)]))
    if options.output:
        write_csv(options.output, rows, COLUMNS)


if __name__ == "__main__":
    one_line(main)
