"""Rate and distortion: Bjontegaard's average differences between two curves, and their plot.

A curve is at least two points (rate, quality), in any order, whose quality rises with rate. Both measures fit a
monotone piecewise cubic (PCHIP, as the JCT-VC common test conditions do instead of the original's one cubic,
VCEG-M33) through quality and the logarithm of rate and average the gap over the range that the curves share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError

LEGEND_COLUMNS = 2
Curve = Sequence[tuple[float, float]]  # (rate in any one unit, quality in dB)


def bd_rate(anchor: Curve, test: Curve) -> float:
    """Average rate of ``test`` against ``anchor`` at equal quality, in percent; negative is smaller.

    Raises:
        OptionError: ``bad-curve`` for a curve that does not rise, ``no-overlap`` where no quality is common.
    """
    (rate_a, quality_a), (rate_b, quality_b) = _sorted_curve(anchor, "anchor"), _sorted_curve(test, "test")
    return (math.exp(_average_gap(quality_a, rate_a, quality_b, rate_b, "quality")) - 1) * 100


def bd_psnr(anchor: Curve, test: Curve) -> float:
    """Average quality of ``test`` above ``anchor`` at equal rate, in the quality's unit (dB for PSNR).

    Raises:
        OptionError: as :func:`bd_rate`.
    """
    (rate_a, quality_a), (rate_b, quality_b) = _sorted_curve(anchor, "anchor"), _sorted_curve(test, "test")
    return _average_gap(rate_a, quality_a, rate_b, quality_b, "rate")


def _sorted_curve(curve: Curve, which: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log rates and qualities, both strictly rising."""
    points = np.array(sorted(curve), dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2:
        count = "1 point" if len(curve) == 1 else f"{len(curve)} points"
        raise OptionError("bad-curve", f"the {which} curve has {count}; give two or more")
    if not np.isfinite(points).all() or points[0, 0] <= 0:
        raise OptionError("bad-curve", f"the {which} curve holds a rate that is not positive, or no number")
    if (np.diff(points, axis=0) <= 0).any():
        raise OptionError("bad-curve", f"the {which} curve does not rise: drop points that cost more for no gain")
    return np.log(points[:, 0]), points[:, 1]


def _average_gap(
    x_a: NDArray[np.float64], y_a: NDArray[np.float64], x_b: NDArray[np.float64], y_b: NDArray[np.float64], axis: str
) -> float:
    """Mean of b - a over the x that both have, each interpolated by PCHIP and integrated exactly."""
    from scipy.interpolate import PchipInterpolator

    low, high = max(x_a[0], x_b[0]), min(x_a[-1], x_b[-1])
    if low >= high:
        raise OptionError("no-overlap", f"the curves share no {axis}; measure points that lie closer together")
    gap = PchipInterpolator(x_b, y_b).integrate(low, high) - PchipInterpolator(x_a, y_a).integrate(low, high)
    return float(gap) / (high - low)


def plot_rd(
    path: Path, curves: Mapping[str, Curve], *, title: str = "", x_label: str = "size (kB)", y_label: str = "PSNR (dB)"
) -> None:
    """Draw curves like the paper's Figure 5: rate on a logarithmic axis, one line with markers per method.

    Args:
        path: a .png, .pdf or .svg.
        curves: name to points; rates in the unit of ``x_label``.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, ScalarFormatter

    lines = math.ceil(len(curves) / LEGEND_COLUMNS)
    figure = Figure(figsize=(5.2, 3.8 + 0.2 * lines), layout="constrained")
    axes = figure.add_subplot()
    for (name, curve), marker in zip(curves.items(), "osD^vP*Xph" * (1 + len(curves) // 10), strict=False):
        points = sorted(curve)
        axes.plot([p[0] for p in points], [p[1] for p in points], marker=marker, markersize=5, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    rates = [rate for curve in curves.values() for rate, _ in curve]
    if rates and max(rates) < 20 * min(rates):  # less than two decades have too few powers of ten to label
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.grid(True, which="both", alpha=0.25)
    # Below the axes: inside it hid points, even where matplotlib thought it best.
    figure.legend(frameon=False, fontsize=8, ncols=LEGEND_COLUMNS, loc="outside lower center")
    figure.savefig(path, dpi=150)


def plot_allocation(path: Path, scenes: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Draw where the bytes of each rate point go, like the paper's Figure 6: a panel a scene, a stacked bar a point.

    Args:
        path: a .png, .pdf or .svg.
        scenes: scene to point (such as its lambda) to component to bytes; all points name the same components.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 2.9 * len(scenes), 3.6), layout="constrained")
    panels = figure.subplots(1, len(scenes), sharey=True, squeeze=False)[0]
    for axes, (scene, bars) in zip(panels, scenes.items(), strict=True):
        base = np.zeros(len(bars))
        for component in next(iter(bars.values())):
            sizes = np.array([bar[component] / 1e3 for bar in bars.values()])
            axes.bar(list(bars), sizes, 0.7, bottom=base, label=component)
            base += sizes
        axes.set(title=scene, xlabel="lambda")
        axes.grid(True, axis="y", alpha=0.25)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("size (kB)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], frameon=False, fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=110)
