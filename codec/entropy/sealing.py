"""From a trained model to integers. Not normative: whatever integers come out, every decoder reads them alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import OptionError
from ..features import Features
from .fixedpoint import INT16, MAX_BIAS, MAX_SHIFT, IntegerLayer, IntegerNetwork
from .model import ETA_SCALE
from .networks import HIDDEN_UNIT, SLOPE, ContextNetwork
from .sealed import ETA_LIMIT, ETA_UNIT, Context, Parameters, Prior, SealedEntropyModel
from .tables import FACTOR_INDEX_UNIT, FACTOR_ONE, LEVEL_UNIT, SIGMA_MIN, SIGMA_RATIO, TOTAL, Table

if TYPE_CHECKING:
    from .model import MultiDimensionEntropyModel

Doubles = NDArray[np.float64]
_TRIED_BITS = (4, 5, 6, 7, 8)
# Coded features may grow by this factor for smaller weights: training's estimate then stays within 2 % of the file's.
_MOST_WORSE = 1.015
_INPUT_UNIT = 1024  # at least so many integers per deviation of a context's channel


@torch.no_grad()
def choose_weight_bits(model: MultiDimensionEntropyModel, features: Features) -> tuple[int, SealedEntropyModel]:
    """With how many bits a weight the sealed model and the features that it codes are smallest together.

    Raises:
        OptionError: ``not-finite``.
    """
    sealed = [seal(model, features, bits) for bits in _TRIED_BITS]
    coded = [sum(one.estimate_bits(features).values()) / 8 for one in sealed]
    total = [
        len(one.to_bytes()) + size if size <= _MOST_WORSE * coded[-1] else math.inf
        for one, size in zip(sealed, coded, strict=True)
    ]
    best = total.index(min(total))
    return _TRIED_BITS[best], sealed[best]


@torch.no_grad()
def seal(model: MultiDimensionEntropyModel, features: Features | None, weight_bits: int | None) -> SealedEntropyModel:
    """See ``MultiDimensionEntropyModel.seal``. Raises: OptionError ``bad-weight-bits``, ``not-finite``."""
    if weight_bits is None and features is not None:
        return choose_weight_bits(model, features)[1]
    weight_bits = 8 if weight_bits is None else weight_bits
    if not 4 <= weight_bits <= 16:
        raise OptionError("bad-weight-bits", f"weights of {weight_bits} bits; 4 to 16 are possible")
    bad = [name for name, value in model.state_dict().items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise OptionError("not-finite", f"entropy model tensor '{bad[0]}' is not finite; train again with a lower rate")
    steps = {
        name: log_q.exp().clamp(2.0**-39, 2.0**39).cpu().numpy().astype(np.float32)
        for name, log_q in model.log_q.items()
    }
    config = model.config
    chunks = [f"f_g_{m}" for m in range(config.chunks)]
    scales = {name: _Scales(model, steps, name) for name in ("f_v", "sigma", "color", *chunks)}

    gains = {"eta": np.full(config.hyper, ETA_SCALE / ETA_UNIT if model.hyperprior else 0.0)}
    contexts = {}
    for name in ("f_v", *chunks[:-1]):
        contexts[name], gains[name] = scales[name].context()

    explicit = [scales["sigma"], scales["color"]]
    heads = {
        "f_v": ([gains["eta"]], [scales["f_v"]], 1),
        "attributes": ([gains["f_v"]], explicit, 2 + config.chunks),
    }
    for m, name in enumerate(chunks):
        heads[name] = ([gains["f_v"], *(gains[other] for other in chunks[:m])], [scales[name]], 0)
    factor_gain = float(FACTOR_INDEX_UNIT) if model.adaptive_step else 0.0  # all factors are 1 without
    networks = {
        name: _network(model.network(name), np.concatenate(inputs), *_outputs(parts, factors, factor_gain), weight_bits)
        for name, (inputs, parts, factors) in heads.items()
    }
    analysis = _analysis(model)
    priors = _priors(model, None if features is None else analysis(features.f_v.detach().cpu().numpy()))
    return SealedEntropyModel(config, Parameters(steps, priors, contexts, networks), analysis)


def reopen(model: MultiDimensionEntropyModel, data: bytes) -> SealedEntropyModel:
    """See ``MultiDimensionEntropyModel.reopen``."""
    return replace(SealedEntropyModel.from_bytes(data, model.config), analysis=_analysis(model))


class _Scales:
    """Real units of one component's columns, (C,) each."""

    def __init__(self, model: MultiDimensionEntropyModel, steps: dict[str, NDArray[np.float32]], name: str) -> None:
        m, s = model._statistics(name)
        self.mean = _numpy(m)
        self.deviation = _numpy(s)
        self.spread = _numpy(model.context_scale(name, s))
        base, _, index = name.partition("f_g_")
        if index:
            width = model.config.f_g // model.config.chunks
            part = steps["f_g"][int(index) * width : (int(index) + 1) * width]
            self.step = np.tile(part, model.config.primitives).astype(np.float64)
        else:
            self.step = steps[base].astype(np.float64)
        self.unit = self.step / FACTOR_ONE  # real value of the integer 1

    def context(self) -> tuple[Context, Doubles]:
        """The context's integers, and the real value of the integer 1 as the float network's input."""
        deviation = self.spread / self.unit  # in integers
        shift = np.clip(np.floor(np.log2(deviation / _INPUT_UNIT)), 0, 31).astype(np.int64)
        offset = np.clip(np.rint(self.mean / self.unit), -MAX_BIAS // 2, MAX_BIAS // 2).astype(np.int64)
        return Context(offset, shift), np.ldexp(1.0, shift) / deviation


def _outputs(parts: list[_Scales], factors: int, factor_gain: float) -> tuple[Doubles, Doubles]:
    """(gain, offset) of each output row: integer = gain * float output + offset. Means, then levels, then factors."""
    level = LEVEL_UNIT / math.log(SIGMA_RATIO)
    gain = [part.deviation / part.unit for part in parts]
    offset = [part.mean / part.unit for part in parts]
    gain += [np.full(part.mean.shape, level) for part in parts]
    offset += [level * np.log(part.deviation / part.step / SIGMA_MIN) for part in parts]
    gain.append(np.full(factors, factor_gain))
    offset.append(np.zeros(factors))
    return np.concatenate(gain), np.concatenate(offset)


def _network(
    network: ContextNetwork, inputs: Doubles, gain: Doubles, offset: Doubles, weight_bits: int
) -> IntegerNetwork:
    unit = float(HIDDEN_UNIT)
    weights = [_numpy(layer.weight) for layer in (network.first, network.second, network.last)]
    biases = [_numpy(layer.bias) for layer in (network.first, network.second, network.last)]
    return IntegerNetwork(
        (
            _layer(weights[0] * inputs * unit, biases[0] * unit, weight_bits),
            _layer(weights[1], biases[1] * unit, weight_bits),
            _layer(weights[2] * gain[:, None] / unit, biases[2] * gain + offset, weight_bits),
        )
    )


def _layer(weight: Doubles, bias: Doubles, weight_bits: int) -> IntegerLayer:
    """Round a real affine map on integers: each row gets the largest shift that its largest weight allows."""
    limit = (1 << (weight_bits - 1)) - 1
    largest = np.maximum(np.abs(weight).max(axis=1), 1e-12)
    shift = np.clip(np.floor(np.log2(limit / largest)), 0, MAX_SHIFT).astype(np.int64)
    rounded = np.clip(np.rint(np.ldexp(weight, shift[:, None])), -INT16, INT16).astype(np.int64)
    return IntegerLayer(rounded, shift, np.clip(np.rint(bias), -MAX_BIAS, MAX_BIAS).astype(np.int64))


def _analysis(model: MultiDimensionEntropyModel) -> Callable[[NDArray[np.float32]], Doubles]:
    if not model.hyperprior:
        return lambda f_v: np.zeros((len(f_v), model.config.hyper))
    m, s = (_numpy(x) for x in model._statistics("f_v"))
    first, last = model.analysis.first, model.analysis.last
    w1, b1, w2, b2 = (_numpy(x) for x in (first.weight, first.bias, last.weight, last.bias))
    gain = model.analysis.gain

    def analyse(f_v: NDArray[np.float32]) -> Doubles:
        hidden = ((f_v - m) / s) @ w1.T + b1
        result: Doubles = gain * (np.maximum(hidden, SLOPE * hidden) @ w2.T + b2)
        return result

    return analyse


def _priors(model: MultiDimensionEntropyModel, eta: Doubles | None) -> tuple[Prior, ...]:
    """The learned density over the integers, or, where eta is known, its histogram."""
    support = np.arange(-ETA_LIMIT, ETA_LIMIT + 1)
    grid = torch.from_numpy(support).float()[:, None].repeat(1, model.config.hyper).to(model.seen.device)
    density = _numpy(model.prior.probability(grid))
    priors = []
    for channel in range(model.config.hyper):
        if eta is None:
            mass = density[:, channel]
            kept = np.flatnonzero(mass > 1e-6)
        else:
            seen = np.clip(np.rint(eta[:, channel]), -ETA_LIMIT, ETA_LIMIT).astype(np.int64) + ETA_LIMIT
            mass = np.bincount(seen, minlength=support.size).astype(np.float64)
            kept = np.flatnonzero(mass)
        first, last = (int(kept[0]), int(kept[-1])) if kept.size else (ETA_LIMIT, ETA_LIMIT)
        last = max(last, first + 1) if first + 1 < support.size else last
        first = min(first, last - 1)
        priors.append(Prior(int(support[first]), _table(mass[first : last + 1])))
    return tuple(priors)


def _table(mass: Doubles) -> Table:
    free = TOTAL - mass.size
    frequencies = 1 + np.floor(mass / max(float(mass.sum()), 1e-30) * free).astype(np.int64)
    frequencies[int(np.argmax(mass))] += TOTAL - int(frequencies.sum())
    return Table(frequencies)


def _numpy(tensor: torch.Tensor) -> Doubles:
    return tensor.detach().cpu().numpy().astype(np.float64)
