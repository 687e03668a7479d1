"""The multi-dimension entropy model (MEM) in training: Eq. 6 to 9 and Figure 4 of the paper.

``forward`` quantises an anchor's attributes and counts their bits; ``seal`` rounds the model to the integers that a
file carries. In place of Eq. 6's F_q(f_i), which no decoder could compute, the step factors come from what is
decoded before: from eta for f_v, from f_v for everything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from ..features import Features
from ..vectors.dispatch import fusable
from .config import EntropyConfig
from .likelihood import FACTOR_TANH_MAX, FACTOR_TANH_MIN, Gaussian, add_noise, quantise_and_rate
from .networks import INPUT_LIMIT, AnalysisNetwork, ContextNetwork
from .prior import FactorisedPrior
from .sealed import SealedEntropyModel

if TYPE_CHECKING:
    from .chain import Plan

Mode = Literal["noise", "settle", "round"]
# Which attributes, by the first three letters of their names, get noise. The sealed networks' means of sigma and colour
# are off by a share of these attributes' fine steps: what straight-through training learns of their rounding is lost.
_NOISY: dict[Mode, tuple[str, ...]] = {"noise": ("f_v", "f_g", "sig", "col"), "settle": ("sig", "col"), "round": ()}

ETA_SCALE = 0.25  # eta as a network's input
_MOMENTUM = 0.05  # of the running statistics
_STEP_GAIN = (
    8.0  # a step size is found by its logarithm's wandering several units: that takes larger strides than weights
)
_STATISTICS = ("f_v", "sigma", "color", "f_g")


@dataclass
class Rate:
    """Bits of all anchors (Eq. 9), differentiable.

    Attributes:
        hyper, f_v, sigma, color: totals of a component, scalars.
        f_g: totals of each chunk.
    """

    hyper: Tensor
    f_v: Tensor
    sigma: Tensor
    color: Tensor
    f_g: tuple[Tensor, ...]

    @property
    def total(self) -> Tensor:
        """R: every bit weighs the same."""
        return self.hyper + self.f_v + self.sigma + self.color + torch.stack(self.f_g).sum()

    def by_component(self) -> dict[str, float]:
        """Bits per component as plain numbers, with the names of ``EntropyConfig.components``."""
        parts = {"hyper": self.hyper, "f_v": self.f_v, "sigma": self.sigma, "color": self.color}
        parts |= {f"f_g_{m}": bits for m, bits in enumerate(self.f_g)}
        return {name: float(bits.detach()) for name, bits in parts.items()}


@dataclass
class _Steps:
    """What a call without rate reuses from the last call with one: copies of its means and of what makes its steps.

    ``factors`` and ``log_q`` are leaves. The gradient that the distortion leaves in them joins the next call with rate
    (``_join``): rate and distortion always pull together, in whatever proportion of steps the caller asks for the rate.
    """

    means: dict[str, Tensor]  # component -> (N, C)
    factors: dict[str, Tensor]  # component -> (N, 1), 1 + tanh(.)
    log_q: dict[str, Tensor]  # attribute -> (C,)

    def leaves(self) -> dict[str, Tensor]:
        """The leaves, by names of their own."""
        named = {f"factor.{name}": leaf for name, leaf in self.factors.items()}
        return named | {f"log_q.{name}": leaf for name, leaf in self.log_q.items()}


class MultiDimensionEntropyModel(nn.Module):
    """Trainable entropy model of an anchor's attributes.

    The networks see and predict values relative to each channel's running mean and deviation, so they need not chase
    the features' scale while these train; sealing folds both into integer weights.

    Args:
        config: what encoder and decoder must agree on.
        hyperprior: without it eta is always 0: f_v is coded with one mean and deviation per channel.
        adaptive_step: without it every step factor of Eq. 6 is 1. Both leave the format as it is (ENTROPY.md).
    """

    mean_f_g: Tensor
    deviation_f_g: Tensor
    seen: Tensor

    def __init__(
        self, config: EntropyConfig | None = None, *, hyperprior: bool = True, adaptive_step: bool = True
    ) -> None:
        super().__init__()
        self.config = config = config or EntropyConfig()
        self.hyperprior = hyperprior
        self.adaptive_step = adaptive_step
        hidden = config.hidden
        self.analysis = AnalysisNetwork(config.f_v, hidden, config.hyper)
        self.prior = FactorisedPrior(config.hyper)
        self.networks = nn.ModuleDict({name: ContextNetwork(i, hidden, o) for name, i, o in config.network_shapes()})
        widths = {"f_v": config.f_v, "sigma": config.sigma, "color": config.color, "f_g": config.f_g}
        self.steps = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()})
        for name, width in widths.items():
            shape = (config.primitives, width) if name == "f_g" else (width,)
            self.register_buffer(f"mean_{name}", torch.zeros(shape))
            self.register_buffer(f"deviation_{name}", torch.ones(shape))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))
        self._steps: _Steps | None = None
        self._plan: Plan | None = None
        self._context_names = {"f_v", *(f"f_g_{m}" for m in range(config.chunks - 1))}

    # ---------------------------------------------------------------- forward

    def forward(
        self, features: Features, mode: Mode = "noise", with_rate: bool = True, count_bits: bool = True
    ) -> tuple[Features, Rate | None]:
        """Quantised features, and their bits.

        Args:
            features: of N anchors.
            mode: ``noise`` adds uniform noise of one step (Eq. 6); ``round`` rounds the residual around mu, and
                lets the gradient straight through; ``settle`` rounds f_v and f_g, and leaves the noise to the rest
                and to the gradient of all bits.
            with_rate: without it the means and steps of the last call with rate are reused (as long as N is the
                same), which costs a tenth; what the distortion says of the steps is kept for the next rate.
            count_bits: without it the rate is only differentiated: on a CPU its numbers are zero, which saves a
                tenth of the call.
        """
        if mode not in _NOISY:
            raise ValueError(f"mode {mode!r} is none of {', '.join(_NOISY)}")
        if with_rate:
            return self._with_rate(features, mode, count_bits)
        if self._steps is None or next(iter(self._steps.factors.values())).shape[0] != len(features):
            with torch.no_grad():
                self._with_rate(features, mode)
        return self._without_rate(features, mode), None

    @torch.no_grad()
    def estimate_bits(self, features: Features) -> dict[str, float]:
        """Bits per component as training counts them, all values rounded; nothing else is changed by it."""
        steps, training = self._steps, self.training
        self.eval()
        try:
            return self._with_rate(features, "round")[1].by_component()
        finally:
            self._steps = steps
            self.train(training)

    def without_chunks(self, features: Features, first: int) -> Features:
        """Quantised features of which f_g's chunks from ``first`` on stand at their predicted means.

        That is what a decoder makes of a file that was cut before chunk ``first``. The gradient goes through the
        means, to what they are predicted from and to the networks that predict them.
        """
        context = [self._context("f_v", features.f_v)]
        shape = (len(features), self.config.primitives, -1)
        chunks = []
        for index, (name, f) in enumerate(self._chunks(features.f_g)):
            if index >= first:
                m, s = self._statistics(name)
                f = torch.addcmul(m, self.networks[name](torch.cat(context, 1))[:, : f.shape[1]], s)
            chunks.append(f.reshape(shape))
            if name in self._context_names:
                context.append(self._context(name, f))
        return replace(features, f_g=torch.cat(chunks, 2))

    def forget_steps(self) -> None:
        """Drop what calls without rate reuse; for a caller that replaces anchors without changing their number."""
        self._steps = None

    def steps_state(self) -> dict[str, Tensor]:
        """What calls without rate reuse, for a checkpoint: a resumed run then repeats an uninterrupted one."""
        if self._steps is None:
            return {}
        leaves = self._steps.leaves()
        state = {f"mean.{name}": value for name, value in self._steps.means.items()}
        state |= {name: leaf.detach() for name, leaf in leaves.items()}
        # Those of a call before the first rate gather nothing (`_keep`), nor may they once they are loaded.
        state["gathers"] = torch.tensor(any(leaf.requires_grad for leaf in leaves.values()))
        return state | {f"gradient.{name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}

    def load_steps_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`steps_state`."""

        def part(kind: str) -> dict[str, Tensor]:
            return {key[len(kind) :]: value.clone() for key, value in state.items() if key.startswith(kind)}

        if not state:
            self._steps = None
            return
        self._steps = _Steps(part("mean."), part("factor."), part("log_q."))
        gradients, gathers = part("gradient."), bool(state["gathers"])
        for name, leaf in self._steps.leaves().items():
            leaf.requires_grad_(gathers)
            leaf.grad = gradients.get(name)

    @property
    def log_q(self) -> dict[str, Tensor]:
        """Log of the steps Q of each attribute, (C,): positive whatever the optimiser does."""
        config = self.config
        return {name: math.log(getattr(config, f"q_{name}")) + _STEP_GAIN * raw for name, raw in self.steps.items()}

    @torch.no_grad()
    def scale_steps(self, factor: float) -> None:
        """Multiply every quantisation step Q by ``factor``; what calls without rate reuse stays as it was."""
        for raw in self.steps.values():
            raw += math.log(factor) / _STEP_GAIN

    def _with_rate(self, features: Features, mode: Mode, count_bits: bool = True) -> tuple[Features, Rate]:
        if self.training:
            self._observe(features)
        kept = _Steps({}, {}, {})
        log_q = {name: self._join(f"log_q.{name}", value, kept.log_q, name) for name, value in self.log_q.items()}
        eta, hyper = self._hyperprior(features.f_v, mode != "round", count_bits)
        tensors = (eta, *vars(features).values(), *log_q.values(), *self.networks.parameters())
        run = self._code_compiled if fusable(self.networks.values(), tensors) else self._code_plain
        values, bits, kept.means = run(features, eta * ETA_SCALE, log_q, mode, kept.factors, count_bits)
        self._steps = kept
        chunks = tuple(bits[f"f_g_{m}"] for m in range(self.config.chunks))
        return values, Rate(hyper, bits["f_v"], bits["sigma"], bits["color"], chunks)

    def _code_compiled(
        self,
        features: Features,
        eta: Tensor,
        log_q: dict[str, Tensor],
        mode: Mode,
        factors: dict[str, Tensor],
        count_bits: bool,
    ) -> tuple[Features, dict[str, Tensor], dict[str, Tensor]]:
        """:meth:`_code_plain` by kernels that take a block of anchors through all networks at once."""
        from . import chain

        if self._plan is None:
            self._plan = chain.plan(self.config)
        names = self._plan.names
        gathered = {name: g for name in names if (g := self._gathered(f"factor.{name}", len(features))) is not None}
        request = chain.Request(
            self._plan,
            {name: (getattr(self, f"mean_{name}"), getattr(self, f"deviation_{name}")) for name in _STATISTICS},
            tuple(name for name in names if name[:3] in _NOISY[mode]),
            mode != "round",
            gathered,
            self.adaptive_step,
            count_bits,
        )
        inputs = [getattr(features, name) for name in chain.ATTRIBUTES]
        weights = [weight for name in self.networks for weight in self.network(name).weights()]
        coded = chain.code(request, eta, inputs, [log_q[name] for name in chain.ATTRIBUTES], weights)
        for name, factor in coded.factors.items():
            self._keep(factor, factors, name)
        values = dict(zip(chain.ATTRIBUTES, coded.values, strict=True))
        return Features(**values), dict(zip(names, coded.bits, strict=True)), coded.means

    def _code_plain(
        self,
        features: Features,
        eta: Tensor,
        log_q: dict[str, Tensor],
        mode: Mode,
        factors: dict[str, Tensor],
        count_bits: bool,
    ) -> tuple[Features, dict[str, Tensor], dict[str, Tensor]]:
        """Quantised features, and each component's bits and means: the definition, in torch.

        Args:
            eta: (N, hyper), scaled as the network of f_v takes it.
            factors: gets each component's step factors, for calls without rate.
            count_bits: is always done here.
        """
        config = self.config
        bits: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}
        means: dict[str, Tensor] = {}
        context: list[Tensor] = []  # the decoder's: rounded, also where the values are noisy

        def code(name: str, f: Tensor, out: Tensor, factor: Tensor) -> None:
            factor = factor if self.adaptive_step else torch.zeros_like(factor)
            factor = 1.0 + torch.tanh(factor.clamp(FACTOR_TANH_MIN, FACTOR_TANH_MAX))  # within the table of factors
            log_factor = self._join(f"factor.{name}", factor, factors, name).log()
            m, s = self._statistics(name)
            mean_at, sigma_at = config.columns(name)
            means[name] = torch.addcmul(m, out.detach()[:, mean_at : mean_at + f.shape[1]], s)
            gaussian = Gaussian(out, mean_at, sigma_at, log_factor, self._columns(log_q, name), m, s)
            noise = None if mode == "round" else torch.rand_like(f) - 0.5
            rounds = name[:3] not in _NOISY[mode]
            values[name], rounded, bits[name] = quantise_and_rate(f, gaussian, noise, rounds)
            if name in self._context_names:
                context.append(self._context(name, rounded))

        out = self.networks["f_v"](eta)
        code("f_v", features.f_v, out, out[:, -1:])

        out = self.networks["attributes"](context[0])
        raw = out[:, 2 * (config.sigma + config.color) :]
        code("sigma", features.sigma, out, raw[:, :1])
        code("color", features.color, out, raw[:, 1:2])

        for index, (name, f) in enumerate(self._chunks(features.f_g)):
            code(name, f, self.networks[name](torch.cat(context, 1)), raw[:, 2 + index : 3 + index])

        shape = (-1, config.primitives, config.f_g // config.chunks)
        f_g = torch.cat([values[f"f_g_{m}"].reshape(shape) for m in range(config.chunks)], 2)
        return Features(f_v=values["f_v"], f_g=f_g, sigma=values["sigma"], color=values["color"]), bits, means

    def _without_rate(self, features: Features, mode: Mode) -> Features:
        steps = self._steps
        assert steps is not None
        chunks = [f"f_g_{m}" for m in range(self.config.chunks)]

        def quantise(f: Tensor, step: Tensor, mean: Tensor | None) -> Tensor:  # (N, R, C), (N, C), (N, R, C)
            if mean is None:
                return add_noise(f, step)
            step = step[:, None, :]
            with torch.no_grad():
                d = (f - mean) / step
                error = torch.round(d).sub_(d)
            return torch.addcmul(f, error, step)

        quantised = {}
        for name in ("f_v", "sigma", "color"):
            step = steps.log_q[name].exp() * steps.factors[name]
            mean = None if name[:3] in _NOISY[mode] else steps.means[name][:, None]
            quantised[name] = quantise(getattr(features, name)[:, None], step, mean)[:, 0]
        factors = torch.cat([steps.factors[name] for name in chunks], 1)  # (N, M)
        step = (steps.log_q["f_g"].exp().view(1, self.config.chunks, -1) * factors[:, :, None]).flatten(1)
        mean = None
        if "f_g" not in _NOISY[mode]:
            parts = [steps.means[name].view(len(features), self.config.primitives, -1) for name in chunks]
            mean = torch.cat(parts, 2)
        quantised["f_g"] = quantise(features.f_g, step, mean)
        return Features(**quantised)

    # ---------------------------------------------------------------- parts

    def _hyperprior(self, f_v: Tensor, noise: bool, count_bits: bool) -> tuple[Tensor, Tensor]:
        """Rounded eta (N, hyper), and its bits."""
        if not self.hyperprior:
            return f_v.new_zeros(len(f_v), self.config.hyper), f_v.new_zeros(())
        m, s = self._statistics("f_v")
        eta = self.analysis((f_v - m) / s)
        return eta + (torch.round(eta) - eta).detach(), self.prior.bits(eta, noise, count_bits)

    def _join(self, key: str, value: Tensor, kept: dict[str, Tensor], name: str) -> Tensor:
        """``value``, to whose gradient will be added what its copy gathered since the last call with rate."""
        gathered = self._gathered(key, len(value))
        if gathered is not None and value.requires_grad:
            value.register_hook(lambda gradient: gradient + gathered)
        self._keep(value, kept, name)
        return value

    def _gathered(self, key: str, rows: int) -> Tensor | None:
        """What a leaf gathered since the last call with rate, if it has as many rows as now."""
        old = self._steps.leaves().get(key) if self._steps is not None else None
        return old.grad if old is not None and old.grad is not None and len(old.grad) == rows else None

    def _keep(self, value: Tensor, kept: dict[str, Tensor], name: str) -> None:
        """Make a leaf of ``value`` for the calls without rate."""
        # Before the first rate nothing would balance the distortion, and steps shrink without end: gather nothing.
        kept[name] = value.detach().requires_grad_(self.training and torch.is_grad_enabled())

    def _context(self, name: str, values: Tensor) -> Tensor:
        m, s = self._statistics(name)
        scale = self.context_scale(name, s)
        return ((values - m) / scale).clamp(-INPUT_LIMIT, INPUT_LIMIT)

    def network(self, name: str) -> ContextNetwork:
        """A context network by its name in ``EntropyConfig.network_shapes``."""
        return cast(ContextNetwork, self.networks[name])

    def context_scale(self, name: str, s: Tensor) -> Tensor:
        """(C,) deviation of a component's values once quantised: what its context is divided by."""
        step = self._columns(self.log_q, name).detach().exp()
        return torch.sqrt(s * s + step * step / 12.0)

    def _columns(self, values: dict[str, Tensor], name: str) -> Tensor:
        """(C,) the columns of one component of something that each attribute's channels have."""
        if not name.startswith("f_g_"):
            return values[name]
        width = self.config.f_g // self.config.chunks
        first = int(name[4:]) * width
        return values["f_g"][first : first + width].repeat(self.config.primitives)

    def _statistics(self, name: str) -> tuple[Tensor, Tensor]:
        """Running mean and deviation of a component's columns, (C,) each."""
        if not name.startswith("f_g_"):
            # Copies: the running statistics may move on before a backward pass needs them.
            return getattr(self, f"mean_{name}").clone(), getattr(self, f"deviation_{name}").clone()
        width = self.config.f_g // self.config.chunks
        part = slice(int(name[4:]) * width, (int(name[4:]) + 1) * width)
        return self.mean_f_g[:, part].reshape(-1), self.deviation_f_g[:, part].reshape(-1)

    def _chunks(self, f_g: Tensor) -> Iterator[tuple[str, Tensor]]:
        width = self.config.f_g // self.config.chunks
        for m, chunk in enumerate(f_g.split(width, dim=2)):
            yield f"f_g_{m}", chunk.reshape(f_g.shape[0], -1)

    def restart_statistics(self, features: Features) -> None:
        """Set the running statistics to the features' own: all that a model knows which no rate has trained."""
        self.seen.fill_(False)
        self._observe(features)

    @torch.no_grad()
    def _observe(self, features: Features) -> None:
        """Follow the features' statistics; the first call sets them."""
        log_q = self.log_q
        every = max(1, len(features) // 2048)
        weight = _MOMENTUM if bool(self.seen) else 1.0
        for name in _STATISTICS:
            sample = getattr(features, name).detach()[::every]
            mean = sample.mean(0)
            deviation = torch.maximum((sample - mean).square_().mean(0).sqrt_(), 0.1 * log_q[name].exp())
            getattr(self, f"mean_{name}").lerp_(mean, weight)
            getattr(self, f"deviation_{name}").lerp_(deviation, weight)
        self.seen.fill_(True)

    # ---------------------------------------------------------------- seal

    def seal(self, features: Features | None = None, weight_bits: int | None = None) -> SealedEntropyModel:
        """Round everything to the integers that a file carries.

        Args:
            features: what will be coded, if known: eta's prior is then fitted to it.
            weight_bits: of the networks' weights, 4 to 16; fewer cost rate, not exactness. By default what makes
                the networks and the coded features together smallest, the features by at most 1.5 % larger than
                with 8, or 8 where the features are not known.
        """
        from .sealing import seal

        return seal(self, features, weight_bits)

    def reopen(self, data: bytes) -> SealedEntropyModel:
        """What :meth:`seal` gave, from its bytes, able to compress; for a model whose networks did not change since.

        Raises:
            BitstreamError: data that are no sealed model of this configuration.
        """
        from .sealing import reopen

        return reopen(self, data)

    @torch.no_grad()
    def follow(self, sealed: SealedEntropyModel, features: Features) -> None:
        """Let calls without rate round to the values that the sealed model can code, until this is called again."""
        device = features.f_v.device
        means, factors, steps = {}, {}, {}
        for name, arrays in sealed.lattice(features).items():
            means[name], factors[name], steps[name] = (torch.from_numpy(array).to(device) for array in arrays)
        chunks = [steps.pop(f"f_g_{m}") for m in range(self.config.chunks)]
        self._steps = _Steps(means, factors, {n: s.log() for n, s in {**steps, "f_g": torch.cat(chunks)}.items()})
