"""From a recipe to a file: small models with weights and anchors by :class:`Source`, coded by adcgs.

Nothing is trained and nothing floating decides what is written but sums, products and quotients, which are the same on
every machine. The networks' biases say where values and scale levels are, so that pictures show something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from adcgs.bitstream import SECTION_KINDS, Header, pack_arrays, pack_cameras, pack_view_colors
from adcgs.bitstream.cursor import text
from adcgs.bitstream.settings import pack_settings
from adcgs.entropy import EntropyConfig, SealedEntropyModel
from adcgs.entropy.fixedpoint import IntegerLayer, IntegerNetwork
from adcgs.entropy.sealed import Context, Parameters, Prior
from adcgs.entropy.tables import Table
from adcgs.features import Features
from adcgs.geometry import encode_positions, morton_order
from adcgs.model import ModelConfig, network_shapes
from numpy.typing import NDArray

from tests.fuzz.mutators import assemble, honest

from .bit_encoder import plain_torchac
from .recipes import Recipe
from .source import Source

# What values are about: log extents, log scales, colours, features.
_CENTRES = {"sigma": [-1.5] * 3 + [-2.5] * 3, "color": [0.0] * 3}
_STEPS = {"f_v": 0.1, "sigma": 0.05, "color": 0.15, "f_g": 0.12}
_UNITS = 4096  # a step in units of decoded values
_LEVEL = 256  # a scale level in units of the networks' outputs
_OUTLIERS = (20.0, -45.0, 300.0, -7000.0, 2.0**18)  # in steps; the last is beyond what can be coded

KNOWN_TO_NOBODY = 200
KNOWN_TO_NOBODY_SINCE = 2  # the first minor version to come


def make(recipe: Recipe) -> bytes:
    """The file."""
    parts = sections(recipe)
    order = recipe.order or tuple(name for name in parts if name != "header")
    rows = [honest(SECTION_KINDS[name], parts[name]) for name in ("header", *order)]
    rows += [honest(SECTION_KINDS[name], parts[name]) for name in parts if name not in ("header", *order)]
    extra = [honest(kind, content) for kind, content in recipe.extra]
    return assemble([rows[0], *extra[:1], *rows[1:], *extra[1:]], version=bytes([2, recipe.minor]))


def sections(recipe: Recipe) -> dict[str, bytes]:
    """Name to bytes of every section, in the order of the specification."""
    source = Source(f"adcgs conformance {recipe.name}")
    model = ModelConfig.from_dict(recipe.model)
    grid = positions(source, recipe)
    sealed = entropy_model(source, recipe)
    with plain_torchac():
        coded = sealed.compress(features(source, recipe, sealed))
        parameters = sealed.to_bytes()
    streams = {**coded.streams, "hyper": coded.streams["hyper"] + bytes(recipe.padding)}
    cameras = {} if recipe.views is None else {"cameras": pack_cameras(recipe.views, recipe.frames)}
    return {
        "header": header(recipe),
        "networks": pack_arrays(weights(source, network_shapes(model)), recipe.weights),
        "entropy": parameters,
        **cameras,
        **(view_colors(source, recipe) if recipe.view_colors else {}),
        "positions": encode_positions(grid),
        **streams,
    }


def view_colors(source: Source, recipe: Recipe) -> dict[str, bytes]:
    """The section; slopes of about a tenth."""
    size = int(recipe.model["reference_dim"])
    return {"view_colors": pack_view_colors(source.floats(0.125, 9, size), source.floats(0.125, 9))}


def header(recipe: Recipe) -> bytes:
    """The header section."""
    cells = 1 << recipe.grid_bits
    stored = Header(
        anchors=recipe.anchors,
        frame_count=recipe.frames,
        frame_rate=29.97,
        scale=0.125,
        center=(1.5, -2.25, 1e6),
        background=recipe.background,
        grid_origin=(-0.5 + 0.5 / cells, -0.5 + 0.5 / cells, -0.5 + 0.5 / cells),
        voxel=1 / cells,
        near=0.2,
        blur=recipe.blur,
        coder=recipe.coder,
        encoder="adcgs conformance",
        config={**recipe.model, **recipe.entropy},
    )
    data = stored.to_bytes()
    if recipe.minor < KNOWN_TO_NOBODY_SINCE:
        return data
    registered = pack_settings(stored.config)
    free = pack_settings(dict(recipe.settings))
    unknown = bytes([KNOWN_TO_NOBODY, 5]) + text("the value of a key to come")
    count = registered[0] + 1 + free[0]
    settings = bytes([count]) + registered[1:] + unknown + free[1:]
    return data[: len(data) - len(registered)] + settings + recipe.header_tail


def positions(source: Source, recipe: Recipe) -> NDArray[np.uint32]:
    """(N, 3) distinct grid points in canonical order, more of them near the centre of the cube."""
    cells = 1 << recipe.grid_bits
    drawn = source.bell(0.5, 4 * recipe.anchors, 3) + 0.5
    points = np.clip((drawn * cells).astype(np.int64), 0, cells - 1)
    distinct = np.array(list(dict.fromkeys(map(tuple, points.tolist())))[: recipe.anchors], np.uint32)
    assert len(distinct) == recipe.anchors
    return distinct[morton_order(distinct)]


def weights(source: Source, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Weights of the three networks, of a size at which activations keep theirs."""
    gains = {"color": 1.0, "opacity": 2.0, "position": 1.0, "last": 0.25, "rows": 1.0}
    arrays = {}
    for name, shape in shapes.items():
        gain = next((value for part, value in gains.items() if f".{part}" in name), 1.0)
        reach = gain * 2.0 ** -(math.isqrt(shape[-1]).bit_length() - 1) if len(shape) == 2 else 0.25 * gain
        arrays[name] = source.floats(reach, *shape)
    return arrays


# ---------------------------------------------------------------- the entropy model


def entropy_model(source: Source, recipe: Recipe) -> SealedEntropyModel:
    """A sealed model with integers out of the air; eta is the beginning of f_v."""
    config = EntropyConfig(
        f_v=int(recipe.model["reference_dim"]),
        primitives=int(recipe.model["primitives"]),
        f_g=int(recipe.model["residual_dim"]),
        coder=recipe.coder,
        **recipe.entropy,
    )
    widths = {"f_v": config.f_v, "sigma": config.sigma, "color": config.color, "f_g": config.f_g}
    steps = {
        name: (_STEPS[name] * (1 + source.integers(-30, 30, width) / 100)).astype(np.float32)
        for name, width in widths.items()
    }
    contexts = {
        name: Context(source.integers(-300, 300, config.width(name)), source.integers(2, 6, config.width(name)))
        for name in ("f_v", *(f"f_g_{m}" for m in range(config.chunks - 1)))
    }
    networks = {
        name: network(source, name, recipe, inputs, config.hidden, outputs, steps)
        for name, inputs, outputs in config.network_shapes()
    }
    priors = tuple(prior(source, low) for low in source.integers(-9, -6, config.hyper).tolist())
    return SealedEntropyModel(
        config,
        Parameters(steps, priors, contexts, networks),
        analysis=lambda f_v: np.resize(f_v.astype(np.float64), (len(f_v), config.hyper)) * 8.0,
    )


def network(
    source: Source,
    name: str,
    recipe: Recipe,
    inputs: int,
    hidden: int,
    outputs: int,
    steps: Mapping[str, NDArray[np.float32]],
) -> IntegerNetwork:
    """One network. Means move by a step or so around where values are, levels by some around what fits their spread."""
    reach = dict(recipe.steps)

    def level(component: str) -> int:
        return round(_LEVEL * math.log(max(0.5 * reach[component], 0.11) / 0.11, 1.115))

    def layer(rows: int, columns: int, bias: NDArray[np.int64], shift: NDArray[np.int64]) -> IntegerLayer:
        return IntegerLayer(source.integers(-31, 31, rows, columns), shift, bias)

    def narrowing(columns: int) -> int:
        """The shift after which a sum of this many products is as large as its inputs."""
        return 4 + math.isqrt(columns).bit_length()

    if name == "attributes":
        means = np.concatenate([np.array(_CENTRES[n]) / steps[n] for n in ("sigma", "color")]) * _UNITS
        levels = np.array([level("sigma")] * 6 + [level("color")] * 3)
        factors = outputs - 2 * len(levels)
    else:
        component = "f_g" if name.startswith("f_g") else "f_v"
        factors = outputs % 2
        means = np.zeros(outputs // 2)
        levels = np.full(outputs // 2, level(component))
    moves = min(1.0, min(reach.values()))
    bias = np.concatenate([np.rint(means).astype(np.int64), levels, np.zeros(factors, np.int64)])
    if recipe.saturate and name == "attributes":
        bias[0] = -(1 << 31)
    last = narrowing(hidden)
    shift = np.repeat([last - 3 if moves >= 1 else last, last, last + 3], [len(means), len(levels), factors])
    return IntegerNetwork(
        (
            layer(hidden, inputs, source.integers(-200, 200, hidden), np.full(hidden, narrowing(inputs))),
            layer(hidden, hidden, source.integers(-200, 200, hidden), np.full(hidden, narrowing(hidden))),
            layer(outputs, hidden, bias, shift),
        )
    )


def prior(source: Source, low: int) -> Prior:
    """A hump over low .. -low."""
    shares = [1 + (1 - low - abs(value)) ** 3 for value in range(low, 1 - low)]
    frequencies = [max(1, share * 65536 // sum(shares)) for share in shares]
    frequencies[-low] += 65536 - sum(frequencies)
    return Prior(low, Table(np.array(frequencies, np.int64)))


def features(source: Source, recipe: Recipe, sealed: SealedEntropyModel) -> Features:
    """Attributes of the anchors: some steps around the centres, and outliers."""
    config, reach = sealed.config, dict(recipe.steps)
    widths = {
        "f_v": (config.f_v,),
        "sigma": (config.sigma,),
        "color": (config.color,),
        "f_g": (config.primitives, config.f_g),
    }
    found = {}
    for name, width in widths.items():
        unit = sealed.parameters.steps[name].astype(np.float64)
        values = source.bell(1.0, recipe.anchors, *width) * reach[name]
        if recipe.outliers:
            flat = values.reshape(-1)
            places = np.arange(recipe.outliers // 2, flat.size, recipe.outliers)
            # What is far off must not fill the picture: extents and scales shrink, features stay bounded.
            far = np.resize(_OUTLIERS if name in ("sigma", "color") else _OUTLIERS[:2], places.size)
            flat[places] = -np.abs(far) if name == "sigma" else far
        if recipe.saturate and name == "sigma":
            values[:, 0] = -(2.0**19)
        centre = np.array(_CENTRES.get(name, 0.0))
        found[name] = torch.from_numpy((centre + values * unit).astype(np.float32))
    return Features(**found)
