"""Neighbours at their distance: nothing for rigid motions, the gradient, who the neighbours are, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from adcgs.training.rigidity import Rigidity, neighbours
from torch import Tensor


def cloud(count: int = 40, primitives: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Positions and offsets in double precision."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return positions, 0.1 * torch.randn(count, primitives, 3, generator=generator, dtype=torch.float64)


def moved(positions: Tensor, offsets: Tensor) -> Tensor:
    """Turned by an angle about an axis, and shifted: the primitives' means."""
    cosine, sine = math.cos(0.7), math.sin(0.7)
    turn = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], dtype=torch.float64)
    return ((positions[:, None] + offsets) @ turn.T + torch.tensor([1.0, -2.0, 0.5])).flatten(0, 1)


def test_a_rigid_motion_costs_nothing_and_others_do() -> None:
    positions, offsets = cloud()
    means = moved(positions, offsets)
    assert Rigidity().penalty(positions, offsets, means, 0) < 1e-10
    stretched = means * torch.tensor([1.5, 1.0, 1.0], dtype=torch.float64)
    assert Rigidity().penalty(positions, offsets, stretched, 0) > 1e-2


def test_scale_does_not_matter() -> None:
    positions, offsets = cloud()
    means = moved(positions, offsets) * torch.tensor([1.5, 1.0, 1.0], dtype=torch.float64)
    small, large = (Rigidity().penalty(positions * s, offsets * s, means * s, 0) for s in (1.0, 50.0))
    torch.testing.assert_close(small, large)


def test_what_flies_past_is_let_go_and_nothing_else() -> None:
    positions, offsets = cloud()
    half = torch.arange(len(positions)) < len(positions) // 2
    away = torch.zeros_like(positions)
    away[half, 0] = 50.0
    forces = []
    for flies in (None, half):
        for way in (1e-4, 1.0):
            means = (positions[:, None] + offsets + way * away[:, None]).flatten(0, 1).requires_grad_()
            Rigidity().penalty(positions, offsets, means, 0, flies).backward()
            assert means.grad is not None
            forces.append(float(means.grad.abs().max()))
    near, far, near_let_go, far_let_go = forces
    assert far > 1000 * near
    assert near_let_go == pytest.approx(near, rel=0.1)
    assert far_let_go < near

    stretched = (3.0 * (positions[:, None] + offsets)).flatten(0, 1)
    plain = Rigidity().penalty(positions, offsets, stretched, 0)
    alone = torch.zeros_like(half)
    torch.testing.assert_close(Rigidity().penalty(positions, offsets, stretched, 0, alone), plain)
    alone[0] = True  # one of 40, and of who has it for a neighbour
    assert 0.5 * plain < Rigidity().penalty(positions, offsets, stretched, 0, alone) < plain


def test_its_value_and_gradient_are_those_of_its_formula() -> None:
    positions, offsets = cloud(8, 2)
    means = moved(positions, offsets) + 0.05 * torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator())
    rigidity = Rigidity()
    own = positions.numpy() + offsets.numpy().mean(axis=1)
    there = means.numpy().reshape(8, 2, 3).mean(axis=1)
    terms, lengths = [], []
    for i in range(8):
        for j in sorted(range(8), key=lambda j: np.linalg.norm(positions[i] - positions[j]))[1:5]:
            before, after = (np.linalg.norm(points[i] - points[j]) for points in (own, there))
            terms.append((after - before) ** 2 / before)
            lengths.append(before)
    expected = np.mean(terms) / np.mean(lengths)
    assert float(rigidity.penalty(positions, offsets, means, 0)) == pytest.approx(expected, rel=1e-6)

    # Lengths divide and get no gradient, so finite differences are those of the motion alone.
    means.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda m: rigidity.penalty(positions, offsets, m, 1), (means,), atol=1e-8)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 30])
def test_neighbours_are_the_nearest_others(count: int) -> None:
    positions, _ = cloud(count)
    found = neighbours(positions)
    distance = torch.cdist(positions, positions)
    distance.fill_diagonal_(math.inf)
    nearest = min(4, count - 1)
    assert torch.equal(found, distance.topk(nearest, largest=False).indices)
    assert torch.isfinite(Rigidity().penalty(positions, 0.1 * torch.ones(count, 3, 3), torch.ones(3 * count, 3), 0))


def test_anchors_in_one_place_are_no_division_by_zero() -> None:
    positions = torch.zeros(6, 3, requires_grad=True)
    means = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    Rigidity().penalty(positions, torch.zeros(6, 2, 3), means, 0).backward()
    assert means.grad is not None
    assert positions.grad is not None
    assert torch.isfinite(means.grad).all()
    assert torch.isfinite(positions.grad).all()


@pytest.mark.parametrize(
    "others",
    [torch.zeros(40, 4), torch.zeros(39, 4, dtype=torch.int64), torch.full((40, 4), 40), torch.full((40, 4), -1)],
)
def test_a_checkpoint_with_other_neighbours_is_refused(others: Tensor) -> None:
    with pytest.raises(ValueError, match="neighbours"):
        Rigidity().load_state({"others": others}, 40)
