"""--set: any field of a run by name, and one clear line for what is none."""

from __future__ import annotations

import re
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


NEVER_REFINED = "or refine=false"
NEVER_SEARCHED = "or missing_anchors=0"


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["refine_from=0.7"], f"refine_from is 0.7; give less than refine_until, 0.65, {NEVER_REFINED}"),
        (["refine_until=0.06"], f"refine_from is 0.06; give less than refine_until, 0.06, {NEVER_REFINED}"),
        (
            ["refine_from=0.7", "refine_until=0.9", "freeze_positions_at=0.6", "missing_at=0.1"],
            f"refine_from is 0.7; give less than freeze_positions_at, 0.6, {NEVER_REFINED}",
        ),
        (["refine_until=0.1"], f"missing_at is 0.18; give less than refine_until, 0.1, {NEVER_SEARCHED}"),
        (
            ["refine_from=0", "freeze_positions_at=0.1"],
            f"missing_at is 0.18; give less than freeze_positions_at, 0.1, {NEVER_SEARCHED}",
        ),
        (["rate_from=0.94"], "rate_from is 0.94; give less than seal_from, 0.94, or lambda 0"),
        (["noise_from=0.94", "round_from=0.94"], "noise_from is 0.94; give less than seal_from, 0.94: the rate"),
        (["noise_from=0.9"], "noise_from is 0.9; give at most round_from, 0.7"),
        (["round_from=0.95"], "round_from is 0.95; give at most seal_from, 0.94"),
    ],
)
def test_a_phase_that_would_begin_once_it_is_over_is_refused(assignments: list[str], says: str) -> None:
    with pytest.raises(OptionError, match=re.escape(says)) as caught:
        config_of(*assignments)
    assert caught.value.code == "bad-option"


def test_a_target_that_would_steer_nothing_is_refused() -> None:
    late = replace(TrainingConfig(), steer_from=0.94)  # nobody steers
    with pytest.raises(OptionError, match=r"steer_from is 0\.94; give less than seal_from, 0\.94"):
        replace(late, target_psnr=30.0)


def test_phases_that_are_switched_off_may_begin_at_any_time() -> None:
    config_of("refine=false", "refine_from=0.7")
    config_of("missing_anchors=0", "refine_until=0.1")
    replace(TrainingConfig(), rate_lambda=0.0, rate_from=0.95)
    config_of("noise_from=0.7")  # no noise
    config_of("round_from=0.94")  # no rounding but the seal's


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
        (["model.reference_dim=129"], "an integer from 1 to 128"),
        (["model.primitives=64", "model.residual_dim=64"], "x model.residual_dim is 4096; give at most"),
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
