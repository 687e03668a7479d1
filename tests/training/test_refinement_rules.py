"""Where anchors are born, what they inherit, and which go: each rule on a model of three anchors, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from adcgs.features import Features
from adcgs.model import AnchorModel, ModelConfig, Primitives
from adcgs.training import TrainingConfig
from adcgs.training.refinement import Significance, grow, prunable
from adcgs.training.shapes import LARGEST
from torch import Tensor

N, K, VIEWS = 3, 2, 4
SMALL = ModelConfig(
    primitives=K, reference_dim=4, residual_dim=2, prediction_width=4, deformation_width=4, time_dim=2, knots=2
)
# Cells of 0.1, as many children as there are anchors, and thresholds that are easily told apart.
CONFIG = TrainingConfig(
    model=SMALL, chunks=1, max_anchors=100, grow_share=1.0, grow_spacing=0.1, grow_threshold=1.0,
    prune_opacity=0.1, prune_weight=2.0,
)  # fmt: skip
ALL, NONE = torch.ones(N, dtype=torch.bool), torch.zeros(N, dtype=torch.bool)
# Primitive 2 a + b is the b-th of anchor a. Their canonical places are in six cells, none that of an anchor.
ANCHORS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
OFFSETS = torch.tensor([[[0.2, 0, 0], [0, 0.3, 0]], [[0.2, 0, 0], [0, 0.3, 0]], [[0.2, 0, 0], [0, 0.3, 0]]])


@pytest.fixture
def model() -> AnchorModel:
    generator = torch.Generator().manual_seed(0)
    f_v, f_g, color = (torch.rand(*shape, generator=generator) for shape in ((N, 4), (N, K, 2), (N, 3)))
    sigma = -3 - torch.rand(N, 6, generator=generator)
    return AnchorModel(SMALL, ANCHORS.clone(), Features(f_v, f_g, sigma, color))


@pytest.fixture
def primitives() -> Primitives:
    generator = torch.Generator().manual_seed(1)
    log_scales, colors = (torch.rand(N, K, 3, generator=generator) for _ in range(2))
    return Primitives(OFFSETS.clone(), log_scales - 4, torch.zeros(N, K, 4), colors, torch.zeros(N, K))


def significance(scores: list[float], weights: list[float] | None = None) -> Significance:
    """Sums over ``VIEWS`` views that give every primitive this score, seen with this mean blending weight."""
    found = Significance(N, K, torch.device("cpu"))
    found.views = VIEWS
    found.weight = VIEWS * torch.tensor(weights or [10.0] * (N * K))
    found.gradient = torch.tensor(scores) * found.weight
    found.opacity = VIEWS * torch.ones(N)
    return found


def place(primitive: int) -> list[float]:
    return (ANCHORS[primitive // K] + OFFSETS[primitive // K, primitive % K]).tolist()


def places(rows: dict[str, Tensor]) -> list[list[float]]:
    return [pytest.approx(row) for row in rows["positions"].tolist()]


def test_children_stand_at_primitives_over_the_threshold_the_most_significant_first(
    model: AnchorModel, primitives: Primitives
) -> None:
    scores = [1.5, 0.99, 3.0, 1.0, 0.0, 0.0]  # one is at the threshold, not over it
    rows = grow(model, primitives, significance(scores), ALL, NONE, CONFIG)
    assert places(rows) == [place(2), place(0)]
    none = grow(model, primitives, significance([0.9] * 6), ALL, NONE, CONFIG)
    assert {name: len(value) for name, value in none.items()} == dict.fromkeys(rows, 0)


def test_children_inherit_their_parents_latents_and_their_primitives_looks(
    model: AnchorModel, primitives: Primitives
) -> None:
    flies = torch.tensor([False, True, False])
    rows = grow(model, primitives, significance([0, 0, 0, 3, 2, 0]), ALL, flies, CONFIG)  # anchor 1's b, anchor 2's a
    assert rows["flies"].tolist() == [True, False]
    for child, (parent, own) in enumerate(((1, 1), (2, 0))):
        assert torch.equal(rows["f_v"][child], model.f_v[parent])
        assert torch.equal(rows["f_g"][child], model.f_g[parent])
        for axis in range(3):
            extent = model.sigma[parent, axis].item() - math.log(1.6)
            both = primitives.log_scales[parent, :, axis].tolist()
            scale = model.sigma[parent, 3 + axis].item() + both[own] - sum(both) / 2 - math.log(1.6)
            tints = primitives.colors[parent, :, axis].tolist()
            assert rows["sigma"][child, axis].item() == pytest.approx(extent)
            assert rows["sigma"][child, 3 + axis].item() == pytest.approx(scale)
            color = model.color[parent, axis].item() + tints[own] - sum(tints) / 2
            assert rows["color"][child, axis].item() == pytest.approx(color)
    assert not any(value.requires_grad for value in rows.values())


def test_no_child_is_larger_than_an_anchor_may_be(model: AnchorModel, primitives: Primitives) -> None:
    with torch.no_grad():
        model.sigma.fill_(5.0)
    rows = grow(model, primitives, significance([2.0] * 6), ALL, NONE, CONFIG)
    assert rows["sigma"].tolist() == [[LARGEST] * 6] * N


def test_of_those_in_one_cell_the_most_significant_is_born(model: AnchorModel, primitives: Primitives) -> None:
    primitives.offsets[0] = torch.tensor([[0.23, 0, 0], [0.17, 0, 0]])  # both round to the cell at 0.2
    rows = grow(model, primitives, significance([1.5, 2.0, 0, 0, 0, 0]), ALL, NONE, CONFIG)
    assert places(rows) == [[pytest.approx(0.17), 0, 0]]
    finer = grow(
        model, primitives, significance([1.5, 2.0, 0, 0, 0, 0]), ALL, NONE, replace(CONFIG, grow_spacing=0.01)
    )
    assert len(finer["positions"]) == 2


def test_none_is_born_in_an_anchors_cell_unless_that_anchor_goes(model: AnchorModel, primitives: Primitives) -> None:
    primitives.offsets[0, 0] = torch.tensor([1.04, 0, 0])  # in the cell of anchor 1
    found = significance([2.0, 0, 0, 0, 0, 0])
    assert len(grow(model, primitives, found, ALL, NONE, CONFIG)["positions"]) == 0
    without = torch.tensor([True, False, True])
    assert places(grow(model, primitives, found, without, NONE, CONFIG)) == [[pytest.approx(1.04), 0, 0]]


def test_anchors_that_go_leave_no_children(model: AnchorModel, primitives: Primitives) -> None:
    keep = torch.tensor([True, False, True])
    rows = grow(model, primitives, significance([2.0, 0, 9.0, 9.0, 1.5, 0]), keep, NONE, CONFIG)
    assert places(rows) == [place(0), place(4)]


@pytest.mark.parametrize(("share", "born"), [(0.3, 1), (0.34, 2), (1.0, 3)])
def test_a_refinement_adds_at_most_its_share_of_the_anchors(
    model: AnchorModel, primitives: Primitives, share: float, born: int
) -> None:
    found = significance([6.0, 5.0, 4.0, 3.0, 2.0, 1.5])
    rows = grow(model, primitives, found, ALL, NONE, replace(CONFIG, grow_share=share))
    assert places(rows) == [place(k) for k in range(born)]  # a share of three anchors, rounded up


@pytest.mark.parametrize(("most", "keep", "born"), [(5, 3, 2), (3, 3, 0), (2, 3, 0), (3, 2, 1)])
def test_no_more_are_born_than_the_budget_has_room_for_once_others_went(
    model: AnchorModel, primitives: Primitives, most: int, keep: int, born: int
) -> None:
    found = significance([6.0, 5.0, 4.0, 3.0, 2.0, 1.5])
    stay = torch.arange(N) < keep
    rows = grow(model, primitives, found, stay, NONE, replace(CONFIG, max_anchors=most))
    assert places(rows) == [place(k) for k in range(born)]


def test_what_hardly_any_view_saw_has_no_children(model: AnchorModel, primitives: Primitives) -> None:
    weights = [1.01, 0.99, 10.0, 10.0, 10.0, 10.0]  # half of prune_weight is 1
    rows = grow(model, primitives, significance([9.0, 9.0, 0, 0, 0, 0], weights), ALL, NONE, CONFIG)
    assert places(rows) == [place(0)]


def test_anchors_go_whose_most_opaque_primitive_is_transparent_in_the_mean_over_views() -> None:
    found = Significance(N, K, torch.device("cpu"))
    for opacities in ([0.00, 0.15, 0.10, 0.05, 0.0, 0.09], [0.01, 0.00, 0.05, 0.14, 0.0, 0.10]):
        found.add(torch.zeros(N * K, 2), torch.full((N * K,), 5.0), torch.tensor(opacities), 1.0)
    # Means of the larger of two: (0.15 + 0.01) / 2, (0.10 + 0.14) / 2, (0.09 + 0.10) / 2.
    assert prunable(found, CONFIG).tolist() == [True, False, True]


def test_anchors_go_whose_primitives_together_weigh_little_in_the_mean_over_views() -> None:
    found = Significance(N, K, torch.device("cpu"))
    for weights in ([1.5, 1.5, 3.0, 0.0, 0.0, 0.0], [0.5, 0.6, 0.0, 0.9, 0.0, 9.0]):
        found.add(torch.zeros(N * K, 2), torch.tensor(weights), torch.ones(N * K), 1.0)
    # Sums of two over two views: 4.1 / 2, 3.9 / 2, 9 / 2.
    assert prunable(found, CONFIG).tolist() == [False, True, False]
