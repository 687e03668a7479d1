"""A decoded file against the capture it was made from: every view of a split, and their mean.

Images are compared as rendered, in float32 and cut to [0, 1], without a detour over 8 bits, at the size of the
file's views, over the file's background where the capture has alpha. A metric that cannot be had is None, and
``Evaluation.notes`` says why; it is never replaced by another one. A mean is over the views that have a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from . import metrics
from .dynamic import MotionMasks
from .matching import camera_in_file
from .pictures import Picture, save_picture, side_by_side, to_uint8

if TYPE_CHECKING:
    import torch

    from ..decode import DecodedScene
    from ..scene import Frame, Scene
    from ..scene.capture import Split
    from .perceptual import PerceptualMetric

METRICS = ("psnr", "psnr_dynamic", "psnr_foreground", "psnr_color", "ssim", "ms_ssim", "lpips", "st_lpips")

FPS_INCLUDES = (
    "deformation of the anchors and primitives to the instant, projection, rasterization, waiting for the device; "
    "not included: reading the file, the instant-independent prediction (once per file), copying the image away"
)


@dataclass(frozen=True)
class ViewScore:
    """What one view scored; None where ``Evaluation.notes`` says why.

    Attributes:
        time: instant in [0, 1].
        camera_id: the same id means the same fixed camera, -1 one that moves.
        values: key of :data:`METRICS` to its number.
        seconds: for rendering it, see :data:`FPS_INCLUDES`.
    """

    name: str
    time: float
    camera_id: int
    values: dict[str, float | None]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """One flat dictionary, for ``--json``."""
        return {
            "name": self.name,
            "time": self.time,
            "camera_id": self.camera_id,
            **self.values,
            "fps": 1 / self.seconds,
        }


@dataclass(frozen=True)
class Evaluation:
    """All scores of one file.

    Attributes:
        bytes: size of the file.
        split: which views; ``"val"`` where the test split was asked for and the capture has none.
        width, height: of the first view. threads: CPU threads that rendered.
        notes: why a metric is None in some views, by key.
    """

    file: str
    capture: str
    split: str
    bytes: int
    width: int
    height: int
    device: str
    threads: int
    views: Sequence[ViewScore]
    notes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def mean(self) -> dict[str, float | None]:
        """Mean of every metric over the views that have it; ``fps`` is views over seconds."""
        means: dict[str, float | None] = {}
        for key in METRICS:
            numbers = [value for view in self.views if (value := view.values[key]) is not None]
            means[key] = sum(numbers) / len(numbers) if numbers else None
        means["fps"] = len(self.views) / sum(view.seconds for view in self.views)
        return means

    def counted(self, key: str) -> int:
        """Over how many views the mean of ``key`` is."""
        return sum(view.values[key] is not None for view in self.views)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "file": self.file,
            "capture": self.capture,
            "split": self.split,
            "bytes": self.bytes,
            "width": self.width,
            "height": self.height,
            "device": self.device,
            "threads": self.threads,
            "fps_includes": FPS_INCLUDES,
            "mean": self.mean,
            "counts": {key: self.counted(key) for key in METRICS},
            "notes": self.notes,
            "views": [view.to_dict() for view in self.views],
        }


SaveView = Callable[["Frame", Picture, Picture, ViewScore], None]  # frame, truth, decoded, its scores


def evaluate(
    decoded: DecodedScene,
    scene: Scene,
    split: Split = "test",
    *,
    lpips: PerceptualMetric | None = None,
    st_lpips: PerceptualMetric | None = None,
    notes: Mapping[str, str] | None = None,
    save: SaveView | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Render every view of a split from the decoded file and compare it with the capture.

    Args:
        decoded: an open file.
        scene: its capture, from :func:`adcgs.evaluation.matching.load_matching_scene`.
        lpips, st_lpips: as loaded by :mod:`.perceptual`; None leaves them out.
        notes: why those were left out, to go with the result.
        save: called with every view's truth and rendering.
        progress: called with (views done, views).

    Raises:
        OptionError: ``no-views`` where the capture has none of that split.
    """
    import torch

    frames = scene.split(split)
    if not frames:
        have = ", ".join(name for name in ("test", "val", "train") if scene.split(name)) or "none"  # type: ignore[arg-type]
        raise OptionError("no-views", f"{scene.root}: has no {split} views; use one of: {have}")
    scorer = _Scorer(scene, lpips, st_lpips, notes or {})
    _render(decoded, scene, frames[0])  # compiles kernels, predicts attributes: not part of the rate
    scores = []
    for number, frame in enumerate(frames):
        image, seconds = _render(decoded, scene, frame)
        decoded_image = image.cpu().numpy()
        score = ViewScore(frame.name, frame.time, frame.camera_id, scorer.score(frame, decoded_image), seconds)
        scores.append(score)
        if save is not None:
            save(frame, to_uint8(scene.target(frame)), to_uint8(decoded_image), score)
        if progress is not None:
            progress(number + 1, len(frames))
    return Evaluation(
        file=str(decoded.path),
        capture=str(scene.root),
        split=frames[0].split,
        bytes=decoded.path.stat().st_size,
        width=frames[0].camera.width,
        height=frames[0].camera.height,
        device=str(image.device),
        threads=torch.get_num_threads(),
        views=scores,
        notes=scorer.notes,
    )


def _render(decoded: DecodedScene, scene: Scene, frame: Frame) -> tuple[torch.Tensor, float]:
    """The frame's view, (H, W, 3) on the device, and the seconds it took to be there."""
    import torch

    camera = camera_in_file(decoded, scene, frame)
    started = time.perf_counter()
    image = decoded.render(camera, frame.time, camera_id=frame.camera_id)
    if image.is_cuda:
        torch.cuda.synchronize(image.device)
    return image, time.perf_counter() - started


class _Scorer:
    """All metrics of one view after another; remembers why one could not be had."""

    def __init__(
        self,
        scene: Scene,
        lpips: PerceptualMetric | None,
        st_lpips: PerceptualMetric | None,
        notes: Mapping[str, str],
    ) -> None:
        self.scene = scene
        self.motion = _Motion(scene)
        self.perceptual = {"lpips": lpips, "st_lpips": st_lpips}
        self.notes = dict(notes)

    def score(self, frame: Frame, image: NDArray[np.float32]) -> dict[str, float | None]:
        truth = self.scene.target(frame)
        values: dict[str, float | None] = {
            "psnr": metrics.psnr(image, truth),
            "psnr_dynamic": self._noted("psnr_dynamic", lambda: metrics.psnr(image, truth, self.motion.mask(frame))),
            "psnr_foreground": self._noted(
                "psnr_foreground", lambda: metrics.psnr(image, truth, self._foreground(frame))
            ),
            "psnr_color": metrics.psnr(metrics.with_fitted_colors(image, truth), truth),
            "ssim": self._noted("ssim", lambda: metrics.ssim(image, truth)),
            "ms_ssim": self._noted("ms_ssim", lambda: metrics.ms_ssim(image, truth)),
        }
        for key, metric in self.perceptual.items():
            values[key] = None if metric is None else self._noted(key, lambda m=metric: m(image, truth))  # type: ignore[misc]
        return values

    def _noted(self, key: str, measure: Callable[[], float]) -> float | None:
        """The measure, or None and a note of the first reason."""
        try:
            return measure()
        except OptionError as error:
            self.notes.setdefault(key, str(error))
            return None

    def _foreground(self, frame: Frame) -> NDArray[np.bool_]:
        """Pixels of the truth that are not pure background."""
        if not self.scene.has_alpha:
            raise OptionError("no-alpha", "the capture has no alpha channel, so nothing says what is foreground")
        return np.asarray(self.scene.image(frame)[..., 3] > 0)


class _Motion:
    """Masks of what moves before each fixed camera of a scene; a camera's median is made when it is first needed."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._cameras: dict[int, tuple[MotionMasks, dict[int, int]]] = {}

    def mask(self, frame: Frame) -> NDArray[np.bool_]:
        """(H, W) bool, at least one pixel true.

        Raises:
            OptionError: ``moving-camera``, ``too-few-frames``, or ``nothing-moves`` in this view.
        """
        if frame.camera_id < 0:
            raise OptionError("moving-camera", "the camera moves, so no pixel has a temporal median to differ from")
        if frame.camera_id not in self._cameras:
            self._cameras[frame.camera_id] = self._open(frame.camera_id)
        masks, position = self._cameras[frame.camera_id]
        mask = masks.mask(position[frame.index])
        if not mask.any():
            raise OptionError("nothing-moves", "nothing moves in some views; they are left out of this mean")
        return mask

    def _open(self, camera_id: int) -> tuple[MotionMasks, dict[int, int]]:
        """A camera's masks over all its frames, whatever their split, and each frame's position among them."""
        frames = sorted((f for f in self.scene.frames if f.camera_id == camera_id), key=lambda f: f.time)
        masks = MotionMasks(lambda i: self._picture(frames[i]), len(frames))
        return masks, {frame.index: i for i, frame in enumerate(frames)}

    def _picture(self, frame: Frame) -> Picture:
        return to_uint8(self.scene.target(frame)) if self.scene.has_alpha else self.scene.image(frame)


def save_views(folder: Path) -> SaveView:
    """For :func:`evaluate`: writes truth/NAME.png, decoded/NAME.png and compare/NAME.jpg, ``/`` in names as ``_``."""
    from PIL import Image

    for name in ("truth", "decoded", "compare"):
        (folder / name).mkdir(parents=True, exist_ok=True)

    def save(frame: Frame, truth: Picture, image: Picture, score: ViewScore) -> None:
        stem = file_stem(frame.name)
        Image.fromarray(truth).save(folder / "truth" / f"{stem}.png")
        Image.fromarray(image).save(folder / "decoded" / f"{stem}.png")
        caption = f"{score.values['psnr']:.2f} dB"
        save_picture(folder / "compare" / f"{stem}.jpg", side_by_side(truth, image, caption, frame.name))

    return save


def file_stem(name: str) -> str:
    """A view's name as a file name without suffix."""
    return name.replace("/", "_")
