"""A capture and a decoded file in memory, with only what an evaluation asks of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from adcgs.bitstream import CameraView, Header
from adcgs.camera import Camera, Similarity
from adcgs.scene import Frame
from numpy.typing import NDArray

WIDTH, HEIGHT, INSTANTS = 60, 40, 9

Draw = Callable[[float], NDArray[np.float32]]


def camera(eye: tuple[float, float, float] = (0.0, 0.0, -3.0)) -> Camera:
    """Looks along +z from ``eye``; off-centre principal point, pixels that are not square."""
    matrix = np.eye(4)
    matrix[:3, 3] = -np.array(eye)
    return Camera(WIDTH, HEIGHT, 50.0, 55.0, 28.5, 21.0, matrix)


def moving_square(time: float, background: float = 0.4) -> NDArray[np.float32]:
    """What every fake view shows: a white square that moves right with time."""
    image = np.full((HEIGHT, WIDTH, 3), background, np.float32)
    left = round(time * (WIDTH - 10))
    image[15:23, left : left + 8] = 1
    return image


@dataclass
class FakeScene:
    """Two cameras, one for training and one held out, both at every instant."""

    root: Path = Path("capture")
    similarity: Similarity = field(default_factory=lambda: Similarity(2.0, np.array([1.0, -1.0, 0.5])))
    fixed: bool = True
    has_alpha: bool = False
    splits: tuple[str, str] = ("train", "test")
    draw: Draw = moving_square

    def __post_init__(self) -> None:
        frames = []
        for number, split in enumerate(self.splits):
            eye = (0.3 * number, 0.1, -3.0)
            for k in range(INSTANTS):
                name, instant = f"cam{number:02d}/{k:04d}", k / (INSTANTS - 1)
                identity = number if self.fixed else -1
                frames.append(Frame(name, camera(eye), instant, identity, split, len(frames)))  # type: ignore[arg-type]
        self.frames = tuple(frames)

    def split(self, name: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.split == name]

    def target(self, frame: Frame) -> NDArray[np.float32]:
        return self.draw(frame.time)

    def image(self, frame: Frame) -> NDArray[np.uint8]:
        image = np.rint(self.draw(frame.time) * 255).astype(np.uint8)
        if not self.has_alpha:
            return image
        return np.concatenate([image, np.where(image[..., :1] > 128, 255, 0).astype(np.uint8)], axis=2)


class FakeDecoded:
    """A decoded file in a normalised space of its own; ``draw`` says what it shows."""

    def __init__(self, scene: FakeScene, path: Path, draw: Draw = moving_square) -> None:
        self.path = path
        path.write_bytes(bytes(1234))
        self.draw = draw
        self.similarity = Similarity(0.7, np.array([0.2, 0.3, -0.4]))
        places = (0.2, 0.3, -0.4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
        self.header = Header(1, INSTANTS, 30.0, 0.7, *places, voxel=0.01, near=0.01, blur=0.1)
        self.views = [
            CameraView(f.name, f.split, f.camera_id, f.time, self.place(scene, f.camera)) for f in scene.frames
        ]
        self.asked: list[tuple[Camera, float]] = []

    def place(self, scene: FakeScene, camera: Camera) -> Camera:
        return self.similarity.apply_to_camera(scene.similarity.invert_camera(camera))

    def render(
        self, camera: Camera, time: float, background: object = None, camera_id: int | None = None
    ) -> torch.Tensor:
        self.asked.append((camera, time))
        return torch.from_numpy(self.draw(time))


def shifted(view: CameraView, pixels: float) -> CameraView:
    """The view with its principal point moved."""
    return replace(view, camera=replace(view.camera, cx=view.camera.cx + pixels))
