"""Residual integers to bytes and back: one table per scale level, an escape for what lies outside.

Layout of a stream, in coding order:
1. every symbol, level by level from 0 to 63, inside a level in the order of the array (row-major);
2. for each escape in the order of 1: the bit length n of its magnitude, by ``magnitude_table``;
3. for each escape in the order of 1: its sign (1 = negative) and the n low bits of the magnitude, high to low,
   each by ``bit_table``.

The magnitude of an escaped residual r at reach L is |r| - L >= 1, with n + 1 significant bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .coder import Runs, open_decoder, open_encoder
from .tables import LEVELS, TOTAL, Table, bit_table, gaussian_tables, magnitude_table

RESIDUAL_LIMIT = 1 << 17  # an encoder writes |r| <= this; a decoder can meet up to this + L

Integers = NDArray[np.int64]


def encode_residuals(coder: str, residuals: Integers, levels: NDArray[np.uint8]) -> bytes:
    """One stream for residuals of any shape under scale levels of the same shape.

    Raises: ValueError for a residual beyond ``RESIDUAL_LIMIT``.
    """
    flat = residuals.reshape(-1)
    if flat.size and int(np.abs(flat).max()) > RESIDUAL_LIMIT:
        raise ValueError(f"residual beyond {RESIDUAL_LIMIT}")
    order, runs = _by_level(levels)
    ordered = flat[order]
    reach = _reach(runs)
    inside = np.abs(ordered) <= reach
    symbols = np.where(inside, ordered + reach, 2 * reach + 1).astype(np.int32)

    encoder = open_encoder(coder)
    encoder.push(runs, symbols)
    escaped = ordered[~inside]
    if escaped.size:
        magnitudes = np.abs(escaped) - reach[~inside]
        lengths = _bit_lengths(magnitudes)
        encoder.push([(magnitude_table(), lengths.size)], lengths.astype(np.int32))
        bits = _escape_bits(escaped < 0, magnitudes, lengths)
        encoder.push([(bit_table(), bits.size)], bits)
    return encoder.finish()


def decode_residuals(coder: str, data: bytes, levels: NDArray[np.uint8]) -> Integers:
    """Residuals of the shape of ``levels``. Raises: BitstreamError ``corrupt-stream``."""
    order, runs = _by_level(levels)
    reach = _reach(runs)
    decoder = open_decoder(coder, data)
    symbols = decoder.pull(runs).astype(np.int64)
    ordered = symbols - reach
    at = np.flatnonzero(symbols == 2 * reach + 1)
    if at.size:
        lengths = decoder.pull([(magnitude_table(), at.size)])
        bits = decoder.pull([(bit_table(), int(lengths.sum()) + at.size)])
        ordered[at] = _escape_values(bits, lengths.astype(np.int64), reach[at])
    flat = np.empty(order.size, dtype=np.int64)
    flat[order] = ordered
    return flat.reshape(levels.shape)


def residual_bits(residuals: Integers, levels: NDArray[np.uint8]) -> float:
    """What the tables say that ``encode_residuals`` will write, in bits."""
    order, runs = _by_level(levels)
    ordered = residuals.reshape(-1)[order]
    reach = _reach(runs)
    inside = np.abs(ordered) <= reach
    symbols = np.where(inside, ordered + reach, 2 * reach + 1)
    bits = 0.0
    start = 0
    for table, count in runs:
        counts = np.bincount(symbols[start : start + count], minlength=len(table))
        bits += float((counts * _cost(table)).sum())
        start += count
    magnitudes = np.abs(ordered[~inside]) - reach[~inside]
    if magnitudes.size:
        lengths = _bit_lengths(magnitudes)
        bits += float(_cost(magnitude_table())[lengths].sum()) + float(lengths.sum() + lengths.size)
    return bits


def _cost(table: Table) -> NDArray[np.float64]:
    return -np.log2(table.frequencies / TOTAL)


def _by_level(levels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], Runs]:
    flat = levels.reshape(-1)
    tables = gaussian_tables()
    counts = np.bincount(flat, minlength=LEVELS)
    runs = [(tables[level], int(counts[level])) for level in np.flatnonzero(counts)]
    return np.argsort(flat, kind="stable"), runs


def _reach(runs: Runs) -> Integers:
    """L of each symbol's table, in coding order."""
    return np.repeat(
        np.array([table.reach for table, _ in runs], dtype=np.int64),
        np.array([count for _, count in runs], dtype=np.int64),
    )


def _bit_lengths(magnitudes: Integers) -> Integers:
    """floor(log2 m) of integers 1 <= m < 2^53, exactly."""
    return np.frexp(magnitudes.astype(np.float64))[1].astype(np.int64) - 1


def _escape_bits(negative: NDArray[np.bool_], magnitudes: Integers, lengths: Integers) -> NDArray[np.int32]:
    first = np.cumsum(lengths + 1) - (lengths + 1)
    owner = np.repeat(np.arange(lengths.size), lengths + 1)
    place = np.arange(owner.size) - first[owner]  # 0 is the sign, 1 .. n the mantissa
    mantissa = (magnitudes[owner] >> np.maximum(lengths[owner] - place, 0)) & 1
    return np.where(place == 0, negative[owner], mantissa).astype(np.int32)


def _escape_values(bits: NDArray[np.int32], lengths: Integers, reach: Integers) -> Integers:
    first = np.cumsum(lengths + 1) - (lengths + 1)
    owner = np.repeat(np.arange(lengths.size), lengths + 1)
    place = np.arange(owner.size) - first[owner]
    weights = np.where(place == 0, 0, bits.astype(np.int64) << np.maximum(lengths[owner] - place, 0))
    magnitudes = np.add.reduceat(weights, first) + (np.int64(1) << lengths)
    return np.where(bits[first] == 1, -(magnitudes + reach), magnitudes + reach)
