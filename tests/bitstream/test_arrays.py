"""Weights: lossless in fp32, bounded errors in fp16 and int8, sizes known without decoding."""

from __future__ import annotations

import bisect
import contextlib
import math
import struct

import numpy as np
import pytest
from adcgs import BitstreamError
from adcgs.bitstream import array_sizes, pack_arrays, unpack_arrays
from adcgs.bitstream.arrays import KINDS
from adcgs.bitstream.cursor import Cursor
from adcgs.bitstream.quantised import quantise
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

rng = np.random.default_rng(0)
ARRAYS = {
    "predict.shared.weight": rng.normal(size=(64, 32)).astype(np.float32),
    "predict.shared.bias": rng.normal(size=64).astype(np.float32),
    "coarse.last.weight": np.zeros((14, 64), np.float32),
    "coarse.rows": rng.laplace(size=(30, 64)).astype(np.float32),
    "novel.scale": np.float32(3.0).reshape(()),
    "novel.kernel": rng.normal(size=(4, 3, 5)).astype(np.float32),
}
SHAPES = {name: array.shape for name, array in ARRAYS.items()}


def test_fp32_is_lossless_to_the_bit() -> None:
    back = unpack_arrays(pack_arrays(ARRAYS), SHAPES)
    assert list(back) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert back[name].tobytes() == array.tobytes()
        assert back[name].dtype == np.float32


def test_fp16_rounds_to_the_nearest_half() -> None:
    back = unpack_arrays(pack_arrays(ARRAYS, "fp16"), SHAPES)
    for name, array in ARRAYS.items():
        assert np.array_equal(back[name], array.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("levels", [1, 15, 63, 127])
def test_int8_errors_stay_within_half_a_step_of_each_row(levels: int) -> None:
    back = unpack_arrays(pack_arrays(ARRAYS, "int8", levels), SHAPES)
    for name, array in ARRAYS.items():
        if array.ndim < 2:
            assert np.array_equal(back[name], array.astype(np.float16).astype(np.float32))
            continue
        rows, decoded = array.reshape(len(array), -1), back[name].reshape(len(array), -1)
        # Scales are rounded up to eight bits of mantissa.
        step = np.abs(rows).max(axis=1) / levels * (1 + 2**-7)
        assert (np.abs(rows - decoded).max(axis=1) <= step / 2 * (1 + 1e-5)).all()


def test_what_was_decoded_once_survives_another_coding() -> None:
    """An encoder seals the model by one round trip; a second must not move the weights again."""
    once = unpack_arrays(pack_arrays(ARRAYS, "int8"), SHAPES)
    twice = unpack_arrays(pack_arrays(once, "int8"), SHAPES)
    for name in ARRAYS:
        assert np.abs(once[name] - twice[name]).max(initial=0) <= 1e-2 * np.abs(once[name]).max(initial=0)


def test_int8_costs_little_more_than_the_entropy_of_its_symbols() -> None:
    weights = rng.normal(size=(128, 128)).astype(np.float32)
    counts = np.bincount(quantise(weights, 127)[1].ravel() + 127)
    share = counts[counts > 0] / weights.size
    entropy = -(share * np.log2(share)).sum() * weights.size / 8
    size = len(pack_arrays({"predict.w": weights}, "int8"))
    assert size < 1.02 * (entropy + 2 * 128)


def test_a_range_decoder_written_from_the_specification_reads_the_same_weights() -> None:
    """Twin of the int8 decoder in plain Python: no constriction, no numpy arithmetic."""
    weights = rng.laplace(size=(20, 40)).astype(np.float32)
    data = pack_arrays({"predict.w": weights}, "int8")
    expected = unpack_arrays(data, {"predict.w": (20, 40)})["predict.w"]
    body = data[len(data) - array_sizes(data)[1]["predict"] :]
    scales = [struct.unpack("<f", b"\0\0" + body[2 * row : 2 * row + 2])[0] for row in range(20)]
    cursor = Cursor(body[40:], "x")
    words = list(struct.unpack(f"<{(n := cursor.varint('n'))}I", cursor.take(4 * n, "words")))
    symbols = decode_by_the_book(words, [800])
    for index, symbol in enumerate(symbols):
        assert np.float32(scales[index // 40]) * np.float32(symbol) == expected.ravel()[index]


def decode_by_the_book(words: list[int], sizes: list[int]) -> list[int]:
    mask = (1 << 64) - 1
    words = [*words, 0, 0]
    point, at, low, width = (words[0] << 32) | words[1], 2, 0, mask
    count = [0] * 255
    out: list[int] = []
    for size in sizes:
        count = [value // 4 for value in count]
        for start in range(0, size, 64):
            h = [1 + 2 * sum((4 - abs(d)) * count[s + d] for d in range(-3, 4) if 0 <= s + d < 255) for s in range(255)]
            frequency = [1 + ((1 << 24) - 255) * value // sum(h) for value in h]
            frequency[127] += (1 << 24) - sum(frequency)
            cumulative = [0]
            for value in frequency:
                cumulative.append(cumulative[-1] + value)
            block = []
            for _ in range(min(64, size - start)):
                scale = width >> 24
                s = bisect.bisect_right(cumulative, ((point - low) & mask) // scale) - 1
                block.append(s)
                low = (low + scale * cumulative[s]) & mask
                width = scale * frequency[s]
                if width < 1 << 32:
                    low, width = (low << 32) & mask, width << 32
                    point = ((point << 32) & mask) | (words[at] if at < len(words) else 0)
                    at += 1
            for s in block:
                count[s] += 1
            out += [s - 127 for s in block]
    return out


def test_sizes_are_known_without_decoding_and_sum_to_the_section() -> None:
    for kind in KINDS:
        data = pack_arrays(ARRAYS, kind)
        stored, sizes = array_sizes(data)
        assert stored == kind
        assert list(sizes) == ["predict", "coarse", "novel"]
        assert 0 < len(data) - sum(sizes.values()) < 30
        assert array_sizes(data[:64], len(data)) == (stored, sizes)
    assert array_sizes(pack_arrays(ARRAYS))[1]["predict"] == 4 * (64 * 32 + 64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_no_number_cannot_be_written(kind: str, bad: float) -> None:
    with pytest.raises(BitstreamError) as caught:
        pack_arrays({"predict.w": np.array([[1.0, bad]])}, kind)  # type: ignore[arg-type]
    assert caught.value.code == "not-finite"


def test_a_weight_beyond_half_precision_is_not_silently_made_infinite() -> None:
    with pytest.raises(BitstreamError, match="fp16"):
        pack_arrays({"predict.w": np.array([[1e6]])}, "fp16")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stranger_s_nan_is_refused(kind: str) -> None:
    data = bytearray(pack_arrays({"predict.w": np.ones((2, 3))}, kind))  # type: ignore[arg-type]
    body = len(data) - array_sizes(bytes(data))[1]["predict"]
    data[body : body + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(BitstreamError) as caught:
        unpack_arrays(bytes(data), {"predict.w": (2, 3)})
    assert caught.value.code == "not-finite"


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_model_are_refused(kind: str) -> None:
    data = pack_arrays(ARRAYS, kind)  # type: ignore[arg-type]
    for shapes in ({**SHAPES, "predict.shared.bias": (65,)}, {**SHAPES, "coarse.rows": (30, 63)}):
        with pytest.raises(BitstreamError) as caught:
            unpack_arrays(data, shapes)
        assert caught.value.code in ("length-mismatch", "count-exceeds-data", "bad-stream")
    with pytest.raises(BitstreamError) as caught:
        unpack_arrays(data, {"fine.w": (3, 3)})
    assert caught.value.code == "bad-networks"


def test_a_configuration_cannot_make_the_reader_allocate() -> None:
    empty = pack_arrays({"predict.w": np.zeros((0, 5))}, "int8")
    with pytest.raises(BitstreamError):
        unpack_arrays(empty, {"predict.w": (4096, 1 << 40)})
    with pytest.raises(BitstreamError):
        unpack_arrays(empty, {"predict.w": (0, 5), "predict.v": (1 << 13, 1 << 12)})


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9),
        elements=st.floats(-1e4, 1e4, width=32),
    ),
    st.sampled_from(KINDS),
)
def test_any_shape_comes_back(array: np.ndarray, kind: str) -> None:
    back = unpack_arrays(pack_arrays({"predict.w": array}, kind), {"predict.w": array.shape})["predict.w"]  # type: ignore[arg-type]
    assert back.shape == array.shape
    assert np.abs(back - array).max(initial=0) <= 0.005 * np.abs(array).max(initial=0) + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_gets_past_the_reader_as_another_exception(kind: str) -> None:
    small = {"predict.w": rng.normal(size=(5, 7)).astype(np.float32), "x.b": np.ones(3, np.float32)}
    shapes = {name: array.shape for name, array in small.items()}
    data = pack_arrays(small, kind)  # type: ignore[arg-type]
    for at in range(len(data)):
        for damaged in (
            data[:at],
            data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :],
            data[:at] + b"\0" + data[at:],
        ):
            with contextlib.suppress(BitstreamError):
                unpack_arrays(damaged, shapes)
