"""adcgs: a neural codec for dynamic 3D scenes.

``import adcgs`` is cheap: torch and everything heavier is imported where it is used. Import it before torch: it sets
how long torch's idle threads wait (see :mod:`adcgs.openmp`), without which two threads gain less.
"""

from __future__ import annotations

from .camera import Camera, Similarity
from .errors import AdcError, BitstreamError, OptionError, SceneError, TrainingError
from .openmp import yield_when_idle

yield_when_idle()

__version__ = "0.1.0"

__all__ = [
    "AdcError",
    "BitstreamError",
    "Camera",
    "OptionError",
    "SceneError",
    "Similarity",
    "TrainingError",
    "__version__",
]
