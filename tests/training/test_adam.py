"""Our Adam against torch's, step by step, and what it promises beyond that."""

from __future__ import annotations

import pytest
import torch
from adcgs.training.adam import Adam
from torch import Tensor, nn

SIZES = ((1,), (7,), (3, 5), (8191,), (8192,), (8193,), (100, 10, 31))
OPTIONS = {"eps": 1e-15, "betas": (0.9, 0.99), "fused": True}


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(size, generator=generator).to(dtype)) for size in SIZES]


def optimiser(kind: type[torch.optim.Adam], tensors: list[nn.Parameter]) -> torch.optim.Adam:
    return kind([{"params": tensors[:3], "lr": 0.02}, {"params": tensors[3:], "lr": 1e-3}], **OPTIONS)


def give_gradients(tensors: list[nn.Parameter], iteration: int) -> None:
    """Of very different sizes; zeros among them; one tensor has none now and then."""
    generator = torch.Generator().manual_seed(iteration)
    for number, tensor in enumerate(tensors):
        gradient = torch.randn(tensor.shape, generator=generator) * 10.0 ** (3 - 2 * number)
        gradient *= torch.rand(tensor.shape, generator=generator) < 0.8
        tensor.grad = None if number == 1 and iteration % 3 == 2 else gradient.to(tensor.dtype)


def run(
    kind: type[torch.optim.Adam], steps: int, dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], list[dict]]:
    tensors = parameters(dtype)
    adam = optimiser(kind, tensors)
    for iteration in range(steps):
        give_gradients(tensors, iteration)
        adam.param_groups[1]["lr"] = 1e-3 if iteration < steps // 2 else 0.0 if iteration == steps // 2 else 1e-4
        adam.step()
    return [tensor.detach() for tensor in tensors], [dict(adam.state[tensor]) for tensor in tensors]


def test_three_hundred_steps_are_torchs() -> None:
    (ours, our_states), (torchs, torch_states) = run(Adam, 300), run(torch.optim.Adam, 300)
    for a, b, start in zip(ours, torchs, parameters(), strict=True):
        way = (b - start.detach()).abs()
        assert ((a - b).abs() <= 1e-6 * (1.0 + way)).all()
    for state, expected in zip(our_states, torch_states, strict=True):
        assert state["step"] == expected["step"]
        for name in ("exp_avg", "exp_avg_sq"):
            scale = float(expected[name].abs().max())
            torch.testing.assert_close(state[name], expected[name], rtol=1e-5, atol=1e-6 * scale)


def test_the_same_bits_on_any_number_of_threads() -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(Adam, 20)[0])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_either_goes_on_where_the_other_was() -> None:
    tensors = parameters()
    adam, other = optimiser(Adam, tensors), optimiser(torch.optim.Adam, tensors)
    for iteration, stepper in enumerate((adam, other, adam, other)):
        give_gradients(tensors, iteration)
        stepper.step()
        other.load_state_dict(adam.state_dict()) if stepper is adam else adam.load_state_dict(other.state_dict())
    alone = parameters()
    reference = optimiser(torch.optim.Adam, alone)
    for iteration in range(4):
        give_gradients(alone, iteration)
        reference.step()
    for a, b in zip(tensors, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["double", "strided"])
def test_what_the_kernel_does_not_take_is_left_to_torch(kind: str) -> None:
    if kind == "double":
        ours, torchs = run(Adam, 5, torch.float64)[0], run(torch.optim.Adam, 5, torch.float64)[0]
        assert all(torch.equal(a, b) for a, b in zip(ours, torchs, strict=True))
        return
    values = []
    for optimise in (Adam, torch.optim.Adam):
        tensor = nn.Parameter(torch.arange(12.0).view(3, 4).t())
        tensor.grad = torch.arange(12.0).view(4, 3)
        optimise([tensor], lr=0.1, **OPTIONS).step()
        values.append(tensor.detach())
    assert torch.equal(*values)


def test_what_is_not_finite_spreads_as_in_torch() -> None:
    tensor = nn.Parameter(torch.zeros(20))
    tensor.grad = torch.ones(20)
    tensor.grad[3], tensor.grad[4] = torch.nan, torch.inf
    Adam([tensor], lr=0.1, **OPTIONS).step()
    assert torch.isnan(tensor[3:5]).all()
    assert torch.isfinite(torch.cat([tensor[:3], tensor[5:]])).all()
