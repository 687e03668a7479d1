"""Every file of the corpus is refused with its code, in one line, in little time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from adcgs.entropy.sealed import FREE_VALUES, VALUES_PER_BYTE

from tests.fuzz import samples

from . import wide
from .corpus import Attack, attacks

CORPUS = list(attacks())
BYTES_PER_VALUE = 64  # of memory, at most; codec/entropy/sealed.py says what it is


@dataclass(frozen=True)
class Outcome:
    """What ``reading`` says of one file, with its path."""

    path: Path
    code: str | None
    message: str
    seconds: float
    memory: int


def read_elsewhere(folder: Path, files: list[bytes]) -> list[Outcome]:
    """Read files, in this order, in one other process; fewer outcomes than files where it died."""
    paths = [folder / f"{number}.adc" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    (folder / "sound.adc").write_bytes(samples.whole_file())
    command = [sys.executable, "-m", "tests.attacks.reading", folder / "sound.adc", *paths]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE)
    reports = map(json.loads, done.stdout.splitlines())
    return [Outcome(path, **report) for path, report in zip(paths, reports, strict=False)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """By the attack's name. What a file takes is what it takes beyond those before it."""
    found = read_elsewhere(tmp_path_factory.mktemp("attacks"), [attack.data for attack in CORPUS])
    return dict(zip((attack.name for attack in CORPUS), found, strict=False))


@pytest.mark.parametrize("attack", CORPUS, ids=[attack.name for attack in CORPUS])
def test_it_is_refused_as_expected(attack: Attack, outcomes: dict[str, Outcome]) -> None:
    assert attack.name in outcomes, "the process that read it died, here or before"
    outcome = outcomes[attack.name]
    assert outcome.code == attack.code, outcome.message
    assert "\n" not in outcome.message
    assert outcome.code is None or outcome.message.startswith(str(outcome.path))
    assert outcome.seconds < 10
    assert outcome.memory < 100e6


def test_memory_is_bounded_by_the_bytes_of_a_file(tmp_path: Path) -> None:
    """With as many values as the bytes allow, all in the one chunk, and all of them free."""
    size = 16_000
    data = wide.wide_file((FREE_VALUES + VALUES_PER_BYTE * size) // wide.VALUES, hyper=bytes(size))
    (outcome,) = read_elsewhere(tmp_path, [data])
    assert outcome.code is None
    assert outcome.memory < 30e6 + BYTES_PER_VALUE * (FREE_VALUES + VALUES_PER_BYTE * len(data))


def test_names_are_distinct() -> None:
    assert len({attack.name for attack in CORPUS}) == len(CORPUS)
