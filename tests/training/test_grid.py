"""The position grid: what a voxel costs decides which one it is, and what is stored is what was trained on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adcgs.bitstream import Container
from adcgs.decode import open_scene, read_header
from adcgs.encode import write_scene
from adcgs.errors import OptionError
from adcgs.geometry import encode_positions
from adcgs.scene import Scene, load_scene
from adcgs.training import Trainer
from adcgs.training.config import RATE_UNIT
from adcgs.training.grid import VOXELS, Grid, addressable, choose_grid, on_grid, trained_grid
from torch import Tensor

from .test_trainer import TINY, stop_after

ORIGIN = torch.tensor([-0.5, -0.5, -0.5])


def points(count: int = 500) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) - 0.5


def squared_error(grid: Grid) -> float:
    return float(((grid.positions - points()[grid.keep]) ** 2).sum(dim=1).mean())


def test_positions_move_by_half_a_voxel_at_most() -> None:
    for voxel in VOXELS:
        grid = on_grid(points(), ORIGIN, voxel)
        assert (grid.positions - points()[grid.keep]).abs().max() <= 0.5001 * voxel
        assert grid.cells.amin() >= 0


def test_an_anchor_outside_of_the_box_moves_the_origin_by_whole_voxels() -> None:
    outside = torch.cat([points(), torch.tensor([[-3.2, 0.0, 4.0]])])
    grid = on_grid(outside, ORIGIN, 1 / 128)
    moved = (ORIGIN - grid.origin) * 128
    assert grid.cells.amin() == 0
    assert moved.tolist() == moved.round().tolist() == [346.0, 0.0, 0.0]
    assert (grid.positions - outside[grid.keep]).abs().max() <= 0.5001 / 128


def test_a_voxel_whose_cells_cannot_be_addressed_is_refused_with_one_that_can() -> None:
    far = torch.tensor([[0.0, 0.0, 0.0], [250.0, 0.0, 0.0]])
    with pytest.raises(OptionError, match=r"--voxel 0.0001: .* give 0.00012 or more") as error:
        addressable(on_grid(far, ORIGIN, 1e-4))
    assert error.value.code == "voxel-too-small"
    kept = addressable(on_grid(far, ORIGIN, 1.2e-4))
    assert len(encode_positions(kept.cells.numpy().astype(np.uint32))) > 0


def test_anchors_that_meet_are_one() -> None:
    pair = torch.tensor([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [0.1001, 0.1, 0.1]])
    assert on_grid(pair, ORIGIN, 1 / 128).keep.tolist() == [0, 1]
    assert on_grid(pair, ORIGIN, 1 / 16384).keep.tolist() == [0, 1, 2]


def test_the_choice_is_the_cheapest_by_the_coders_own_bytes() -> None:
    for price in (1e-12, 1e-10, 1e-9, 1e-8, 1e-6):
        costs = {}
        for voxel in VOXELS:
            cells = np.round((points().numpy() - ORIGIN.numpy()) / voxel).astype(np.uint32)
            cells = np.unique(cells, axis=0)
            error = squared_error(on_grid(points(), ORIGIN, voxel))
            costs[voxel] = error + price * (8 * len(encode_positions(cells)) + 900.0 * len(cells))
        chosen = choose_grid(points(), ORIGIN, squared_error, price, anchor_bits=900.0)
        assert chosen.voxel == min(costs, key=lambda voxel: costs[voxel])


def test_dearer_bits_make_a_coarser_grid() -> None:
    prices = (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6)
    voxels = [choose_grid(points(), ORIGIN, squared_error, price, 0.0).voxel for price in prices]
    assert voxels == sorted(voxels)
    assert (voxels[0], voxels[-1]) == (VOXELS[-1], VOXELS[0])


def test_what_the_coder_cannot_address_is_not_chosen() -> None:
    far = torch.cat([points(), torch.full((1, 3), 1500.0)])
    assert choose_grid(far, ORIGIN, lambda grid: 0.0 if grid.voxel < 1 / 1000 else 1.0, 0.0, 0.0).voxel >= 1 / 1024


@pytest.fixture(scope="module")
def scene(balls: Path) -> Scene:
    return load_scene(balls)


def stored_voxel(path: Path) -> float:
    with Container.open(path) as container:
        return read_header(container).voxel


def test_a_run_stores_the_voxel_that_it_chose(scene: Scene, tmp_path: Path) -> None:
    for price in (0.0, 1.0):
        trainer = Trainer(scene, replace(TINY, rate_lambda=price))
        trainer.train()
        write_scene(trainer, tmp_path / "scene.adc")
        assert stored_voxel(tmp_path / "scene.adc") == trainer.voxel
        assert trainer.voxel in VOXELS
        decoded = open_scene(tmp_path / "scene.adc").model.positions.detach()
        trained = trainer.model.positions.detach()
        assert sorted(map(tuple, decoded.tolist())) == sorted(map(tuple, trained.tolist()))
    assert trainer.voxel == VOXELS[0]  # at a price at which bits are all that counts


def test_a_given_voxel_is_used(scene: Scene, tmp_path: Path) -> None:
    trainer = Trainer(scene, replace(TINY, voxel=0.003))
    trainer.finish()
    write_scene(trainer, tmp_path / "scene.adc")
    assert stored_voxel(tmp_path / "scene.adc") == trainer.voxel == float(np.float32(0.003))
    decoded = open_scene(tmp_path / "scene.adc").model.positions.detach()
    assert sorted(map(tuple, decoded.tolist())) == sorted(map(tuple, trainer.model.positions.detach().tolist()))


def test_a_resumed_run_keeps_what_was_chosen(scene: Scene, tmp_path: Path) -> None:
    state = tmp_path / "state"
    trainer = Trainer(scene, replace(TINY, rate_lambda=1.0), state)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(stop_after(50), report_every=0.0)
    assert trainer.frozen
    assert trainer.voxel == VOXELS[0]
    assert Trainer.from_checkpoint(scene, state).voxel == VOXELS[0]


@pytest.mark.parametrize("voxel", [0.0, -1.0, 1e-9, 1.0, math.nan])
def test_an_impossible_voxel_is_refused(voxel: float) -> None:
    with pytest.raises(OptionError, match="voxel"):
        replace(TINY, voxel=voxel)


def test_a_steered_run_weighs_positions_by_its_lambda_of_now(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(load_scene(balls), replace(TINY, target_bytes=10**6))
    prices = []

    def choose(*values: object) -> Grid:
        prices.append(values[3])
        return choose_grid(*values)  # type: ignore[arg-type]

    monkeypatch.setattr("adcgs.training.grid.choose_grid", choose)
    assert trainer.steering is not None
    for trainer.steering.rate_lambda in (1e-3, 1e-4):
        trained_grid(trainer)
    assert prices == [pytest.approx(1e-3 / RATE_UNIT), pytest.approx(1e-4 / RATE_UNIT)]
