"""A decoder written from the specification alone gets the same integers and floats."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from adcgs.entropy import EntropyConfig, MultiDimensionEntropyModel, SealedEntropyModel
from adcgs.errors import BitstreamError

from bitstream_spec import reference_decoder as reference

from .samples import SMALL, anchors, trained
from .test_coder import CODERS

SIZES = {"V": 8, "K": 3, "G": 8, "M": 4, "E": 2, "H": 12, "S": 6, "C": 3}


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("weight_bits", [5, 16])
def test_the_specification_decodes_our_streams(coder: str, weight_bits: int):
    model, _ = trained()
    features = anchors(40, seed=3)
    features.f_v[0] *= 300.0  # escapes, and contexts that saturate
    features.sigma[1] -= 500.0
    sealed = model.seal(None, weight_bits)
    sealed = SealedEntropyModel(replace(SMALL, coder=coder), sealed.parameters, sealed.analysis)
    coded = sealed.compress(features)

    reader = reference.EntropyModel(sealed.to_bytes(), SIZES, coder)
    values = reader.decode(coded.streams, 40)
    assert reference.entropy_digest(values) == coded.decoded.digest()
    for name, floats in reader.floats(values).items():
        np.testing.assert_array_equal(floats, coded.decoded.arrays[name])


@pytest.mark.parametrize("chunks", [1, 4])
def test_the_specification_bounds_values_by_bytes_as_we_do(chunks: int):
    """2060 values of each of 130 anchors: 5656 more than are free, which 23 bytes pay for."""
    config = EntropyConfig(f_v=1, primitives=64, f_g=32, chunks=chunks, hyper=2, hidden=2)
    sealed = MultiDimensionEntropyModel(config).seal(None)
    sizes = {**SIZES, "V": 1, "K": 64, "G": 32, "M": chunks, "H": 2}
    reader = reference.EntropyModel(sealed.to_bytes(), sizes, "constriction")
    for size, count in ((20, 130), (24, 130), (0, 127), (0, 128)):
        streams = {name: bytes(size) if name == "f_v" else b"" for name in config.components}
        if count * 2060 <= 2**18 + 256 * size:
            values = reader.decode(streams, count)
            assert reference.entropy_digest(values) == sealed.decompress(streams, count).digest()
        else:
            with pytest.raises(reference.Refused, match="count-exceeds-data"):
                reader.decode(streams, count)
            with pytest.raises(BitstreamError) as refusal:
                sealed.decompress(streams, count)
            assert refusal.value.code == "count-exceeds-data"


def test_the_specification_fills_in_missing_chunks():
    model, _ = trained()
    sealed = model.seal(None)
    coded = sealed.compress(anchors(30, seed=4))
    streams = {name: coded.streams[name] for name in SMALL.components[:5]}
    partial = sealed.decompress(streams, 30, partial=True)
    values = reference.EntropyModel(sealed.to_bytes(), SIZES, "constriction").decode(streams, 30)
    assert reference.entropy_digest(values) == partial.digest()


def test_the_formulas_give_the_tables_that_are_listed():
    listed = json.loads((Path(reference.__file__).parent / "entropy_tables.json").read_text())
    assert [table.frequencies for table in reference.gaussian_tables()] == [
        row["frequencies"] for row in listed["gaussian"]
    ]
    assert reference.factor_tables() == (listed["factor"], listed["log"])
    assert reference.LENGTH.frequencies == listed["magnitude"]
