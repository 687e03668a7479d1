"""Fields of a run by name, as ``adcgs-encode --set`` gives them: ``rate_every=2``, ``model.primitives=10``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ..errors import OptionError
from ..model.config import LIMITS, ModelConfig
from .config import TrainingConfig

# They have options of their own: two ways to say one thing could disagree.
_OPTIONS = {
    "minutes": "--minutes",
    "iterations": "--iterations",
    "seed": "--seed",
    "rate_lambda": "--lambda",
    "max_anchors": "--max-anchors",
    "voxel": "--voxel",
    "camera_colors": "--camera-colors or --no-camera-colors",
    "target_bytes": "--target-size",
    "target_psnr": "--target-psnr",
    "target_weights": "--weights",
}
_WORDS = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
_CLOSE = 5

Value = bool | int | float | str | tuple[tuple[float, int], ...]


def settable() -> dict[str, Value]:
    """Every field that can be set, by its name on the command line, and its default."""
    config = TrainingConfig()
    found = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "model" and f.name not in _OPTIONS}
    return found | {f"model.{f.name}": getattr(config.model, f.name) for f in fields(config.model)}


def parse_assignments(assignments: Sequence[str]) -> dict[str, Value]:
    """``["name=value", ...]`` to names and values of the fields' types.

    Raises:
        OptionError: ``bad-option`` for an unknown field (close ones are listed), one that has an option of its own,
            one given twice, or a value of another type.
    """
    known = settable()
    values: dict[str, Value] = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise OptionError("bad-option", f"--set {assignment}: give FIELD=VALUE, such as views_per_step=2")
        if name in _OPTIONS:
            raise OptionError("bad-option", f"--set {name}: has an option of its own, {_OPTIONS[name]}")
        if name not in known:
            raise OptionError("bad-option", f"--set {name}: there is no such field; {_near(name, known)}")
        if name in values:
            raise OptionError("bad-option", f"--set {name}: is given twice")
        values[name] = _parse(name, text, known[name])
    return values


def apply(config: TrainingConfig, values: Mapping[str, Value]) -> TrainingConfig:
    """``config`` with some fields set.

    Raises:
        OptionError: ``bad-option`` for a value out of range, or values that contradict each other.
    """
    own: dict[str, Any] = {name: value for name, value in values.items() if "." not in name}
    model: dict[str, Any] = {name.partition(".")[2]: value for name, value in values.items() if "." in name}
    return replace(config, model=replace(config.model, **model), **own)


def value_of(config: TrainingConfig, name: str) -> Value:
    """The value of a field by its name on the command line."""
    holder: TrainingConfig | ModelConfig = config.model if name.startswith("model.") else config
    value: Value = getattr(holder, name.rpartition(".")[2])
    return value


def _near(name: str, known: Mapping[str, Value]) -> str:
    """The names that were perhaps meant: of the whole name, or of its last part."""
    short = {full.rpartition(".")[2]: full for full in known}
    close = difflib.get_close_matches(name.rpartition(".")[2], short, n=_CLOSE)
    if close:
        return f"close: {', '.join(short[one] for one in close)}"
    return f"there are: {', '.join(known)}"


def _parse(name: str, text: str, default: Value) -> Value:
    try:
        if isinstance(default, bool):
            return _WORDS[text.lower()]
        if isinstance(default, int):
            return _within(name, int(text))
        if isinstance(default, float):
            return _finite(float(text))
        if isinstance(default, str):
            return text
        pairs = (pair.split(":") for pair in text.split(","))
        return tuple((_finite(float(start)), int(divisor)) for start, divisor in pairs)
    except (KeyError, ValueError):
        raise OptionError("bad-option", f"--set {name}={text}: give {_kind(name, default)}") from None


def _within(name: str, value: int) -> int:
    low, high = LIMITS.get(name.removeprefix("model."), (value, value))
    if not low <= value <= high:
        raise ValueError
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError
    return value


def _kind(name: str, default: Value) -> str:
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int):
        bounds = LIMITS.get(name.removeprefix("model."))
        return f"an integer from {bounds[0]} to {bounds[1]}" if bounds else "an integer"
    return "a number" if isinstance(default, float) else "START:DIVISOR pairs, such as 0:4,0.12:2,0.4:1"
