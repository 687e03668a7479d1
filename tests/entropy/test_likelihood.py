"""Bits of quantised values, and noise: the definitions against finite differences, tables and statistics."""

import math

import pytest
import torch
from adcgs.entropy import tables
from adcgs.entropy.likelihood import Gaussian, add_noise, quantise_and_rate


def test_gradient_is_the_slope_of_the_noisy_bits():
    """Finite differences of -log2 of the Gaussian's mass, by another formula (torch's normal distribution)."""
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)

    def bits(f: float, mean: float, log_sigma: float, log_step: float, u: float) -> float:
        step, sigma = math.exp(log_step), math.exp(log_sigma - log_step)
        d = (f - mean) / step + u
        mass = normal.cdf(torch.tensor((d + 0.5) / sigma, dtype=torch.float64)) - normal.cdf(
            torch.tensor((d - 0.5) / sigma, dtype=torch.float64)
        )
        return -math.log2(float(mass) + 2.0**-16 / (1 + (d / 8) ** 2))

    at = [0.37, 0.1, -0.2, -0.9, 0.21]
    leaves = [torch.tensor([[x]], dtype=torch.float64, requires_grad=True) for x in at[:4]]
    f, mean, log_sigma, log_step = leaves
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    model = Gaussian(torch.cat([mean, log_sigma], 1), 0, 1, log_step, zero, zero, one)
    quantise_and_rate(f, model, torch.tensor([[at[4]]], dtype=torch.float64))[2].backward()
    for place, leaf in enumerate(leaves):
        up, down = list(at), list(at)
        up[place] += 1e-5
        down[place] -= 1e-5
        assert leaf.grad.item() == pytest.approx((bits(*up) - bits(*down)) / 2e-5, rel=1e-5)


def test_rounded_values_are_held_where_noisy_bits_hold_them():
    """On average over the noise: rounded residuals of zero have flat bits, noisy ones a slope towards the mean."""
    f = torch.full((20_000, 1), 0.3, dtype=torch.float64, requires_grad=True)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    out = torch.tensor([[0.0, math.log(0.4)]], dtype=torch.float64).expand(len(f), 2)
    model = Gaussian(out, 0, 1, torch.zeros(len(f), 1, dtype=torch.float64), zero, zero, one)
    noise = torch.rand(f.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    slopes = {}
    for name, given in (("flat", (None, False)), ("noisy", (noise, False)), ("mixed", (noise, True))):
        values, rounded, bits = quantise_and_rate(f, model, *given)
        (gradient,) = torch.autograd.grad(bits, f)
        slopes[name] = float(gradient.mean())
        assert torch.equal(rounded, torch.zeros_like(f))
        assert torch.equal(values, rounded) == (name != "noisy")
        assert float(bits) == pytest.approx(float(quantise_and_rate(f, model, None)[2]))
    assert slopes["flat"] == 0
    assert slopes["mixed"] == slopes["noisy"] > 0.5


def test_bits_of_whole_residuals_are_the_tables():
    """Training's bits of an integer residual are those of the sealed table, at every level, escapes included."""
    for level in range(0, 64, 9):
        table, sigma = tables.gaussian_tables()[level], tables.sigmas()[level]
        for r in (0, 1, min(3, table.reach), table.reach // 2):
            out = torch.tensor([[0.0, math.log(sigma)]])
            zero, one = torch.zeros(1), torch.ones(1)
            model = Gaussian(out, 0, 1, torch.zeros(1, 1), zero, zero, one)
            bits = float(quantise_and_rate(torch.tensor([[float(r)]]), model, None)[2])
            assert bits == pytest.approx(-math.log2(table.frequencies[table.reach + r] / 65536), abs=1.1)
            if table.frequencies[table.reach + r] > 500:
                assert bits == pytest.approx(-math.log2(table.frequencies[table.reach + r] / 65536), abs=0.06)


def test_noise_is_uniform_independent_and_seeded():
    f, step = torch.zeros(500, 10, 16), torch.full((500, 16), 2.0)
    torch.manual_seed(4)
    a = add_noise(f, step)
    b = add_noise(f, step)
    torch.manual_seed(4)
    assert torch.equal(a, add_noise(f, step))
    for x in (a, b):
        assert -1.0 <= float(x.min()) < -0.99
        assert 0.99 < float(x.max()) <= 1.0
        assert float(x.mean()) == pytest.approx(0.0, abs=0.01)
        assert float(x.var()) == pytest.approx(4 / 12, rel=0.02)
    flat = a.flatten()
    for other in (b.flatten(), flat.roll(1), flat.roll(16)):
        assert abs(float((flat * other).mean())) < 0.005


def test_noise_gradient_pulls_the_step():
    f = torch.randn(30, 4, 5, requires_grad=True)
    step = torch.full((30, 5), 0.3, requires_grad=True)
    noisy = add_noise(f, step)
    weights = torch.randn(30, 4, 5)
    (noisy * weights).sum().backward()
    noise = ((noisy - f) / step[:, None]).detach()
    torch.testing.assert_close(f.grad, weights)
    torch.testing.assert_close(step.grad, (weights * noise).sum(1), rtol=1e-4, atol=1e-4)
