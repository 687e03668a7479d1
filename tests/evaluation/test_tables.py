"""Tables survive the way to CSV and back, and read well as Markdown."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from adcgs.evaluation.tables import Column, Row, markdown, mean_row, read_csv, write_csv

COLUMNS = [
    Column("scene", "scene"),
    Column("psnr", "PSNR (dB)", ".2f"),
    Column("bytes", "bytes", ",d"),
    Column("note", "note"),
]
ROWS: list[Row] = [
    {"scene": "a|b", "psnr": 31.4159265358979, "bytes": 123456, "note": None, "unused": 1},
    {"scene": 'say "c", d', "psnr": None, "bytes": 7, "note": "late"},
]


def test_csv_keeps_every_digit_and_every_gap(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ROWS, COLUMNS)
    assert read_csv(tmp_path / "t.csv") == [{c.key: row.get(c.key) for c in COLUMNS} for row in ROWS]


def test_markdown_formats_and_escapes() -> None:
    assert markdown(ROWS, COLUMNS).splitlines() == [
        "| scene | PSNR (dB) | bytes | note |",
        "| --- | ---: | ---: | --- |",
        "| a\\|b | 31.42 | 123,456 | - |",
        '| say "c", d | - | 7 | late |',
    ]


def test_a_mean_is_given_only_where_every_row_has_a_number() -> None:
    assert mean_row(ROWS, COLUMNS) == {"scene": "mean", "bytes": (123456 + 7) / 2}
    assert mean_row([], COLUMNS) == {"scene": "mean"}


@pytest.mark.parametrize("line", ["1", "1,2,3"])
def test_a_line_with_another_number_of_fields_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.csv").write_text(f"scene,psnr\nballs,30\n{line}\n", encoding="utf-8")
    with pytest.raises(csv.Error, match="line 3 has"):
        read_csv(tmp_path / "t.csv")
