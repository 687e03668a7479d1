"""The sealed parameters as bytes. Layout (integers little-endian; varint: 7 bits a byte, low first; svarint: zigzag):

- steps Q: float32 of f_v, sigma, color, f_g, in this order;
- priors of eta, per channel: i8 low, u8 n, then n - 1 varints, the frequencies but the last, which completes 65536;
- heads of the integer arrays, in the order below: svarint centre, u8 level, u8 k;
- varint length of the stream, then the stream: the high parts of all arrays, coded like residuals (``symbols.py``);
- the k low bits of every number of every array, most significant first, filled up with zero bits to a byte.

A number is centre + high * 2^k + low. The arrays are: for f_v and each chunk but the last, offset and shift of
its context; for each network in coding order, for each of its three layers, weight (row by row), shift, bias.
Dimensions follow from the configuration, so nothing is allocated by the word of this data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError
from .config import EntropyConfig
from .fixedpoint import MAX_BIAS, IntegerLayer, IntegerNetwork
from .sealed import ETA_LIMIT, Context, Parameters, Prior
from .symbols import RESIDUAL_LIMIT, decode_residuals, encode_residuals
from .tables import LEVELS, TOTAL, Table, sigmas

_STEPS = ("f_v", "sigma", "color", "f_g")
_MAX_LOW_BITS = 32
_MIN_STEP, _MAX_STEP = 2.0**-40, 2.0**40
# Bounds on memory by the bytes that were sent; real networks take several bits a number.
_FREE_NUMBERS = 1 << 17
_NUMBERS_PER_BYTE = 32
_WIDEST = 60.0  # standard deviation, in units of the high part, from which on low bits are split off

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class _Head:
    centre: int
    level: int
    low_bits: int


def pack(config: EntropyConfig, parameters: Parameters) -> bytes:
    """Parameters to bytes; the same parameters give the same bytes."""
    out = bytearray()
    for name in _STEPS:
        out += parameters.steps[name].astype("<f4").tobytes()
    for prior in parameters.priors:
        out += prior.low.to_bytes(1, "little", signed=True)
        out.append(len(prior.table))
        for frequency in prior.table.frequencies[:-1]:
            out += _varint(int(frequency))
    arrays = list(_arrays_of(config, parameters))
    heads = [_head(array) for array in arrays]
    for head in heads:
        out += _varint(_zigzag(head.centre)) + bytes((head.level, head.low_bits))
    shifted = [array - head.centre for array, head in zip(arrays, heads, strict=True)]
    high = np.concatenate([array >> head.low_bits for array, head in zip(shifted, heads, strict=True)])
    stream = encode_residuals(config.coder, high, _levels(heads, [array.size for array in arrays]))
    out += _varint(len(stream)) + stream
    bits = [_low_bits(array, head.low_bits) for array, head in zip(shifted, heads, strict=True)]
    out += np.packbits(np.concatenate(bits)).tobytes()
    return bytes(out)


def unpack(data: bytes, config: EntropyConfig) -> Parameters:
    """Bytes to parameters.

    Raises: BitstreamError ``bad-entropy-parameters`` (with the field), ``corrupt-stream``.
    """
    reader = _Reader(data)
    sizes = {"f_v": config.f_v, "sigma": config.sigma, "color": config.color, "f_g": config.f_g}
    steps = {name: reader.steps(name, sizes[name]) for name in _STEPS}
    priors = tuple(reader.prior() for _ in range(config.hyper))
    shapes = list(_shapes(config))
    counts = [int(np.prod(shape)) for shape in shapes]
    if sum(counts) > _FREE_NUMBERS + _NUMBERS_PER_BYTE * len(data):
        raise _bad("its networks are too large for so few bytes")
    heads = [reader.head() for _ in shapes]
    stream = reader.take(reader.varint("stream length"), "stream")
    high = decode_residuals(config.coder, stream, _levels(heads, counts))
    low = reader.low_bits(heads, counts)
    reader.end()

    bounds = np.cumsum([0, *counts])
    arrays = iter(
        (head.centre + (high[a:b] << head.low_bits) + part).reshape(shape)
        for head, part, a, b, shape in zip(heads, low, bounds[:-1], bounds[1:], shapes, strict=True)
    )
    contexts = {name: _context(next(arrays), next(arrays)) for name in _context_names(config)}
    networks = {}
    for name, _, _ in config.network_shapes():
        layers = [_layer(name, next(arrays), next(arrays), next(arrays)) for _ in range(3)]
        networks[name] = IntegerNetwork((layers[0], layers[1], layers[2]))
    return Parameters(steps, priors, contexts, networks)


# ---------------------------------------------------------------- which arrays there are


def _context_names(config: EntropyConfig) -> list[str]:
    return ["f_v", *(f"f_g_{m}" for m in range(config.chunks - 1))]


def _shapes(config: EntropyConfig) -> Iterator[tuple[int, ...]]:
    for name in _context_names(config):
        yield from ((config.width(name),), (config.width(name),))
    hidden = config.hidden
    for _, inputs, outputs in config.network_shapes():
        for rows, columns in ((hidden, inputs), (hidden, hidden), (outputs, hidden)):
            yield from ((rows, columns), (rows,), (rows,))


def _arrays_of(config: EntropyConfig, parameters: Parameters) -> Iterator[Integers]:
    for name in _context_names(config):
        context = parameters.contexts[name]
        yield from (context.offset, context.shift)
    for name, _, _ in config.network_shapes():
        for layer in parameters.networks[name].layers:
            yield from (layer.weight.reshape(-1), layer.shift, layer.bias)


def _context(offset: Integers, shift: Integers) -> Context:
    if int(np.abs(offset).max()) > MAX_BIAS or int(shift.min()) < 0 or int(shift.max()) > 31:
        raise _bad("context: offset or shift out of range")
    return Context(offset, shift)


def _layer(name: str, weight: Integers, shift: Integers, bias: Integers) -> IntegerLayer:
    try:
        return IntegerLayer(weight, shift, bias)
    except ValueError as error:
        raise _bad(f"network {name}: {error}") from error


# ---------------------------------------------------------------- one array


def _head(array: Integers) -> _Head:
    centre = int(np.median(array))
    spread = array - centre
    deviation = float(np.sqrt(np.mean(spread.astype(np.float64) ** 2)))
    low_bits = 0
    while deviation > _WIDEST or int(np.abs(spread).max()) >> low_bits >= RESIDUAL_LIMIT:
        deviation /= 2.0
        low_bits += 1
    level = int(np.argmin(np.abs(np.log(np.array(sigmas()) / max(deviation, 0.05)))))
    return _Head(centre, level, low_bits)


def _levels(heads: list[_Head], counts: list[int]) -> NDArray[np.uint8]:
    return np.repeat(np.array([head.level for head in heads], dtype=np.uint8), counts)


def _low_bits(values: Integers, width: int) -> NDArray[np.uint8]:
    places = np.arange(width - 1, -1, -1)
    return ((values[:, None] >> places) & 1).astype(np.uint8).reshape(-1)


# ---------------------------------------------------------------- bytes


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bad(what: str) -> BitstreamError:
    return BitstreamError("bad-entropy-parameters", f"entropy model parameters: {what}; get the file again")


class _Reader:
    """Takes fields off the front of the data; every length is checked before it is used."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int, field: str) -> bytes:
        if size > len(self._data) - self._at:
            raise _bad(f"{field} ends outside the data")
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def byte(self, field: str) -> int:
        return self.take(1, field)[0]

    def varint(self, field: str) -> int:
        value = 0
        for place in range(5):
            byte = self.byte(field)
            value |= (byte & 127) << (7 * place)
            if byte < 128:
                if byte == 0 and place:
                    raise _bad(f"{field} is not in its shortest form")
                return value
        raise _bad(f"{field} is a number of more than 5 bytes")

    def steps(self, name: str, count: int) -> NDArray[np.float32]:
        values = np.frombuffer(self.take(4 * count, f"steps of {name}"), dtype="<f4").astype(np.float32)
        if not ((values >= _MIN_STEP) & (values <= _MAX_STEP)).all():  # also refuses NaN
            raise _bad(f"steps of {name} are not positive numbers")
        return values

    def prior(self) -> Prior:
        low = int.from_bytes(self.take(1, "prior"), "little", signed=True)
        count = self.byte("prior")
        if count < 2 or low < -ETA_LIMIT or low + count - 1 > ETA_LIMIT:
            raise _bad("prior: its range is not within -127 .. 127")
        frequencies = [self.varint("prior") for _ in range(count - 1)]
        frequencies.append(TOTAL - sum(frequencies))
        if min(frequencies) < 1:
            raise _bad("prior: frequencies are not positive or do not sum to 65536")
        return Prior(low, Table(np.array(frequencies, dtype=np.int64)))

    def head(self) -> _Head:
        coded = self.varint("array head")
        centre = (coded >> 1) ^ -(coded & 1)
        level, low_bits = self.byte("array head"), self.byte("array head")
        if level >= LEVELS or low_bits > _MAX_LOW_BITS:
            raise _bad("array head: level or number of low bits out of range")
        return _Head(centre, level, low_bits)

    def low_bits(self, heads: list[_Head], counts: list[int]) -> list[Integers]:
        widths = [head.low_bits for head in heads]
        total = sum(width * count for width, count in zip(widths, counts, strict=True))
        packed = np.frombuffer(self.take((total + 7) // 8, "low bits"), dtype=np.uint8)
        bits = np.unpackbits(packed)
        if bits[total:].any():
            raise _bad("low bits: the filling is not zero")
        out: list[Integers] = []
        start = 0
        for width, count in zip(widths, counts, strict=True):
            part = bits[start : start + width * count].reshape(count, width).astype(np.int64)
            start += width * count
            out.append(part @ (np.int64(1) << np.arange(width - 1, -1, -1, dtype=np.int64)))
        return out

    def end(self) -> None:
        if self._at != len(self._data):
            raise _bad(f"{len(self._data) - self._at} bytes too many")
