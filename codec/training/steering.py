"""Meeting a target: lambda is steered in training so that the file has a size, or its pictures a PSNR.

There are two actuators. From ``steer_from`` on a proportional-integral law on log lambda follows what the run predicts
for its end: the bytes of the file that it would write now, or the PSNR of training views as that file would show them
plus what the rest of the run is expected to add. Where the entropy model is sealed, and lambda has no more say, one
factor on all quantisation steps takes out what is left, found by bisection on the sealed model itself. It is found
again at the end, should the last steps of training have moved the result by a good share of the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evenly import evenly
from ..features import Features
from .config import TrainingConfig
from .filesize import bytes_besides, coded_bytes, smallest_weight_bits

if TYPE_CHECKING:
    from .trainer import Trainer

SIZE_TOLERANCE = 0.05  # of the target
PSNR_TOLERANCE = 0.2  # dB
_NEAR = 0.25  # of the tolerance: nearer than that, steps are left as they are

# What a factor e on lambda does, about: to the log of the coded bytes, to the PSNR. They set the loops' gains.
_BYTES_PER_LAMBDA = -0.3
_PSNR_PER_LAMBDA = -0.8
_LOG_LAMBDA = (math.log(1e-5), math.log(0.3))  # beyond these nothing is won, or pictures fall apart
# Steps at full learning rate in which the integral part adds what is missing now; bytes follow lambda in some 200.
_SIZE_STEPS, _PSNR_STEPS = 150.0, 200.0
_PROPORTIONAL = 1.0  # for sizes; pictures are measured rarely, and flicker
_LARGEST_EXCESS = 3.0  # in units of log lambda: what is far away is approached no faster than that

_COUNT_EVERY = 0.1  # of the run: what is not coded is counted again
_LOOK_FROM, _LOOK_EVERY = 0.5, 0.02  # of the run: pictures are measured
_VIEWS, LAST_VIEWS = 10, 30  # measured: during the run, at its end and for the report
_FINEST, _COARSEST = -0.5, 2.5  # logs of the factor on the quantisation steps
_BISECTIONS = 9
# dB that a run still adds after a part of it: while it learns, while learning rates fall, in the sealed phase.
_TO_COME = ((0.5, 2.0), (0.6, 1.5), (0.8, 0.85), (0.94, 0.1), (1.0, 0.0))


@dataclass(frozen=True)
class Heading:
    """What a run should reach, and what it would reach as it goes: bytes of the file, or dB."""

    target: float
    unit: str  # "bytes" or "dB"
    predicted: float | None  # None before anything was measured


class Steering:
    """The controller of one run; the trainer tells it of every step that had a rate.

    Attributes:
        rate_lambda: to use now.
        predicted: what the run is heading for, bytes or dB; None before anything was measured.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.rate_lambda = config.rate_lambda
        self.predicted: float | None = None
        self._integral = math.log(max(config.rate_lambda, 1e-9))
        self._besides = 0.0  # bytes of the file that no entropy model codes
        self._counted_at = -1.0  # progress when they were counted
        self._looked_at = -1.0  # progress when pictures were measured
        self._iteration = 0  # of the last update

    @property
    def target(self) -> float:
        """Bytes or dB."""
        target = self.config.target_psnr if self.config.target_bytes is None else self.config.target_bytes
        assert target is not None
        return float(target)

    @property
    def unit(self) -> str:
        """Of the target: ``bytes`` or ``dB``."""
        return "dB" if self.config.target_bytes is None else "bytes"

    def heading(self) -> Heading:
        """For the live line."""
        return Heading(self.target, self.unit, self.predicted)

    def is_met(self, reached: float) -> bool:
        """Whether a file of ``reached`` bytes or dB is within the tolerance."""
        tolerance = SIZE_TOLERANCE * self.target if self.unit == "bytes" else PSNR_TOLERANCE
        return abs(reached - self.target) <= tolerance

    def state(self) -> dict[str, Any]:
        """For a checkpoint's JSON."""
        names = ("rate_lambda", "predicted", "_integral", "_besides", "_counted_at", "_looked_at", "_iteration")
        return {name: getattr(self, name) for name in names}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        for name in self.state():
            setattr(self, name, state[name])

    # ---------------------------------------------------------------- while lambda has a say

    def observe(self, trainer: Trainer, progress: float) -> None:
        """After a step with a rate: predict the result, and move lambda towards the target."""
        start = self.config.steer_from if self.unit == "bytes" else max(self.config.steer_from, _LOOK_FROM)
        if progress < start:
            self._iteration = trainer.iteration
        elif self.unit == "bytes":
            self._observe_size(trainer, progress)
        elif progress - self._looked_at >= _LOOK_EVERY:
            self._looked_at = progress
            self.predicted = training_psnr(trainer, _VIEWS) + to_come(progress)
            excess = (self.predicted - self.target) / -_PSNR_PER_LAMBDA
            self._move(excess, trainer, progress, 0.0, _PSNR_STEPS)

    def _observe_size(self, trainer: Trainer, progress: float) -> None:
        if progress - self._counted_at >= _COUNT_EVERY:
            self._counted_at = progress
            self._besides = bytes_besides(trainer, smallest_weight_bits(trainer))
        assert trainer.bits is not None
        coded = trainer.bits / 8
        self.predicted = self._besides + coded
        # Lambda acts on what the rest leaves of the target; at least on a fiftieth, where networks nearly fill it.
        wanted = max(self.target - self._besides, 0.02 * self.target)
        excess = math.log(coded / wanted) / -_BYTES_PER_LAMBDA
        self._move(excess, trainer, progress, _PROPORTIONAL, _SIZE_STEPS)

    def _move(
        self, excess: float, trainer: Trainer, progress: float, proportional: float, integral_steps: float
    ) -> None:
        """One update; ``excess`` is by how much log lambda is too low, as far as is known."""
        low, high = _LOG_LAMBDA
        excess = min(max(excess, -_LARGEST_EXCESS), _LARGEST_EXCESS)
        # As learning rates fall everything gets slower.
        pace = self.config.lr_factor(progress) * self.config.lr_fall(trainer.iteration)
        steps = (trainer.iteration - self._iteration) * pace
        self._iteration = trainer.iteration
        self._integral += excess * min(steps / integral_steps, 0.5)
        self._integral = min(max(self._integral, low), high)  # it does not wind up beyond what may be used
        self.rate_lambda = math.exp(min(max(self._integral + proportional * excess, low), high))

    # ---------------------------------------------------------------- at the seal, and at the end

    def adjust(self, trainer: Trainer, progress: float) -> bool:
        """Scale all quantisation steps so that the sealed model meets the target; whether they were changed.

        Args:
            progress: below 1 where the sealed phase of training is to come, 1 at the end.
        """
        bits = smallest_weight_bits(trainer)
        besides = bytes_besides(trainer, bits)

        def excess(log_factor: float) -> float:
            """By how many tolerances a file with these steps is too large, or too good."""
            trainer.entropy.scale_steps(math.exp(log_factor))
            try:
                if self.unit == "bytes":
                    self.predicted = besides + coded_bytes(trainer, bits)
                    return (self.predicted - self.target) / (SIZE_TOLERANCE * self.target)
                self.predicted = training_psnr(trainer, LAST_VIEWS, bits) + to_come(progress)
                return (self.predicted - self.target) / PSNR_TOLERANCE
            finally:
                trainer.entropy.scale_steps(math.exp(-log_factor))

        if abs(excess(0.0)) <= _NEAR:
            return False
        factor = crossing(excess, _FINEST, _COARSEST, _BISECTIONS)
        if self.unit == "dB" and factor == _FINEST:
            factor = 0.0  # the finest steps do not show enough either, and would only cost bytes
        excess(factor)
        trainer.entropy.scale_steps(math.exp(factor))
        return factor != 0.0


def crossing(function: Callable[[float], float], low: float, high: float, steps: int) -> float:
    """Where a falling function is 0, by bisection; an end where it is not within."""
    if function(high) > 0:
        return high
    if function(low) < 0:
        return low
    for _ in range(steps):
        middle = 0.5 * (low + high)
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def to_come(progress: float) -> float:
    """PSNR in dB that the rest of a run is expected to add."""
    shares, gains = zip(*_TO_COME, strict=True)
    return float(np.interp(progress, shares, gains))


def training_psnr(trainer: Trainer, limit: int, weight_bits: int | None = None) -> float:
    """Mean PSNR in dB of at most ``limit`` training views, evenly spread, with attributes rounded.

    Args:
        weight_bits: round as a file whose entropy model were sealed now, with weights of so many bits. None: as the
            trainer would round.
    """
    count = len(trainer.frames)
    frames = [trainer.frames[i] for i in evenly(count, limit)]
    if weight_bits is None:
        features = trainer.rounded()
    else:
        decoded = trainer.entropy.seal(trainer.model.features, weight_bits).compress(trainer.model.features).decoded
        features = Features(*(value.to(trainer.device) for value in vars(decoded.features).values()))
    errors = (trainer.render(frame, features).numpy() - trainer.scene.target(frame) for frame in frames)
    return float(np.mean([-10 * math.log10(max(float(np.mean(e * e, dtype=np.float64)), 1e-10)) for e in errors]))
