"""The entropy model's compiled networks and prior against their definitions in torch, in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from adcgs.entropy import MultiDimensionEntropyModel, fused, prior_kernels
from adcgs.entropy.networks import HIDDEN_LIMIT, ContextNetwork
from adcgs.entropy.prior import FactorisedPrior
from adcgs.features import Features
from torch import Tensor

from .samples import SMALL, anchors


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_close(got: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    """Relative to each tensor's largest value."""
    for place, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert a.shape == b.shape
        if b.numel():
            error = float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-6))
            assert error <= tolerance, f"{place}: {error:.1e}"


def network_results(net: ContextNetwork, x: Tensor, plain: bool) -> list[Tensor]:
    """The output, and the gradients of a weighting of it by inputs and weights."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    out = net.plain(x) if plain else net(x)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype))
    return [out.detach(), x.grad, *(p.grad.clone() for p in net.parameters())]


@pytest.mark.parametrize("scale", [1.0, 30.0])  # the larger one saturates a part of the hidden units
@pytest.mark.parametrize(("n", "i", "h", "o"), [(1, 4, 32, 65), (37, 32, 32, 24), (700, 104, 32, 48), (161, 5, 7, 3)])
def test_network_agrees_with_its_definition(n: int, i: int, h: int, o: int, scale: float) -> None:
    torch.manual_seed(n)
    net = ContextNetwork(i, h, o)
    x = scale * torch.randn(n, i)
    got = network_results(net, x, plain=False)
    assert (scale == 1.0) == (float(net.double().first(x.double()).detach().abs().max()) < HIDDEN_LIMIT)
    assert_close(got, network_results(net, x.double(), plain=True), 2e-5)


def prior_of(channels: int) -> FactorisedPrior:
    """With parameters that differ everywhere."""
    torch.manual_seed(channels)
    prior = FactorisedPrior(channels)
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return prior


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("n", [1, 37, 1100])
def test_prior_agrees_with_its_definition(n: int, noise: bool) -> None:
    prior = prior_of(4)
    eta = (3 * torch.randn(n, 4)).requires_grad_()
    torch.manual_seed(9)
    bits = prior.bits(eta, noise)
    bits.backward()
    got = [bits.detach(), eta.grad, *(p.grad.clone() for p in prior.parameters())]
    prior.zero_grad()
    drawn = None
    if noise:  # the kernel's hash of place and seed, in numpy's integers
        torch.manual_seed(9)
        place = torch.arange(4 * n).numpy().astype("uint32") + int(torch.randint(0, 1 << 32, ()))
        x = place.astype("uint32")
        x = (x ^ x >> 16) * x.dtype.type(0x7FEB352D)
        x = (x ^ x >> 15) * x.dtype.type(0x846CA68B)
        x = x ^ x >> 16
        drawn = torch.from_numpy((x >> 8).astype("float64") * 2.0**-24 - 0.5).view(n, 4)
    wide = eta.detach().double().requires_grad_()
    expected = prior.double().bits_plain(wide, drawn)
    expected.backward()
    wanted = [expected.detach(), wide.grad, *(p.grad for p in prior.parameters())]
    assert_close(got, wanted, 2e-4)


def test_gradient_of_the_prior_is_its_slope() -> None:
    """Finite differences of the plain definition."""
    prior = prior_of(2).double()
    rows = prior.channel_rows().detach()
    assert rows.shape == (2, prior_kernels.PARAMETERS)
    eta, noise = torch.tensor([[1.3, -2.1]], dtype=torch.float64), torch.tensor([[0.2, -0.4]], dtype=torch.float64)
    leaf = eta.clone().requires_grad_()
    prior.bits_plain(leaf, noise).backward()
    for place in range(2):
        step = torch.zeros_like(eta)
        step[0, place] = 1e-5
        up, down = (-torch.log2(prior.probability(eta + noise + s)).sum() for s in (step, -step))
        assert leaf.grad[0, place].item() == pytest.approx((up - down).item() / 2e-5, rel=1e-5)


def test_no_bit_depends_on_the_number_of_threads() -> None:
    features = anchors(3000)

    def results(threads: int, with_rate: bool) -> list[Tensor]:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        model = MultiDimensionEntropyModel(SMALL)
        leaves = [value.clone().requires_grad_() for value in vars(features).values()]
        coded, rate = model(Features(*leaves), "noise", True)
        if not with_rate:
            coded, _ = model(Features(*leaves), "noise", False)
        loss = sum(value.square().sum() for value in vars(coded).values())
        (loss + rate.total).backward()
        grown = [p.grad for p in model.parameters() if p.grad is not None]
        return [rate.total.detach(), *(leaf.grad for leaf in leaves), *grown]

    for with_rate in (True, False):
        alone = results(1, with_rate)
        for threads in (2, 5):
            assert all(torch.equal(a, b) for a, b in zip(results(threads, with_rate), alone, strict=True))


def test_hooks_are_called() -> None:
    net, seen = ContextNetwork(3, 8, 2), []
    net.second.register_forward_hook(lambda *_: seen.append(1))
    net(torch.randn(5, 3))
    assert seen


def test_no_anchors_at_all() -> None:
    net = ContextNetwork(3, 8, 2)
    out = net(torch.zeros(0, 3))
    assert out.shape == (0, 2)
    out.sum().backward()
    assert not net.last.weight.grad.any()
    assert fused.prior_bits(torch.zeros(0, 2), prior_of(2).channel_rows(), True).item() == 0.0
