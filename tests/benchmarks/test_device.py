"""The speed benchmarks' ``--device``: refused where there is no such device, and waited for where there is one."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ["rasterizer", "step", "playback"])
def test_cuda_is_refused_in_one_line_where_there_is_none(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--device", "cuda"])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(name).main()
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert "--device cpu" in line


def test_the_clock_waits_for_a_cuda_device_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    timing = importlib.import_module("timing")
    events: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: events.append("synchronize"))

    def clock() -> float:
        events.append("read")
        return float(len(events))

    timing.medians({"work": lambda: events.append("work")}, 1, timing.device_clock("cuda", clock))
    once = ["synchronize", "read", "work", "synchronize", "read"]
    assert events == once * (1 + timing.WARM_UP)
    assert timing.device_clock("cpu", clock) is clock


def test_threads_are_a_list_in_rising_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    timing = importlib.import_module("timing")
    parser = argparse.ArgumentParser()
    timing.add_threads(parser)
    assert parser.parse_args(["--threads", "4,1,2,4"]).threads == [1, 2, 4]
    assert parser.parse_args([]).threads == [torch.get_num_threads()]
    with pytest.raises(SystemExit):
        parser.parse_args(["--threads", "2,0"])
