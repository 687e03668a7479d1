"""Pinhole cameras and the similarity between a capture's world and the normalised one.

Conventions (all of adcgs): OpenCV axes (x right, y down, z forward); ``world_to_camera`` is 4x4 float64;
pixel (i, j) covers [i, i+1) x [j, j+1), so its centre is at +0.5; full intrinsics K, no skew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera without distortion (images are undistorted when they are loaded).

    Attributes:
        width, height: image size in pixels.
        fx, fy: focal lengths in pixels; they differ where pixels are not square.
        cx, cy: principal point in pixels, pixel centres at +0.5.
        world_to_camera: (4, 4) float64 rigid transform, x_cam = W @ [x_world, 1].
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    world_to_camera: NDArray[np.float64]

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """K, (3, 3) float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    @cached_property
    def center(self) -> NDArray[np.float64]:
        """The camera's centre in the world, (3,) float64."""
        rotation, translation = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return -rotation.T @ translation

    def resized(self, width: int, height: int) -> Camera:
        """The same view on another pixel grid; exact for any ratio, the axes may scale differently."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy
        )

    def project(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """World points (N, 3) to pixels (N, 2) and depths (N,); points behind get a negative depth."""
        local = points @ self.world_to_camera[:3, :3].T + self.world_to_camera[:3, 3]
        depth = local[:, 2]
        safe = np.where(np.abs(depth) < 1e-12, 1e-12, depth)
        pixels = np.stack([self.fx * local[:, 0] / safe + self.cx, self.fy * local[:, 1] / safe + self.cy], axis=1)
        return pixels, depth


@dataclass(frozen=True, eq=False)
class Similarity:
    """From the capture's world to the normalised one: ``normalised = scale * (world - center)``."""

    scale: float
    center: NDArray[np.float64]

    @staticmethod
    def identity() -> Similarity:
        return Similarity(1.0, np.zeros(3))

    def apply(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """World points (..., 3) to normalised points."""
        return self.scale * (np.asarray(points, np.float64) - self.center)

    def invert(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Normalised points (..., 3) to world points."""
        return np.asarray(points, np.float64) / self.scale + self.center

    def apply_to_camera(self, camera: Camera) -> Camera:
        """The camera that sees in the normalised world what ``camera`` sees in the capture's."""
        matrix = camera.world_to_camera.copy()
        matrix[:3, 3] = self.scale * (matrix[:3, :3] @ self.center + matrix[:3, 3])
        return replace(camera, world_to_camera=matrix)

    def invert_camera(self, camera: Camera) -> Camera:
        """The inverse of :meth:`apply_to_camera`."""
        matrix = camera.world_to_camera.copy()
        matrix[:3, 3] = matrix[:3, 3] / self.scale - matrix[:3, :3] @ self.center
        return replace(camera, world_to_camera=matrix)
