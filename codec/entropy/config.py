"""Sizes and choices of the multi-dimension entropy model: what encoder and decoder must agree on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import BitstreamError

CODERS = ("constriction", "torchac")

# Largest accepted value of each size. They keep a hostile header from asking for absurd networks, and keep
# every sum of the integer networks far below 2^53 (see fixedpoint.py).
_LIMITS = {
    "f_v": 128,
    "primitives": 64,
    "f_g": 64,
    "chunks": 16,
    "sigma": 16,
    "color": 64,
    "hyper": 32,
    "hidden": 256,
}
MAX_RESIDUAL = 2048  # f_g values of one anchor


@dataclass(frozen=True)
class EntropyConfig:
    """Sizes of one anchor's features, and the coder.

    Attributes:
        f_v: channels of the reference feature f_v.
        primitives: K, primitives of one anchor.
        f_g: channels of one primitive's residual feature; a multiple of ``chunks``.
        chunks: M, parts in which f_g is coded (Eq. 8); chunk m holds f_g[:, :, m*w:(m+1)*w], w = f_g / M.
        sigma: numbers of the explicit covariance attribute Sigma_v.
        color: numbers of the explicit colour attribute C_v.
        hyper: channels of the hyperprior eta.
        hidden: width of the hidden layers of the context networks.
        q_f_v, q_f_g, q_sigma, q_color: initial quantisation steps Q_i (paper, section 4.1).
        coder: ``"constriction"`` or ``"torchac"``.
    """

    f_v: int = 32
    primitives: int = 10
    f_g: int = 16
    chunks: int = 4
    sigma: int = 6
    color: int = 3
    hyper: int = 4
    hidden: int = 32
    q_f_v: float = 0.1
    q_f_g: float = 0.1
    q_sigma: float = 0.01
    q_color: float = 0.01
    coder: str = "constriction"

    def __post_init__(self) -> None:
        """Refuse sizes that no model has. Raises: BitstreamError ``bad-entropy-config``."""
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= limit:
                raise _bad(f"{name} is {value!r}; it must be an integer from 1 to {limit}")
        if self.f_g % self.chunks:
            raise _bad(f"f_g is {self.f_g}; it must be a multiple of chunks, {self.chunks}")
        if self.primitives * self.f_g > MAX_RESIDUAL:
            raise _bad(f"primitives x f_g is {self.primitives * self.f_g}; at most {MAX_RESIDUAL} are allowed")
        for name in ("q_f_v", "q_f_g", "q_sigma", "q_color"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 1e-6 <= value <= 1e6:
                raise _bad(f"{name} is {value!r}; it must be a number from 1e-6 to 1e6")
        if self.coder not in CODERS:
            raise _bad(f"coder is {self.coder!r}; known are {', '.join(CODERS)}")

    @property
    def chunk_width(self) -> int:
        """Columns of one flattened chunk of f_g: K * f_g / M."""
        return self.primitives * self.f_g // self.chunks

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the streams in coding order: hyper, f_v, sigma, color, f_g_0, f_g_1, ..."""
        return ("hyper", "f_v", "sigma", "color", *(f"f_g_{m}" for m in range(self.chunks)))

    def width(self, component: str) -> int:
        """Symbols per anchor of one component."""
        if component.startswith("f_g_"):
            return self.chunk_width
        return int({"hyper": self.hyper, "f_v": self.f_v, "sigma": self.sigma, "color": self.color}[component])

    def network_shapes(self) -> Iterator[tuple[str, int, int]]:
        """(name, inputs, outputs) of each context network, in coding order.

        ``f_v``: eta -> mean and level of f_v, one step factor. ``attributes``: f_v -> means of sigma and
        colour, levels of both, step factors of sigma, colour and each chunk. ``f_g_m``: f_v and the chunks
        before m -> means and levels of chunk m.
        """
        yield "f_v", self.hyper, 2 * self.f_v + 1
        yield "attributes", self.f_v, 2 * (self.sigma + self.color) + 2 + self.chunks
        for m in range(self.chunks):
            yield f"f_g_{m}", self.f_v + m * self.chunk_width, 2 * self.chunk_width

    def columns(self, component: str) -> tuple[int, int]:
        """(first mean, first level) of a component among its network's outputs."""
        explicit = self.sigma + self.color
        if component == "color":
            return self.sigma, explicit + self.sigma
        return 0, explicit if component == "sigma" else self.width(component)

    def to_json(self) -> str:
        """The configuration as one compact JSON object."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> EntropyConfig:
        """Read what ``to_json`` wrote.

        Raises:
            BitstreamError: ``bad-entropy-config`` for anything but an object with exactly the known fields
                in their allowed ranges.
        """
        if len(text) > 4096:
            raise _bad(f"it has {len(text)} characters; at most 4096 are allowed")
        try:
            values: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _bad("it is not JSON") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != known:
            raise _bad(f"it must be an object with the fields {', '.join(sorted(known))}")
        return cls(**values)


def _bad(what: str) -> BitstreamError:
    return BitstreamError("bad-entropy-config", f"entropy configuration: {what}")
