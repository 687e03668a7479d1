"""What a training run can be told, and the presets. Phases are fractions of the run, so any length works."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from ..bitstream.header import BLUR_LIMITS
from ..entropy.config import MAX_RESIDUAL
from ..errors import OptionError
from ..model import ModelConfig

# lambda multiplies the rate in units of this many bits: lambdas from 1e-4 to 1e-2 then span the useful trades.
RATE_UNIT = 1e6

_SHARE = (0.0, 1.0)
_POSITIVE = (1e-9, 1e9)
_COUNT = (1, 1 << 22)
# Least and largest value of what `adcgs-encode --set` could otherwise set to nonsense.
_BOUNDS: dict[str, tuple[float, float]] = {
    "blur": BLUR_LIMITS,
    "chunks": (1, 16),
    "mover_instants": (0, 1000),
    "mover_anchors": (0, 1 << 22),
    "missing_anchors": (0, 1 << 22),
    "missing_after": _COUNT,
    "grow_spacing": (1e-4, 1.0),
    "chunk_dropout": (0, 1),
    "ssim_weight": _SHARE,
    "rigidity": (0.0, 1e3),
    "needles": (0.0, 1e3),
    "residuals": (0.0, 1e3),
    "lr_hold": (0.0, 0.999),
    "rate_every": _COUNT,
    "refine_every": _COUNT,
    "lr_steps": (1, 1 << 30),
    "grow_threshold": (0.0, 1e9),
    "prune_opacity": (0.0, 1e9),
    "prune_weight": (0.0, 1e9),
    "checkpoint_minutes": _POSITIVE,
    **dict.fromkeys(("refine_from", "refine_until", "noise_from", "rate_from", "freeze_positions_at"), _SHARE),
    **dict.fromkeys(("round_from", "seal_from", "settle_from", "steer_from", "missing_at"), _SHARE),
    **dict.fromkeys(("grow_share", "random_background"), _SHARE),
    **dict.fromkeys(("lr_scale", "lr_final", "lr_positions", "lr_sigma", "lr_color", "lr_features"), _POSITIVE),
    **dict.fromkeys(("lr_heads", "lr_coarse", "lr_fine", "lr_time", "lr_entropy", "coarse_decay"), _POSITIVE),
    "lr_taught": (1e-9, 1.0),
    "lr_camera_colors": _POSITIVE,
    "lr_view_colors": _POSITIVE,
}


@dataclass(frozen=True)
class TrainingConfig:
    """One run. Either ``minutes`` or ``iterations`` ends it; with ``iterations`` a run is reproducible bit for bit.

    Fractions (``*_from``, ``*_until``) are of the whole run.
    """

    minutes: float | None = 10.0
    iterations: int | None = None
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)

    # Anchors
    initial_anchors: int = 5000
    max_anchors: int = 6000
    mover_instants: int = 64  # at most, at which what moves is carved and followed before fixed cameras; 0: it is not
    mover_anchors: int = 2000  # on what moves; the initial ones take the rest
    missing_anchors: int = 1000  # at most, on what one moving camera shows and the model lacks, see missing.py; 0: none
    missing_at: float = 0.18  # when that is looked for, and twice that; before the rest has its shape, all is missing
    missing_after: int = 1000  # but after so many steps, and half as many more: gradients bring what was not missing
    voxel: float | None = None  # of the position grid, in the normalised space; None chooses it (see grid.py)

    # Rate and distortion (Eq. 10): L = 0.8 L1 + 0.2 D-SSIM + lambda * megabits
    rate_lambda: float = 2.5e-3
    ssim_weight: float = 0.2
    views_per_step: int = 1  # of one instant: they share prediction and deformation
    chunks: int = 4  # M, parts in which f_g is coded, each on those before (Eq. 8); a divisor of model.residual_dim
    hyperprior: bool = True  # f_v is coded on eta; without it on one mean and deviation per channel
    adaptive_step: bool = True  # the step factors of Eq. 6; without it steps differ by channel alone
    rate_every: int = 4  # the rate term costs half as much as a step does: every fourth, four times the weight

    # Variance in pixels^2 that the rasterizer adds to splats; goes into the file. That of a pixel's own square is 1/12.
    blur: float = 0.1

    residuals: float = 0.1  # weight of what keeps primitives' scales near their anchor's, see shapes.py

    # Weights of what holds captures together that have one view an instant
    rigidity: float = 0.03  # neighbours keep their distance, see rigidity.py
    needles: float = 0.02  # primitives are not long and thin, see shapes.py

    # Share of the steps, once the rate counts, that show what a file shows whose last chunks of f_g are missing.
    chunk_dropout: float = 0.05

    # A target to steer lambda by, from its value above on (see steering.py): at most one of the two
    target_bytes: int | None = None  # of the whole file
    target_psnr: float | None = None  # in dB, of the training views as the file shows them
    target_weights: Literal["fp32", "fp16", "int8"] = "fp32"  # how the networks will be stored, see settle_from
    steer_from: float = 0.35  # the first bits fall fast, whatever lambda is

    # An affine colour per fixed camera, see camera_colors.py. None: where enough of them are fixed to have a mean.
    camera_colors: bool | None = None
    lr_camera_colors: float = 3e-4  # small: a step of every camera follows from one view of one of them

    # Colours that are linear in the direction of view, see model/view_colors.py
    view_colors: bool = False
    lr_view_colors: float = 2e-3

    # Phases
    resolutions: tuple[tuple[float, int], ...] = (
        (0.0, 4),
        (0.12, 2),
        (0.4, 1),
    )  # from this fraction on, 1/n size
    refine_from: float = 0.06
    refine_until: float = 0.65
    refine_every: int = 100
    noise_from: float = 0.15
    rate_from: float = 0.25
    freeze_positions_at: float = 0.8  # snapped to the grid, duplicates merged
    round_from: float = 0.7  # straight-through rounding of f_v and f_g instead of noise
    seal_from: float = 0.94  # the entropy model is rounded to integers, the rest trained on what the file will hold
    settle_from: float = 0.96  # so are networks that the file will hold in eight bits, see settling.py

    # Refinement (Eq. 11)
    refine: bool = True  # anchors grow and are pruned
    significance_weights: bool = True  # gradients weighted by blending (Eq. 11); without it their plain mean, as 3DGS
    grow_threshold: float = 2e-4  # on the significance-weighted gradient, in units of half the image
    grow_spacing: float = 1 / 128  # a new anchor has a cell of this size to itself
    grow_share: float = 0.03  # at most this share of new anchors per refinement
    prune_opacity: float = 5e-3  # on the mean opacity of an anchor's most opaque primitive
    prune_weight: float = 2e-2  # on the mean blending weight of an anchor per view, in pixels

    # Learning rates: constant for ``lr_steps`` steps, then as one over the root of the step, whatever the run's length;
    # from ``lr_hold`` of the run on all decay exponentially to ``lr_final`` of that
    lr_scale: float = 2.0
    lr_steps: int = 1500
    lr_hold: float = 0.8
    lr_final: float = 0.02
    lr_positions: float = 5e-4
    lr_sigma: float = 5e-3
    lr_color: float = 7.5e-3
    lr_features: float = 2.5e-3
    lr_heads: float = 2e-3
    lr_coarse: float = 1e-3
    coarse_decay: float = 0.2  # what becomes of this rate over the run, beside lr_final: motion ends in small steps
    # At most so much of the rates of motion, of the coarse network and of Z, where anchors start on what moves: larger
    # steps forget in some dozen what was taught of their ways, and what flies fades
    lr_taught: float = 0.2
    lr_fine: float = 1e-3
    lr_time: float = 5e-3
    lr_entropy: float = 2e-3

    random_background: float = 0.5  # share of steps with a random background, for captures with alpha
    checkpoint_minutes: float = 2.0

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.iterations is None):
            raise OptionError("bad-option", "give either minutes or iterations, not both and not neither")
        if self.minutes is not None and not 0 < self.minutes < 1e5:
            raise OptionError("bad-option", f"minutes is {self.minutes}; give a positive number")
        if self.iterations is not None and self.iterations < 1:
            raise OptionError("bad-option", f"iterations is {self.iterations}; give 1 or more")
        if self.views_per_step < 1:
            raise OptionError("bad-option", f"views_per_step is {self.views_per_step}; give 1 or more")
        if not 0 <= self.seed < 1 << 31:
            raise OptionError("bad-option", f"the seed is {self.seed}; give 0 to {(1 << 31) - 1}")
        if self.max_anchors < 1 or self.initial_anchors < 1:
            raise OptionError("bad-option", "the anchor budget must be at least 1")
        if not self.freeze_positions_at <= self.seal_from:
            raise OptionError("bad-option", "anchors must be on their grid (freeze_positions_at) before seal_from")
        if self.voxel is not None and not 1e-4 <= self.voxel <= 0.25:
            raise OptionError("bad-option", f"the voxel is {self.voxel}; give 0.0001 to 0.25, such as 0.002")
        if not 0 <= self.rate_lambda <= 1e6:
            raise OptionError("bad-option", f"lambda is {self.rate_lambda}; give 0 or more, such as 1e-3")
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                least, most = (end if isinstance(end, int) else f"{end:g}" for end in (low, high))
                raise OptionError("bad-option", f"{name} is {getattr(self, name)}; give {least} to {most}")
        values = self.model.primitives * self.model.residual_dim
        if values > MAX_RESIDUAL:
            problem = f"model.primitives x model.residual_dim is {values}; give at most {MAX_RESIDUAL}"
            raise OptionError("bad-option", problem)
        if self.model.residual_dim % self.chunks:
            problem = f"chunks is {self.chunks}; give a divisor of model.residual_dim, {self.model.residual_dim}"
            raise OptionError("bad-option", problem)
        starts = [start for start, _ in self.resolutions]
        if starts != sorted(starts) or starts[:1] != [0.0] or any(not 1 <= n <= 64 for _, n in self.resolutions):
            raise OptionError(
                "bad-option", f"resolutions are {self.resolutions}; give rising starts from 0, each with a divisor"
            )
        self._check_phases()
        self._check_target()

    def _check_phases(self) -> None:
        """Refuse what would begin only once it is over, and so never be."""
        searches = self.missing_anchors > 0
        steers = self.target_bytes is not None or self.target_psnr is not None
        for asked, name, end, remedy in (
            (self.refine, "refine_from", "refine_until", ", or refine=false for no refinement"),
            (self.refine, "refine_from", "freeze_positions_at", ", or refine=false for no refinement"),
            (searches, "missing_at", "refine_until", ", or missing_anchors=0 for no search"),
            (searches, "missing_at", "freeze_positions_at", ", or missing_anchors=0 for no search"),
            (self.rate_lambda > 0, "rate_from", "seal_from", ", or lambda 0 for no rate"),
            (self.rate_lambda > 0, "noise_from", "seal_from", ": the rate counts in between"),
            (steers, "steer_from", "seal_from", ": lambda is steered in between"),
        ):
            start, over = getattr(self, name), getattr(self, end)
            if asked and start >= over:
                raise OptionError("bad-option", f"{name} is {start:g}; give less than {end}, {over:g}{remedy}")
        for name, end in (("noise_from", "round_from"), ("round_from", "seal_from")):
            start, over = getattr(self, name), getattr(self, end)
            if start > over:  # equal: without that phase, on purpose
                raise OptionError("bad-option", f"{name} is {start:g}; give at most {end}, {over:g}")

    def _check_target(self) -> None:
        if self.target_bytes is not None and self.target_psnr is not None:
            raise OptionError("bad-option", "give a target size or a target PSNR, not both")
        if self.target_bytes is not None and self.target_bytes < 1:
            raise OptionError("bad-option", f"the target size is {self.target_bytes} bytes; give a positive number")
        if self.target_psnr is not None and not 5 <= self.target_psnr <= 80:
            raise OptionError("bad-option", f"the target PSNR is {self.target_psnr} dB; give 5 to 80")
        if (self.target_bytes is not None or self.target_psnr is not None) and self.rate_lambda == 0:
            raise OptionError("bad-option", "lambda is 0, which no target can be met with; leave it out")

    def lr_factor(self, progress: float) -> float:
        """What the end of the run, which nears with ``progress`` in [0, 1], leaves of the learning rates."""
        return float(self.lr_final ** (max(0.0, progress - self.lr_hold) / (1 - self.lr_hold)))

    def lr_fall(self, iteration: int) -> float:
        """What so many steps leave of the learning rates; long runs spend them on finer steps."""
        return math.sqrt(self.lr_steps / max(iteration, self.lr_steps))

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint's JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TrainingConfig:
        """The inverse of :meth:`to_dict`; refuses unknown keys.

        Raises:
            OptionError: ``bad-option``, naming the key.
        """
        known = {f.name for f in fields(TrainingConfig)}
        unknown = set(values) - known
        if unknown:
            raise OptionError("bad-option", f"unknown training option '{sorted(unknown)[0]}'")
        kinds = {f.name: str(f.type) for f in fields(TrainingConfig)}
        wrong = [name for name, value in values.items() if not _fits(value, kinds[name])]
        if wrong:
            raise OptionError("bad-option", f"the training option '{wrong[0]}' is {values[wrong[0]]!r}")
        data = dict(values)
        data["model"] = ModelConfig.from_dict(data["model"])
        data["resolutions"] = tuple((float(a), int(b)) for a, b in data["resolutions"])
        return TrainingConfig(**data)


_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "None": (type(None),)}


def _fits(value: object, annotation: str) -> bool:
    """Whether JSON's value is what a field is declared as; what is no plain type is checked where it is made."""
    if annotation.startswith("Literal"):
        return isinstance(value, str) and repr(value) in annotation
    kinds = [part.strip() for part in annotation.split("|")]
    if any(kind not in _TYPES for kind in kinds):
        return True
    if isinstance(value, bool):
        return "bool" in kinds
    return isinstance(value, tuple(one for kind in kinds for one in _TYPES[kind]))


def preset(name: str) -> TrainingConfig:
    """``draft`` (a look in 2 minutes), ``default`` (10 minutes) or ``best`` (an hour)."""
    base = TrainingConfig()
    if name == "draft":
        return replace(base, minutes=2.0, initial_anchors=1200, max_anchors=2000)
    if name == "default":
        return base
    if name == "best":
        wide = replace(base.model, deformation_width=96)
        return replace(base, minutes=60.0, max_anchors=10000, initial_anchors=8000, model=wide)
    raise OptionError("bad-option", f"no preset '{name}'; there are draft, default and best")
