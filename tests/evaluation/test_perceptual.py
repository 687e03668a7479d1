"""LPIPS from local weights only: the same number as the package gives, and one clear line where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adcgs.errors import OptionError
from adcgs.evaluation import perceptual

pytest.importorskip("torchvision")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub folder and no way to fill it from outside."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download was attempted")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def pair(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(side, side, 3, generator=generator), torch.rand(side, side, 3, generator=generator)


def test_without_weights_the_error_says_which_file_goes_where(hub: Path) -> None:
    pytest.importorskip("lpips")
    with pytest.raises(perceptual.UnavailableError) as caught:
        perceptual.load_lpips()
    assert str(hub) in str(caught.value)
    assert "alexnet-owt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_weights_file_is_named(hub: Path) -> None:
    pytest.importorskip("lpips")
    path, _ = perceptual.backbone_file()
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(perceptual.UnavailableError, match="not AlexNet's weights"):
        perceptual.load_lpips()


def test_lpips_is_the_packages_own(hub: Path) -> None:
    """With a made-up backbone in torchvision's form, the package's regular way to load it is the reference."""
    lpips = pytest.importorskip("lpips")
    from torchvision.models import alexnet

    torch.manual_seed(0)
    path, _ = perceptual.backbone_file()
    torch.save(alexnet().state_dict(), path)
    metric = perceptual.load_lpips()
    image, reference = pair()
    expected = lpips.LPIPS(net="alex", verbose=False)(
        image.permute(2, 0, 1)[None], reference.permute(2, 0, 1)[None], normalize=True
    )
    assert metric(image, reference) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert metric(image.numpy(), reference.numpy()) == metric(image, reference)
    assert metric(image, image) == 0
    assert metric.name == "LPIPS"


def test_images_too_small_for_the_backbone_are_refused(hub: Path) -> None:
    pytest.importorskip("lpips")
    from torchvision.models import alexnet

    torch.save(alexnet().state_dict(), perceptual.backbone_file()[0])
    with pytest.raises(OptionError, match="needs 32 pixels"):
        perceptual.load_lpips()(*pair(31))
    assert perceptual.load_lpips()(*pair(32)) > 0


def test_shift_tolerant_lpips_brings_its_weights_and_its_own_name() -> None:
    pytest.importorskip("stlpips_pytorch.stlpips")
    metric = perceptual.load_st_lpips()
    image, reference = pair()
    assert metric.name == "ST-LPIPS"
    assert metric(image, image) == pytest.approx(0, abs=1e-6)
    assert metric(image, reference) > metric(0.9 * image + 0.1 * reference, image) > 0
