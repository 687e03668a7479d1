"""The entropy model as a file carries it: integers from the bytes to the values, the same on every machine.

Values are integers in units of Q / 4096, where Q is the float32 step of the value's channel. A component's symbol r
becomes the value v = r * factor + mu, factor / 4096 being the 1 + tanh(.) of Eq. 6 and mu the mean of Eq. 7 and 8
in the same units; the scale level that selects r's table comes from the same network as mu. Each network sees only what
is decoded before: eta -> f_v -> sigma, color and the chunks of f_g in turn (paper, Figure 4).
``bitstream_spec/ENTROPY.md`` says the same in pseudo-code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError, OptionError
from .coder import Runs, open_decoder, open_encoder
from .config import EntropyConfig
from .fixedpoint import INT16, Floats, IntegerNetwork, Products, saturate, shift_right
from .symbols import RESIDUAL_LIMIT, decode_residuals, encode_residuals, residual_bits
from .tables import (
    FACTOR_INDEX_ONE,
    FACTOR_ONE,
    FACTORS,
    LEVEL_UNIT,
    LEVELS,
    TOTAL,
    Table,
    factor_tables,
)

if TYPE_CHECKING:
    from ..features import Features

VALUE_LIMIT = 1 << 30  # saturation of means and values
ETA_UNIT = 256  # fixed-point 1.0 of eta as a context
ETA_LIMIT = 127
MAX_ANCHORS = 1 << 22
# A bound on memory by the bytes that were sent: so many values may cost nothing, and so many more for each byte of the
# streams that every file has, cut or not. Files have had up to 34 values a byte of those; zeros could be 40 000.
FREE_VALUES = 1 << 18
VALUES_PER_BYTE = 256
BATCH = 4096  # anchors per matrix product; any number gives the same integers

Values = NDArray[np.int32]
Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Prior:
    """The factorised model of one channel of eta: ``table`` over the integers low, low + 1, ..."""

    low: int
    table: Table


@dataclass(frozen=True)
class Context:
    """How a decoded value becomes a 16-bit input: sat16((v - offset) >> shift), rounding, per channel."""

    offset: NDArray[np.int64]  # (C,)
    shift: NDArray[np.int64]  # (C,)

    def __call__(self, values: Floats) -> Floats:
        """(n, C) values to (n, C) inputs."""
        return saturate(shift_right(values - self.offset, self.shift), INT16)


@dataclass(frozen=True)
class Parameters:
    """All that a decoder must be told besides the configuration.

    Attributes:
        steps: Q of f_v (Nv,), sigma, color, and f_g (Ng,), float32; the K primitives share theirs.
        priors: one per channel of eta.
        contexts: of f_v and of every chunk but the last.
        networks: by the names of ``EntropyConfig.network_shapes``.
    """

    steps: Mapping[str, Floats32]
    priors: tuple[Prior, ...]
    contexts: Mapping[str, Context]
    networks: Mapping[str, IntegerNetwork]


@dataclass
class DecodedFeatures:
    """What a decoder has.

    Attributes:
        config: sizes.
        values: component -> (N, C) int32 in units of Q / 4096; eta itself for ``hyper``.
        symbols: component -> (N, C) int32 residuals; zeros for what is missing.
        missing: chunks of f_g that were not there and stand at their predicted mean.
        arrays: f_v (N, Nv), sigma (N, 6), color (N, 3), f_g (N, K, Ng), float32.
    """

    config: EntropyConfig
    values: dict[str, Values]
    symbols: dict[str, NDArray[np.int32]]
    missing: tuple[str, ...]
    arrays: dict[str, Floats32]

    @property
    def features(self) -> Features:
        """The attributes as torch tensors (this is where torch is imported)."""
        import torch

        from ..features import Features

        return Features(**{name: torch.from_numpy(array) for name, array in self.arrays.items()})

    def digest(self) -> str:
        """SHA-256 of all values: each component in coding order, row-major, as little-endian int32."""
        digest = hashlib.sha256()
        for name in self.config.components:
            digest.update(np.ascontiguousarray(self.values[name], dtype="<i4").tobytes())
        return digest.hexdigest()


@dataclass
class CodedFeatures:
    """Attributes: streams (component -> bytes), counts (component -> symbols), decoded (what a decoder will have)."""

    streams: dict[str, bytes]
    counts: dict[str, int]
    decoded: DecodedFeatures

    @property
    def size(self) -> int:
        """Bytes of all streams."""
        return sum(len(data) for data in self.streams.values())


# What one component's residuals are, given its mean (N, C), step factor (N, 1) and scale level (N, C).
_Residuals = Callable[[str, Floats, Floats, NDArray[np.uint8]], NDArray[np.int64]]


@dataclass
class SealedEntropyModel:
    """Integer entropy model: ``compress`` / ``decompress`` / ``estimate_bits``.

    Attributes:
        config: sizes and coder.
        parameters: what ``to_bytes`` writes.
        analysis: f_v (N, Nv) float32 -> eta (N, hyper) before rounding. The encoder's half of the hyperprior; a model
            that was read from bytes has none and cannot compress.
    """

    config: EntropyConfig
    parameters: Parameters
    analysis: Callable[[Floats32], NDArray[np.float64]] | None = field(default=None, repr=False)

    # ---------------------------------------------------------------- verbs

    def compress(self, features: Features, products: Products | None = None) -> CodedFeatures:
        """Code the attributes of N anchors.

        Raises: OptionError ``no-anchors``, ``not-finite``, ``bad-features``, ``cannot-compress``.
        """
        arrays = self._arrays(features)
        eta = self._eta(arrays["f_v"])
        streams = {"hyper": self._encode_eta(eta)}

        def code(name: str, mean: Floats, factor: Floats, level: NDArray[np.uint8]) -> NDArray[np.int64]:
            residuals = self._round(name, arrays, mean, factor)
            streams[name] = encode_residuals(self.config.coder, residuals, level)
            return residuals

        decoded = self._decode(eta, code, (), products)
        streams["hyper"] += _padding(streams, self._values(eta.shape[0]))
        counts = {name: decoded.values[name].size for name in self.config.components}
        return CodedFeatures(streams, counts, decoded)

    def decompress(
        self,
        coded: Mapping[str, bytes],
        count: int,
        *,
        partial: bool = False,
        products: Products | None = None,
    ) -> DecodedFeatures:
        """Decode the attributes of ``count`` anchors from one stream per component.

        Memory is at most some 60 bytes for each value, eta's included, of which there are at most 2^18 and 256 more for
        each byte of the streams that every file has: 16 MB, and 15 KB for a byte.

        Args:
            coded: component -> bytes; damage that a checksum would have found gives wrong symbols or an error.
            count: N, 1 to 2^22.
            partial: accept that f_g's last chunks are missing; they take their predicted means.
            products: matrix products by something else than numpy (``fixedpoint.torch_products``); same integers.

        Raises:
            BitstreamError: ``bad-count``, ``missing-component``, ``unknown-component``,
                ``count-exceeds-data``, ``corrupt-stream``.
        """
        if not 1 <= count <= MAX_ANCHORS:
            raise BitstreamError("bad-count", f"entropy streams: {count} anchors; 1 to {MAX_ANCHORS} are allowed")
        missing = self._missing(coded, partial)
        if self._values(count) > _values_of(coded):
            raise BitstreamError(
                "count-exceeds-data",
                f"entropy streams: {count} anchors, {self._values(count)} values in too few bytes; get the file again",
            )
        eta = self._decode_eta(coded["hyper"], count)

        def code(name: str, mean: Floats, factor: Floats, level: NDArray[np.uint8]) -> NDArray[np.int64]:
            if name in missing:
                return np.zeros(mean.shape, dtype=np.int64)
            return decode_residuals(self.config.coder, coded[name], level)

        return self._decode(eta, code, missing, products)

    def estimate_bits(self, features: Features) -> dict[str, float]:
        """Bits per component under the sealed tables, without coding."""
        arrays = self._arrays(features)
        eta = self._eta(arrays["f_v"])
        bits = {"hyper": self._eta_bits(eta)}

        def code(name: str, mean: Floats, factor: Floats, level: NDArray[np.uint8]) -> NDArray[np.int64]:
            residuals = self._round(name, arrays, mean, factor)
            bits[name] = residual_bits(residuals, level)
            return residuals

        self._decode(eta, code, (), None)
        return bits

    def lattice(self, features: Features) -> dict[str, tuple[Floats32, Floats32, Floats32]]:
        """Where the values of N anchors may lie once they are coded: component -> mean (N, C), step factor (N, 1), Q.

        A value is coded as mean + k Q factor with a whole k; Q is (C,), for f_g of one primitive's channels.
        """
        arrays = self._arrays(features)
        found = {}

        def code(name: str, mean: Floats, factor: Floats, level: NDArray[np.uint8]) -> NDArray[np.int64]:
            step = self._step(name)
            unit = np.tile(step, mean.shape[1] // len(step)) / FACTOR_ONE
            found[name] = ((mean * unit).astype(np.float32), (factor / FACTOR_ONE).astype(np.float32), step)
            return self._round(name, arrays, mean, factor)

        self._decode(self._eta(arrays["f_v"]), code, (), None)
        return found

    def without_chunks(self, features: Features, first: int) -> DecodedFeatures:
        """What a decoder makes of these anchors' file where it was cut before chunk ``first`` of f_g."""
        arrays = self._arrays(features)
        missing = tuple(f"f_g_{m}" for m in range(first, self.config.chunks))

        def code(name: str, mean: Floats, factor: Floats, level: NDArray[np.uint8]) -> NDArray[np.int64]:
            return np.zeros(mean.shape, np.int64) if name in missing else self._round(name, arrays, mean, factor)

        return self._decode(self._eta(arrays["f_v"]), code, missing, None)

    def to_bytes(self) -> bytes:
        """The parameters, compactly (``packing.py``)."""
        from .packing import pack

        return pack(self.config, self.parameters)

    @classmethod
    def from_bytes(cls, data: bytes, config: EntropyConfig) -> SealedEntropyModel:
        """Read what ``to_bytes`` wrote. Raises: BitstreamError ``bad-entropy-parameters``, ``corrupt-stream``."""
        from .packing import unpack

        return cls(config, unpack(data, config))

    def digest(self, decoded: DecodedFeatures) -> str:
        """SHA-256 of all decoded integers."""
        return decoded.digest()

    # ---------------------------------------------------------------- the normative path

    def _decode(
        self, eta: Values, residuals_of: _Residuals, missing: tuple[str, ...], products: Products | None
    ) -> DecodedFeatures:
        """Figure 4 from top to bottom; coding, decoding and estimating differ in ``residuals_of`` alone."""
        config = self.config
        values: dict[str, Values] = {"hyper": eta}
        symbols: dict[str, NDArray[np.int32]] = {"hyper": eta}

        def decode(name: str, mean: Floats, factor: Floats, scale: NDArray[np.uint8]) -> None:
            residuals = residuals_of(name, mean, factor, scale)
            symbols[name] = residuals.astype(np.int32)
            values[name] = saturate(residuals * factor + mean, VALUE_LIMIT).astype(np.int32)

        out = self._evaluate("f_v", saturate(eta * float(ETA_UNIT), INT16), products)
        decode("f_v", *self._predicted("f_v", out, out[:, -1:]))
        context = [self._context("f_v", values)]

        out = self._evaluate("attributes", context[0], products)
        factors = out[:, 2 * (config.sigma + config.color) :]
        decode("sigma", *self._predicted("sigma", out, factors[:, :1]))
        decode("color", *self._predicted("color", out, factors[:, 1:2]))

        for m in range(config.chunks):
            name = f"f_g_{m}"
            factor = factors[:, 2 + m : 3 + m]
            # The outputs have no name, so that they, most of a chunk's memory, are gone before its symbols come.
            predicted = self._predicted(name, self._evaluate(name, np.concatenate(context, axis=1), products), factor)
            decode(name, *predicted)
            if m < config.chunks - 1:
                context.append(self._context(name, values))
        return DecodedFeatures(config, values, symbols, missing, self._dequantise(values))

    def _predicted(self, name: str, out: Floats, factor_index: Floats) -> tuple[Floats, Floats, NDArray[np.uint8]]:
        """A component's mean (N, C), step factor (N, 1) and scale level (N, C) among its network's outputs."""
        mean_at, level_at = self.config.columns(name)
        width = self.config.width(name)
        mean = saturate(out[:, mean_at : mean_at + width], VALUE_LIMIT)
        return mean, *_scale(out[:, level_at : level_at + width], factor_index)

    def _values(self, count: int) -> int:
        """How many values so many anchors have, of all components."""
        return count * sum(self.config.width(name) for name in self.config.components)

    def _evaluate(self, name: str, inputs: Floats, products: Products | None) -> Floats:
        network = self.parameters.networks[name]
        parts = [network(inputs[i : i + BATCH], products) for i in range(0, inputs.shape[0], BATCH)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _context(self, name: str, values: Mapping[str, Values]) -> Floats:
        return self.parameters.contexts[name](values[name].astype(np.float64))

    def _dequantise(self, values: dict[str, Values]) -> dict[str, Floats32]:
        """One float32 product per value, with Q / 4096."""
        config = self.config
        arrays = {name: values[name].astype(np.float32) * self._unit(name) for name in ("f_v", "sigma", "color")}
        shape = (-1, config.primitives, config.f_g // config.chunks)
        chunks = [values[f"f_g_{m}"].astype(np.float32).reshape(shape) for m in range(config.chunks)]
        arrays["f_g"] = np.concatenate(chunks, axis=2) * self._unit("f_g")
        return arrays

    def _step(self, name: str) -> Floats32:
        """Q of a component's channels."""
        if not name.startswith("f_g_"):
            return self.parameters.steps[name]
        width = self.config.f_g // self.config.chunks
        return self.parameters.steps["f_g"][int(name[4:]) * width : (int(name[4:]) + 1) * width]

    def _unit(self, name: str) -> Floats32:
        return self.parameters.steps[name] * np.float32(1.0 / FACTOR_ONE)

    # ---------------------------------------------------------------- eta

    def _eta_runs(self, count: int) -> Runs:
        return [(prior.table, count) for prior in self.parameters.priors]

    def _encode_eta(self, eta: Values) -> bytes:
        lows = np.array([prior.low for prior in self.parameters.priors], dtype=np.int32)
        encoder = open_encoder(self.config.coder)
        encoder.push(self._eta_runs(eta.shape[0]), np.ascontiguousarray((eta - lows).T).reshape(-1))
        return encoder.finish()

    def _decode_eta(self, data: bytes, count: int) -> Values:
        symbols = open_decoder(self.config.coder, data).pull(self._eta_runs(count))
        lows = np.array([prior.low for prior in self.parameters.priors], dtype=np.int32)
        return np.ascontiguousarray(symbols.reshape(-1, count).T) + lows

    def _eta_bits(self, eta: Values) -> float:
        bits = 0.0
        for prior, column in zip(self.parameters.priors, eta.T, strict=True):
            bits -= float(np.log2(prior.table.frequencies[column - prior.low] / TOTAL).sum())
        return bits

    # ---------------------------------------------------------------- the encoder's own choices

    def _eta(self, f_v: Floats32) -> Values:
        if self.analysis is None:
            raise OptionError("cannot-compress", "this entropy model was read from a file and has no analysis network")
        eta = np.rint(self.analysis(f_v))
        lows = [prior.low for prior in self.parameters.priors]
        highs = [prior.low + len(prior.table) - 1 for prior in self.parameters.priors]
        return np.clip(eta, lows, highs).astype(np.int32)

    def _round(self, name: str, arrays: Mapping[str, Floats32], mean: Floats, factor: Floats) -> NDArray[np.int64]:
        """The nearest residual of each value."""
        if name.startswith("f_g_"):
            width = self.config.f_g // self.config.chunks
            first = int(name[4:]) * width
            exact = arrays["f_g"][:, :, first : first + width].astype(np.float64)
            scaled = (exact / self._unit("f_g")[first : first + width]).reshape(exact.shape[0], -1)
        else:
            scaled = arrays[name].astype(np.float64) / self._unit(name)
        scaled -= mean
        scaled /= factor
        return np.clip(np.rint(scaled), -RESIDUAL_LIMIT, RESIDUAL_LIMIT).astype(np.int64)

    def _arrays(self, features: Features) -> dict[str, Floats32]:
        config = self.config
        count = len(features)
        if not 1 <= count <= MAX_ANCHORS:
            raise OptionError("no-anchors", f"cannot code {count} anchors; 1 to {MAX_ANCHORS} are possible")
        shapes = {
            "f_v": (count, config.f_v),
            "f_g": (count, config.primitives, config.f_g),
            "sigma": (count, config.sigma),
            "color": (count, config.color),
        }
        arrays = {}
        for name, shape in shapes.items():
            array = getattr(features, name).detach().cpu().numpy().astype(np.float32)
            if array.shape != shape:
                raise OptionError("bad-features", f"feature {name} has shape {array.shape}; the model codes {shape}")
            if not np.isfinite(array).all():
                raise OptionError("not-finite", f"feature {name} holds a NaN or an infinity; it cannot be coded")
            arrays[name] = array
        return arrays

    def _missing(self, coded: Mapping[str, bytes], partial: bool) -> tuple[str, ...]:
        names = self.config.components
        unknown = sorted(set(coded) - set(names))
        if unknown:
            raise BitstreamError("unknown-component", f"entropy streams: {unknown[0]!r} is no component of this model")
        missing = tuple(name for name in names if name not in coded)
        optional = names[len(names) - len(missing) :] == missing and all(name.startswith("f_g_") for name in missing)
        if missing and not (partial and optional):
            remedy = "decode with --partial to go without the last chunks" if optional else "get the file again"
            raise BitstreamError("missing-component", f"entropy streams: {missing[0]} is missing; {remedy}")
        return missing


def _values_of(streams: Mapping[str, bytes]) -> int:
    """How many values these streams may hold. Missing chunks count among them, and so no chunk's bytes do."""
    return FREE_VALUES + VALUES_PER_BYTE * sum(len(streams[name]) for name in ("hyper", "f_v", "sigma", "color"))


def _padding(streams: Mapping[str, bytes], values: int) -> bytes:
    """Zeros, which decoders ignore, for the bound's sake where values cost less than it asks for (they hardly do)."""
    short = max(values - _values_of(streams), 0)
    return bytes(-(-short // (4 * VALUES_PER_BYTE)) * 4)


def _scale(level: Floats, factor_index: Floats) -> tuple[Floats, NDArray[np.uint8]]:
    """(step factor (N, 1), scale level (N, C)) from the raw outputs of the networks."""
    factor, log = factor_tables()
    index = np.clip(factor_index + FACTOR_INDEX_ONE, 0, FACTORS - 1).astype(np.int64)
    nearest = np.floor((level - log[index] + LEVEL_UNIT // 2) / LEVEL_UNIT)
    return factor[index].astype(np.float64), np.clip(nearest, 0, LEVELS - 1).astype(np.uint8)
