"""The header: every field comes back, every impossible value is refused."""

from __future__ import annotations

import contextlib
import math
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from adcgs import BitstreamError
from adcgs.bitstream import Header
from adcgs.bitstream.cursor import Cursor
from adcgs.bitstream.settings import KEYS, pack_settings, read_settings
from hypothesis import given
from hypothesis import strategies as st

HEADER = Header(
    anchors=5000,
    frame_count=150,
    frame_rate=29.97,
    scale=0.25,
    center=(1.5, -2.0, 1e-3),
    background=(1.0, 0.5, 0.0),
    grid_origin=(-1.0, -1.0, -0.5),
    voxel=0.0009765625,
    near=0.25,
    blur=0.125,
    coder="torchac",
    encoder="adcgs 0.1.0",
    config={"primitives": 10, "coarse": True, "rate": 0.1, "half": 0.5, "name": "draft", "steps": [1, -2], "f": [0.1]},
)


def test_every_field_comes_back() -> None:
    assert Header.from_bytes(HEADER.to_bytes()) == HEADER


def test_the_similarity_is_the_one_of_the_cameras_module() -> None:
    assert HEADER.similarity.scale == 0.25
    assert np.array_equal(HEADER.similarity.apply(np.array([2.5, -2.0, 1e-3])), [0.25, 0.0, 0.0])


def test_a_real_configuration_takes_well_under_two_hundred_bytes() -> None:
    config = dict.fromkeys(KEYS, 64)
    assert len(replace(HEADER, config=config).to_bytes()) < 160


def test_equal_headers_give_equal_bytes_whatever_the_order_of_their_settings() -> None:
    shuffled = dict(reversed(HEADER.config.items()))
    assert replace(HEADER, config=shuffled).to_bytes() == HEADER.to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"anchors": 0},
        {"anchors": (1 << 22) + 1},
        {"frame_count": 0},
        {"frame_rate": 0.0},
        {"frame_rate": math.nan},
        {"scale": -1.0},
        {"scale": math.inf},
        {"center": (0.0, math.nan, 0.0)},
        {"background": (0.0, 0.0, 1.5)},
        {"grid_origin": (1e9, 0.0, 0.0)},
        {"voxel": 0.0},
        {"near": 0.0},
        {"blur": 0.0},
        {"blur": 2000.0},
        {"coder": "other"},
        {"encoder": ""},
        {"encoder": "two\nlines"},
        {"config": {"Capital": 1}},
        {"config": {"x": math.nan}},
        {"config": {"x": "\0"}},
        {"config": {f"k{i}": i for i in range(300)}},
        {"config": {"x": [0] * 5000}},
    ],
)
def test_an_encoder_cannot_write_what_a_decoder_would_refuse(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (from several places)
        replace(HEADER, **change).to_bytes()


ONE = replace(HEADER, config={}).to_bytes()


def patched(offset: int, value: bytes) -> bytes:
    return ONE[:offset] + value + ONE[offset + len(value) :]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "truncated"),
        (ONE + b"\0", "trailing-garbage"),
        (b"\0" + ONE[2:], "limit-exceeded"),  # no anchors
        (b"\xff" * 9 + b"\x01" + ONE[2:], "limit-exceeded"),  # 2^64 - 1 anchors
        (patched(4, struct.pack("<d", math.nan)), "not-finite"),  # frame rate
        (patched(12, struct.pack("<d", 0.0)), "bad-header"),  # scale
        (patched(44, struct.pack("<f", -0.1)), "bad-header"),  # background
        (patched(68, struct.pack("<f", -1.0)), "bad-header"),  # voxel
        (patched(72, bytes(4)), "bad-header"),  # near plane
        (patched(76, bytes(4)), "bad-header"),  # blur
        (patched(80, b"\x09"), "bad-header"),  # coder
    ],
)
def test_a_damaged_header_is_refused_with_its_code(data: bytes, code: str) -> None:
    with pytest.raises(BitstreamError) as caught:
        Header.from_bytes(data, "scene.adc: header")
    assert caught.value.code == code
    assert str(caught.value).startswith("scene.adc: header: ")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xff\x03", "count-exceeds-data"),
        (b"\x02\x01\x00\x01\x00", "bad-header"),  # the same key twice
        (b"\x02\x02\x00\x01\x00", "bad-header"),  # out of order
        (b"\x01\x01\x09", "bad-header"),  # unknown type
        (b"\x01\x00\x06coarse\x00", "bad-header"),  # a registered name spelled out
        (b"\x01\x01\x06\xff\xff\xff\x7f", "count-exceeds-data"),  # a list longer than the data
        (b"\x01\x01\x04" + struct.pack("<d", math.inf), "not-finite"),
    ],
)
def test_damaged_settings_are_refused_with_their_code(data: bytes, code: str) -> None:
    with pytest.raises(BitstreamError) as caught:
        read_settings(Cursor(data, "x"))
    assert caught.value.code == code


def test_fields_appended_by_a_higher_minor_version_are_skipped() -> None:
    assert Header.from_bytes(HEADER.to_bytes() + b"new", minor=2) == HEADER


def test_a_key_that_a_later_version_registers_does_not_stop_an_older_reader() -> None:
    assert read_settings(Cursor(b"\x01\xfe\x02\x02", "x")) == {"key.254": 1}


names = st.from_regex(r"[a-z][a-z0-9_.]{0,20}", fullmatch=True)
numbers = st.integers(-(1 << 63), (1 << 63) - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
values = (
    st.booleans()
    | numbers
    | floats
    | st.text(min_size=1, max_size=50).filter(str.isprintable)
    | st.lists(numbers, max_size=5)
    | st.lists(floats, min_size=1, max_size=5)
)


@given(st.dictionaries(names, values, max_size=12))
def test_any_settings_come_back_with_their_types(settings: dict[str, Any]) -> None:
    cursor = Cursor(pack_settings(settings), "x")
    back = read_settings(cursor)
    cursor.finish()
    assert back == settings
    assert {key: type(value) for key, value in back.items()} == {key: type(value) for key, value in settings.items()}


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    for candidate in (data, ONE[: len(data) // 2] + data):
        with contextlib.suppress(BitstreamError):
            Header.from_bytes(candidate)
