"""The specification and the code list the same things."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from adcgs.bitstream import CODES, GROUPS, SECTION_KINDS
from adcgs.bitstream.settings import KEYS

ROOT = Path(__file__).resolve().parents[2]
SPEC = (ROOT / "bitstream_spec" / "SPEC.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """Cells of the table whose header line begins with ``header``."""
    lines = iter(SPEC.splitlines())
    for line in lines:
        if line.startswith(header):
            break
    next(lines)
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_codes() -> None:
    assert {code.strip("`"): meaning for code, meaning in rows("| code")} == CODES


def test_sections_in_file_order() -> None:
    listed = [(int(kind, 16), name) for kind, name, _ in rows("| kind") if "+" not in kind]
    assert listed == [(kind, name) for name, kind in SECTION_KINDS.items() if not name.startswith("f_g_")]
    assert [SECTION_KINDS[f"f_g_{m}"] for m in range(64)] == list(range(0x20, 0x60))


def test_settings() -> None:
    assert {name: int(key) for key, name, *_ in rows("| key")} == KEYS


def test_ranges_of_settings_are_those_that_the_model_accepts() -> None:
    pytest.importorskip("torch")
    from adcgs import BitstreamError
    from adcgs.model import ModelConfig

    for _, name, _, limits, _ in rows("| key"):
        if ".." not in limits:
            continue
        low, high = (int(limit) for limit in limits.split(".."))
        base = ModelConfig().to_dict()
        for value in (low, high):
            assert getattr(ModelConfig.from_dict(base | {name: value}), name) == value
        for value in (low - 1, high + 1):
            with pytest.raises(BitstreamError):
                ModelConfig.from_dict(base | {name: value})


def test_groups_of_networks() -> None:
    sentence = re.search(r"Ids: (.*?); 0 is", SPEC, re.DOTALL)
    assert sentence
    listed = dict(reversed(entry.split()) for entry in sentence[1].split(", "))
    assert {name: int(number) for name, number in listed.items()} == GROUPS


def test_arrays_of_networks() -> None:
    pytest.importorskip("torch")
    from adcgs.model import ModelConfig, network_shapes

    letters = {"K": 11, "V": 33, "G": 17, "P": 65, "D": 67, "T": 31, "Q": 13}
    for coarse, fine in ((True, True), (True, False), (False, True)):
        config = ModelConfig(
            primitives=11,
            reference_dim=33,
            residual_dim=17,
            prediction_width=65,
            deformation_width=67,
            knots=31,
            position_frequencies=13,
            coarse=coarse,
            fine=fine,
        )
        listed = []
        for name, shape, where in rows("| array"):
            if where == "always" or {"coarse": coarse, "fine": fine}[where]:
                factors = [[letters.get(part) or int(part) for part in size.split()] for size in shape.split(",")]
                listed.append((name, tuple(a * b for a, b in ((*size, 1)[:2] for size in factors))))
        assert listed == list(network_shapes(config).items())


def test_every_code_that_a_reader_can_give_is_registered() -> None:
    given = set()
    for path in (ROOT / "codec").rglob("*.py"):
        given |= set(re.findall(r'(?:BitstreamError|\.fail)\(\s*"([a-z-]+)"', path.read_text(encoding="utf-8")))
    assert given
    assert given <= set(CODES)
