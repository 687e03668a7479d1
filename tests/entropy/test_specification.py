"""A decoder written from the specification alone gets the same integers and floats."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from adcgs.entropy import SealedEntropyModel

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
