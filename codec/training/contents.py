"""What of a run goes into its file besides the coded attributes; ``encode.py`` writes it, steering counts its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import __version__
from ..bitstream import CameraView, Header, pack_arrays, pack_cameras, pack_colors, pack_view_colors
from ..scene import Scene
from .rounding import round_networks

if TYPE_CHECKING:
    from ..bitstream import Kind
    from .trainer import Trainer


def plain_sections(trainer: Trainer, weights: Kind, coder: str = "constriction") -> dict[str, bytes]:
    """The sections that no entropy model codes, by name: header, networks, cameras and, where trained,
    the colours of cameras and of directions.

    Raises:
        BitstreamError: a weight or a camera that the format cannot hold.
    """
    if weights == "int8" and trainer.settled is None:
        arrays, rounded = round_networks(trainer.model, trainer.rounded())
    else:
        arrays = {name: array.cpu().numpy() for name, array in trainer.model.network_arrays().items()}
        rounded = trainer.settled or {}
    colors = {} if trainer.colors is None else {"camera_colors": pack_colors(trainer.colors.rows())}
    return {
        "header": header_of(trainer, coder).to_bytes(),
        "networks": pack_arrays(arrays, weights, rounded=rounded),
        "cameras": pack_cameras(camera_views(trainer.scene), trainer.scene.frame_count),
        **colors,
        **_view_colors(trainer),
    }


def _view_colors(trainer: Trainer) -> dict[str, bytes]:
    """The section, of a run whose colours depend on the view."""
    if trainer.model.view_colors is None:
        return {}
    layer = trainer.model.view_colors.layer
    weight, bias = (part.detach().cpu().numpy() for part in (layer.weight, layer.bias))
    return {"view_colors": pack_view_colors(weight, bias)}


def header_of(trainer: Trainer, coder: str = "constriction") -> Header:
    """The header section's contents for a model in training."""
    scene, entropy = trainer.scene, trainer.entropy.config
    config = {
        **trainer.config.model.to_dict(),
        "chunks": entropy.chunks,
        "hyper": entropy.hyper,
        "hidden": entropy.hidden,
    }
    origin, center, background = (
        tuple(map(float, v)) for v in (trainer.origin, scene.similarity.center, scene.background)
    )
    return Header(
        anchors=len(trainer.model.positions),
        frame_count=scene.frame_count,
        frame_rate=scene.frame_rate,
        scale=scene.similarity.scale,
        center=center,  # type: ignore[arg-type]
        background=background,  # type: ignore[arg-type]
        grid_origin=origin,  # type: ignore[arg-type]
        voxel=trainer.voxel,
        near=scene.near,
        blur=trainer.config.blur,
        coder=coder,
        encoder=f"adcgs {__version__}",
        config=config,
    )


def camera_views(scene: Scene) -> list[CameraView]:
    """The capture's cameras as the file keeps them."""
    return [CameraView(f.name, f.split, f.camera_id, f.time, f.camera) for f in scene.frames]
