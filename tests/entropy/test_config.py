"""EntropyConfig: what it derives, and what it refuses."""

import json
from dataclasses import asdict

import pytest
from adcgs.entropy import EntropyConfig
from adcgs.errors import BitstreamError


def test_components_and_widths_add_up_to_an_anchor():
    config = EntropyConfig()
    assert config.components == ("hyper", "f_v", "sigma", "color", "f_g_0", "f_g_1", "f_g_2", "f_g_3")
    assert [config.width(name) for name in config.components] == [4, 32, 6, 3, 40, 40, 40, 40]


def test_json_round_trip():
    config = EntropyConfig(f_v=16, chunks=2, coder="torchac")
    assert EntropyConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "change",
    [
        {"f_v": 0},
        {"f_v": 10**9},
        {"f_v": -1},
        {"f_v": True},
        {"f_v": 32.0},
        {"f_v": "32"},
        {"chunks": 3},
        {"primitives": 64, "f_g": 64},
        {"hidden": 257},
        {"q_f_v": 0.0},
        {"q_f_v": float("nan")},
        {"q_f_v": float("inf")},
        {"coder": "zip"},
        {"coder": None},
        {"extra": 1},
    ],
)
def test_nonsense_is_refused(change: dict):
    text = json.dumps({**asdict(EntropyConfig()), **change})
    with pytest.raises(BitstreamError) as refusal:
        EntropyConfig.from_json(text)
    assert refusal.value.code == "bad-entropy-config"
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", "1" * 5000, "[" * 4000, b"\xff\xfe", b"\x00"])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(BitstreamError) as refusal:
        EntropyConfig.from_json(text)
    assert refusal.value.code == "bad-entropy-config"
