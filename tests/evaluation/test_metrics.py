"""The metrics against closed forms and their published definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adcgs.errors import OptionError
from adcgs.evaluation import metrics


def images(height: int, width: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and a disturbed copy, (H, W, 3) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 8, width), indexing="ij")
    picture = torch.stack([torch.sin(x) * torch.cos(y), torch.sin(x * y / 3), torch.cos(x + y)], dim=2) * 0.4 + 0.5
    disturbed = picture + noise * torch.randn(picture.shape, generator=generator)
    return disturbed.clamp(0, 1), picture


def channels_first(image: torch.Tensor) -> torch.Tensor:
    return image.permute(2, 0, 1)[None]


def test_fitted_colors_undo_an_affine_change_and_nothing_else() -> None:
    image, other = np.random.default_rng(4).random((2, 9, 11, 3))
    matrix = np.array([[0.7, 0.1, 0.0], [0.0, 0.6, 0.1], [0.05, 0.0, 0.8]])
    truth = image @ matrix.T + [0.1, 0.05, 0.0]
    np.testing.assert_allclose(metrics.with_fitted_colors(image, truth), truth, atol=1e-12)
    # Of what has nothing to do with the truth little is left but the truth's mean.
    fitted = metrics.with_fitted_colors(other, truth)
    assert np.abs(fitted - truth.mean(axis=(0, 1))).max() < 0.3
    assert metrics.psnr(fitted, truth) > metrics.psnr(other, truth)
    grey = np.full((4, 4, 3), 0.5)
    np.testing.assert_allclose(metrics.with_fitted_colors(grey, truth[:4, :4]).std(axis=(0, 1)), 0, atol=1e-12)


@pytest.mark.parametrize("offset", [0.5, 0.1, 0.003])
def test_psnr_of_a_constant_offset_is_its_closed_form(offset: float) -> None:
    reference = np.full((7, 9, 3), 0.25, np.float32)
    assert metrics.psnr(reference + np.float32(offset), reference) == pytest.approx(-20 * np.log10(offset), abs=1e-4)


def test_psnr_of_identical_images_is_finite() -> None:
    picture = np.random.default_rng(0).random((8, 8, 3), dtype=np.float32)
    assert metrics.psnr(picture, picture) == metrics.PSNR_CEILING


def test_a_mask_restricts_psnr_to_its_pixels() -> None:
    reference = np.zeros((10, 10, 3), np.float32)
    image = reference.copy()
    image[2:4, 2:4] = 0.1
    mask = np.zeros((10, 10), bool)
    mask[2:4, 2:4] = True
    assert metrics.psnr(image, reference, mask) == pytest.approx(20.0, abs=1e-4)
    assert metrics.psnr(image, reference) == pytest.approx(20.0 + 10 * np.log10(25), abs=1e-4)


def plain_similarity(image: torch.Tensor, reference: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """SSIM's map and its contrast factor, written from Wang et al. 2004, (H, W, 3) each."""
    from scipy.ndimage import correlate1d

    taps = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))

    def mean(values: np.ndarray) -> np.ndarray:
        rows = correlate1d(values, taps / taps.sum(), axis=0, mode="mirror")
        return correlate1d(rows, taps / taps.sum(), axis=1, mode="mirror")

    a, b = image.double().numpy(), reference.double().numpy()
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, covariance = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    contrast = (2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2)
    return (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2) * contrast, contrast


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
@pytest.mark.parametrize(("height", "width"), [(11, 11), (64, 37), (180, 240)])
def test_ssim_is_its_definition(height: int, width: int, noise: float) -> None:
    image, reference = images(height, width, noise)
    expected = plain_similarity(image, reference)[0].mean()
    assert metrics.ssim(image, reference) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
@pytest.mark.parametrize(("height", "width"), [(176, 176), (240, 192)])
def test_ms_ssim_is_its_definition(height: int, width: int, noise: float) -> None:
    image, reference = images(height, width, noise)
    got, expected = metrics.ms_ssim(image, reference), 1.0
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        similarity, contrast = plain_similarity(image, reference)
        inside = contrast[5:-5, 5:-5]
        expected *= float((similarity if scale == 4 else inside).mean()) ** exponent
        image, reference = (x[0::2, 0::2] / 4 + x[1::2, 0::2] / 4 + x[0::2, 1::2] / 4 + x[1::2, 1::2] / 4
                            for x in (image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2],
                                      reference[: reference.shape[0] // 2 * 2, : reference.shape[1] // 2 * 2]))
    assert got == pytest.approx(expected, abs=1e-3)


def test_an_inverted_picture_has_no_multi_scale_similarity_but_a_number() -> None:
    reference = torch.rand(200, 200, 3, generator=torch.Generator().manual_seed(1))
    assert metrics.ms_ssim(1 - reference, reference) == pytest.approx(0.0, abs=1e-6)
    assert metrics.ssim(1 - reference, reference) < 0


def test_small_images_are_refused_by_name_and_size() -> None:
    image, reference = images(175, 400, 0.1)
    with pytest.raises(OptionError, match=r"MS-SSIM needs 176 .* 400x175") as caught:
        metrics.ms_ssim(image, reference)
    assert caught.value.code == "image-too-small"
    with pytest.raises(OptionError, match="SSIM needs 11"):
        metrics.ssim(image[:10], reference[:10])
    assert metrics.ms_ssim(*images(176, 176, 0.1)) > 0


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.ms_ssim])
def test_numpy_and_torch_give_the_same_number(metric) -> None:  # type: ignore[no-untyped-def]
    image, reference = images(180, 190, 0.05)
    assert metric(image, reference) == metric(image.numpy(), reference.numpy())


def test_wrong_inputs_are_refused() -> None:
    picture = np.zeros((8, 8, 3), np.float32)
    with pytest.raises(OptionError, match="one size"):
        metrics.psnr(picture, picture[:7])
    with pytest.raises(OptionError, match="divide by 255"):
        metrics.psnr(picture.astype(np.uint8), picture.astype(np.uint8))
    with pytest.raises(OptionError, match="no pixel"):
        metrics.psnr(picture, picture, np.zeros((8, 8), bool))
    with pytest.raises(OptionError, match="does not fit"):
        metrics.psnr(picture, picture, np.zeros((8, 7), bool))
