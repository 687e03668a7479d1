"""Columns of integers, packed: what the cameras section is made of.

Layout: varint lag L. With L = 0 one *run* of all n values; with L = 1 a run of the first value and a run of the
n - 1 differences to the value before; with L > 1 a column of the first L values, its lag 0 or 1, and a run of the
n - L differences to the value L places before. A run is a signed varint base, u8 bits w and, low bits first,
numbers of w bits each to be added to the base (the last byte is padded with zeros). Constant columns, counters, and
the rows and columns of a camera rig's (time, camera) grid cost a few bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .cursor import Cursor, signed, varint

# Sums of 2^20 terms of a base and a number stay within int64.
MAX_BITS = 40
MAX_VALUE = 1 << MAX_BITS
MAX_LENGTH = 1 << 20


def pack_column(values: Sequence[int] | NDArray[np.int64]) -> bytes:
    """At most 2^20 integers below 2^39 in magnitude to bytes, with the lag that makes them fewest."""
    column = np.asarray(values, dtype=np.int64)
    if len(column) > MAX_LENGTH or (len(column) and np.abs(column).max() >= MAX_VALUE // 2):
        raise ValueError("a column is too long or holds too large numbers")
    return min((_pack(column, lag) for lag in _lags(column)), key=len)


def _pack(column: NDArray[np.int64], lag: int) -> bytes:
    if lag == 0:
        return varint(0) + _pack_run(column)
    head = column[:lag]
    start = _pack_run(head) if lag == 1 else min((_pack(head, 0), _pack(head, 1)), key=len)
    return varint(lag) + start + _pack_run(column[lag:] - column[:-lag])


def _lags(column: NDArray[np.int64]) -> list[int]:
    """Lags worth trying: none, the previous value, the first repetition, the first run of equal values."""
    lags = {0}
    if len(column) > 1:
        lags.add(1)
        same = column[1:] == column[0]
        lags |= {int(np.argmax(same)) + 1} if same.any() else set()
        lags |= {int(np.argmin(same)) + 1} if not same.all() else set()
    return sorted(lags)


def _pack_run(values: NDArray[np.int64]) -> bytes:
    base = int(values.min()) if len(values) else 0
    offsets = values - base
    width = int(offsets.max()).bit_length() if len(values) else 0
    bits = (offsets[:, None] >> np.arange(width)) & 1
    return signed(base) + bytes([width]) + np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()


def read_column(cursor: Cursor, length: int, field: str, low: int, high: int) -> NDArray[np.int64]:
    """(length,) int64, all in [low, high].

    Raises:
        BitstreamError: too few bytes, or a value out of range (``bad-index``).
    """
    cursor.within(length, field, 0, MAX_LENGTH)
    column = _read(cursor, length, field, max(length - 1, 0))
    if length and not low <= int(column.min()) <= int(column.max()) <= high:
        raise cursor.fail("bad-index", field, f"holds {column.min()} to {column.max()}, not within {low}..{high}")
    return column


def _read(cursor: Cursor, length: int, field: str, max_lag: int) -> NDArray[np.int64]:
    lag = cursor.varint(f"{field}, lag", 0, max_lag)
    if lag == 0:
        return _read_run(cursor, length, field)
    rows = -(-length // lag)
    padded = np.zeros(rows * lag, dtype=np.int64)
    padded[:lag] = _read_run(cursor, 1, field) if lag == 1 else _read(cursor, lag, field, 1)
    padded[lag:length] = _read_run(cursor, length - lag, field)
    return padded.reshape(rows, lag).cumsum(axis=0).ravel()[:length]


def _read_run(cursor: Cursor, length: int, field: str) -> NDArray[np.int64]:
    base = cursor.within(cursor.signed(f"{field}, base"), f"{field}, base", -MAX_VALUE, MAX_VALUE)
    width = cursor.within(cursor.u8(f"{field}, bits"), f"{field}, bits", 0, MAX_BITS)
    data = np.frombuffer(cursor.take((length * width + 7) // 8, field), dtype=np.uint8)
    bits = np.unpackbits(data, count=length * width, bitorder="little").reshape(length, width)
    values = np.full(length, base, dtype=np.int64)
    for bit in range(width):
        values += bits[:, bit].astype(np.int64) << bit
    return values
