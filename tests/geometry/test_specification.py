"""A decoder written from the specification alone gets the same points, and refuses with the same codes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from adcgs.errors import BitstreamError
from adcgs.geometry import decode_positions, encode_positions, morton_order
from adcgs.geometry.logistic import squash_table
from numpy.typing import NDArray

from bitstream_spec import reference_decoder as reference

Cloud = NDArray[np.uint32]


def sphere(count: int, bits: int) -> Cloud:
    """Points on a noisy shell: neighbours on all sides, fits of all shapes."""
    rng = np.random.default_rng(count)
    points = rng.normal(0, 1, (count, 3))
    points *= (1 + rng.normal(0, 0.01, (count, 1))) / np.linalg.norm(points, axis=1, keepdims=True)
    return np.unique(((points + 1.2) / 2.4 * (1 << bits)).astype(np.uint32), axis=0)


def clumps(bits: int) -> Cloud:
    """Tight clumps far from each other, and strays: nodes lose their neighbours and find new ones."""
    rng = np.random.default_rng(bits)
    centers = rng.integers(1000, (1 << bits) - 1000, (6, 1, 3))
    near = (centers + rng.normal(0, 6, (6, 12, 3))).astype(np.uint32).reshape(-1, 3)
    return np.unique(np.concatenate([near, rng.integers(0, 1 << bits, (6, 3)).astype(np.uint32)]), axis=0)


CLOUDS = {
    "one point": np.array([[1_234_567, 0, 2_097_151]], np.uint32),
    "one voxel": np.zeros((1, 3), np.uint32),
    "two points": np.array([[5, 6, 7], [5, 6, 8]], np.uint32),
    "a full cube": np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(-1, 3).astype(np.uint32),
    "a line": np.stack([np.arange(100), np.full(100, 50), 2 * np.arange(100)], axis=1).astype(np.uint32),
    "a sphere": sphere(400, 8),
    "clumps": clumps(21),
}


def outcome(section: bytes, most: int | None, decode: str) -> object:
    """The points, or the code of the refusal."""
    try:
        if decode == "reference":
            return reference.decode_positions(section, most)
        return [tuple(point) for point in decode_positions(section, max_points=most).tolist()]
    except reference.Refused as refusal:
        return refusal.code
    except BitstreamError as refusal:
        return refusal.code


@pytest.mark.parametrize("name", CLOUDS)
def test_the_specification_decodes_our_streams(name: str) -> None:
    points = CLOUDS[name]
    decoded = np.array(reference.decode_positions(encode_positions(points)))
    np.testing.assert_array_equal(decoded, points[morton_order(points)])


def test_the_specification_refuses_what_we_refuse() -> None:
    whole = encode_positions(sphere(14, 4))
    rng = np.random.default_rng(0)
    cases = [whole[:end] for end in range(len(whole))]
    cases += [whole + b"\0", whole + b"\1", whole[:2] + b"\xff" * 4 + whole[6:]]
    cases += [b"\0" + whole[1:], b"\x16" + whole[1:], whole[:1] + b"\0" + whole[2:], whole[:1] + b"\x8e\0" + whole[2:]]
    cases += [b"\x15" + b"\xff" * ends for ends in (8, 9, 10, 11)]
    cases += [b"\x15" + b"\xff" * 9 + last + bytes(64) for last in (b"\x01", b"\x7f")]
    cases += [
        bytes([1, 9, 0, 0]),
        bytes([3, 255, 3, *bytes(60)]),
        bytes([2, 64, *b"\xff" * 8]),
        bytes([2, 40, *bytes(5)]),
    ]
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        cases.append(bytes(damaged))
    seen = set()
    for section in cases:
        for most in (None, 14):
            ours = outcome(section, most, "ours")
            assert outcome(section, most, "reference") == ours, section.hex()
            seen.add(ours if isinstance(ours, str) else "decoded")
    codes = {"positions-truncated", "positions-malformed", "count-exceeds-data", "limit-exceeded"}
    assert seen == {*codes, "decoded"}


def test_the_numbers_that_the_document_lists() -> None:
    text = (Path(reference.__file__).parent / "POSITIONS.md").read_text(encoding="utf-8")
    assert hashlib.sha256(squash_table().astype("<i4").tobytes()).hexdigest() in text
    assert [reference.SQUASH[t] for t in range(-2047, 2048)] == squash_table().tolist()
    for weights in (reference.SPLIT_WEIGHTS, reference.SIDE_WEIGHTS):
        assert ", ".join(map(str, weights)) in text
    example = re.search(r"the section `(.*)` holds (.*)\.\n", text)
    assert example
    assert ", ".join(map(str, reference.decode_positions(bytes.fromhex(example[1])))) == example[2]
