"""``adcgs-inspect``: where the bytes of a file go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import EXIT_REFUSED, Command, console, handle_errors, print_json

if TYPE_CHECKING:
    from adcgs.inspect import Component, Report

_TABLE_WIDTH = 80

EXAMPLES = """
\b
Examples:
  adcgs-inspect scene.adc                       bytes and share of every component
  adcgs-inspect scene.adc --json | jq .groups   the same for programs
  adcgs-inspect scene.adc --plot bytes.png      a bar chart
  adcgs-inspect scene.adc --check               also says which sections are damaged; exits with 2 if any is
  adcgs-inspect scene.adc --digest              SHA-256 of the decoded anchors, equal on every machine
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="A JSON report, alone on stdout.")
@click.option("--plot", type=click.Path(path_type=Path), help="A bar chart of the components to write (PNG).")
@click.option("--check", is_flag=True, help="Read all sections; exit with 2 if any is damaged or cut.")
@click.option("--digest", is_flag=True, help="Check all sections, decode the anchors, give their SHA-256.")
@handle_errors
def main(file: Path, as_json: bool, plot: Path | None, check: bool, digest: bool) -> None:
    """Show what FILE holds and what each part of it costs.

    Nothing is decoded (but for --digest), and of the sections only the header and the networks' directory are read (but
    for --check). A file that was cut or damaged is shown as far as it goes.
    """
    from adcgs.inspect import inspect_file

    report = inspect_file(file, check=check)
    value = _digest(file) if digest else None
    if plot is not None:
        from .plots import plot_components

        plot_components(report, plot)
        console().print(f"chart in {plot}")
    if report.missing:
        missing = f"{file} is cut: {report.bytes} of {report.bytes_expected} bytes"
        console().print(f"{missing}; not complete: {', '.join(report.missing)}", style="yellow", soft_wrap=True)
    if report.damaged:
        damaged = f"{file} is damaged: wrong checksum of {', '.join(report.damaged)}; get a new copy of it"
        console().print(damaged, style="yellow", soft_wrap=True)
    if as_json:
        print_json(report.to_dict() | ({"digest": value} if digest else {}))
    else:
        _print_table(report)
        if value is not None:
            print(f"digest {value}")
    if check and (report.missing or report.damaged):
        sys.exit(EXIT_REFUSED)


def _digest(file: Path) -> str:
    from adcgs.decode import decoded_digest

    return decoded_digest(file)


def _title(row: Component, report: Report) -> str:
    """A row's name, and what is wrong with it."""
    if not row.complete:
        return f"{row.name} (cut)"
    return f"{row.name} (damaged)" if row.name.split(".")[0] in report.damaged else row.name


def _print_table(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    header = report.header
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("component", no_wrap=True)
    for title in ("bytes", "share", "per anchor", "bits/anchor", "bits/coeff."):
        table.add_column(title, justify="right", no_wrap=True)
    for row in report.components:
        table.add_row(
            _title(row, report),
            f"{row.bytes:,}",
            f"{row.share:.1%}",
            "" if row.coefficients is None else str(row.coefficients),
            f"{row.bits_per_anchor:.2f}",
            "" if row.bits_per_coefficient is None else f"{row.bits_per_coefficient:.2f}",
        )
    table.add_section()
    table.add_row("file", f"{report.bytes:,}", "100.0%", "", f"{8 * report.bytes / header.anchors:.2f}", "")
    out = Console(highlight=False, markup=False, soft_wrap=True)
    out.width = max(out.width, _TABLE_WIDTH)
    out.print(
        f"{report.path}: {header.anchors:,} anchors, {header.frame_count} frames at {header.frame_rate:g} per second, "
        f"format {report.version}, by {header.encoder}"
    )
    grid = f"voxel {header.voxel:.3g}, blur {header.blur:.3g} px^2"
    out.print(f"coder {header.coder}, weights {report.weights or 'not readable'}, {grid}")
    out.print(", ".join(f"{name} {value}" for name, value in header.config.items()))
    out.print()
    out.print(table)
