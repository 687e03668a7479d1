"""The kernels that take a block of anchors through all networks, against their definition in torch, in double."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from adcgs.entropy import EntropyConfig, MultiDimensionEntropyModel, chain
from adcgs.features import Features
from torch import Tensor

from .samples import SMALL, anchors

ATTRIBUTES = ("f_v", "sigma", "color", "f_g")
ONE_CHUNK = EntropyConfig(f_v=5, primitives=2, f_g=3, chunks=1, sigma=2, color=1, hyper=3, hidden=7)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wild_model(config: EntropyConfig, **switches: bool) -> MultiDimensionEntropyModel:
    """Networks and statistics of no good sense, so that every column differs."""
    torch.manual_seed(3)
    model = MultiDimensionEntropyModel(config, **switches)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
        for name in ATTRIBUTES:
            getattr(model, f"mean_{name}").normal_(std=0.1)
            getattr(model, f"deviation_{name}").uniform_(0.3, 1.0)
    return model


def coded(
    model: MultiDimensionEntropyModel, features: Features, mode: Any, compiled: bool, count_bits: bool = True
) -> tuple[Features, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Values, bits, means, step factors, and the gradients of a mixture of values and bits by all that there is."""
    like = model.mean_f_v
    leaves = {name: getattr(features, name).to(like.dtype).clone().requires_grad_() for name in ATTRIBUTES}
    shape = (len(features), model.config.hyper)
    eta = torch.linspace(-3, 3, shape[0] * shape[1]).view(shape).to(like.dtype)
    log_q = {name: value.detach().clone().requires_grad_() for name, value in model.log_q.items()}
    factors: dict[str, Tensor] = {}
    run = model._code_compiled if compiled else model._code_plain
    values, bits, means = run(Features(**leaves), eta.requires_grad_(), log_q, mode, factors, count_bits)
    loss = torch.stack([bits[name] * (0.01 + 0.005 * i) for i, name in enumerate(bits)]).sum()
    for name in ATTRIBUTES:
        value = getattr(values, name)
        loss = loss + (value * torch.linspace(-1, 1, value.numel(), dtype=like.dtype).view_as(value)).sum()
    for parameter in model.networks.parameters():
        parameter.grad = None
    loss.backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()} | {"eta": eta.grad}
    gradients |= {f"log_q.{name}": leaf.grad for name, leaf in log_q.items()}
    gradients |= {f"networks.{name}": p.grad for name, p in model.networks.named_parameters()}
    return values, bits, means, factors, gradients


def drawn_noise(
    model: MultiDimensionEntropyModel, features: Features, values: Features, factors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """What the kernels added to each component, in steps."""
    quantised = {name: getattr(values, name) - getattr(features, name) for name in ("f_v", "sigma", "color")}
    quantised |= dict(model._chunks(values.f_g - features.f_g))
    steps = {name: model._columns(model.log_q, name).exp() * factors[name] for name in quantised}
    return {name: (error / steps[name]).detach().double() for name, error in quantised.items()}


@pytest.mark.parametrize("config", [SMALL, ONE_CHUNK])
@pytest.mark.parametrize("spread", [0.2, 1.0, 2.5])
@pytest.mark.parametrize(("mode", "adaptive"), [("round", True), ("settle", True), ("noise", True), ("noise", False)])
def test_agrees_with_its_definition(
    mode: str, adaptive: bool, spread: float, config: EntropyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = anchors(333, config)
    for name in ATTRIBUTES:
        setattr(features, name, spread * getattr(features, name))
    model = wild_model(config, adaptive_step=adaptive)
    other = copy.deepcopy(model)
    torch.manual_seed(2)
    noisy = coded(other, features, "noise", compiled=True)  # where values have it, it can be seen
    noise = drawn_noise(other, features, noisy[0], noisy[3])
    torch.manual_seed(2)
    ours = coded(model, features, mode, compiled=True)
    for drawn in noise.values():
        assert float(drawn.abs().max()) < 0.51
        assert float(drawn.var()) == pytest.approx(1 / 12, rel=0.2)
    draws = iter([] if mode == "round" else noise.values())
    monkeypatch.setattr(torch, "rand_like", lambda like: next(draws).view_as(like) + 0.5)
    theirs = coded(copy.deepcopy(model).double(), features, mode, compiled=False)
    assert next(draws, None) is None

    for name in ATTRIBUTES:
        apart = (getattr(ours[0], name).double() - getattr(theirs[0], name)).abs() > 1e-4
        assert float(apart.double().mean()) < 0.002, name  # ties may fall either way
    for got, wanted, tolerance in zip(ours[1:], theirs[1:], (1e-4, 1e-5, 1e-5, 1e-3), strict=True):
        assert got.keys() == wanted.keys()
        for name, value in wanted.items():
            if value is None or not value.any():  # the steps' networks, where there are no step factors
                assert got[name] is None or not got[name].any(), name
                continue
            error = float((got[name].double() - value).abs().max() / value.abs().max())
            assert error < tolerance, f"{name}: {error:.1e}"


def test_bits_that_nobody_counts_have_their_gradient() -> None:
    model, features = wild_model(SMALL), anchors(200)
    torch.manual_seed(1)
    counted = coded(model, features, "noise", compiled=True)
    torch.manual_seed(1)
    uncounted = coded(model, features, "noise", compiled=True, count_bits=False)
    assert all(float(bits) > 0 for bits in counted[1].values())
    assert all(float(bits) == 0 for bits in uncounted[1].values())
    for name, gradient in counted[4].items():
        assert torch.equal(gradient, uncounted[4][name]), name


def test_no_gradient_wanted_is_the_same_quantisation() -> None:
    model, features = wild_model(SMALL), anchors(200)
    kept = model(features, "round", True)
    with torch.no_grad():
        free = model(features, "round", True)
    for name in ATTRIBUTES:
        assert torch.equal(getattr(kept[0], name), getattr(free[0], name))
    assert kept[1].by_component() == free[1].by_component()


def test_no_anchors_at_all() -> None:
    values, bits, means, factors, gradients = coded(wild_model(SMALL), anchors(0), "noise", compiled=True)
    assert values.f_g.shape == (0, SMALL.primitives, SMALL.f_g)
    assert not any(float(value) for value in bits.values())
    assert all(len(value) == 0 for value in (*means.values(), *factors.values()))
    assert not any(value.any() for value in gradients.values())


def test_every_column_of_f_g_has_its_place() -> None:
    found = chain.plan(SMALL)
    assert sorted(found.f_g_order.tolist()) == list(range(SMALL.primitives * SMALL.f_g))
    f_g = torch.arange(SMALL.primitives * SMALL.f_g).view(SMALL.primitives, SMALL.f_g)
    chunks = torch.cat([chunk.flatten() for chunk in f_g.split(SMALL.f_g // SMALL.chunks, dim=1)])
    assert found.f_g_order.tolist() == chunks.tolist()
