"""The bits that training minimises are the bits that the file has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adcgs.bitstream import Container, pack_container
from adcgs.decode import configurations, read_header
from adcgs.encode import EncodeReport, write_scene
from adcgs.model import network_shapes
from adcgs.scene import Scene, load_scene
from adcgs.training import Trainer, TrainingConfig

from ..captures import write_dnerf
from .test_trainer import TINY


@pytest.fixture(scope="module")
def scene(balls: Path) -> Scene:
    return load_scene(balls)


@pytest.fixture(scope="module")
def trained(scene: Scene) -> Trainer:
    trainer = Trainer(scene, replace(TINY, iterations=300, initial_anchors=400, max_anchors=500, rate_lambda=1e-3))
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def written(trained: Trainer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EncodeReport]:
    path = tmp_path_factory.mktemp("written") / "scene.adc"
    return path, write_scene(trained, path)


def test_the_file_has_the_bytes_that_were_estimated(written: tuple[Path, EncodeReport]) -> None:
    path, report = written
    with Container.open(path) as container:
        _, entropy = configurations(read_header(container))
        assert report.coded_bytes == sum(container.entry(name).length for name in entropy.components)
        ends = 8 * len(entropy.components)  # a coder's last words
    assert report.coded_bytes == pytest.approx(report.estimated_bytes, rel=0.01, abs=ends)
    assert report.training_bytes == pytest.approx(report.estimated_bytes, rel=0.02)


def test_the_rate_in_the_loss_counts_positions_too(trained: Trainer, written: tuple[Path, EncodeReport]) -> None:
    with Container.open(written[0]) as container:
        coded = container.entry("positions").length
    _, rate = trained.entropy(trained.model.features, "round", True)
    assert rate is not None
    positions = float(trained.total_bits(rate).detach() - rate.total.detach()) / 8
    assert positions == pytest.approx(coded, rel=0.35)  # from their number and the grid's volume alone


def test_asking_for_the_estimate_changes_nothing(trained: Trainer) -> None:
    before = {name: value.clone() for name, value in trained.entropy.state_dict().items()}
    steps = {name: value.clone() for name, value in trained.entropy.steps_state().items()}
    first = trained.entropy.estimate_bits(trained.model.features)
    assert first == trained.entropy.estimate_bits(trained.model.features)
    assert trained.entropy.training
    assert all(torch.equal(value, before[name]) for name, value in trained.entropy.state_dict().items())
    after = trained.entropy.steps_state()
    assert set(after) == set(steps)
    assert all(torch.equal(value, steps[name]) for name, value in after.items())


# ---- nothing is stored that could be left out


def test_header_and_tables_of_a_scene_of_five_thousand_anchors_take_under_400_bytes(
    written: tuple[Path, EncodeReport],
) -> None:
    """All that is neither weights, parameters, cameras nor coded numbers."""
    with Container.open(written[0]) as container:
        header = replace(read_header(container), anchors=5000, config=_full_size(read_header(container).config))
        sections = [(entry.name, bytes(70_000)) for entry in container]
        shapes = network_shapes(configurations(read_header(container))[0])
        directory = container.entry("networks").length - 4 * _weights(shapes)
    sections[0] = ("header", header.to_bytes())
    table = Container.from_bytes(pack_container(sections)).overhead
    assert table + len(header.to_bytes()) + directory < 400


def _full_size(config: object) -> dict[str, object]:
    assert isinstance(config, dict)
    return config | TrainingConfig().model.to_dict()


def _weights(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(int(torch.Size(shape).numel()) for shape in shapes.values())


def test_networks_are_their_weights_and_nothing_derived(written: tuple[Path, EncodeReport]) -> None:
    """fp32: four bytes a weight, the time table folded into the first layers, and a directory."""
    with Container.open(written[0]) as container:
        config, _ = configurations(read_header(container))
        size = container.entry("networks").length
    assert 0 < size - 4 * _weights(network_shapes(config)) < 20


@pytest.mark.parametrize("instants", [1, 4, 12])
def test_knots_that_the_clip_does_not_use_are_not_stored(tmp_path: Path, instants: int) -> None:
    capture = load_scene(write_dnerf(tmp_path / "clip", train=instants, test=1))
    knots = {}
    for asked in (3, 32):
        trainer = Trainer(capture, replace(TINY, iterations=2, model=replace(TINY.model, knots=asked)))
        trainer.train()
        write_scene(trainer, tmp_path / "scene.adc")
        with Container.open(tmp_path / "scene.adc") as container:
            config, _ = configurations(read_header(container))
        assert network_shapes(config)["coarse.rows"][0] == config.knots
        knots[asked] = config.knots
    assert knots == {3: min(3, capture.frame_count), 32: capture.frame_count}
