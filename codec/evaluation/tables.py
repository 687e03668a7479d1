"""Result tables, once for machines (CSV) and once for people (Markdown)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bitstream import write_atomically

Value = str | int | float | None
Row = Mapping[str, Value]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: in the rows and in the CSV's head.
        title: in the Markdown's head.
        format: how the Markdown shows a number, a format spec such as ``.2f``; the CSV keeps full precision.
    """

    key: str
    title: str
    format: str = ""


MISSING = "-"
"""What Markdown shows for None; the CSV leaves the field empty."""


def write_csv(path: Path, rows: Sequence[Row], columns: Sequence[Column]) -> None:
    """Rows to CSV with a head line, atomically; keys that are not among the columns are left out."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for row in rows:
        writer.writerow(["" if row.get(c.key) is None else row[c.key] for c in columns])
    write_atomically(path, buffer.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, Value]]:
    """The rows of :func:`write_csv`: integers, numbers and text as such, empty fields as None.

    Raises:
        csv.Error: a line has more or fewer fields than the first.
    """
    with path.open(newline="", encoding="utf-8") as file:
        head, *lines = list(csv.reader(file)) or [[]]
    for number, line in enumerate(lines, 2):
        if line and len(line) != len(head):
            raise csv.Error(f"line {number} has {len(line)} fields, the first line {len(head)}")
    return [dict(zip(head, map(_parse, line), strict=True)) for line in lines if line]


def markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Rows as a Markdown table, numbers aligned to the right; ends with a newline."""
    cells = [[_show(row.get(c.key), c.format) for c in columns] for row in rows]
    head = [c.title for c in columns]
    numeric = [any(isinstance(row.get(c.key), (int, float)) for row in rows) for c in columns]
    rule = ["---:" if n else "---" for n in numeric]
    return "".join("| " + " | ".join(line) + " |\n" for line in (head, rule, *cells))


def mean_row(rows: Sequence[Row], columns: Sequence[Column], label: str = "mean") -> dict[str, Value]:
    """The mean of every numeric column that all rows have; the first column holds ``label``."""
    result: dict[str, Value] = {columns[0].key: label}
    for column in columns[1:]:
        numbers = [v for v in (row.get(column.key) for row in rows) if isinstance(v, (int, float))]
        if rows and len(numbers) == len(rows):
            result[column.key] = sum(numbers) / len(numbers)
    return result


def _show(value: Value, spec: str) -> str:
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value.replace("|", "\\|").replace("\n", " ")
    return format(value, spec)


def _parse(text: str) -> Value:
    if text == "":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
