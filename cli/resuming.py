"""A run that goes on: what its command line may still say, and the line that brings it on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from adcgs.errors import OptionError

if TYPE_CHECKING:
    from adcgs.training import Trainer
    from adcgs.training.overrides import Value

_OPTION_OF = {  # where the names differ
    "rate_lambda": "--lambda",
    "target_bytes": "--target-size",
    "target_weights": "--weights",
}


def check_resumed(
    trainer: Trainer, what: str, given: dict[str, float | int | str | None], fields: Mapping[str, Value]
) -> None:
    """A stored run keeps its configuration: options that contradict it are refused, not ignored.

    Args:
        what: the run is, in words. given: by options of their own. fields: by --set.

    Raises:
        OptionError: ``bad-option``, naming the option and what the run has.
    """
    from adcgs.training.overrides import value_of

    for name, wanted in fields.items():
        kept = value_of(trainer.config, name)
        if str(wanted) != trainer.asked.get(name, str(kept)):
            problem = f"--set {name}={wanted} contradicts the run {what}, which has {kept}; leave it out"
            raise OptionError("bad-option", problem)
    for name, value in given.items():
        if value is None:
            continue
        option = _OPTION_OF.get(name, "--" + name.replace("_", "-"))
        if name == "preset":
            raise OptionError("bad-option", f"{option} {value}: the run {what} has its settings; leave it out")
        if name == "camera_colors":
            _check_colors(trainer, what, bool(value))
            continue
        had = getattr(trainer.config, name)
        if name == "target_weights" and had != "int8" and trainer.config.target_bytes is None:
            continue  # a run that knew nothing of it can be written with any
        if value != had:
            has = f"no {option}" if had is None else str(had)
            problem = f"{option} {value} contradicts the run {what}, which has {has}; leave it out"
            raise OptionError("bad-option", problem)


def _check_colors(trainer: Trainer, what: str, wanted: bool) -> None:
    if wanted != (trainer.colors is not None):
        option, has = ("--camera-colors", "does not tell") if wanted else ("--no-camera-colors", "tells")
        problem = f"{option} contradicts the run {what}, which {has} its cameras' colours apart; leave it out"
        raise OptionError("bad-option", problem)


def resume_line() -> str:
    """This command line again, with --resume."""
    given = [word for word in without_preset(sys.argv[1:]) if word != "--resume"]
    return shlex.join(["adcgs-encode", *given, "--resume"])


def without_preset(words: Sequence[str]) -> list[str]:
    """Arguments for a run that is resumed: it has its preset already, and would refuse another."""
    kept, rest = [], iter(words)
    for word in rest:
        if word == "--preset":
            next(rest, None)
        elif not word.startswith("--preset="):
            kept.append(word)
    return kept
