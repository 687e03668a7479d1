"""How near to a camera something can be and still belong to the scene.

What stands right before a camera is seen by that camera alone, so nothing contradicts it: training views hide their
faults behind such splats, and a new camera that comes to stand behind one sees nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..camera import Camera
from ..evenly import evenly

LEAST = 0.01  # in the normalised space, whose content has unit size
_SHARE = 0.25  # of the distance to the nearest content: what moves comes nearer than the initial cloud
_NEAREST = 2.0  # percentile of the depths in view that counts as nearest; the cloud has outliers
_CAMERAS = 200


def near_plane(cameras: Sequence[Camera], points: NDArray[np.floating]) -> float:
    """A quarter of the depth of the nearest content before any of the cameras, at least ``LEAST``.

    Args:
        cameras: of the training views; some of them are looked at where there are many.
        points: (P, 3) the initial cloud, in the same space.
    """
    nearest = []
    cloud = np.asarray(points, np.float64)
    for index in evenly(len(cameras), _CAMERAS):
        camera = cameras[index]
        pixels, depths = camera.project(cloud)
        seen = (depths > 0) & (pixels >= 0).all(axis=1) & (pixels <= (camera.width, camera.height)).all(axis=1)
        if seen.any():
            nearest.append(float(np.percentile(depths[seen], _NEAREST)))
    return max(_SHARE * min(nearest), LEAST) if nearest else LEAST
