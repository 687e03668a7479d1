"""--set: any field of a run by name, and one clear line for what is none."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from adcgs.errors import OptionError
from adcgs.training import TrainingConfig
from adcgs.training.overrides import apply, parse_assignments, settable, value_of


def config_of(*assignments: str) -> TrainingConfig:
    return apply(TrainingConfig(), parse_assignments(assignments))


def test_fields_of_the_run_and_of_the_model_are_set() -> None:
    config = config_of("model.primitives=10", "lr_hold=0", "model.coarse=false", "views_per_step = 2")
    assert config.model == replace(TrainingConfig().model, primitives=10, coarse=False)
    assert (config.lr_hold, config.views_per_step) == (0.0, 2)
    assert value_of(config, "model.primitives") == 10
    assert config_of("resolutions=0:2,0.5:1").resolutions == ((0.0, 2), (0.5, 1))
    assert config_of() == TrainingConfig()


def test_every_field_can_be_set_or_has_an_option() -> None:
    names = {f.name for f in fields(TrainingConfig)} - {"model"}
    own = {"minutes", "iterations", "seed", "rate_lambda", "max_anchors", "voxel", "camera_colors"}
    assert names - set(settable()) == own | {"target_bytes", "target_psnr", "target_weights"}
    for name, value in settable().items():
        text = "0:4,0.12:2,0.4:1" if name == "resolutions" else str(value)
        assert config_of(f"{name}={text}") == TrainingConfig()


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["primitves=3"], "close: model.primitives"),
        (["model.lr_hld=3"], "close: lr_hold"),
        (["zzzzzz=3"], "there are: initial_anchors"),
        (["lr_hold"], "FIELD=VALUE"),
        (["lr_hold=slow"], "give a number"),
        (["lr_hold=nan"], "give a number"),
        (["model.primitives=1.5"], "an integer from 1 to 64"),
        (["model.primitives=65"], "an integer from 1 to 64"),
        (["model.coarse=maybe"], "true or false"),
        (["resolutions=4"], "START:DIVISOR"),
        (["resolutions=0.5:4"], "rising starts from 0"),
        (["rate_every=0"], "rate_every is 0; give 1 to"),
        (["lr_hold=0", "lr_hold=0.5"], "given twice"),
        (["rate_lambda=1"], "--lambda"),
        (["seed=1"], "--seed"),
    ],
)
def test_what_is_no_field_or_no_value_is_refused(assignments: list[str], says: str) -> None:
    with pytest.raises(OptionError, match=says) as caught:
        config_of(*assignments)
    assert caught.value.code == "bad-option"
