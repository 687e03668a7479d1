"""The image loss: its definition against torchmetrics, the compiled kernels against the definition."""

from __future__ import annotations

import pytest
import torch
from adcgs.training.losses import l1_dssim, l1_dssim_torch, ssim_map
from torch import Tensor

SIZES = [(40, 32, 3), (1, 40, 3), (13, 17, 1), (23, 31, 3), (12, 9, 8), (64, 11, 2)]


def pair(shape: tuple[int, int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(shape, generator=generator)
    return image, (image + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)


def test_ssim_is_that_of_torchmetrics_away_from_the_border() -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure

    image, target = (value.double() for value in pair((48, 40, 3)))
    batch = (value.permute(2, 0, 1)[None] for value in (image, target))
    _, expected = structural_similarity_index_measure(*batch, data_range=1.0, return_full_image=True)
    inside = expected[0].permute(1, 2, 0)[5:-5, 5:-5]  # its border reflects the image
    torch.testing.assert_close(ssim_map(image, target)[5:-5, 5:-5], inside, rtol=0, atol=1e-6)


def test_outside_the_image_there_are_zeros() -> None:
    image, target = (value.double() for value in pair((20, 24, 3)))
    framed = (torch.nn.functional.pad(value, (0, 0, 5, 5, 5, 5)) for value in (image, target))
    torch.testing.assert_close(ssim_map(*framed)[5:-5, 5:-5], ssim_map(image, target))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SIZES)
def test_kernels_follow_the_definition(shape: tuple[int, int, int], weighted: bool) -> None:
    image, target = pair(shape)
    weights = torch.rand(shape[:2]) if weighted else None
    image.requires_grad_()
    loss = l1_dssim(image, target, 0.3, weights)
    (3.0 * loss).backward()

    exact = image.detach().double().requires_grad_()
    expected = l1_dssim_torch(exact, target.double(), 0.3, None if weights is None else weights.double())
    (3.0 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert image.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(image.grad.double(), exact.grad, rtol=1e-4, atol=1e-5 * exact.grad.abs().max().item())


def test_definition_against_finite_differences() -> None:
    image, target = (value.double() for value in pair((7, 8, 2)))
    weights = torch.rand(7, 8).double()
    image.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: l1_dssim(x, target, 0.2, weights), image)


def test_equal_images_cost_nothing_and_pull_nowhere() -> None:
    image = pair((40, 32, 3))[0].requires_grad_()
    loss = l1_dssim(image, image.detach().clone())
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert image.grad is not None
    assert image.grad.abs().max() < 1e-8


def test_a_part_of_a_larger_image_and_a_target_without_gradient() -> None:
    image, target = pair((40, 32, 3))
    view = image.permute(1, 0, 2)[3:, 2:]
    assert l1_dssim(view, target.permute(1, 0, 2)[3:, 2:]).item() == pytest.approx(
        l1_dssim_torch(view, target.permute(1, 0, 2)[3:, 2:], 0.2, None).item(), rel=1e-5
    )


def test_the_same_bits_on_any_number_of_threads() -> None:
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            image, target = pair((75, 61, 3))
            loss = l1_dssim(image.requires_grad_(), target)
            loss.backward()
            results.append((loss.detach(), image.grad))
    finally:
        torch.set_num_threads(before)
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one"):
        l1_dssim(torch.zeros(4, 4, 3), torch.zeros(4, 5, 3))
    with pytest.raises(ValueError, match="pixel_weights"):
        l1_dssim(torch.zeros(4, 4, 3), torch.zeros(4, 4, 3), 0.2, torch.zeros(4, 3))
