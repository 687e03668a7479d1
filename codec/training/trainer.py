"""The training loop: Eq. 10 over random views, with the phases of ``TrainingConfig``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..bitstream import Rounded
from ..entropy import EntropyConfig, MultiDimensionEntropyModel, Rate, SealedEntropyModel
from ..errors import AdcError, TrainingError
from ..features import Features
from ..gaussians import Gaussians
from ..model import Primitives, ViewColors
from ..render import RasterSettings, Render, render
from ..scene import Frame, Scene
from ..scene.movers import moving_cloud
from . import state
from .camera_colors import CameraColors, fixed_cameras
from .checkpoint import load_checkpoint, save_checkpoint
from .config import RATE_UNIT, TrainingConfig
from .fingerprint import fingerprint
from .grid import VOXELS, snap, trained_grid
from .initialise import can_teach, initial_model
from .interrupts import DeferredInterrupt
from .losses import l1_dssim
from .missing import SEARCHES, can_search, search_missing
from .optimiser import AnchorOptimiser
from .order import ViewOrder
from .refinement import Significance, grow, prunable
from .rigidity import Rigidity
from .seeds import seed_of
from .settling import settle_networks
from .shapes import needle_penalty, residual_penalty
from .steering import Heading, Steering

# Length of the running mean of the shown PSNR, in steps.
_SMOOTHING = 50


@dataclass(frozen=True)
class Status:
    """What the live line shows."""

    iteration: int
    progress: float  # 0..1
    seconds: float  # spent, over all sessions of this run
    remaining: float  # seconds left, estimated
    psnr: float  # running mean over training views
    anchors: int
    bits: float | None  # estimated, once the rate is known
    phase: str
    rate_lambda: float  # the rate's weight now
    heading: Heading | None = None  # of a run that has a target


class Trainer:
    """A run over one scene. ``train`` may be called once; state is saved to and restored from checkpoints.

    Args:
        scene: the capture.
        config: the run.
        checkpoint: where to save at intervals and at the end; None saves nothing.
        device: a torch device; the capture's images are brought there as they are needed.
    """

    def __init__(
        self, scene: Scene, config: TrainingConfig, checkpoint: Path | None = None, device: str = "cpu"
    ) -> None:
        self.scene = scene
        self.device = torch.device(device)
        # Knots between instants that no image shows would be trained by nothing, and stored.
        config = replace(config, model=replace(config.model, knots=min(config.model.knots, scene.frame_count)))
        self.config = config
        self.checkpoint = checkpoint
        self.frames = scene.split("train")
        if not self.frames:
            raise TrainingError("no-frames", f"{scene.root}: no training frames; check the capture's split")
        self.fingerprint = fingerprint(scene, self.frames)
        self.moving = moving_cloud(scene, config.mover_instants)
        movers = 0 if self.moving is None else min(config.mover_anchors, config.max_anchors // 2)
        count = min(config.initial_anchors, config.max_anchors - movers)
        self.model = initial_model(scene.cloud, self.moving, config.model, count, movers, config.seed).to(self.device)
        if config.view_colors:
            self.model.view_colors = ViewColors(config.model.reference_dim).to(self.device)
        self.entropy = MultiDimensionEntropyModel(
            entropy_config(config), hyperprior=config.hyperprior, adaptive_step=config.adaptive_step
        ).to(self.device)
        self.colors = self._new_colors()
        taught = self.moving is not None and can_teach(config.model, movers)
        self.optimiser = AnchorOptimiser(self.model, self.entropy, config, self.colors, taught)
        self.significance = self._new_significance()
        self.origin = torch.from_numpy(np.asarray(scene.bounds[0], np.float32)).to(self.device, copy=True)
        self.voxel = config.voxel or VOXELS[len(VOXELS) // 2]  # until positions are frozen, a guess for the live line
        self.raster = RasterSettings(near=scene.near, blur=config.blur)
        self.iteration = 0
        self.seconds = 0.0
        self.asked: dict[str, str] = {}  # fields that the user set, where the scene or a target may have changed them
        self.frozen = False
        self.sealed: SealedEntropyModel | None = None
        self.settled: dict[str, Rounded] | None = None  # the networks' matrices, where the file has eight bits for them
        self.error = 0.0  # running mean of the squared error
        self.knows_rate = False
        self._counted: tuple[int, float] | None = None  # the bits that the step of an iteration had
        has_target = config.target_bytes is not None or config.target_psnr is not None
        self.steering = Steering(config) if has_target else None
        self.adjusted = False  # to the target, at the end of the run
        self.saved = False  # whether the checkpoint, where there is one, is of this run
        self.order = ViewOrder(self.frames, config.seed, config.views_per_step)
        moves = config.model.coarse and config.rigidity > 0
        self.rigidity = Rigidity() if moves and self.order.one_view else None
        self.searches_left = SEARCHES if config.missing_anchors and can_search(self) else 0
        self._started = time.monotonic()

    # ---------------------------------------------------------------- the loop

    def train(self, report: Callable[[Status], None] | None = None, report_every: float = 1.0) -> None:
        """Run to the end of the configuration.

        Ctrl-C ends the step that is being made, saves a checkpoint and raises KeyboardInterrupt; a second one does
        not wait, and leaves the last checkpoint.

        Raises:
            TrainingError: ``not-finite``, naming tensor and iteration; the last checkpoint stays.
        """
        self._started = time.monotonic() - self.seconds
        last_report, last_save, first = 0.0, time.monotonic(), True
        with DeferredInterrupt() as interrupt:
            while (progress := self.progress()) < 1.0:
                self._step(progress)
                if first:  # it may have compiled kernels for half a minute, which is not training
                    first, self._started = False, time.monotonic() - self.seconds
                self.iteration += 1
                self.seconds = time.monotonic() - self._started
                now = time.monotonic()
                try:
                    soon = self._searches_at(self.progress())
                    if report is not None and (soon or now - last_report >= report_every):
                        report(self.status())
                        last_report = now
                    interrupt.check()
                except KeyboardInterrupt:
                    self._save_if_asked()
                    raise
                if now - last_save > 60 * self.config.checkpoint_minutes:
                    self._save_if_asked()
                    last_save = now
            self.finish()
            self._save_if_asked()
            interrupt.check()
        if report is not None:
            report(self.status())

    def finish(self) -> None:
        """Bring the model into the state that can be coded, however far training came.

        Positions are put on their grid, and the entropy model is rounded to integers.
        """
        self._require_finite()
        if not self.frozen:
            self._freeze_positions()
        if self.sealed is None:
            self._seal()
        if self._settles_at(1.0):
            settle_networks(self)
        if self.model.view_colors is not None:
            self.model.view_colors.round()
        if self.steering is not None and not self.adjusted:
            self.adjusted = True
            with self._naming_what_is_not_finite():
                if self.steering.adjust(self, 1.0):
                    self._seal_as_it_is()

    def render(self, frame: Frame, features: Features | None = None) -> Tensor:
        """A frame as the model in memory shows it with rounded attributes, (H, W, 3) in [0, 1].

        Args:
            features: the rounded attributes, for who shows several frames.
        """
        with torch.no_grad():
            background = torch.tensor(np.asarray(self.scene.background, np.float32), device=self.device)
            features = self.rounded() if features is None else features
            gaussians = self.model.seen_from(frame.camera, self.model.gaussians_at(frame.time, features), features)
            image = self.seen_by(frame, render(gaussians, frame.camera, background, self.raster).image)
            return image.clamp(0, 1).cpu()

    def rounded(self) -> Features:
        """The attributes, all of them rounded."""
        with torch.no_grad():
            if self.sealed is not None:
                self._follow(self.sealed)
            features, _ = self.entropy(self.model.features, "round", False)
        return features

    @property
    def bits(self) -> float | None:
        """Estimated bits of all attributes, rounded, once the rate is known; counted when they are asked for."""
        if not self.knows_rate:
            return None
        if self._counted is not None and self._counted[0] == self.iteration:
            return self._counted[1]
        return sum(self.entropy.estimate_bits(self.model.features).values())

    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.config.iterations is not None:
            return min(self.iteration / self.config.iterations, 1.0)
        assert self.config.minutes is not None
        return min(self.seconds / (60 * self.config.minutes), 1.0)

    def status(self) -> Status:
        """Where the run stands."""
        progress, bits = self.progress(), self.bits
        return Status(
            iteration=self.iteration,
            progress=progress,
            seconds=self.seconds,
            remaining=self.seconds * (1 - progress) / progress if progress > 0 else math.nan,
            psnr=-10 * math.log10(max(self.error, 1e-10)) if self.iteration else math.nan,
            anchors=len(self.model.positions),
            bits=None if bits is None else bits + float(self.position_bits()),
            phase=self.phase(progress),
            rate_lambda=self.rate_lambda,
            heading=None if self.steering is None else self.steering.heading(),
        )

    @property
    def rate_lambda(self) -> float:
        """Weight of the rate now: the configuration's, or what its target asks for."""
        return self.config.rate_lambda if self.steering is None else self.steering.rate_lambda

    def phase(self, progress: float) -> str:
        """A word for the live line."""
        config = self.config
        if self._searches_at(progress):
            return "looking for what is missing"
        for start, name in (
            (config.seal_from, "sealed"),
            (config.round_from, "rounding"),
            (config.rate_from, "rate and distortion"),
            (config.noise_from, "noise"),
        ):
            if progress >= start:
                return name
        return "warm-up"

    def _settles_at(self, progress: float) -> bool:
        """Whether the networks of a file that has eight bits for their weights are to be rounded now."""
        return self.config.target_weights == "int8" and self.settled is None and progress >= self.config.settle_from

    def _step(self, progress: float) -> None:
        config = self.config
        # All randomness of a step follows from seed and iteration: a resumed run repeats an uninterrupted one.
        torch.manual_seed(seed_of(config.seed, self.iteration))
        if not self.frozen and progress >= config.freeze_positions_at:
            self._freeze_positions()
        if self._searches_at(progress):
            self._search()
        if self._settles_at(progress):
            self._require_finite()
            settle_networks(self)
        frames = self.order.at(self.iteration)
        downscale = next(d for start, d in reversed(config.resolutions) if progress >= start)
        features, rate = self._coded_features(progress)
        features = self._drop_chunks(features, progress)
        primitives = self.model.predict(features)
        gaussians = self.model.deform(features, primitives, frames[0].time)
        if not _finite(gaussians):
            self._stop_not_finite()
        drawn = [self._draw(gaussians, features, frame, downscale) for frame in frames]
        shown = [self.seen_by(frame, view.image) for frame, (view, _) in zip(frames, drawn, strict=True)]
        losses = [l1_dssim(im, target, config.ssim_weight) for im, (_, target) in zip(shown, drawn, strict=True)]
        loss = torch.stack(losses).mean() + self._penalties(features, primitives, gaussians)
        if rate is not None:
            self.knows_rate = True
            if self.steering is not None:
                self._counted = self.iteration, float(rate.total.detach())
            loss = loss + self.rate_lambda * config.rate_every * self.total_bits(rate) / RATE_UNIT
        with torch.no_grad():
            squared = [((image - target) ** 2).mean() for image, (_, target) in zip(shown, drawn, strict=True)]
            # All numbers at once, before the backward pass: a GPU is then waited for once in a step.
            value, *errors = torch.stack([loss, *squared]).tolist()
        if not math.isfinite(value):
            self._stop_not_finite()
        loss.backward()
        for frame, error, (view, target) in zip(frames, errors, drawn, strict=True):
            self._track(view, error, target, gaussians, frame, len(frames))
        self.optimiser.step(progress, self.iteration)
        if self.colors is not None:
            self.colors.recentre()
        if self._refines(progress):
            self._refine(primitives)
        if rate is not None and self.steering is not None:
            with self._naming_what_is_not_finite():
                self.steering.observe(self, progress)

    def _penalties(self, features: Features, primitives: Primitives, gaussians: Gaussians) -> Tensor:
        """What no picture says of primitives, but what is known of them."""
        config, total = self.config, gaussians.means.new_zeros(())
        if config.residuals > 0:
            total = total + config.residuals * residual_penalty(primitives.log_scales, features.sigma[:, 3:])
        if config.needles > 0 and self.order.one_view:
            total = total + config.needles * needle_penalty(primitives.log_scales)
        if self.rigidity is not None:
            places = self.model.positions, primitives.offsets, gaussians.means
            total = total + config.rigidity * self.rigidity.penalty(*places, self.iteration, self.optimiser.flies)
        return total

    def _draw(self, gaussians: Gaussians, features: Features, frame: Frame, downscale: int) -> tuple[Render, Tensor]:
        """A view and what it should look like."""
        target, background = self._target(frame, downscale)
        camera = frame.camera.resized(target.shape[1], target.shape[0])
        return render(self.model.seen_from(camera, gaussians, features), camera, background, self.raster), target

    def _new_colors(self) -> CameraColors | None:
        ids = fixed_cameras((frame.camera_id for frame in self.frames), self.config.camera_colors)
        if self.config.camera_colors and len(ids) < 2:
            problem = f"{self.scene.root}: --camera-colors needs two fixed cameras or more; leave it out"
            raise TrainingError("no-fixed-cameras", problem)
        return CameraColors(ids).to(self.device) if ids else None

    def seen_by(self, frame: Frame, image: Tensor) -> Tensor:
        """The scene's colours as the frame's camera shows them."""
        return image if self.colors is None else self.colors.show(image, frame.camera_id)

    def _coded_features(self, progress: float) -> tuple[Features, Rate | None]:
        """The attributes as a decoder would have them, to the degree that the phase asks for, and the rate or None."""
        config = self.config
        if progress < config.noise_from:
            return self.model.features, None
        if progress >= config.seal_from:
            return self._sealed_features(), None
        mode = "settle" if progress >= config.round_from else "noise"
        with_rate = self.rate_lambda > 0 and progress >= config.rate_from and self.iteration % config.rate_every == 0
        # Steering reads the bits of every such step; without it nobody does but the live line, now and then.
        return self.entropy(self.model.features, mode, with_rate, count_bits=self.steering is not None)

    def _drop_chunks(self, features: Features, progress: float) -> Features:
        """In a small share of the steps, the scene as a file shows it whose chunks of f_g from a random one are cut."""
        share = self.config.chunk_dropout
        if share == 0 or progress < self.config.rate_from or float(torch.rand(())) >= share:
            return features
        chunks = self.entropy.config.chunks
        first = int(torch.randint(chunks, ()))
        if self.sealed is None:
            return self.entropy.without_chunks(features, first)
        # The integers that the file will hold: no gradient passes through them, it goes to what is not cut.
        predicted = self.sealed.without_chunks(self.model.features, first).features.f_g.to(self.device)
        kept = features.f_g.shape[2] * first // chunks
        return replace(features, f_g=torch.cat([features.f_g[:, :, :kept], predicted[:, :, kept:]], dim=2))

    def _sealed_features(self) -> Features:
        """The attributes as the file will hold them; what they can be is found anew at every step that had a rate."""
        if self.sealed is None:
            self._seal()
        elif self.iteration % self.config.rate_every == 0:
            self._follow(self.sealed)
        return self.entropy(self.model.features, "round", False)[0]

    def _seal(self) -> None:
        """From here on the entropy model stays as the file will hold it."""
        with self._naming_what_is_not_finite():
            if self.steering is not None:
                self.steering.adjust(self, self.progress())
            self._seal_as_it_is()

    def _seal_as_it_is(self) -> None:
        if self.config.rate_lambda == 0:
            self.entropy.restart_statistics(self.model.features)
        self.sealed = self.entropy.seal(self.model.features)
        self.entropy.follow(self.sealed, self.model.features)

    def _follow(self, sealed: SealedEntropyModel) -> None:
        with self._naming_what_is_not_finite():
            self.entropy.follow(sealed, self.model.features)

    @contextmanager
    def _naming_what_is_not_finite(self) -> Iterator[None]:
        """What is coded, or counted, may find a NaN before the loss does."""
        try:
            yield
        except AdcError as error:
            if error.code == "not-finite":
                self._stop_not_finite()
            raise

    def _target(self, frame: Frame, downscale: int) -> tuple[Tensor, Tensor]:
        background = np.asarray(self.scene.background, np.float32)
        if self.scene.has_alpha and float(torch.rand(())) < self.config.random_background:
            background = torch.rand(3).numpy()
        target = self.scene.target(frame, background=tuple(background.tolist()), downscale=downscale)
        return torch.from_numpy(target).to(self.device), torch.from_numpy(background).to(self.device)

    # ---------------------------------------------------------------- refinement

    def _track(
        self, view: Render, squared: float, target: Tensor, gaussians: Gaussians, frame: Frame, views: int
    ) -> None:
        """Keep what refinement needs of one of the ``views`` whose mean was the loss, and its mean squared error."""
        weight = 1.0 / min(self.iteration + 1, _SMOOTHING)
        self.error += weight * (squared - self.error)
        if self.frozen or self.progress() >= self.config.refine_until:
            return
        if view.means2d.grad is not None:
            height, width = target.shape[:2]
            # In pixels of the full view, so that what is pruned does not depend on the phase's resolution.
            weights = view.weights * (frame.camera.width * frame.camera.height / (width * height))
            self.significance.add(views * view.mean2d_grad(), weights, gaussians.opacities, 0.5 * max(width, height))

    def _refines(self, progress: float) -> bool:
        config = self.config
        return (
            config.refine
            and config.refine_from <= progress < min(config.refine_until, config.freeze_positions_at)
            and self.iteration % config.refine_every == config.refine_every - 1
        )

    def _refine(self, primitives: Primitives) -> None:
        keep = ~prunable(self.significance, self.config)
        if not bool(keep.any()):
            keep = torch.ones_like(keep)
        new = grow(self.model, primitives, self.significance, keep, self.optimiser.flies, self.config)
        if not bool(keep.all()):
            self.optimiser.select(keep)
        if len(new["positions"]):
            self.optimiser.append(new)
        self._anchors_changed()

    def _searches_at(self, progress: float) -> bool:
        """Whether the next step first looks for what is missing, which takes seconds."""
        count = 1 + SEARCHES - self.searches_left
        is_due = count * self.config.missing_at <= progress < self.config.refine_until  # later ones would learn little
        is_ready = self.iteration >= self.config.missing_after * (1 + count) / 2
        return is_due and is_ready and self.searches_left > 0 and not self.frozen

    def _search(self) -> None:
        self.searches_left -= 1
        if search_missing(self):
            self._anchors_changed()

    def _anchors_changed(self) -> None:
        self.entropy.forget_steps()  # a refinement may grow as many as it prunes, and steps are an anchor's own
        self.significance = self._new_significance()
        if self.rigidity is not None:
            self.rigidity.forget()

    def _new_significance(self) -> Significance:
        config = self.config
        return Significance(
            len(self.model.positions), config.model.primitives, self.device, config.significance_weights
        )

    def _freeze_positions(self) -> None:
        """Put anchors on the grid, merge those that meet, and train no position from here on."""
        self._require_finite()  # rounded to cells, a NaN would be a finite place far away
        with torch.no_grad():
            grid = trained_grid(self)
            self.origin, self.voxel = grid.origin, grid.voxel
            self.optimiser.select(grid.keep)
            self.model.positions.copy_(grid.positions)
        self.model.positions.requires_grad_(False)
        self.optimiser.frozen.add("positions")
        self._anchors_changed()
        self.frozen = True

    def grid_positions(self) -> np.ndarray:
        """Integer coordinates of the anchors on the position grid, (N, 3) uint32, once positions are frozen."""
        return snap(self.model.positions.detach(), self.origin, self.voxel).cpu().numpy().astype(np.uint32)

    def position_bits(self) -> Tensor:
        """What the positions will cost, from their number and the volume of the grid; a scalar without a gradient."""
        positions = self.model.positions.detach()
        count = max(len(positions), 1)
        extent = (positions.amax(0) - positions.amin(0)) / self.voxel + 1
        return count * (torch.log2(extent.clamp_min(1)).sum() - math.log2(count) - 3.0).clamp_min(2.0)

    def total_bits(self, rate: Rate) -> Tensor:
        """R of Eq. 10: bits of attributes and of positions, whose number and grid no gradient moves."""
        return rate.total + self.position_bits()

    def _require_finite(self) -> None:
        if not all(bool(torch.isfinite(value).all()) for value in self.model.parameters()):
            self._stop_not_finite()

    def _stop_not_finite(self) -> None:
        named = {
            **dict(self.model.named_parameters()),
            **{f"entropy.{k}": v for k, v in self.entropy.named_parameters()},
            **({} if self.colors is None else {f"colors.{k}": v for k, v in self.colors.named_parameters()}),
        }
        bad = [name for name, value in named.items() if not bool(torch.isfinite(value).all())]
        where = f"tensor '{bad[0]}'" if bad else "tensor 'loss' (all parameters are finite)"
        raise TrainingError(
            "not-finite",
            f"{where} is not finite at iteration {self.iteration}; the last checkpoint is intact",
        )

    # ---------------------------------------------------------------- checkpoints

    def _save_if_asked(self) -> None:
        if self.checkpoint is not None:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, atomically.

        Raises:
            TrainingError: ``no-checkpoint`` without a path, ``cannot-save`` where it cannot be written.
        """
        if self.checkpoint is None:
            raise TrainingError("no-checkpoint", "this run was given no checkpoint path")
        save_checkpoint(self.checkpoint, *state.of_run(self))
        self.saved = True

    @staticmethod
    def from_checkpoint(scene: Scene, path: Path, checkpoint: Path | None = None, device: str = "cpu") -> Trainer:
        """Continue a run of the same scene, with the configuration that it had.

        Args:
            path: the checkpoint to read.
            checkpoint: where to save from here on; None saves nothing.

        Raises:
            TrainingError: ``bad-checkpoint`` where it does not fit.
        """
        tensors, meta = load_checkpoint(path)
        config = state.stored_config(path, meta)
        # Its anchors come from the checkpoint: nothing need be carved.
        trainer = Trainer(scene, replace(config, mover_instants=0), checkpoint, device)
        trainer.config = config
        state.require_capture_of(trainer, path, tensors, meta)
        state.restore(trainer, path, tensors, meta)
        trainer.saved = checkpoint == path
        return trainer


def _finite(gaussians: Gaussians) -> bool:
    """Whether all values are: a rasterizer leaves out what is not, and the loss would not tell.

    By sums, which are finite as long as their terms are, and cost a tenth of looking at each value.
    """
    return bool(torch.isfinite(torch.stack([value.detach().sum() for value in vars(gaussians).values()])).all())


def entropy_config(config: TrainingConfig) -> EntropyConfig:
    """The entropy model's sizes follow the model's."""
    model = config.model
    return EntropyConfig(
        f_v=model.reference_dim, primitives=model.primitives, f_g=model.residual_dim, chunks=config.chunks
    )
