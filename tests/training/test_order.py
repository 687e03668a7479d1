"""The order in which a run looks at views: all of them in turn, the same whenever a run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adcgs.scene import Frame, load_scene
from adcgs.training.order import ViewOrder
from adcgs.training.seeds import seed_of

from ..captures import write_rig


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    folder: Path = tmp_path_factory.mktemp("rig")
    return load_scene(write_rig(folder), downscale=2).split("train")


def test_an_epoch_shows_every_frame_once_and_the_next_in_another_order(frames: list[Frame]) -> None:
    order = ViewOrder(frames, seed=3)
    first, second = ([order.at(i)[0].index for i in range(k * len(frames), (k + 1) * len(frames))] for k in (0, 1))
    assert sorted(first) == sorted(second) == sorted(frame.index for frame in frames)
    assert first != second
    assert first != [ViewOrder(frames, seed=4).at(i)[0].index for i in range(len(frames))]


def test_a_run_that_goes_on_sees_what_it_would_have_seen(frames: list[Frame]) -> None:
    order = ViewOrder(frames, seed=3)
    whole = [order.at(i)[0].index for i in range(3 * len(frames))]
    for start in (1, len(frames), 2 * len(frames) - 1):
        resumed = ViewOrder(frames, seed=3)
        assert [resumed.at(i)[0].index for i in range(start, len(whole))] == whole[start:]


def test_views_of_a_step_are_other_cameras_of_one_instant(frames: list[Frame]) -> None:
    order = ViewOrder(frames, seed=0, views=3)
    for iteration in range(20):
        chosen = order.at(iteration)
        assert len({frame.time for frame in chosen}) == 1
        assert len({frame.camera_id for frame in chosen}) == 3


def test_an_instant_of_fewer_views_gives_all_it_has(frames: list[Frame]) -> None:
    cameras = {frame.camera_id for frame in frames}
    chosen = ViewOrder(frames, seed=0, views=len(cameras) + 5).at(0)
    assert {frame.camera_id for frame in chosen} == cameras
    assert len(chosen) == len(cameras)


def test_one_view_an_instant_is_what_a_single_camera_has(frames: list[Frame]) -> None:
    of_one = [frame for frame in frames if frame.camera_id == frames[0].camera_id]
    assert not ViewOrder(frames, seed=0).one_view
    order = ViewOrder(of_one, seed=0, views=2)
    assert order.one_view
    assert all(len(order.at(i)) == 1 for i in range(len(of_one)))


def test_runs_of_other_seeds_draw_other_numbers_in_all_their_steps() -> None:
    """torch's CPU generator looks at the lower half of 64 bits alone."""
    drawn = set()
    for seed in range(4):
        for step in (0, 1, 5, 20_000):
            torch.manual_seed(seed_of(seed, step))
            drawn.add(float(torch.rand((), dtype=torch.float64)))
    assert len(drawn) == 16
