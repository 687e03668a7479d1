"""What a string may hold, against the specification's list, the reference decoder's and Python's own idea."""

from __future__ import annotations

import importlib.util
import re
import sys
import unicodedata
from pathlib import Path

from adcgs.bitstream.printable import UNPRINTABLE, is_printable, replace_unprintable

TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # what turns the direction of writing
SPEC = Path(__file__).parents[2] / "bitstream_spec"


def test_the_specification_lists_the_same_ranges() -> None:
    text = (SPEC / "SPEC.md").read_text(encoding="utf-8")
    listed = re.search(r"are U\+(.*?) \(controls", text, re.DOTALL)
    assert listed is not None
    ends = [part.split(" .. ") for part in re.sub(r"\s+", " ", listed.group(1)).split(", ")]
    assert [(int(part[0], 16), int(part[-1], 16)) for part in ends] == list(UNPRINTABLE)


def test_the_reference_decoder_has_the_same_ranges() -> None:
    spec = importlib.util.spec_from_file_location("reference_decoder_ranges", SPEC / "reference_decoder.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    assert list(UNPRINTABLE) == module.UNPRINTABLE


def test_only_what_some_unicode_calls_unprintable_is_refused_and_all_that_harms_a_terminal() -> None:
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        if not is_printable(letter):
            assert not letter.isprintable()
        elif not letter.isprintable():  # formats of single scripts, and what is not assigned yet
            assert unicodedata.category(letter) in ("Cn", "Cf")
            assert unicodedata.bidirectional(letter) not in TURNS


def test_what_is_replaced_is_what_is_refused() -> None:
    text = "a\x1b[31m\u202eb c\u00a0é😀"
    assert replace_unprintable(text) == "a_[31m_b c_é😀"
    assert is_printable(replace_unprintable(text))
