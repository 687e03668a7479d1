"""Rounded networks against what plain rounding does to the same outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from adcgs.bitstream import pack_arrays, unpack_arrays
from adcgs.bitstream.quantised import quantise
from adcgs.features import Features
from adcgs.gaussians import Gaussians
from adcgs.model import AnchorModel, ModelConfig, network_shapes
from adcgs.training.rounding import round_matrix, round_networks

CONFIG = ModelConfig()


def relu_inputs(count: int, width: int, seed: int = 0) -> np.ndarray:
    """What a layer behind a ReLU gets whose own inputs are few: correlated and one-sided."""
    generator = np.random.default_rng(seed)
    return np.maximum(generator.normal(size=(count, 8)) @ generator.normal(size=(8, width)) + 0.3, 0)


def trained_like(config: ModelConfig, seed: int = 0) -> AnchorModel:
    """A model whose every layer does something."""
    generator = torch.Generator().manual_seed(seed)
    count = 300

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    features = Features(
        0.5 * normal(count, config.reference_dim),
        0.3 * normal(count, config.primitives, config.residual_dim),
        normal(count, 6).mul(0.3) - 3,
        normal(count, 3),
    )
    torch.manual_seed(seed)  # of the networks' first weights
    model = AnchorModel(config, 0.3 * normal(count, 3), features, generator=generator)
    with torch.no_grad():
        for net in (model.coarse_net, model.fine_net):
            net.last.weight.copy_(0.05 * normal(*net.last.weight.shape))
            net.last.bias.copy_(0.05 * normal(*net.last.bias.shape))
    return model


def reloaded(model: AnchorModel, data: bytes) -> AnchorModel:
    arrays = unpack_arrays(data, network_shapes(model.config))
    decoded = AnchorModel(model.config, model.positions.detach(), model.features, folded=True)
    decoded.load_network_arrays({name: torch.from_numpy(array) for name, array in arrays.items()})
    return decoded


def change(model: AnchorModel, other: AnchorModel) -> dict[str, float]:
    """Root mean square difference of what both place, by attribute, over instants that rounding did not look at."""
    squared: dict[str, list[float]] = {}
    with torch.no_grad():
        for time in (0.11, 0.5, 0.93):
            one, two = model.gaussians_at(time), other.gaussians_at(time)
            for name in vars(one):
                difference = getattr(one, name) - getattr(two, name)
                squared.setdefault(name, []).append(float((difference**2).mean()))
    return {name: float(np.sqrt(np.mean(values))) for name, values in squared.items()}


@pytest.mark.parametrize("levels", [7, 127])
def test_outputs_of_correlated_inputs_change_less_than_under_plain_rounding(levels: int) -> None:
    inputs = relu_inputs(2000, 64)
    matrix = np.random.default_rng(1).normal(size=(32, 64))
    found = round_matrix(matrix, inputs.T @ inputs / len(inputs), levels)
    plain = quantise(matrix.astype(np.float32), levels)
    assert np.array_equal(found.scales, plain.scales)
    assert np.abs(found.symbols).max() <= levels
    error = [np.square(inputs @ (matrix - rounded.values()).T).mean() for rounded in (found, plain)]
    assert error[0] < 0.2 * error[1]


def test_inputs_that_go_their_own_ways_leave_nothing_to_make_up_for() -> None:
    matrix = np.random.default_rng(1).normal(size=(8, 16))
    found = round_matrix(matrix, np.diag(np.arange(1.0, 17)), 127)
    assert np.array_equal(found.symbols, quantise(matrix.astype(np.float32), 127).symbols)


def test_no_single_step_makes_the_error_smaller() -> None:
    inputs = relu_inputs(500, 12)
    moments = inputs.T @ inputs / len(inputs) + 1e-3 * np.eye(12)
    matrix = np.random.default_rng(2).normal(size=(3, 12))
    found = round_matrix(matrix, moments, 15)
    step = np.abs(found.values()).max(axis=1) / np.abs(found.symbols).max(axis=1)

    def errors(symbols: np.ndarray) -> np.ndarray:
        left = matrix - step[:, None] * symbols
        return np.einsum("ri,ij,rj->r", left, moments, left)

    least = errors(found.symbols)
    for column in range(12):
        for direction in (-1, 1):
            other = found.symbols.copy()
            other[:, column] += direction
            is_allowed = np.abs(other[:, column]) <= 15
            assert (errors(other) >= least * (1 - 1e-9))[is_allowed].all()


def test_a_row_of_zeros_and_inputs_that_never_vary_are_rounded_too() -> None:
    matrix = np.random.default_rng(1).normal(size=(4, 6))
    matrix[2] = 0
    found = round_matrix(matrix, 1e-12 * np.eye(6), 127)
    assert (found.symbols[2] == 0).all()
    assert np.array_equal(found.symbols, quantise(matrix.astype(np.float32), 127).symbols)


def test_the_file_holds_the_symbols_that_were_chosen() -> None:
    model = trained_like(CONFIG)
    arrays, rounded = round_networks(model, model.features)
    back = unpack_arrays(pack_arrays(arrays, "int8", rounded=rounded), network_shapes(CONFIG))
    assert set(rounded) < set(arrays) == set(back)
    for name, matrix in rounded.items():
        assert np.array_equal(back[name], matrix.values())
        assert np.array_equal(arrays[name], matrix.values())


@pytest.mark.parametrize("changes", [{}, {"coarse": False}, {"fine": False}])
def test_scenes_change_less_than_under_plain_rounding(changes: dict[str, bool]) -> None:
    ratios = [_change_to_plain(trained_like(CONFIG, seed), changes) for seed in range(4)]
    for name in Gaussians.__annotations__:  # a layer has several outputs: one of them may fare worse, not all the time
        assert np.exp(np.mean([np.log(ratio[name]) for ratio in ratios])) < 0.9, name


def _change_to_plain(model: AnchorModel, changes: dict[str, bool]) -> dict[str, float]:
    """What rounding changes over what plain rounding does, by attribute; the model must stay as it is."""
    for name in changes:
        delattr(model, f"{name}_net")
    model.config = replace(CONFIG, **changes)
    before = {name: array.numpy().copy() for name, array in model.network_arrays().items()}
    arrays, rounded = round_networks(model, model.features, 31)
    careful = change(model, reloaded(model, pack_arrays(arrays, "int8", 31, rounded)))
    plain = change(model, reloaded(model, pack_arrays(before, "int8", 31)))
    for name, array in model.network_arrays().items():
        assert np.array_equal(array.numpy(), before[name])
    return {name: careful[name] / plain[name] for name in plain}
