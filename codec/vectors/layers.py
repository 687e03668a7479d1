"""Layers of networks of small width, over columns that are samples: weights (out, in) times (in, columns).

A block of samples stays in the cache while it goes through all layers, which a library's large products cannot do,
and a layer's bias, addition and ReLU cost no pass over memory. Matrices of samples have one row per feature and are
``ld`` floats from row to row; the number of columns is a multiple of ``COLUMNS``. All arrays are flat float32.
"""

from __future__ import annotations

from collections.abc import Callable

from .vector import LANES, Code, Floats, Variable, Vec, Whole, emitted

COLUMNS = 2 * LANES


def _tiles(
    code: Code, rows: Whole, columns: Whole, inner: Whole, xs: Floats, x: Whole, ld: Whole,
    weight: Callable[[Whole, Whole], Vec],
    start: Callable[[Whole, Whole], Vec],
    finish: Callable[[Whole, Whole, Vec], None],
) -> None:  # fmt: skip
    """finish(row, column, start(row, column) + sum over k of weight(row, k) * x (inner, columns)[k, column])."""

    def tile(row: Whole, column: Whole, height: int) -> None:
        """``height`` rows and COLUMNS columns, with all sums in registers."""
        places = [(row + i, column + half * LANES) for i in range(height) for half in (0, 1)]
        sums = [Variable(code.builder, start(*place)) for place in places]
        with code.loop(inner) as k:
            right = [xs.load(x + k * ld + column + half * LANES) for half in (0, 1)]
            for i in range(height):
                left = weight(row + i, k)
                for half in (0, 1):
                    sums[2 * i + half].add(left * right[half])
        for place, total in zip(places, sums, strict=True):
            finish(*place, total.value)

    with code.loop(columns, step=COLUMNS) as column:
        done: Whole | int = 0
        for height in (6, 4, 2, 1):  # six rows fill the sixteen registers of AVX2
            end = done + (rows - done) // height * height
            with code.loop(end, start=done, step=height) as row:
                tile(row, column, height)
            done = end


@emitted
def layer(
    code: Code, weights: Floats, w: Whole, bias: Whole, rows: Whole, inner: Whole, xs: Floats, x: Whole,
    outs: Floats, out: Whole, ld: Whole, columns: Whole, floor: Vec,
) -> None:  # fmt: skip
    """out = max(floor, W x + bias), with W (rows, inner) and the bias both in ``weights``."""
    _tiles(
        code, rows, columns, inner, xs, x, ld,
        weight=lambda row, k: weights.everywhere(w + row * inner + k),
        start=lambda row, column: weights.everywhere(bias + row),
        finish=lambda row, column, total: outs.store(out + row * ld + column, total.at_least(floor)),
    )  # fmt: skip


@emitted
def residual_layer(
    code: Code, weights: Floats, w: Whole, bias: Whole, width: Whole, xs: Floats, x: Whole,
    outs: Floats, out: Whole, ld: Whole, columns: Whole,
) -> None:  # fmt: skip
    """out = x + max(0, W x + bias)."""
    _tiles(
        code, width, columns, width, xs, x, ld,
        weight=lambda row, k: weights.everywhere(w + row * width + k),
        start=lambda row, column: weights.everywhere(bias + row),
        finish=lambda row, column, total: outs.store(
            out + row * ld + column, total.at_least(0.0) + xs.load(x + row * ld + column)
        ),
    )  # fmt: skip


@emitted
def leaky_layer(
    code: Code, weights: Floats, w: Whole, bias: Whole, rows: Whole, inner: Whole, xs: Floats, x: Whole,
    outs: Floats, out: Whole, ld: Whole, columns: Whole, slope: Vec, limit: Vec,
) -> None:  # fmt: skip
    """out = leaky ReLU of W x + bias, kept within +-limit; ``slope`` < 1."""
    _tiles(
        code, rows, columns, inner, xs, x, ld,
        weight=lambda row, k: weights.everywhere(w + row * inner + k),
        start=lambda row, column: weights.everywhere(bias + row),
        finish=lambda row, column, total: outs.store(
            out + row * ld + column, total.at_least(total * slope).at_least(-limit).at_most(limit)
        ),
    )  # fmt: skip


@emitted
def add_layer(
    code: Code, weights: Floats, w: Whole, rows: Whole, inner: Whole, xs: Floats, x: Whole,
    outs: Floats, out: Whole, ld: Whole, columns: Whole,
) -> None:  # fmt: skip
    """out = max(0, out + W x)."""
    _tiles(
        code, rows, columns, inner, xs, x, ld,
        weight=lambda row, k: weights.everywhere(w + row * inner + k),
        start=lambda row, column: outs.load(out + row * ld + column),
        finish=lambda row, column, total: outs.store(out + row * ld + column, total.at_least(0.0)),
    )  # fmt: skip


@emitted
def pull_back(
    code: Code, weights: Floats, w: Whole, rows: Whole, inner: Whole, gs: Floats, g: Whole,
    outs: Floats, out: Whole, ld: Whole, columns: Whole,
) -> None:  # fmt: skip
    """out (inner, columns) = W^T g: the gradient of a layer's input."""
    _tiles(
        code, inner, columns, rows, gs, g, ld,
        weight=lambda row, k: weights.everywhere(w + k * inner + row),
        start=lambda row, column: code.number(0.0),
        finish=lambda row, column, total: outs.store(out + row * ld + column, total),
    )  # fmt: skip


@emitted
def pull_back_added(
    code: Code, weights: Floats, w: Whole, rows: Whole, inner: Whole, gs: Floats, g: Whole,
    outs: Floats, out: Whole, ld: Whole, columns: Whole,
) -> None:  # fmt: skip
    """out (inner, columns) += W^T g."""
    _tiles(
        code, inner, columns, rows, gs, g, ld,
        weight=lambda row, k: weights.everywhere(w + k * inner + row),
        start=lambda row, column: outs.load(out + row * ld + column),
        finish=lambda row, column, total: outs.store(out + row * ld + column, total),
    )  # fmt: skip


@emitted
def pull_back_gated(
    code: Code, weights: Floats, w: Whole, rows: Whole, inner: Whole, gs: Floats, g: Whole,
    outs: Floats, out: Whole, results: Floats, result: Whole, ld: Whole, columns: Whole,
) -> None:  # fmt: skip
    """:func:`pull_back` through the ReLU that made ``result`` (inner, columns)."""
    _tiles(
        code, inner, columns, rows, gs, g, ld,
        weight=lambda row, k: weights.everywhere(w + k * inner + row),
        start=lambda row, column: code.number(0.0),
        finish=lambda row, column, total: outs.store(
            out + row * ld + column, (results.load(result + row * ld + column) > 0.0).select(total, 0.0)
        ),
    )  # fmt: skip


@emitted
def pull_back_residual(
    code: Code, weights: Floats, w: Whole, width: Whole, gs: Floats, g: Whole,
    outs: Floats, out: Whole, results: Floats, result: Whole, ld: Whole, columns: Whole,
) -> None:  # fmt: skip
    """out = out + W^T g where ``result`` > 0, else 0: a residual layer's input was the ReLU ``result``."""
    _tiles(
        code, width, columns, width, gs, g, ld,
        weight=lambda row, k: weights.everywhere(w + k * width + row),
        start=lambda row, column: outs.load(out + row * ld + column),
        finish=lambda row, column, total: outs.store(
            out + row * ld + column, (results.load(result + row * ld + column) > 0.0).select(total, 0.0)
        ),
    )  # fmt: skip


@emitted
def pull_back_leaky(
    code: Code, weights: Floats, w: Whole, rows: Whole, inner: Whole, gs: Floats, g: Whole,
    outs: Floats, out: Whole, results: Floats, result: Whole, ld: Whole, columns: Whole, slope: Vec, limit: Vec,
) -> None:  # fmt: skip
    """out = out + W^T g, through the :func:`leaky_layer` that made ``result`` (inner, columns)."""

    def finish(row: Whole, column: Whole, total: Vec) -> None:
        made = results.load(result + row * ld + column)
        gated = (made > 0.0).select(total, total * slope)
        outs.store(out + row * ld + column, (made.magnitude() < limit).select(gated, 0.0))

    _tiles(
        code, inner, columns, rows, gs, g, ld,
        weight=lambda row, k: weights.everywhere(w + k * inner + row),
        start=lambda row, column: outs.load(out + row * ld + column),
        finish=finish,
    )  # fmt: skip


@emitted
def weight_gradient(
    code: Code, gs: Floats, g: Whole, g_ld: Whole, rows: Whole, xs: Floats, x: Whole, x_ld: Whole, inner: Whole,
    columns: Whole, sums: Floats, first: Whole,
) -> None:  # fmt: skip
    """sums (rows, inner) += g (rows, columns) @ x (inner, columns)^T."""

    def tile(row: Whole, k: Whole, height: int, width: int) -> None:
        """height x width pairs of rows, with all sums in registers."""
        totals = [code.zeros(width) for _ in range(height)]
        with code.loop(columns, step=LANES) as v:
            left = [gs.load(g + (row + i) * g_ld + v) for i in range(height)]
            for j in range(width):
                right = xs.load(x + (k + j) * x_ld + v)
                for i in range(height):
                    totals[i][j].add(left[i] * right)
        for i in range(height):
            sums.add_sums(first + (row + i) * inner + k, [total.value for total in totals[i]])

    panel = 32  # rows of x that stay in the first-level cache while all rows of g pass
    with code.loop(inner, step=panel) as low:
        high = (low + panel).at_most(inner)
        fours = low + (high - low) // 4 * 4
        done: Whole | int = 0
        for height in (3, 1):
            end = done + (rows - done) // height * height
            with code.loop(end, start=done, step=height) as row:
                for width, begin, stop in ((4, low, fours), (1, fours, high)):
                    with code.loop(stop, start=begin, step=width) as k:
                        tile(row, k, height, width)
            done = end


@emitted
def columns_from_rows(
    code: Code, table: Floats, first: Whole, last: Whole, stride: Whole, offset: Whole, count: Whole,
    out: Floats, to: Whole, ld: Whole, columns: Whole,
) -> None:  # fmt: skip
    """out[feature, column] = table[first + column, offset + feature]; rows after ``last`` repeat it."""
    with code.loop(columns, step=LANES) as v, code.loop(count) as i:
        out.store(to + i * ld + v, table.gather(first + v, last, stride, offset + i))


@emitted
def rows_from_columns(
    code: Code, matrix: Floats, start: Whole, ld: Whole, columns: Whole,
    table: Floats, first: Whole, stride: Whole, offset: Whole, count: Whole,
) -> None:  # fmt: skip
    """table[first + column, offset + feature] = matrix[feature, column]."""
    with code.loop(columns, step=LANES) as v, code.loop(count) as i:
        table.scatter(first + v, stride, offset + i, matrix.load(start + i * ld + v))


@emitted
def clear(code: Code, out: Floats, to: Whole, ld: Whole, rows: Whole, columns: Whole) -> None:
    """out = 0."""
    with code.loop(rows) as i, code.loop(columns, step=LANES) as v:
        out.store(to + i * ld + v, code.number(0.0))


@emitted
def gate_residual(
    code: Code, out: Floats, gs: Floats, after: Floats, after_start: Whole, before: Floats, ld: Whole, rows: Whole, columns: Whole
) -> None:  # fmt: skip
    """out = g where a residual layer's ReLU added something to ``before``, else 0."""
    with code.loop(rows) as i, code.loop(columns, step=LANES) as v:
        at = i * ld + v
        out.store(at, (after.load(after_start + at) > before.load(at)).select(gs.load(at), 0.0))


@emitted
def add_row_sums(
    code: Code, matrix: Floats, start: Whole, ld: Whole, rows: Whole, columns: Whole, sums: Floats, first: Whole
) -> None:
    """sums[first + row] += the sum of a row."""
    with code.loop(rows) as i:
        (total,) = code.zeros(1)
        with code.loop(columns, step=LANES) as v:
            total.add(matrix.load(start + i * ld + v))
        sums.add_sums(first + i, [total.value])


@emitted
def add_bounded(
    code: Code, out: Floats, xs: Floats, ys: Floats, ld: Whole, rows: Whole, columns: Whole, limit: Vec
) -> None:
    """out = x + y, kept within +-limit."""
    with code.loop(rows) as i, code.loop(columns, step=LANES) as v:
        at = i * ld + v
        out.store(at, (xs.load(at) + ys.load(at)).at_least(-limit).at_most(limit))


@emitted
def gate_leaky(
    code: Code, gs: Floats, out: Floats, sums: Floats, added: Floats, ld: Whole, rows: Whole, columns: Whole,
    slope: Vec, limit: Vec,
) -> None:  # fmt: skip
    """Back through :func:`add_bounded`, which made ``sums``, in place, and on through the leaky ReLU ``added`` to ``out``."""
    with code.loop(rows) as i, code.loop(columns, step=LANES) as v:
        at = i * ld + v
        g = (sums.load(at).magnitude() < limit).select(gs.load(at), 0.0)
        gs.store(at, g)
        out.store(at, (added.load(at) > 0.0).select(g, g * slope))
