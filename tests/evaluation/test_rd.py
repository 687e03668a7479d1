"""Bjontegaard differences: closed forms, published reference values, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from adcgs.errors import OptionError
from adcgs.evaluation.rd import bd_psnr, bd_rate, plot_rd

pytest.importorskip("scipy")

Points = list[tuple[float, float]]

ANCHOR = [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)]
TEST = [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)]
VCEG_ANCHOR = [(686.76, 40.28), (309.58, 37.18), (157.11, 34.24), (85.95, 31.42)]
VCEG_TEST = [(893.34, 40.39), (407.8, 37.21), (204.93, 34.17), (112.75, 31.24)]


@pytest.mark.parametrize(
    ("anchor", "test", "rate", "psnr"),
    [
        # As the package bjontegaard 1.3.0 (FAU-LMS, method "pchip") computes them; its authors checked it to ten
        # digits against the JCT-VC sheet.
        (ANCHOR, TEST, -4.417485350589045, 0.11969278542479489),
        (VCEG_ANCHOR, VCEG_TEST, 31.379878202397627, -1.1834724046224592),
    ],
)
def test_reference_values(anchor: Points, test: Points, rate: float, psnr: float) -> None:
    assert bd_rate(anchor, test) == pytest.approx(rate, abs=1e-9)
    assert bd_psnr(anchor, test) == pytest.approx(psnr, abs=1e-9)


def test_half_the_rate_everywhere_is_minus_fifty_percent() -> None:
    assert bd_rate(ANCHOR, [(r / 2, q) for r, q in ANCHOR]) == pytest.approx(-50)


def test_a_decibel_more_everywhere_is_one_decibel() -> None:
    assert bd_psnr(ANCHOR, [(r, q + 1) for r, q in ANCHOR]) == pytest.approx(1)


def test_order_does_not_matter_and_exchange_inverts() -> None:
    assert bd_rate(ANCHOR[::-1], TEST) == bd_rate(ANCHOR, TEST)
    there, back = bd_rate(ANCHOR, TEST), bd_rate(TEST, ANCHOR)
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)
    assert bd_psnr(TEST, ANCHOR) == pytest.approx(-bd_psnr(ANCHOR, TEST))


@pytest.mark.parametrize(
    ("curve", "code"),
    [
        ([(1.0, 30.0)], "bad-curve"),
        ([(0.0, 30.0), (1.0, 31.0)], "bad-curve"),
        ([(1.0, 30.0), (2.0, 29.0)], "bad-curve"),
        ([(1.0, 30.0), (1.0, 31.0)], "bad-curve"),
        ([(1.0, 30.0), (2.0, float("nan"))], "bad-curve"),
        ([(1.0, 10.0), (2.0, 11.0)], "no-overlap"),
    ],
)
def test_curves_that_mean_nothing_are_refused(curve: Points, code: str) -> None:
    with pytest.raises(OptionError) as caught:
        bd_rate(ANCHOR, curve)
    assert caught.value.code == code


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_the_legend_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A curve passes through every corner and the middle, so that no place inside the axes is free."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    corners = [(x, y) for x in (100.0, 200.0, 400.0) for y in (20.0, 30.0, 40.0)]
    plot_rd(tmp_path / "rd.png", {f"the curve with the name {k}": corners for k in range(count)}, title="crowded")
    (figure,) = drawn
    figure.draw_without_rendering()
    (legend,) = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    words, inside = legend.get_window_extent(), figure.axes[0].get_tightbbox()
    assert len(legend.get_texts()) == count
    assert not words.overlaps(inside)
    assert figure.bbox.x0 <= words.x0 < words.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= words.y0 < words.y1 <= figure.bbox.y1


def test_the_plot_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_rd(tmp_path / "rd.png", {"anchor": ANCHOR, "test": TEST})
    assert (tmp_path / "rd.png").stat().st_size > 5000
