"""A short fuzzing run with every test run; ``make fuzz`` is the long one."""

from __future__ import annotations

import time

import pytest
from adcgs import BitstreamError

from . import run, samples
from .__main__ import progress_line
from .mutators import assemble, mutate, rows_of
from .run import fuzz, fuzz_here
from .targets import TARGETS, outcome


def test_the_undamaged_samples_decode() -> None:
    for weights in ("fp32", "fp16", "int8"):
        data = assemble(rows_of(samples.sections(weights)), version=b"\2\1")  # type: ignore[arg-type]
        assert data == samples.whole_file(weights)  # type: ignore[arg-type]
        for target in ("inspect", "decode"):
            assert outcome(TARGETS[target], data) == "ok"
    assert outcome(TARGETS["container"], assemble(rows_of(samples.light_sections()))) == "ok"


def test_a_run_can_be_repeated() -> None:
    sections = samples.light_sections()
    assert [mutate(3, i, sections) for i in range(200)] == [mutate(3, i, sections) for i in range(200)]
    assert mutate(3, 0, sections) != mutate(4, 0, sections)


def test_mutators_are_varied() -> None:
    """A run gets past the checksums often enough, and does not only repeat itself."""
    sections = samples.light_sections()
    files = [mutate(0, i, sections) for i in range(300)]
    assert len(set(files)) > 250


@pytest.mark.parametrize(("target", "count"), [("container", 600), ("inspect", 100), ("decode", 150)])
def test_damaged_files_decode_or_are_refused_with_a_code(target: str, count: int) -> None:
    found = fuzz_here(target, seed=1, indices=range(count))
    assert found.failures == []
    assert sum(found.outcomes.values()) == count
    assert len(found.outcomes) > 8
    assert found.memory < 4


def test_a_crash_a_hang_and_an_exception_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: bytes) -> None:
        if len(data) % 2:
            raise BitstreamError("code", "refused")
        raise IndexError("bug")

    def spin(data: bytes) -> None:
        start = time.process_time()
        while time.process_time() < start + 0.02:
            pass

    monkeypatch.setitem(TARGETS, "container", spin)
    monkeypatch.setattr(run, "HANG_SECONDS", 0.01)
    assert len(fuzz_here("container", 0, range(3)).failures) == 3
    monkeypatch.setattr(run, "_WARM_UP", 0)
    monkeypatch.setitem(TARGETS, "container", fail)
    found = fuzz_here("container", 0, range(100))
    assert found.outcomes["code"] + len(found.failures) == 100
    assert found.failures
    assert "IndexError" in found.failures[0][1]


def test_a_run_says_how_fast_it_is_and_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress_line(1000, 4000, 10.0, 2) == "1000/4000  100 inputs a second  0:30 left  2 findings"
    assert progress_line(4000, 4000, 60.0, 0) == "4000/4000  67 inputs a second  0:00 left  0 findings"
    assert progress_line(0, 4000, 5.0, 0) == "0/4000  0 inputs a second  starting  0 findings"
    monkeypatch.setattr(run, "REPORT_SECONDS", 0.0)
    seen: list[int] = []
    fuzz("container", seed=0, count=2000, jobs=1, report=lambda done, found: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == 2000
    assert any(0 < done < 2000 for done in seen)  # not only where the one block ends


def test_a_process_that_dies_is_a_finding_and_the_run_goes_on() -> None:
    found = fuzz("dying", seed=0, count=3, jobs=1)
    assert [index for index, _ in found.failures] == [1]
    assert "status -9" in found.failures[0][1]
    assert found.outcomes["ok"] == 1
