"""Points for captures that bring none and have no masks."""

from __future__ import annotations

from .capture import InitialCloud
from .views import Views


def sample_frustum(views: Views, near_far: tuple[float, float] | None) -> InitialCloud:
    raise NotImplementedError
