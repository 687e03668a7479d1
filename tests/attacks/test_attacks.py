"""Every file of the corpus is refused with its code, in one line, in little time and memory."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from adcgs import AdcError
from adcgs.decode import open_scene

from .corpus import Attack, attacks

CORPUS = list(attacks())


def refusal(path: Path) -> tuple[str | None, str]:
    """Code and message, None and nothing for a file that is read."""
    try:
        open_scene(path)
    except AdcError as error:
        return error.code, str(error)
    return None, ""


@pytest.mark.parametrize("attack", CORPUS, ids=[attack.name for attack in CORPUS])
def test_it_is_refused_as_expected(attack: Attack, tmp_path: Path) -> None:
    path = tmp_path / "attack.adc"
    path.write_bytes(attack.data)
    refusal(path)  # once before: kernels that are compiled at first use are not what is measured
    tracemalloc.start()
    start = time.process_time()
    code, message = refusal(path)
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert code == attack.code, message
    assert "\n" not in message
    assert code is None or message.startswith(str(path))
    assert seconds < 10
    assert peak < 200e6


def test_names_are_distinct() -> None:
    assert len({attack.name for attack in CORPUS}) == len(CORPUS)
