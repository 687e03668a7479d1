"""What each of the valid files is made of: sizes, coders, cameras, and what of the format it is there for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from adcgs import Camera
from adcgs.bitstream import CameraView
from numpy.typing import NDArray

WIDTH, HEIGHT = 48, 36


@dataclass(frozen=True)
class Recipe:
    """One file.

    Attributes:
        covers: what of the format it is there for, for readers of the list.
        grid_bits: bits per axis of the positions.
        model, entropy: settings by name.
        views: of the cameras section; None: the file has none.
        frame: name of the view, or the camera, of the rendered frame, and its time.
        steps: how far coded values are from what the networks predict, in quantisation steps, by component.
        outliers: every so many values are far away; 0: none.
        saturate: a column of sigma, predicted and coded, is beyond what values can be.
        settings: more than the registered ones.
        header_tail: bytes after the header's fields, for a minor version to come.
        extra: kind and content of more sections.
        order: names of sections in the order of the file, after the header; empty: the order of the specification.
        padding: zeros after the stream of eta.
        blur: of the header.
        view_colors: colours depend on the view, which takes minor version 1.
        cuts: names of sections; the file is decoded as cut in the middle of each, too.
    """

    name: str
    covers: str
    anchors: int
    grid_bits: int
    model: dict[str, int | bool]
    entropy: dict[str, int]
    weights: Literal["fp32", "fp16", "int8"]
    coder: Literal["constriction", "torchac"]
    frames: int
    background: tuple[float, float, float]
    views: tuple[CameraView, ...] | None
    frame: tuple[str | Camera, float]
    steps: tuple[tuple[str, float], ...] = (("f_v", 4.0), ("sigma", 2.0), ("color", 6.0), ("f_g", 3.0))
    outliers: int = 0
    saturate: bool = False
    minor: int = 0
    view_colors: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    header_tail: bytes = b""
    extra: tuple[tuple[int, bytes], ...] = ()
    order: tuple[str, ...] = ()
    padding: int = 0
    blur: float = 0.1
    cuts: tuple[str, ...] = ()


def _sizes(k: int, v: int, g: int, p: int, d: int, t: int, q: int, **switches: bool) -> dict[str, int | bool]:
    """Settings of the model by the letters of the specification; switches are off unless named."""
    return {
        "primitives": k,
        "reference_dim": v,
        "residual_dim": g,
        "prediction_width": p,
        "deformation_width": d,
        "time_dim": 8,
        "knots": t,
        "position_frequencies": q,
        **{name: switches.get(name, False) for name in ("coarse", "fine", "rotate_offsets", "coarse_opacity")},
    }


def _pose(m: Sequence[float], distance: float, aside: Sequence[float] = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """(4, 4) world to camera, turned by the modified Rodrigues parameters ``m``; looks at ``aside`` from a distance.

    Turns stay below a right angle: of the two quaternions of a rotation the writer then has no choice.
    """
    u = sum(x * x for x in m)
    assert u < 0.17
    w, (x, y, z) = (1 - u) / (1 + u), (2 * value / (1 + u) for value in m)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = np.array([0.0, 0.0, distance]) - rotation @ np.array(aside)
    return pose


def _camera(
    m: Sequence[float],
    distance: float = 2.0,
    *,
    focal: tuple[float, float] = (44.0, 44.0),
    centre: tuple[float, float] = (24.0, 18.0),
    aside: Sequence[float] = (0.0, 0.0, 0.0),
) -> Camera:
    return Camera(WIDTH, HEIGHT, *focal, *centre, _pose(m, distance, aside))


def _rig(frames: int) -> tuple[CameraView, ...]:
    """Three fixed cameras with intrinsics of their own over all frames; the last one is held out."""
    cameras = [
        _camera((0.0, -0.12, 0.0), focal=(41.5, 46.25), centre=(21.3, 19.1)),
        _camera((0.03, 0.11, 0.01), 2.25, focal=(44.0, 44.0), centre=(27.0, 14.5)),
        _camera((-0.07, 0.02, 0.0), 1.75, focal=(39.7, 39.7), centre=(24.0, 18.0)),
    ]
    return tuple(
        CameraView(f"cam{c:02d}/{k:04d}", "test" if c == 2 else "train", c, k / (frames - 1), camera)
        for c, camera in enumerate(cameras)
        for k in range(frames)
    )


def _walk(frames: int) -> tuple[CameraView, ...]:
    """One camera that moves on a smooth path, a pose for every view."""
    splits = ("train", "train", "test", "train", "val")
    return tuple(
        CameraView(
            f"walk/view_{k}",
            splits[k % 5],
            -1,
            k / (frames - 1),
            _camera((0.01 * k - 0.1, 0.13 - 0.011 * k, 0.002 * k), 2.0 + 0.01 * k, aside=(0.0, 0.0, 0.004 * k)),
        )
        for k in range(frames)
    )


def _sevenths() -> tuple[CameraView, ...]:
    """Times that are no frames' but on a raster, and names of all kinds."""
    names = ("über/ä 7.png", "über/ä 07.png", "no number", "1_22_333.4444", "x999999999", "x000000000")
    camera = _camera((0.05, 0.1, -0.02), 2.0)
    ids = (5, 5, 5, 5, -1, -1)
    return tuple(
        CameraView(name, ("val", "test")[k % 2], ids[k], (k + 1) / 7, camera) for k, name in enumerate(names)
    )


def _free_times() -> tuple[CameraView, ...]:
    """Times on no raster, stored as they are; cameras of every kind side by side."""
    still = _camera((0.0, 0.0, 0.0), 2.0)
    times = (0.0, 0.7071067811865476, 1e-12, 1.0, 0.3010299956639812)
    ids = (0, 1, -1, 1, -1)
    cameras = [still if k % 2 else _camera((0.1, 0.02 * k, 0.0)) for k in range(5)]
    return tuple(
        CameraView(f"t{k}", "train" if k < 3 else "test", ids[k], times[k], cameras[k]) for k in range(len(times))
    )


def _single() -> tuple[CameraView, ...]:
    return (CameraView("only", "test", 0, 0.0, _camera((0.04, -0.06, 0.02))),)


def recipes() -> tuple[Recipe, ...]:
    """The six valid files."""
    return (
        Recipe(
            name="one_anchor",
            covers="one anchor, one primitive, one chunk, every size at its least; no deformation; no cameras section",
            anchors=1,
            grid_bits=1,
            model=_sizes(1, 1, 1, 4, 4, 1, 1),
            entropy={"chunks": 1, "hyper": 1, "hidden": 1},
            weights="fp32",
            coder="constriction",
            frames=1,
            background=(0.0, 0.0, 0.0),
            views=None,
            frame=(_camera((0.0, 0.0, 0.0), 1.5), 0.0),
        ),
        Recipe(
            name="rig_fp16",
            covers="weights in fp16; coarse deformation alone, offsets not turned; one chunk; a rig of fixed cameras, "
            "non-square pixels, principal points off the centre",
            blur=0.3,
            anchors=48,
            grid_bits=5,
            model=_sizes(3, 7, 5, 12, 8, 5, 3, coarse=True),
            entropy={"chunks": 1, "hyper": 2, "hidden": 10},
            weights="fp16",
            coder="constriction",
            frames=6,
            background=(1.0, 1.0, 1.0),
            views=_rig(6),
            frame=("cam02/0003", 0.6),
        ),
        Recipe(
            name="walk_int8",
            covers="weights in int8; both deformations and every switch on; four chunks, also cut off one after the "
            "other; a moving camera, three splits; colours that depend on the view, so minor version 1",
            minor=1,
            view_colors=True,
            anchors=150,
            grid_bits=7,
            model=_sizes(
                5, 12, 8, 20, 24, 7, 4, coarse=True, fine=True, rotate_offsets=True, coarse_opacity=True
            ),
            entropy={"chunks": 4, "hyper": 3, "hidden": 20},
            weights="int8",
            coder="constriction",
            frames=25,
            background=(0.25, 0.5, 0.125),
            views=_walk(25),
            frame=("walk/view_12", 0.5),
            cuts=("f_g_0", "f_g_1", "f_g_2", "f_g_3"),
        ),
        Recipe(
            name="torchac",
            covers="torchac's coder, with a block of 16384 symbols that is full, and escapes; fine deformation alone, "
            "one time knot; times on a raster of their own; names with many numbers and with none",
            blur=1.5,
            anchors=140,
            grid_bits=6,
            model=_sizes(16, 6, 16, 8, 8, 1, 5, fine=True, rotate_offsets=True),
            entropy={"chunks": 2, "hyper": 2, "hidden": 4},
            weights="fp32",
            coder="torchac",
            frames=12,
            background=(0.0, 0.0, 0.25),
            views=_sevenths(),
            frame=("1_22_333.4444", 4 / 7),
            steps=(("f_v", 4.0), ("sigma", 2.0), ("color", 6.0), ("f_g", 0.25)),
            outliers=150,
        ),
        Recipe(
            name="escapes",
            covers="residuals of up to 2^17 steps, contexts and values that saturate, zeros after a stream's end; "
            "positions of 21 bits; times as f64; cameras of every kind in one file",
            anchors=64,
            grid_bits=21,
            model=_sizes(2, 4, 2, 6, 6, 3, 1, coarse=True, fine=True, rotate_offsets=True),
            entropy={"chunks": 2, "hyper": 4, "hidden": 7},
            weights="fp32",
            coder="constriction",
            frames=40,
            background=(0.5, 0.5, 0.5),
            views=_free_times(),
            frame=("t4", 0.3010299956639812),
            outliers=5,
            saturate=True,
            padding=8,
        ),
        Recipe(
            name="version_2_7",
            covers="a minor version to come: fields after the header's, a key and optional sections that nobody knows; "
            "free settings of every type; sections in another order; four chunks, int8",
            anchors=32,
            grid_bits=4,
            model=_sizes(4, 3, 4, 5, 4, 2, 2, coarse=True, coarse_opacity=True),
            entropy={"chunks": 4, "hyper": 1, "hidden": 5},
            weights="int8",
            coder="constriction",
            frames=2,
            background=(1.0, 0.75, 0.5),
            views=_single(),
            frame=("only", 0.25),
            minor=7,
            settings=(
                ("a.list_of_integers", [-(2**63), 0, 2**63 - 1]),
                ("b.list_of_floats", [0.1, -1e300]),
                ("c.text", "naïve ✓"),
                ("d.float32", 0.5),
                ("e.float64", 0.1),
                ("f.integer", -129),
                ("g.true", True),
                ("h.false", False),
                ("i.empty", []),
            ),
            header_tail=b"what version 2.7 appends",
            extra=((0x9F, b"an optional section"), (0xFF, b"")),
            order=("f_g_2", "cameras", "color", "networks", "f_g_0", "hyper", "positions", "f_g_3", "sigma", "entropy"),
        ),
    )


def base(
    weights: Literal["fp16", "int8"] = "fp16",
    coder: Literal["constriction", "torchac"] = "constriction",
) -> Recipe:
    """A small file with one of everything, which the invalid ones are damaged copies of."""
    return replace(
        recipes()[0],
        name="base",
        anchors=6,
        grid_bits=6,
        model=_sizes(1, 2, 2, 4, 4, 1, 1, coarse=True, fine=True),
        entropy={"chunks": 2, "hyper": 1, "hidden": 2},
        weights=weights,
        coder=coder,
        frames=3,
        views=_single(),
    )

