"""What a layout's reader hands over, and what users of a scene see of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

DEFAULT_FRAME_RATE = 30.0  # frames per second, for layouts that do not say


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of the capture.

    Attributes:
        name: unique, telling, a safe file stem once ``/`` is replaced by ``_``, such as ``train/r_000``.
        camera: in the normalised space, at the working resolution.
        time: instant in [0, 1] over the clip.
        camera_id: the same id means the same physical, fixed camera; -1 for a camera that moves.
        split: ``"train"``, ``"val"`` or ``"test"``.
        index: position in ``scene.frames``.
    """

    name: str
    camera: Camera
    time: float
    camera_id: int
    split: Split
    index: int


@dataclass(frozen=True, eq=False)
class InitialCloud:
    """Where the content probably is before training.

    Attributes:
        points: (P, 3) float32 in the space of the frames it was made from (normalised, once in a scene).
        colors: (P, 3) float32 in [0, 1], display-referred sRGB.
        source: one sentence that says where the points came from.
        times: (P,) float32, the instant at which each point was there; None where that is not known.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.float32]
    source: str
    times: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return int(self.points.shape[0])


@dataclass(frozen=True, eq=False)
class MovingCloud:
    """Where the things that move are, and which way they go.

    Attributes:
        points: (P, 3) float32 in the normalised space, each at the instant at which it was found.
        colors: (P, 3) float32 in [0, 1].
        track: (P,) int64, the rigid piece that a point belongs to.
        times: (T,) float64, increasing: the instants at which the pieces were looked for.
        lives: (Q, 2) int64, indices of the first and last instant at which each of Q pieces was found.
        rotations, shifts: (Q, T, 3, 3) and (Q, T, 3): ``x -> R x + s`` from a point's place in ``points`` to its place
            at an instant of its piece's life; before and after, as at its ends.
        source: one sentence that says where the points came from.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.float32]
    track: NDArray[np.int64]
    times: NDArray[np.float64]
    lives: NDArray[np.int64]
    rotations: NDArray[np.float64]
    shifts: NDArray[np.float64]
    source: str

    def __len__(self) -> int:
        return int(self.points.shape[0])


class PixelSource(Protocol):
    """Something that yields one frame's pixels as stored, cheap to keep in numbers."""

    @property
    def width(self) -> int:
        """Of the stored image, in pixels."""
        ...

    @property
    def height(self) -> int:
        """Of the stored image, in pixels."""
        ...

    @property
    def has_alpha(self) -> bool:
        """Whether pixels have a fourth channel."""
        ...

    def read(self) -> NDArray[np.uint8]:
        """(H, W, 3) or, with straight alpha, (H, W, 4)."""
        ...


@dataclass(frozen=True)
class Lens:
    """Brown-Conrady distortion in OpenCV's order, plus skew: how the stored image deviates from a pinhole.

    Attributes:
        radial: k1, k2, k3. tangential: p1, p2. skew: K[0, 1] in pixels of ``Shot.camera``.
    """

    radial: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tangential: tuple[float, float] = (0.0, 0.0)
    skew: float = 0.0

    @property
    def is_pinhole(self) -> bool:
        """Whether there is nothing to undistort."""
        return not any(self.radial) and not any(self.tangential) and self.skew == 0


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame as a layout's reader found it.

    Attributes:
        camera: in the capture's world, on a pixel grid that covers the stored image exactly (it may be finer or
            coarser than the stored image: see :meth:`adcgs.Camera.resized`).
        camera_id: which physical camera, when the layout says; None has it found out from the poses.
        full_size: width and height before ``source`` shrank the image, when it did.
    """

    name: str
    camera: Camera
    time: float
    split: Split
    source: PixelSource
    lens: Lens = Lens()
    camera_id: int | None = None
    full_size: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """All that a layout's reader knows; in the capture's world, nothing normalised.

    Attributes:
        depth_bounds: nearest and farthest content from the cameras in world units, when the capture says so.
        clouds: files with initial points, best first.
    """

    layout: str
    shots: Sequence[Shot]
    frame_rate: float = DEFAULT_FRAME_RATE
    depth_bounds: tuple[float, float] | None = None
    clouds: Sequence[Path] = field(default_factory=tuple)
