"""Integer tables of the entropy model: Gaussian bins at 64 scale levels, and the step factors of Eq. 6.

Everything here is made with +, -, *, / and floor on IEEE doubles, in one fixed order, and never with a function
of the C library: the tables are the same bits on every machine, so they need not be in the file. They are
pinned by SHA-256 in the tests and written out in ``bitstream_spec/entropy_tables.json``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

LEVELS = 64
SIGMA_MIN = 0.11  # smallest scale, in steps
SIGMA_RATIO = 1.115  # scale of level i + 1 / scale of level i: 0.11 ... 104.7 steps
PRECISION = 16
TOTAL = 1 << PRECISION  # the frequencies of every table sum to this

FACTORS = 256
FACTOR_ONE = 4096  # fixed-point 1.0 of a step factor, and of a value in units of Q
FACTOR_INDEX_ONE = 128  # the index whose argument of tanh is 0
FACTOR_INDEX_UNIT = 64  # indices per unit of the argument of tanh
LEVEL_UNIT = 256  # fixed-point 1.0 of a scale level


@dataclass(frozen=True)
class Table:
    """Frequencies of the symbols 0 .. len - 1; positive integers that sum to ``TOTAL``.

    Attributes:
        frequencies: (n,) int64.
        escape: index of the escape symbol, or None where the table has none.
    """

    frequencies: NDArray[np.int64]
    escape: int | None = None

    def __len__(self) -> int:
        return int(self.frequencies.shape[0])

    @property
    def reach(self) -> int:
        """L of a Gaussian table: the residuals -L .. L have symbols of their own."""
        return (len(self) - 2) // 2


def exponential(x: float) -> float:
    """exp(x) for |x| <= 64 from products and sums alone: Taylor series of x / 1024, squared ten times."""
    y = x / 1024.0
    term = 1.0
    total = 1.0
    for k in range(1, 16):
        term = term * y / k
        total = total + term
    for _ in range(10):
        total = total * total
    return total


def logarithm(x: float) -> float:
    """ln(x) for 0 < x <= 8: 2 artanh((y - 1) / (y + 1)) of y = x 2^n in [2/3, 4/3), less n ln 2."""

    def artanh_series(y: float) -> float:
        r = (y - 1.0) / (y + 1.0)
        square = r * r
        power = r
        total = r
        for k in range(3, 61, 2):
            power = power * square
            total = total + power / k
        return 2.0 * total

    halvings = 0
    while x < 2.0 / 3.0:
        x = x * 2.0
        halvings += 1
    while x >= 4.0 / 3.0:
        x = x / 2.0
        halvings -= 1
    # ln 2 = ln(4/3) + ln(3/2), both within the series' range of quick convergence.
    return artanh_series(x) - halvings * (artanh_series(4.0 / 3.0) + artanh_series(1.5))


def upper_half(z: float) -> float:
    """Phi(z) - 1/2 of the standard normal, 0 <= z: density(z) * (z + z^3/3 + z^5/15 + ...), all terms positive."""
    if z > 7.0:
        return 0.5
    square = z * z
    term = z
    total = z
    k = 1
    while term > 1e-18 * total:
        k += 2
        term = term * square / k
        total = total + term
    return total * exponential(-square / 2.0) * 0.3989422804014327


@cache
def sigmas() -> tuple[float, ...]:
    """The 64 scales in units of the step, by repeated multiplication."""
    values = [SIGMA_MIN]
    for _ in range(LEVELS - 1):
        values.append(values[-1] * SIGMA_RATIO)
    return tuple(values)


def reach_of(sigma: float) -> int:
    """L: the smallest power of two that is at least 4 sigma + 1, and at least 4.

    Few distinct table lengths let a coder that wants one rectangular table per call take many levels at once.
    """
    reach = 4
    while reach < 4.0 * sigma + 1.0:
        reach *= 2
    return reach


def _gaussian_table(sigma: float) -> Table:
    reach = reach_of(sigma)
    count = 2 * reach + 2
    free = float(TOTAL - count)  # every symbol gets 1, the rest is dealt out by probability
    edges = [upper_half((k + 0.5) / sigma) for k in range(reach + 1)]
    # Rounding the distribution, not the bins, lets no error pile up.
    rounded = [_nearest(free * edge) for edge in edges]
    side = [rounded[k] - rounded[k - 1] for k in range(1, reach + 1)]
    frequencies = np.ones(count, dtype=np.int64)
    frequencies[reach + 1 : 2 * reach + 1] += side
    frequencies[:reach] += side[::-1]
    frequencies[count - 1] += int(free * (1.0 - 2.0 * edges[reach]))
    frequencies[reach] += TOTAL - int(frequencies.sum())  # what is left is the centre's
    return Table(frequencies, escape=count - 1)


@cache
def gaussian_tables() -> tuple[Table, ...]:
    """One table per scale level. Symbol s < 2L + 1 is the residual s - L; symbol 2L + 1 is the escape."""
    return tuple(_gaussian_table(sigma) for sigma in sigmas())


@cache
def magnitude_table() -> Table:
    """Bit length n = 0 .. 16 of an escaped magnitude: frequencies 2^15, 2^14, ..., 1, 1."""
    return Table(np.array([1 << (15 - n) for n in range(16)] + [1], dtype=np.int64))


@cache
def bit_table() -> Table:
    """Two equally likely symbols: signs and mantissas of escapes."""
    return Table(np.array([TOTAL // 2, TOTAL // 2], dtype=np.int64))


@cache
def factor_tables() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(factor, log) of the 256 step factors 1 + tanh(x), x = (index - 128) / 64.

    ``factor`` is in units of 1/4096; ``log`` is ln(factor / 4096) / ln(1.115) in units of 1/256 level: what
    the factor takes away from a scale level.
    """
    factor = np.empty(FACTORS, dtype=np.int64)
    log = np.empty(FACTORS, dtype=np.int64)
    unit = logarithm(SIGMA_RATIO)
    for i in range(FACTORS):
        x = (i - FACTOR_INDEX_ONE) / FACTOR_INDEX_UNIT
        squared = exponential(2.0 * x)
        factor[i] = _nearest(FACTOR_ONE * (2.0 * squared / (squared + 1.0)))
        log[i] = _nearest(LEVEL_UNIT * logarithm(float(factor[i]) / FACTOR_ONE) / unit)
    return factor, log


def _nearest(x: float) -> int:
    """floor(x + 1/2)."""
    return int(np.floor(x + 0.5))


def tables_digest() -> str:
    """SHA-256 over all tables as little-endian int32: Gaussian tables by level, factors, logs of factors."""
    digest = hashlib.sha256()
    for table in gaussian_tables():
        digest.update(table.frequencies.astype("<i4").tobytes())
    for values in factor_tables():
        digest.update(values.astype("<i4").tobytes())
    return digest.hexdigest()


def tables_json() -> str:
    """All tables as ``bitstream_spec/entropy_tables.json`` holds them, one Gaussian table a line."""
    factor, log = factor_tables()
    rows = [
        json.dumps({"level": i, "sigma": sigma, "reach": table.reach, "frequencies": table.frequencies.tolist()})
        for i, (sigma, table) in enumerate(zip(sigmas(), gaussian_tables(), strict=True))
    ]
    lines = [
        f'"sha256": "{tables_digest()}"',
        '"gaussian": [\n' + ",\n".join(rows) + "\n]",
        f'"magnitude": {magnitude_table().frequencies.tolist()}',
        f'"factor": {factor.tolist()}',
        f'"log": {log.tolist()}',
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"
