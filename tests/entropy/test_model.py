"""The multi-dimension entropy model in training: gradients everywhere, a falling rate, honest estimates."""

import math

import pytest
import torch
from adcgs.entropy import EntropyConfig, Features, MultiDimensionEntropyModel

from .samples import SMALL, anchors, distortion, train, trained

ATTRIBUTES = ("f_v", "f_g", "sigma", "color")


def fresh(count: int = 200) -> tuple[MultiDimensionEntropyModel, Features]:
    torch.manual_seed(0)
    return MultiDimensionEntropyModel(SMALL), anchors(count)


@pytest.mark.parametrize("mode", ["noise", "settle", "round"])
def test_rate_reaches_every_parameter(mode: str):
    model, features = fresh()
    leaves = Features(**{name: getattr(features, name).clone().requires_grad_() for name in ATTRIBUTES})
    model(leaves, mode, True)[1].total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
    for name in ATTRIBUTES:
        assert float(getattr(leaves, name).grad.abs().max()) > 0, name


@pytest.mark.parametrize(("mode", "pulls"), [("noise", True), ("settle", True), ("round", False)])
def test_the_hyperpriors_own_bits_pull_eta_until_it_is_sealed(mode: str, pulls: bool):
    """Rounded ones do not: what nothing pulls back drifts, and costs bits."""
    model, features = fresh()
    model(features, mode, True)[1].hyper.backward()
    pulled = [p.grad is not None and bool(p.grad.any()) for p in model.analysis.parameters()]
    assert any(pulled) == pulls


def test_rate_falls_as_the_networks_learn():
    """With Q fixed, only better predictions can save bits."""
    model, features = fresh(600)
    model.steps.requires_grad_(False)
    bits = train(model, features, 120)
    assert bits[-1] < 0.9 * bits[0]


def test_rate_pulls_the_steps_up_and_distortion_pulls_them_down():
    model, features = fresh()

    def pull(cheap_calls: int, price: float) -> dict[str, torch.Tensor]:
        """Gradient of the steps after some calls without rate and one with it."""
        model.forget_steps()
        model(features, "noise", True)
        for _ in range(cheap_calls):
            (price * distortion(model(features, "noise", False)[0], features)).backward()
        model.zero_grad()
        model(features, "noise", True)[1].total.backward()
        return {name: step.grad for name, step in model.steps.items()}

    assert all((gradient < 0).all() for gradient in pull(0, 0.0).values())  # a larger step saves bits
    assert all((gradient > 0).all() for gradient in pull(3, 100.0).values())


def test_distortion_alone_does_not_shrink_the_steps():
    model, features = fresh()
    learned = Features(**{name: getattr(features, name).clone().requires_grad_() for name in ATTRIBUTES})
    for _ in range(3):
        distortion(model(learned, "noise", False)[0], features).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    model(features, "noise", True)[1].total.backward()
    assert all((step.grad < 0).all() for step in model.steps.values())


def test_steps_survive_a_checkpoint():
    model, features = fresh()
    model(features, "noise", True)
    distortion(model(features, "noise", False)[0], features).backward()
    copy = MultiDimensionEntropyModel(SMALL)
    copy.load_state_dict(model.state_dict())
    copy.load_steps_state(model.steps_state())
    for one in (model, copy):
        torch.manual_seed(3)
        distortion(one(features, "noise", False)[0], features).backward()
        one(features, "noise", True)[1].total.backward()
    for (name, ours), theirs in zip(model.named_parameters(), copy.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name
    copy.load_steps_state({})
    assert copy.steps_state() == {}


def test_steps_from_before_the_first_rate_gather_nothing_after_a_checkpoint_either():
    model, features = fresh()
    model(features, "noise", False)
    copy = MultiDimensionEntropyModel(SMALL)
    copy.load_steps_state(model.steps_state())
    for one in (model, copy):
        assert not one(features, "noise", False)[0].f_g.requires_grad  # neither features nor steps are learned from it


def test_total_is_the_sum_of_the_components():
    model, features = fresh()
    rate = model(features)[1]
    parts = rate.by_component()
    assert list(parts) == list(SMALL.components)
    assert sum(parts.values()) == pytest.approx(float(rate.total.detach()), rel=1e-5)


def test_later_chunks_learn_from_earlier_ones():
    """f_g's second chunk repeats its first: once trained, it is nearly free."""
    torch.manual_seed(0)
    features = anchors(600)
    width = SMALL.f_g // SMALL.chunks
    features.f_g[:, :, width : 2 * width] = features.f_g[:, :, :width]
    model = MultiDimensionEntropyModel(SMALL)
    model.steps.requires_grad_(False)
    train(model, features, 120)
    bits = model(features)[1].by_component()
    assert bits["f_g_1"] < 0.7 * bits["f_g_0"]


def test_noise_stays_within_half_a_step():
    model, features = trained()
    coded = model(features, "noise", True)[0]
    for name in ("f_v", "f_g", "sigma", "color"):
        error = (getattr(coded, name) - getattr(features, name)).abs()
        assert (error <= 0.5 * 1.97 * model.log_q[name].exp() * 1.001).all()  # 1 + tanh is below 1.97


@pytest.mark.parametrize("mode", ["noise", "round"])
def test_without_rate_is_the_same_quantisation(mode: str):
    """The cheap call rounds around the same means with the same steps as the last call with rate."""
    model, features = fresh()
    with_rate, _ = model(features, mode, True)
    without, rate = model(features, mode, False)
    assert rate is None
    for name in ATTRIBUTES:
        a, b = getattr(with_rate, name).detach(), getattr(without, name).detach()
        if mode == "round":
            assert float(((a - b).abs() > 1e-4).float().mean()) < 0.001  # ties may fall either way
        else:
            errors = [(x - getattr(features, name)).square().mean() for x in (a, b)]
            assert float(errors[0]) == pytest.approx(float(errors[1]), rel=0.1)


def test_without_rate_follows_the_number_of_anchors():
    model, features = fresh(50)
    model(features, "noise", True)
    assert len(model(anchors(80, seed=2), "round", False)[0]) == 80
    assert len(model(anchors(20, seed=2), "noise", False)[0]) == 20
    model.forget_steps()
    assert len(model(features, "noise", False)[0]) == 50


def test_step_factors_gather_distortion_between_rates():
    """What the cheap calls in between say of the step factors reaches their networks at the next rate."""
    model, features = fresh()

    def push_of_the_factors(cheap_calls: int) -> torch.Tensor:
        model.forget_steps()
        torch.manual_seed(5)
        model(features, "round", True)
        for _ in range(cheap_calls):
            distortion(model(features, "round", False)[0], features).backward()
        model.zero_grad()
        model(features, "round", True)[1].total.backward()
        return model.network("f_v").last.bias.grad[-1].clone()

    rate_alone, with_distortion = push_of_the_factors(0), push_of_the_factors(3)
    assert rate_alone < 0
    assert rate_alone < with_distortion  # bits ask for larger steps, distortion for smaller ones


def test_straight_through_gradient_of_rounding():
    model, features = fresh()
    leaf = features.f_g.clone().requires_grad_()
    features.f_g = leaf
    for with_rate in (True, False):
        leaf.grad = None
        coded, _ = model(features, "round", with_rate)
        weights = torch.randn_like(leaf)
        (coded.f_g * weights).sum().backward()
        torch.testing.assert_close(leaf.grad, weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["noise", "round"])
def test_training_estimate_is_within_two_percent_of_the_sealed_one(mode: str):
    model, features = trained()
    with torch.no_grad():
        bits = float(model(features, mode, True)[1].total)
    assert bits == pytest.approx(sum(model.seal(features).estimate_bits(features).values()), rel=0.02)


@pytest.mark.parametrize("price", [0.003, 0.02])
def test_estimates_agree_where_most_values_cost_nothing(price: float):
    """Below a bit a value, noise makes likelihoods up to twice too pessimistic; the reported number must not be."""
    torch.manual_seed(0)
    features = anchors(900)
    model = MultiDimensionEntropyModel(SMALL)
    with torch.no_grad():
        for step in model.steps.values():
            step.sub_(0.5 * math.log(price) / 8.0)
    train(model, features, 80, price=price)
    model.eval()
    sealed = model.seal(features).estimate_bits(features)

    def bits(mode: str) -> float:
        with torch.no_grad():
            parts = model(features, mode, True)[1].by_component()
        return sum(parts.values()) - parts["hyper"]  # the seal fits eta's prior, which few anchors' eta feels

    expected = sum(sealed.values()) - sealed["hyper"]
    assert expected < 1.6 * features.f_g.numel()
    assert bits("round") == pytest.approx(expected, rel=0.03)
    assert bits("noise") == pytest.approx(expected, rel=0.03)


def test_sealed_values_are_the_rounded_ones():
    """What is evaluated in training with mode round is what a decoder gets, but for the rounding of the networks."""
    model, features = trained()
    with torch.no_grad():
        rounded = model(features, "round", True)[0]
    decoded = model.seal(features, 16).compress(features).decoded.features
    for name in ATTRIBUTES:
        a, b = getattr(rounded, name), getattr(decoded, name)
        step = 2.0 * float(model.log_q[name].exp().max())
        assert float((a - b).detach().abs().mean()) < 0.1 * step
        assert float((b - getattr(features, name)).abs().max()) < step


def test_statistics_freeze_in_evaluation_and_survive_a_state_dict():
    model, features = trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model(anchors(100, seed=9), "noise", True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    copy = MultiDimensionEntropyModel(SMALL)
    copy.load_state_dict(model.state_dict())
    assert copy.seal(features).to_bytes() == model.seal(features).to_bytes()


def test_constant_features_cost_almost_nothing_and_stay_finite():
    model = MultiDimensionEntropyModel(SMALL)
    features = anchors(100)
    for name in ATTRIBUTES:
        getattr(features, name).fill_(0.25)
    model(features, "round", True)[1].total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    data = model.seal(features).compress(features)
    assert data.size < 400
    torch.testing.assert_close(data.decoded.features.f_v, features.f_v, atol=1e-3, rtol=0)


def test_default_sizes_are_the_papers():
    config = EntropyConfig()
    assert (config.f_v, config.primitives, config.f_g, config.chunks) == (32, 10, 16, 4)
    assert (config.q_f_v, config.q_f_g, config.q_sigma, config.q_color) == (0.1, 0.1, 0.01, 0.01)


def test_unknown_mode_is_an_error():
    model, features = fresh(10)
    with pytest.raises(ValueError, match="mode"):
        model(features, "floor", True)


@pytest.mark.parametrize("with_rate", [True, False])
def test_plain_torch_path_of_other_devices_agrees_with_the_kernels(with_rate: bool):
    """Double precision takes the way that CUDA takes."""
    model, features = fresh()
    double = MultiDimensionEntropyModel(SMALL)
    double.load_state_dict(model.state_dict())
    double = double.double()
    wide = Features(**{name: getattr(features, name).double() for name in ATTRIBUTES})
    ours, rate = model(features, "round", with_rate)
    theirs, other = double(wide, "round", with_rate)
    for name in ATTRIBUTES:
        apart = (getattr(ours, name).double() - getattr(theirs, name)).abs() > 1e-3
        assert float(apart.double().mean()) < 0.002  # ties may fall either way
    if with_rate:
        assert float(rate.total) == pytest.approx(float(other.total), rel=1e-3)
    assert len(double(wide, "noise", with_rate)[0]) == len(wide)
