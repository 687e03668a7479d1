"""Entropy coding of an anchor's attributes: tables, coders, fixed-point networks, the multi-dimension entropy model.

What training needs imports torch and is loaded at first use; what decoding needs does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .coder import check_coder, open_decoder, open_encoder
from .config import EntropyConfig
from .sealed import CodedFeatures, DecodedFeatures, SealedEntropyModel

if TYPE_CHECKING:
    from ..features import Features
    from .model import MultiDimensionEntropyModel, Rate

__all__ = [
    "CodedFeatures",
    "DecodedFeatures",
    "EntropyConfig",
    "Features",
    "MultiDimensionEntropyModel",
    "Rate",
    "SealedEntropyModel",
    "check_coder",
    "open_decoder",
    "open_encoder",
]


def __getattr__(name: str) -> Any:
    if name in ("MultiDimensionEntropyModel", "Rate"):
        from . import model

        return getattr(model, name)
    if name == "Features":
        from ..features import Features

        return Features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
