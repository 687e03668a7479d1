"""Weights in eight bits that change what the networks say least, not what the weights are.

Rounding each weight to the nearest step ignores that inputs go together: after a ReLU, and of a code, they do strongly.
Here a weight's error is made up for by the weights of the same row that are not rounded yet, so that the outputs'
expected squared error is small (Frantar et al., GPTQ, ICLR 2023, after LeCun's optimal brain surgeon), layer by layer
with the inputs that the layer will have behind rounded ones; the mean of what is left goes into the bias. The file's
format knows nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..bitstream import LEVELS, Rounded, row_scales
from ..features import Features
from ..model import AnchorModel
from ..model.networks import TimedMLP
from ..model.position_code import position_code

_DAMPING = 0.001  # of the mean variance of an input, added to each
_INSTANTS = 32  # at which the deformation networks' inputs are looked at
_MAX_ROWS = 1 << 15  # of inputs; more say no more
_SWEEPS = 4  # steps a weight, at most, of the last descent

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class _Layer(NamedTuple):
    """A linear layer: its weight, its bias if it has one, and inputs that it gets, (M, inputs)."""

    name: str
    weight: Tensor
    bias: Tensor | None
    inputs: Tensor

    def sample(self) -> Float64:
        """Rows of the inputs, the same of all layers with as many, in twice the precision."""
        rows = self.inputs
        if len(rows) > _MAX_ROWS:  # not every n-th: anchors lie side by side at every instant
            rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:_MAX_ROWS]]
        return rows.double().numpy()


def round_networks(
    model: AnchorModel, features: Features, levels: int = LEVELS
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Rounded]]:
    """A model's networks as an int8 file should hold them.

    Args:
        model: in training, or decoded; it stays as it is.
        features: the attributes as a decoder will have them.
        levels: steps on either side of zero.

    Returns:
        the arrays of :meth:`AnchorModel.network_arrays`, and of the matrices among them that linear layers multiply
        with, their scales and symbols; both are what ``pack_arrays`` takes.
    """
    rounded: dict[str, Rounded] = {}
    with torch.no_grad():
        features = Features(*(part.detach().cpu() for part in vars(features).values()))
        whole, copy = _folded(model, features), _folded(model, features)
        for before, layer in zip(_layers(whole, features), _layers(copy, features), strict=True):
            rounded[layer.name] = _round_layer(before, layer, levels)
        return {name: array.numpy() for name, array in copy.network_arrays().items()}, rounded


def _folded(model: AnchorModel, features: Features) -> AnchorModel:
    copy = AnchorModel(model.config, model.positions.detach().cpu(), features, folded=True)
    copy.load_network_arrays(model.network_arrays())
    return copy


def _round_layer(before: _Layer, layer: _Layer, levels: int) -> Rounded:
    """Round a layer in place so that it makes of its new inputs what the layer before made of its own."""
    matrix = before.weight.double().numpy()
    wanted, given = before.sample(), layer.sample()
    mean_wanted, mean_given = wanted.mean(axis=0), given.mean(axis=0)
    if layer.bias is None:
        centred, difference = given, wanted - given
    else:
        centred, difference = given - mean_given, wanted - mean_wanted - (given - mean_given)
    moments = _damped(centred.T @ centred / len(given))
    best = matrix + matrix @ (difference.T @ centred / len(given)) @ np.linalg.inv(moments)
    found = round_matrix(best, moments, levels)
    layer.weight.copy_(torch.from_numpy(found.values()))
    if layer.bias is not None:
        layer.bias.add_(torch.from_numpy(matrix @ mean_wanted - found.values() @ mean_given).float())
    return found


def _damped(moments: Float64) -> Float64:
    return moments + np.eye(len(moments)) * max(_DAMPING * float(np.diagonal(moments).mean()), 1e-12)


def round_matrix(matrix: Float64, moments: Float64, levels: int) -> Rounded:
    """Symbols (outputs, inputs) for whose outputs no single step up or down makes the expected squared error smaller.

    Args:
        matrix: (outputs, inputs).
        moments: (inputs, inputs), second moments of the inputs, positive definite.
        levels: steps on either side of zero.
    """
    scales = row_scales(matrix.astype(np.float32), levels)
    step = Rounded(scales, np.ones((len(scales), 1), np.int64)).values()[:, 0].astype(np.float64)
    step[step == 0] = 1.0  # a row of zeros
    symbols = _one_by_one(matrix, moments, levels, step)
    _descend(symbols, matrix, moments, levels, step)
    return Rounded(scales, symbols)


def _one_by_one(matrix: Float64, moments: Float64, levels: int, step: Float64) -> Int64:
    """Column after column to the nearest step, each error made up for by the columns that are left (GPTQ)."""
    order = np.argsort(-np.diagonal(moments))  # what weighs most has all others to make up for it
    # Row i of the upper factor of the inverse says how the inputs after i make up for an error in i.
    factor = np.linalg.cholesky(np.linalg.inv(moments[np.ix_(order, order)])).T
    left = matrix[:, order].copy()
    symbols = np.zeros(matrix.shape, np.int64)
    for at, column in enumerate(order):
        symbols[:, column] = np.rint(left[:, at] / step).clip(-levels, levels)
        error = (left[:, at] - step * symbols[:, column]) / factor[at, at]
        left[:, at:] -= error[:, None] * factor[at, at:]
    return symbols


def _descend(symbols: Int64, matrix: Float64, moments: Float64, levels: int, step: Float64) -> None:
    """In every row, take the best single step up or down for as long as one helps; changes ``symbols``."""
    rows, variance = np.arange(len(symbols)), np.diagonal(moments)
    error = matrix - step[:, None] * symbols
    slope = error @ moments
    for _ in range(_SWEEPS * symbols.shape[1]):
        # What a step of +1 or -1 adds to a row's squared error.
        added = step[:, None] ** 2 * variance - 2 * step[:, None] * np.abs(slope)
        direction = np.where(slope > 0, 1, -1)
        added[np.abs(symbols + direction) > levels] = 0
        column = added.argmin(axis=1)
        helps = added[rows, column] < 0
        if not helps.any():
            break
        row, column = rows[helps], column[helps]
        change = direction[row, column]
        symbols[row, column] += change
        slope[row] -= (step[row] * change)[:, None] * moments[column]


def _layers(model: AnchorModel, features: Features) -> Iterator[_Layer]:
    """The layers in the order in which data passes; each one's inputs come from layers that are rounded by then."""
    yield from _prediction_layers(model, features)
    times = np.linspace(0, 1, _INSTANTS).tolist()
    if model.config.coarse:
        yield from _timed_layers("coarse", model.coarse_net, [features.f_v] * _INSTANTS, times)
    if model.config.fine:
        code = [position_code(_moved(model, features, time), model.config.position_frequencies) for time in times]
        yield from _timed_layers("fine", model.fine_net, code, times)


def _moved(model: AnchorModel, features: Features, time: float) -> Tensor:
    """Where the anchors are at an instant, (N, 3)."""
    if not model.config.coarse:
        return model.positions.detach()
    return model.positions.detach() + model.coarse_net(features.f_v, time, None)[:, :3]


def _prediction_layers(model: AnchorModel, features: Features) -> Iterator[_Layer]:
    net, f_g = model.predict_net, features.f_g.flatten(0, 1)
    yield _Layer("predict.shared.weight", net.shared.weight, net.shared.bias, features.f_v)
    yield _Layer("predict.own.weight", net.own.weight, None, f_g)
    common = (net.shared(features.f_v)[:, None, :] + net.slots).flatten(0, 1)
    first = F.relu(common + f_g @ net.own.weight.t())
    yield _Layer("predict.hidden.weight", net.hidden.weight, net.hidden.bias, first)
    second = first + F.relu(net.hidden(first))
    for head in ("position", "covariance", "color", "opacity"):
        layer = getattr(net, head)
        yield _Layer(f"predict.{head}.weight", layer.weight, layer.bias, second)


def _timed_layers(name: str, net: TimedMLP, codes: Sequence[Tensor], times: Sequence[float]) -> Iterator[_Layer]:
    yield _Layer(f"{name}.first.weight", net.first.weight, net.first.bias, torch.cat(list(codes)))

    def hidden() -> Tensor:
        rows = [F.relu(net.first(code) + net.time_row(time, None)) for code, time in zip(codes, times, strict=True)]
        return torch.cat(rows)

    yield _Layer(f"{name}.second.weight", net.second.weight, net.second.bias, hidden())
    yield _Layer(f"{name}.last.weight", net.last.weight, net.last.bias, F.relu(net.second(hidden())))
