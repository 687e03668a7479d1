"""Varints, strings and columns: what every section is made of."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from adcgs import BitstreamError
from adcgs.bitstream.columns import pack_column, read_column
from adcgs.bitstream.cursor import Cursor, signed, text, varint
from hypothesis import given
from hypothesis import strategies as st

small = st.integers(-(1 << 38), 1 << 38)


@given(st.integers(0, (1 << 64) - 1))
def test_a_varint_comes_back_and_is_as_short_as_can_be(value: int) -> None:
    data = varint(value)
    assert Cursor(data, "x").varint("n") == value
    assert len(data) == max(1, -(-value.bit_length() // 7))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_signed_varint_comes_back(value: int) -> None:
    assert Cursor(signed(value), "x").signed("n") == value


def test_varints_are_little_endian_base_128() -> None:
    assert varint(300) == b"\xac\x02"
    assert [signed(v) for v in (0, -1, 1, -2)] == [b"\0", b"\1", b"\2", b"\3"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "truncated"),
        (b"\x80", "truncated"),
        (b"\x80\x00", "bad-number"),  # 0 in two bytes
        (b"\xff" * 9 + b"\x02", "bad-number"),  # 2^64
        (b"\xff" * 10 + b"\x01", "bad-number"),  # eleven bytes
    ],
)
def test_a_varint_that_is_not_in_shortest_form_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(BitstreamError) as caught:
        Cursor(data, "x").varint("n")
    assert caught.value.code == code


def test_a_count_is_checked_against_what_is_left_before_anything_is_allocated() -> None:
    with pytest.raises(BitstreamError) as caught:
        Cursor(varint(1 << 60) + b"abc", "scene.adc: part").count("items", 1 << 62)
    assert caught.value.code == "count-exceeds-data"
    assert "scene.adc: part: items" in str(caught.value)


@pytest.mark.parametrize("data", [b"\x01\xff", b"\x01\x07", b"\x00"])
def test_text_is_printable_utf8(data: bytes) -> None:
    with pytest.raises(BitstreamError, match="name"):
        Cursor(data, "x").text("name")
    assert Cursor(text("Kamera 1, grün"), "x").text("name") == "Kamera 1, grün"


@given(st.lists(small, max_size=200))
def test_a_column_comes_back(values: list[int]) -> None:
    cursor = Cursor(pack_column(values), "x")
    assert read_column(cursor, len(values), "v", -(1 << 39), 1 << 39).tolist() == values
    cursor.finish()


@pytest.mark.parametrize(
    "values",
    [
        [7] * 5000,
        range(5000),
        [t for t in range(150) for _ in range(31)],  # the time column of a rig, instant by instant
        [c for _ in range(150) for c in range(31)],  # its camera column
        [t for _ in range(31) for t in range(150)],  # the same, camera by camera
    ],
)
def test_a_regular_column_costs_next_to_nothing(values: list[int]) -> None:
    data = pack_column(list(values))
    assert len(data) < 40
    assert read_column(Cursor(data, "x"), len(values), "v", 0, 5000).tolist() == list(values)


def test_random_numbers_cost_their_bits() -> None:
    values = np.random.default_rng(0).integers(0, 1 << 20, 1000)
    assert len(pack_column(values)) <= 1000 * 20 // 8 + 8


@given(st.binary(max_size=40), st.integers(0, 1 << 20))
def test_no_bytes_make_a_column_reader_fail_otherwise(data: bytes, length: int) -> None:
    with contextlib.suppress(BitstreamError):
        read_column(Cursor(data, "x"), length, "v", -100, 100)
