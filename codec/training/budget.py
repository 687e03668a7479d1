"""Before a run with a target size: whether it can be met, and with how many anchors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..bitstream import KINDS, Kind, pack_arrays, pack_cameras, pack_colors
from ..bitstream.header import MAX_ANCHORS
from ..bitstream.view_colors import SLOPES
from ..entropy import MultiDimensionEntropyModel
from ..errors import OptionError
from ..features import Features
from ..model import AnchorModel, ModelConfig
from ..scene import Scene
from .camera_colors import fixed_cameras
from .config import TrainingConfig
from .contents import camera_views
from .trainer import entropy_config

# Coded bytes per anchor between which lambda makes good use of anchors; outside, their number is the better knob.
_FEWEST, _MOST = 8.0, 70.0
_FEWEST_ANCHORS = 100
_FRAME = 400  # bytes of header and table of contents
_SPARSE_BITS = 4  # the least that the entropy model's weights are stored with


def fit_to_size(config: TrainingConfig, scene: Scene, *, keep_anchors: bool = False) -> TrainingConfig:
    """The configuration with as many anchors as suit its ``target_bytes``; unchanged if its own number does.

    Args:
        keep_anchors: the number of anchors is the user's choice.

    Raises:
        OptionError: ``target-too-small``: the target does not even hold networks and cameras; ``target-too-large``:
            it takes more anchors than a file can hold.
    """
    if config.target_bytes is None:
        return config
    room = config.target_bytes - least_bytes(config, scene, config.target_weights)
    if room < _FEWEST * _FEWEST_ANCHORS:
        raise OptionError("target-too-small", _too_small(config, scene))
    suited = min(max(config.max_anchors, int(room / _MOST)), int(room / _FEWEST))
    if keep_anchors or suited == config.max_anchors:
        return config
    if suited > MAX_ANCHORS:
        problem = f"{suited} anchors would fill it, a file holds at most {MAX_ANCHORS}; give less"
        raise OptionError("target-too-large", f"--target-size {config.target_bytes}: {problem}")
    share = suited / config.max_anchors
    return replace(
        config,
        max_anchors=suited,
        initial_anchors=max(1, round(config.initial_anchors * share)),
        mover_anchors=round(config.mover_anchors * share),
    )


def least_bytes(config: TrainingConfig, scene: Scene, weights: Kind) -> int:
    """What a file of this configuration takes without its anchors: networks, entropy model, cameras, header."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the same answer every time it is asked
        model = AnchorModel(config.model, torch.zeros(0, 3), _no_features(config.model))
        entropy = MultiDimensionEntropyModel(entropy_config(config))
    networks = pack_arrays({name: array.numpy() for name, array in model.network_arrays().items()}, weights)
    sealed = entropy.seal(weight_bits=_SPARSE_BITS).to_bytes()
    slopes = 2 * SLOPES * (config.model.reference_dim + 1) if config.view_colors else 0
    cameras = len(pack_cameras(camera_views(scene), scene.frame_count)) + _color_bytes(config, scene)
    return len(networks) + slopes + len(sealed) + cameras + _FRAME


def _color_bytes(config: TrainingConfig, scene: Scene) -> int:
    ids = fixed_cameras((frame.camera_id for frame in scene.split("train")), config.camera_colors)
    return len(pack_colors({camera_id: np.zeros((3, 4)) for camera_id in ids})) if ids else 0


def _no_features(model: ModelConfig) -> Features:
    shapes = ((model.reference_dim,), (model.primitives, model.residual_dim), (6,), (3,))
    return Features(*(torch.zeros(0, *shape) for shape in shapes))


def _too_small(config: TrainingConfig, scene: Scene) -> str:
    needed = {kind: least_bytes(config, scene, kind) for kind in KINDS}
    said = f"networks and cameras alone take {needed[config.target_weights]} bytes"
    if config.target_weights == "int8":
        return f"--target-size {config.target_bytes}: {said}; give more"
    return f"--target-size {config.target_bytes}: {said}; give more, or --weights int8 ({needed['int8']} bytes)"
