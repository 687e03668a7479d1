"""The bar chart of ``adcgs-inspect --plot``."""

from __future__ import annotations

from pathlib import Path

from adcgs.errors import OptionError
from adcgs.inspect import GROUPS, Report

# Okabe and Ito's colours: told apart by colour-blind readers too.
_COLORS = {
    "reference": "#0072B2",
    "residual": "#E69F00",
    "attributes": "#009E73",
    "networks": "#CC79A7",
    "container": "#999999",
}


def plot_components(report: Report, path: Path) -> None:
    """Draw bytes by component, coloured as the paper's Figure 6 groups them.

    Raises:
        OptionError: ``no-matplotlib``, or ``bad-option`` for a file type that cannot be written.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError:
        remedy = "install it with: pip install 'adcgs[plot]'"
        raise OptionError("no-matplotlib", f"--plot needs matplotlib; {remedy}") from None
    rows = report.components
    figure = Figure(figsize=(8, 1.8 + 0.32 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(
        [row.name for row in rows], [row.bytes / 1000 for row in rows], color=[_COLORS[row.group] for row in rows]
    )
    axes.invert_yaxis()
    for index, row in enumerate(rows):
        axes.text(row.bytes / 1000, index, f" {row.bytes:,} B, {row.share:.1%}", va="center", fontsize=8)
    axes.margins(x=0.2)
    axes.set_xlabel("kB (1000 bytes)")
    axes.set_title(f"{Path(report.path).name}: {report.bytes:,} bytes, {report.header.anchors:,} anchors")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=_COLORS[group]) for group in GROUPS]
    labels = [
        f"{title}: {size / 1000:.1f} kB" for title, size in zip(GROUPS.values(), report.groups.values(), strict=True)
    ]
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise OptionError("bad-option", f"--plot {path}: {error}; give a name that ends in .png") from None
