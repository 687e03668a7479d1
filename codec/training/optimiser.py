"""Adam over the model and the entropy model, with moments that follow anchors as they come and go."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..entropy import MultiDimensionEntropyModel
from ..model import AnchorModel
from .adam import Adam
from .camera_colors import CameraColors
from .checkpoint import checked
from .config import TrainingConfig
from .shapes import LARGEST

ANCHOR_TENSORS = ("positions", "f_v", "f_g", "sigma", "color")

# What follows the rest, and should not lag behind.
_KEEP_UP = ("entropy", "camera_colors")

# What says how anchors move.
_MOTION = ("coarse", "time")


class AnchorOptimiser:
    """Adam, one group per kind of parameter; most rates fall with the steps, all decay late in the run.

    Args:
        model: its anchor tensors and networks are optimised.
        entropy: its networks, prior and steps are optimised.
        config: learning rates.
        colors: optimised where there are any.
        taught: whether the model starts with ways of its anchors that it should keep (see :mod:`.motion`).
    """

    def __init__(
        self,
        model: AnchorModel,
        entropy: MultiDimensionEntropyModel,
        config: TrainingConfig,
        colors: CameraColors | None = None,
        taught: bool = False,
    ) -> None:
        self.model = model
        self.config = config
        self.taught = taught
        scale = config.lr_scale
        rates = {
            "positions": config.lr_positions * scale,
            "f_v": config.lr_features * scale,
            "f_g": config.lr_features * scale,
            "sigma": config.lr_sigma * scale,
            "color": config.lr_color * scale,
        }
        groups = [{"params": [getattr(model, name)], "lr": rate, "name": name} for name, rate in rates.items()]
        nets = {name: getattr(model, f"{name}_net", None) for name in ("coarse", "fine")}
        view = [] if model.view_colors is None else list(model.view_colors.parameters())
        networks = {
            "heads": (list(model.predict_net.parameters()), config.lr_heads * scale),
            "coarse": (list(nets["coarse"].parameters()) if nets["coarse"] else [], config.lr_coarse * scale),
            "fine": (list(nets["fine"].parameters()) if nets["fine"] else [], config.lr_fine * scale),
            "time": ([model.z], config.lr_time * scale),
            "entropy": (list(entropy.parameters()), config.lr_entropy),
            "view_colors": (view, config.lr_view_colors),
            "camera_colors": ([] if colors is None else list(colors.parameters()), config.lr_camera_colors),
        }
        groups += [{"params": ps, "lr": lr, "name": name} for name, (ps, lr) in networks.items() if ps]
        self.adam = Adam(groups, eps=1e-15, betas=(0.9, 0.99), fused=True)
        self.initial = [group["lr"] for group in self.adam.param_groups]
        self.frozen: set[str] = set()
        self.flies = torch.zeros(len(model.positions), dtype=torch.bool, device=model.positions.device)

    def step(self, progress: float, iteration: int) -> None:
        """One update, the ``iteration``-th, at ``progress`` in [0, 1] of the run; gradients are cleared."""
        for group, rate in zip(self.adam.param_groups, self.initial, strict=True):
            name = group["name"]
            group["lr"] = 0.0 if name in self.frozen else rate * self.factor(name, progress, iteration)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.model.sigma.clamp_(max=LARGEST)

    def factor(self, name: str, progress: float, iteration: int) -> float:
        """What a group's rate is multiplied with at ``progress`` in [0, 1], in the ``iteration``-th step."""
        factor = self.config.lr_factor(progress)
        if name not in _KEEP_UP:
            fall = self.config.lr_fall(iteration)
            factor *= min(fall, self.config.lr_taught) if self.taught and name in _MOTION else fall
        return factor * self.config.coarse_decay**progress if name == "coarse" else factor

    def select(self, keep: Tensor) -> None:
        """Keep the anchors of a mask or index tensor, moments included."""
        self.flies = self.flies[keep]
        for name in ANCHOR_TENSORS:
            old = getattr(self.model, name)
            moments = {k: v[keep] if v.dim() else v for k, v in self.adam.state.get(old, {}).items()}
            self._swap(name, old, nn.Parameter(old.detach()[keep], requires_grad=old.requires_grad), moments)

    def append(self, new: dict[str, Tensor]) -> None:
        """Add anchors; ``new`` has rows for each of ``ANCHOR_TENSORS``, and ``flies``. Their moments start at zero."""
        self.flies = torch.cat([self.flies, new["flies"]])
        for name in ANCHOR_TENSORS:
            rows = new[name]
            old = getattr(self.model, name)
            state = self.adam.state.get(old, {})
            grown = nn.Parameter(torch.cat([old.detach(), rows]), requires_grad=old.requires_grad)
            moments = {k: torch.cat([v, torch.zeros_like(rows)]) if v.dim() else v for k, v in state.items()}
            self._swap(name, old, grown, moments)

    def replace(self, name: str, value: Tensor) -> None:
        """Give an anchor tensor new contents, of any number of rows; its moments are forgotten."""
        old = getattr(self.model, name)
        self._swap(name, old, nn.Parameter(value, requires_grad=old.requires_grad), {})

    def _swap(self, name: str, old: nn.Parameter, new: nn.Parameter, moments: dict[str, Tensor]) -> None:
        self.adam.state.pop(old, None)
        if moments:
            self.adam.state[new] = moments
        group = next(g for g in self.adam.param_groups if g["name"] == name)
        group["params"] = [new]
        setattr(self.model, name, new)

    def state(self) -> dict[str, Tensor]:
        """Moments by position in the groups, for a checkpoint."""
        found = {}
        for g, group in enumerate(self.adam.param_groups):
            for p, parameter in enumerate(group["params"]):
                for key, value in self.adam.state.get(parameter, {}).items():
                    found[f"{g}.{p}.{key}"] = value
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`, after the model has been given its parameters.

        Raises:
            ValueError: for moments of other parameters or of other shapes: the kernel reaches them by address.
        """
        parameters = {
            f"{g}.{p}": parameter
            for g, group in enumerate(self.adam.param_groups)
            for p, parameter in enumerate(group["params"])
        }
        places = [key.rpartition(".")[0] for key in state]
        unknown = [key for key, place in zip(state, places, strict=True) if place not in parameters]
        if unknown:
            raise ValueError(f"tensor 'adam.{unknown[0]}' is of no parameter")
        for place in dict.fromkeys(places):
            self.adam.state[parameters[place]] = _moments(state, place, parameters[place])


def _moments(state: dict[str, Tensor], place: str, parameter: Tensor) -> dict[str, Tensor]:
    """What Adam keeps of one parameter, copied from a checkpoint; ValueError where it is not that."""
    shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    found = {
        name: checked(state, f"{place}.{name}", shape, torch.float32 if name == "step" else parameter.dtype, "adam")
        for name, shape in shapes.items()
    }
    others = [key for key in state if key.startswith(place + ".") and key[len(place) + 1 :] not in shapes]
    if others:
        raise ValueError(f"tensor 'adam.{others[0]}' is no moment")
    if not 0.0 <= found["step"].item() < math.inf:
        raise ValueError(f"tensor 'adam.{place}.step' is {found['step'].item()}, no number of steps")
    return {name: value.clone() for name, value in found.items()}
