"""Sizes and switches of the model; stored in the file, since the decoder must build the same networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ..errors import BitstreamError

# Least and largest value of each size, for files and options alike.
LIMITS = {
    "primitives": (1, 64),
    "reference_dim": (1, 128),
    "residual_dim": (1, 64),
    "prediction_width": (4, 1024),
    "deformation_width": (4, 1024),
    "time_dim": (1, 4096),
    "knots": (1, 65536),
    "position_frequencies": (1, 64),
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of :class:`AnchorModel`.

    The paper's values: K = 10, N_v = 32, N_g = 16, f_t of 256 dimensions, f_p of 72 = 3 axes x 12 frequencies
    x (sin, cos). Six primitives an anchor give more quality per byte and per minute than ten (``benchmarks/ablation.py``);
    a time embedding and deformation networks of 64 serve CPU minutes and fp32 files best; an hour makes use of 96.
    """

    primitives: int = 6  # K, primitives per anchor
    reference_dim: int = 32  # N_v, size of f_v
    residual_dim: int = 16  # N_g, size of f_g per primitive
    prediction_width: int = 32  # hidden width of F_theta (Eq. 1)
    deformation_width: int = 64  # hidden width of F_omega (Eq. 2) and F_varpi (Eq. 4)
    time_dim: int = 64  # size of f_t (Eq. 3); does not reach the file, see TimeTable
    knots: int = 32  # rows of the time table
    position_frequencies: int = 12  # sinusoids per axis in f_p
    coarse: bool = True  # anchors deform (Eq. 2)
    fine: bool = True  # primitives' opacity and colour are refined (Eq. 4)
    rotate_offsets: bool = (
        True  # an anchor's rotation turns its primitives' offsets, not their covariance alone
    )
    coarse_opacity: bool = (
        True  # F_omega also moves the opacity of an anchor's primitives (short-lived anchors)
    )

    def to_dict(self) -> dict[str, int | bool]:
        """A flat dictionary for the header."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, object]) -> ModelConfig:
        """Validated configuration from a header's dictionary.

        Raises:
            BitstreamError: ``bad-header`` for a missing, mistyped or absurd value.
        """
        known: dict[str, int | bool] = {}
        for field in fields(ModelConfig):
            value = values.get(field.name)
            is_switch = isinstance(field.default, bool)
            if isinstance(value, bool) != is_switch or not isinstance(value, int):
                raise BitstreamError(
                    "bad-header", f"model configuration: '{field.name}' is {value!r}; re-encode the file"
                )
            if not is_switch:
                low, high = LIMITS[field.name]
                if not low <= value <= high:
                    raise BitstreamError(
                        "bad-header", f"model configuration: '{field.name}' is {value}, not in {low}..{high}"
                    )
            known[field.name] = value
        return ModelConfig(**known)  # type: ignore[arg-type]
