"""The model: anchors, their primitives, and where both are at an instant (Eq. 1 to 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..camera import Camera
from ..features import Features
from ..gaussians import Gaussians
from ..vectors.dispatch import fusable
from . import quaternion
from .config import ModelConfig
from .networks import COLOR, OFFSET, OPACITY, ROTATION, SCALE, PredictionNetwork, TimedMLP, knot_parameter
from .position_code import position_code
from .view_colors import ViewColors

# Bounds of log extents and log scales in the normalised space, whose content has unit size: from far below a pixel
# to well over the whole scene. They keep a stranger's file, and an optimiser's excursion, from overflowing.
_LOG_MIN, _LOG_MAX = -14.0, 4.0
# Makes f_v, whose values start at half a unit, weigh as much in F_omega's first layer as the time does: what moves is
# then told from what rests from the start, instead of everything moving along.
_REFERENCE_GAIN = 3.0


@dataclass
class Primitives:
    """The canonical space's N x K primitives relative to their anchors, before activations (Eq. 1)."""

    offsets: Tensor  # (N, K, 3) from the anchor, in the normalised space
    log_scales: Tensor  # (N, K, 3)
    quaternions: Tensor  # (N, K, 4), unit length
    colors: Tensor  # (N, K, 3)
    logits: Tensor  # (N, K)


class AnchorModel(nn.Module):
    """N anchors and the networks that turn them into N x K Gaussians at any instant.

    Args:
        config: sizes.
        positions: (N, 3) anchor positions X_v in the normalised space.
        features: the anchors' attributes.
        folded: True in a decoder, which has the product of time table and first layers only.
        generator: source of the initial weights of Z.
    """

    def __init__(
        self,
        config: ModelConfig,
        positions: Tensor,
        features: Features,
        *,
        folded: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.positions = nn.Parameter(positions)
        self.f_v = nn.Parameter(features.f_v)
        self.f_g = nn.Parameter(features.f_g)
        self.sigma = nn.Parameter(features.sigma)
        self.color = nn.Parameter(features.color)
        self.predict_net = PredictionNetwork(config)
        size = {
            "width": config.deformation_width,
            "knots": config.knots,
            "time_dim": config.time_dim,
        }
        coarse_out = OFFSET + SCALE + ROTATION + COLOR + OPACITY
        if config.coarse:
            self.coarse_net = TimedMLP(
                config.reference_dim, outputs=coarse_out, folded=folded, gain=_REFERENCE_GAIN, **size
            )
        if config.fine:
            fine_out = config.primitives * (OPACITY + COLOR)
            self.fine_net = TimedMLP(6 * config.position_frequencies, outputs=fine_out, folded=folded, **size)
        self.view_colors: ViewColors | None = None  # set by who wants them; not a part of the networks section
        self.z = None if folded else knot_parameter(config, generator or torch.Generator().manual_seed(0))

    @property
    def features(self) -> Features:
        """The anchors' attributes as they are trained (not quantised)."""
        return Features(self.f_v, self.f_g, self.sigma, self.color)

    def predict(self, features: Features) -> Primitives:
        """Eq. 1: residuals of each anchor's K primitives. Independent of time: playback computes it once.

        On a CPU compiled kernels compute :meth:`predict_plain`.
        """
        inputs = (features.f_v, features.f_g, features.sigma, features.color, *self.predict_net.weights())
        if not fusable([self.predict_net], inputs):
            return self.predict_plain(features)
        from . import fused

        return Primitives(*fused.predict(self.config, (_LOG_MIN, _LOG_MAX), inputs))

    def predict_plain(self, features: Features) -> Primitives:
        """The definition of :meth:`predict`, in torch: any device, any float type."""
        offset, scale, rotation, color, logit = self.predict_net(features.f_v, features.f_g)
        extent, base = features.sigma.clamp(_LOG_MIN, _LOG_MAX)[:, None, :].split(3, dim=-1)
        return Primitives(
            offsets=offset * torch.exp(extent),
            log_scales=base + scale,
            quaternions=F.normalize(rotation + quaternion.identity(rotation), dim=-1),
            colors=features.color[:, None, :] + color,
            logits=logit,
        )

    def deform(
        self, features: Features, primitives: Primitives, time: float, positions: Tensor | None = None
    ) -> Gaussians:
        """Eq. 2 to 5: the primitives at ``time`` in [0, 1]. Networks run on N anchors, never on N x K primitives.

        On a CPU compiled kernels compute :meth:`deform_plain`.
        """
        positions = self.positions if positions is None else positions
        found = (getattr(self, "coarse_net", None), getattr(self, "fine_net", None))
        nets = [net for net in found if net is not None]
        weights = [weight for net in nets for weight in net.weights(time, self.z)]
        inputs = (features.f_v, positions, *vars(primitives).values(), *weights)
        if not fusable(nets, inputs):
            return self.deform_plain(features, primitives, time, positions)
        from . import fused

        return Gaussians(*fused.deform(self.config, (_LOG_MIN, _LOG_MAX), inputs))

    def deform_plain(
        self, features: Features, primitives: Primitives, time: float, positions: Tensor | None = None
    ) -> Gaussians:
        """The definition of :meth:`deform`, in torch: any device, any float type."""
        anchors = self.positions if positions is None else positions  # (N, 3)
        offsets, rotations = primitives.offsets, primitives.quaternions
        log_scales, colors, logits = primitives.log_scales, primitives.colors, primitives.logits
        if self.config.coarse:
            delta = self.coarse_net(features.f_v, time, self.z)
            move, grow, turn, tint, fade = delta.split([OFFSET, SCALE, ROTATION, COLOR, OPACITY], dim=1)
            anchors = anchors + move
            turn = F.normalize(turn + quaternion.identity(turn), dim=-1)
            if self.config.rotate_offsets:
                offsets = torch.bmm(offsets, quaternion.to_matrix(turn).transpose(1, 2))
            rotations = quaternion.multiply(turn[:, None, :], rotations)
            log_scales = log_scales + grow[:, None, :]
            colors = colors + tint[:, None, :]
            if self.config.coarse_opacity:
                logits = logits + fade
        if self.config.fine:
            # The code's gradient with respect to positions is that of fast sinusoids: noise for the optimiser.
            code = position_code(anchors.detach(), self.config.position_frequencies)
            detail = self.fine_net(code, time, self.z).unflatten(1, (self.config.primitives, OPACITY + COLOR))
            logits = logits + detail[..., 0]
            colors = colors + detail[..., 1:]
        return Gaussians(
            means=(anchors[:, None, :] + offsets).flatten(0, 1),
            quaternions=rotations.flatten(0, 1),
            scales=torch.exp(log_scales.clamp(_LOG_MIN, _LOG_MAX)).flatten(0, 1),
            opacities=torch.sigmoid(logits).flatten(),
            colors=torch.sigmoid(colors).flatten(0, 1),
        )

    def gaussians_at(self, time: float, features: Features | None = None) -> Gaussians:
        """All N x K primitives at ``time`` in [0, 1]; ``features`` replaces the anchors' own (their quantised form)."""
        features = self.features if features is None else features
        return self.deform(features, self.predict(features), time)

    def seen_from(self, camera: Camera, gaussians: Gaussians, features: Features) -> Gaussians:
        """The primitives in the colours that a camera sees; as they are where colours do not depend on the view."""
        return gaussians if self.view_colors is None else self.view_colors.seen_from(camera, gaussians, features.f_v)

    def fold(self) -> None:
        """Make a model in training one of a decoder's form, which says the same; a folded one stays as it is."""
        if self.z is None:
            return
        for name in ("coarse_net", "fine_net"):
            if hasattr(self, name):
                getattr(self, name).fold(self.z)
        self.z = None

    def network_arrays(self) -> dict[str, Tensor]:
        """The networks as the file stores them, time table folded in; name to tensor, in a fixed order."""
        arrays = {f"predict.{name}": p.detach() for name, p in self.predict_net.named_parameters()}
        for prefix in ("coarse", "fine"):
            net = getattr(self, f"{prefix}_net", None)
            if net is not None:
                arrays |= {
                    f"{prefix}.{n}": p.detach() for n, p in net.named_parameters() if n not in ("time_weight", "rows")
                }
                arrays[f"{prefix}.rows"] = net.time_rows(self.z).detach()
        return arrays

    def load_network_arrays(self, arrays: dict[str, Tensor]) -> None:
        """The inverse of :meth:`network_arrays`, into a folded model."""
        for name, parameter in self.named_network_parameters().items():
            parameter.data.copy_(arrays[name])

    def named_network_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of a folded model under the names of :meth:`network_arrays`."""
        found = {f"predict.{name}": p for name, p in self.predict_net.named_parameters()}
        for prefix in ("coarse", "fine"):
            net = getattr(self, f"{prefix}_net", None)
            if net is not None:
                named = dict(net.named_parameters())
                rows = named.pop("rows")
                found |= {f"{prefix}.{name}": p for name, p in named.items()}
                found[f"{prefix}.rows"] = rows
        return found


def network_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of :meth:`AnchorModel.network_arrays` for a configuration, in file order; allocates no anchors."""
    empty = Features(
        torch.zeros(0, config.reference_dim),
        torch.zeros(0, config.primitives, config.residual_dim),
        torch.zeros(0, 6),
        torch.zeros(0, 3),
    )
    with torch.device("meta"):
        model = AnchorModel(config, torch.zeros(0, 3), empty, folded=True)
    return {name: tuple(p.shape) for name, p in model.named_network_parameters().items()}
