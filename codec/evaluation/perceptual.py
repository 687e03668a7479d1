"""LPIPS and its shift-tolerant relative, from weights that are already on this machine.

Nothing is ever downloaded. LPIPS (Zhang et al. 2018; AlexNet, version 0.1) needs two sets of weights: its own
small ones come with the ``lpips`` package, the backbone's are torchvision's AlexNet file, looked for where
``torch.hub`` keeps its downloads. ST-LPIPS (Ghildyal and Liu 2022) brings all its weights in its package. It is
another scale: its numbers must not be compared with LPIPS's, and it goes by its own name everywhere.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .metrics import _pair

if TYPE_CHECKING:
    import torch

    from .metrics import Image

MIN_SIDE = 32
"""Under this the backbone's pooling leaves nothing (31 pixels for AlexNet)."""


class UnavailableError(OptionError):
    """A perceptual metric cannot be had on this machine; the message says what would provide it."""


@dataclass(frozen=True)
class PerceptualMetric:
    """A learned distance between two images; lower is nearer, 0 is identical."""

    name: str
    network: Any
    device: torch.device

    def __call__(self, image: Image, reference: Image) -> float:
        """The distance of two images (H, W, 3), float32 in [0, 1].

        Raises:
            OptionError: ``shape-mismatch``; ``image-too-small`` under 32 pixels a side.
        """
        import torch

        a, b = _pair(image, reference)
        if min(a.shape[:2]) < MIN_SIDE:
            raise OptionError(
                "image-too-small",
                f"{self.name} needs {MIN_SIDE} pixels a side, the view has {a.shape[1]}x{a.shape[0]}",
            )
        # Both packages take planes in [-1, 1].
        planes = [t.to(self.device).permute(2, 0, 1)[None].float() * 2 - 1 for t in (a, b)]
        with torch.no_grad():
            return float(self.network(*planes))


def load_lpips(device: str = "cpu") -> PerceptualMetric:
    """LPIPS with AlexNet.

    Raises:
        UnavailableError: the package or the backbone's weights are missing or unreadable; says how to provide them.
    """
    import torch

    try:
        import lpips
    except ImportError as error:
        raise UnavailableError("lpips-unavailable", "LPIPS needs the package: pip install 'adcgs[lpips]'") from error
    path, url = backbone_file()
    if not path.is_file():
        raise UnavailableError("lpips-unavailable", f"LPIPS needs AlexNet's weights: fetch {url} and put it at {path}")
    # `pnet_rand` keeps the package from downloading the backbone; its weights are put in below.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        network.net.load_state_dict(_as_backbone(stored, network.net.state_dict()))
    except Exception as error:  # a torn download fails in zipfile, pickle, KeyError or a shape, all the same to us
        raise UnavailableError("lpips-unavailable", f"{path}: not AlexNet's weights; fetch {url} again") from error
    return PerceptualMetric("LPIPS", network.eval().requires_grad_(False).to(device), torch.device(device))


def backbone_file() -> tuple[Path, str]:
    """Where torch.hub keeps torchvision's AlexNet weights, and where they are published."""
    import torch
    from torchvision.models import AlexNet_Weights  # type: ignore[import-untyped]

    url = AlexNet_Weights.IMAGENET1K_V1.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1], url


def _as_backbone(stored: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's ``features.6.weight`` under the package's name for the same layer, ``slice3.6.weight``."""
    return {name: stored["features." + name.split(".", 1)[1]] for name in wanted}


def load_st_lpips(device: str = "cpu") -> PerceptualMetric:
    """Shift-tolerant LPIPS with AlexNet.

    Raises:
        UnavailableError: the package, or something it imports, is missing.
    """
    import torch

    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from stlpips_pytorch import stlpips

            network = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    except ImportError as error:
        raise UnavailableError(
            "st-lpips-unavailable", f"ST-LPIPS needs its packages ({error}): pip install 'adcgs[stlpips]'"
        ) from error
    return PerceptualMetric("ST-LPIPS", network.eval().requires_grad_(False).to(device), torch.device(device))
