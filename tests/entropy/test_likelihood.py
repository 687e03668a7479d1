"""The fused kernel against its plain torch twin, differentiated by autograd in double precision."""

import math

import pytest
import torch
from adcgs.entropy import tables
from adcgs.entropy.likelihood import (
    Gaussian,
    add_noise,
    quantise_and_rate,
    quantise_and_rate_reference,
)
from torch import Tensor

ROWS, COLUMNS = 64, 21


def problem(spread: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    """Values from far inside to far outside what the model expects, and leaves for every gradient."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "f": normal(ROWS, COLUMNS) * spread,
        "out": normal(ROWS, 2 * COLUMNS + 3) * 0.7,
        "log_factor": normal(ROWS, 1) * 0.4,
        "log_q": normal(COLUMNS) * 0.5 - 1.0,
        "m": normal(COLUMNS) * 0.1,
        "s": normal(COLUMNS).abs() + 0.3,
    }


def run(p: dict[str, Tensor], noise: Tensor | bool | None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(values and rounded values, bits, gradients of a mixed loss); a Tensor or None as noise selects the reference."""
    leaves = {k: v.clone().requires_grad_(k not in ("m", "s")) for k, v in p.items()}
    f = leaves.pop("f")
    model = Gaussian(mean_at=2, sigma_at=COLUMNS + 2, **leaves)
    values, rounded, bits = (
        quantise_and_rate(f, model, noise) if isinstance(noise, bool) else quantise_and_rate_reference(f, model, noise)
    )
    weights = torch.linspace(-1, 1, values.numel(), dtype=values.dtype).view_as(values)
    (0.03 * bits + (values * weights).sum() + (rounded * weights.flip(0)).sum()).backward()
    gradients = {name: leaves[name].grad for name in ("out", "log_factor", "log_q")}
    return torch.stack([values, rounded]).detach(), bits.detach(), {"f": f.grad, **gradients}


def assert_alike(fused: tuple, oracle: tuple) -> None:
    torch.testing.assert_close(fused[0].double(), oracle[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fused[1].double(), oracle[1], rtol=1e-4, atol=1e-2)
    for name, gradient in fused[2].items():
        scale = float(oracle[2][name].abs().max())
        torch.testing.assert_close(
            gradient.double(), oracle[2][name], rtol=5e-3, atol=2e-4 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0])
def test_noisy_values_bits_and_gradients(spread: float):
    p = problem(spread)
    torch.manual_seed(1)
    fused = run(p, True)
    step = (p["log_q"] + p["log_factor"]).exp()
    noise = ((fused[0][0] - p["f"]) / step).double()  # recover what the kernel drew
    assert_alike(fused, run({k: v.double() for k, v in p.items()}, noise))


@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0])
def test_rounded_values_bits_and_gradients(spread: float):
    p = problem(spread, seed=3)
    assert_alike(run(p, False), run({k: v.double() for k, v in p.items()}, None))


def test_reference_gradient_is_the_slope_of_the_noisy_bits():
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
    quantise_and_rate_reference(f, model, torch.tensor([[at[4]]], dtype=torch.float64))[2].backward()
    for place, leaf in enumerate(leaves):
        up, down = list(at), list(at)
        up[place] += 1e-5
        down[place] -= 1e-5
        assert leaf.grad.item() == pytest.approx((bits(*up) - bits(*down)) / 2e-5, rel=1e-5)


def test_bits_of_whole_residuals_are_the_tables():
    """Training's bits of an integer residual are those of the sealed table, at every level, escapes included."""
    for level in range(0, 64, 9):
        table, sigma = tables.gaussian_tables()[level], tables.sigmas()[level]
        for r in (0, 1, min(3, table.reach), table.reach // 2):
            out = torch.tensor([[0.0, math.log(sigma)]])
            zero, one = torch.zeros(1), torch.ones(1)
            model = Gaussian(out, 0, 1, torch.zeros(1, 1), zero, zero, one)
            bits = float(quantise_and_rate(torch.tensor([[float(r)]]), model, False)[2])
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
