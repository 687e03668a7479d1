"""A whole, small and valid .adc file of an untrained model: what the fuzzer and the attacks damage."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

import numpy as np
from adcgs import Camera
from adcgs.bitstream import CameraView, Header, pack_arrays, pack_cameras, pack_colors, pack_container, pack_view_colors

ANCHORS = 24
FRAMES = 12
MODEL = {
    "primitives": 2,
    "reference_dim": 6,
    "residual_dim": 4,
    "prediction_width": 8,
    "deformation_width": 8,
    "time_dim": 4,
    "knots": 3,
    "position_frequencies": 2,
    "coarse": True,
    "fine": True,
    "rotate_offsets": True,
    "coarse_opacity": True,
}
ENTROPY = {"chunks": 2, "hyper": 2, "hidden": 8}
COLORS = {0: 0.1 * np.random.default_rng(3).normal(size=(3, 4)), 7: np.zeros((3, 4))}
VIEW_COLORS = tuple(0.2 * np.random.default_rng(4).normal(size=shape) for shape in ((9, 6), (9,)))
LIGHT = {"predict.w": (8, 8), "coarse.w": (4, 8), "coarse.b": (4,)}


@functools.cache
def sections(weights: Literal["fp32", "fp16", "int8"] = "fp32", coder: str = "constriction") -> Mapping[str, bytes]:
    """Name to bytes of every section, in file order; the same on every call."""
    import torch
    from adcgs.entropy import EntropyConfig, MultiDimensionEntropyModel
    from adcgs.features import Features
    from adcgs.geometry import encode_positions, morton_order
    from adcgs.model import AnchorModel, ModelConfig

    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    config = ModelConfig.from_dict(MODEL)
    entropy = EntropyConfig(
        f_v=config.reference_dim, primitives=config.primitives, f_g=config.residual_dim, coder=coder, **ENTROPY
    )
    grid = generator.choice(64**3, ANCHORS, replace=False)
    grid = np.stack([grid // 4096, grid // 64 % 64, grid % 64], axis=1).astype(np.uint32)
    grid = grid[morton_order(grid)]
    features = Features(
        torch.randn(ANCHORS, config.reference_dim),
        torch.randn(ANCHORS, config.primitives, config.residual_dim),
        torch.randn(ANCHORS, 6) * 0.1 - 3.0,
        torch.randn(ANCHORS, 3),
    )
    model = AnchorModel(config, torch.from_numpy(grid / 64.0 - 0.5).float(), features)
    arrays = {name: array.cpu().numpy() for name, array in model.network_arrays().items()}
    sealed = MultiDimensionEntropyModel(entropy).seal(features)
    header = Header(
        anchors=ANCHORS,
        frame_count=FRAMES,
        frame_rate=30.0,
        scale=0.5,
        center=(1.0, 2.0, 3.0),
        background=(1.0, 1.0, 1.0),
        grid_origin=(-0.5, -0.5, -0.5),
        voxel=1 / 64,
        near=1 / 64,
        blur=0.25,
        coder=coder,
        config=MODEL | ENTROPY,
    )
    return {
        "header": header.to_bytes(),
        "networks": pack_arrays(arrays, weights),
        "entropy": sealed.to_bytes(),
        "cameras": pack_cameras(views(), FRAMES),
        "camera_colors": pack_colors(COLORS),
        "view_colors": pack_view_colors(*VIEW_COLORS),
        "positions": encode_positions(grid),
        **sealed.compress(features).streams,
    }


def views() -> list[CameraView]:
    """A fixed camera over the clip and some that look from elsewhere."""
    generator = np.random.default_rng(1)
    found = []
    for index in range(FRAMES + 4):
        fixed = index < FRAMES
        pose = np.eye(4)
        pose[:3, 3] = [0.0, 0.0, 2.0] if fixed else generator.normal(size=3) * 0.1 + [0, 0, 2.5]
        camera = Camera(16, 12, 18.0, 18.0, 8.0, 6.0, pose)
        name, split = (f"train/f{index:03d}", "train") if fixed else (f"test/view {index}", "test")
        time = (index if fixed else index - FRAMES) / (FRAMES - 1)
        found.append(CameraView(name, split, 0 if fixed else -1, time, camera))
    return found


@functools.cache
def light_sections(weights: Literal["fp32", "fp16", "int8"] = "fp32") -> Mapping[str, bytes]:
    """The same without torch: sections of other rooms hold noise, the networks are three arrays of :data:`LIGHT`."""
    generator = np.random.default_rng(0)
    header = Header(
        ANCHORS,
        FRAMES,
        30.0,
        0.5,
        (1, 2, 3),
        (1, 1, 1),
        (-0.5, -0.5, -0.5),
        1 / 64,
        1 / 64,
        0.25,
        config=MODEL | ENTROPY,
    )
    arrays = {name: generator.normal(size=shape) for name, shape in LIGHT.items()}
    noise = {
        name: generator.bytes(size) for name, size in (("entropy", 90), ("positions", 57), ("f_v", 40), ("sigma", 0))
    }
    return {
        "header": header.to_bytes(),
        "networks": pack_arrays(arrays, weights),
        "cameras": pack_cameras(views(), FRAMES),
        "camera_colors": pack_colors(COLORS),
        "view_colors": pack_view_colors(*VIEW_COLORS),
        **noise,
    }


@functools.cache
def whole_file(weights: Literal["fp32", "fp16", "int8"] = "fp32") -> bytes:
    """The file."""
    return pack_container(list(sections(weights).items()))
