"""Layers of networks of small width, over columns that are samples: weights (out, in) times (in, columns).

A block of samples stays in the cache while it goes through all layers, which a library's large products cannot do,
and a layer's bias, addition and ReLU cost no pass over memory. Matrices of samples have one row per feature and are
``ld`` floats from row to row; the number of columns is a multiple of ``COLUMNS``. All arrays are flat float32.
"""

from __future__ import annotations

from .vector import LANES, Code, Floats, Variable, Vec, Whole, emitted

COLUMNS = 2 * LANES


@emitted
def product(
    code: Code, weights: Floats, w: Whole, row_step: Whole, column_step: Whole, rows: Whole, inner: Whole,
    xs: Floats, x: Whole, x_ld: Whole, outs: Floats, out: Whole, out_ld: Whole, columns: Whole, floor: Vec,
) -> None:  # fmt: skip
    """out (rows, columns) = max(floor, out + weights (rows, inner) @ x (inner, columns))."""

    def tile(row: Whole, column: Whole, height: int) -> None:
        """``height`` rows and COLUMNS columns, with all sums in registers."""
        places = [[out + (row + i) * out_ld + column + half * LANES for half in (0, 1)] for i in range(height)]
        sums = [[Variable(code.builder, outs.load(place)) for place in pair] for pair in places]
        starts = [w + (row + i) * row_step for i in range(height)]
        with code.loop(inner) as k:
            right = [xs.load(x + k * x_ld + column + half * LANES) for half in (0, 1)]
            for start, pair in zip(starts, sums, strict=True):
                weight = weights.everywhere(start + k * column_step)
                for total, value in zip(pair, right, strict=True):
                    total.add(weight * value)
        for place, total in zip(sum(places, []), sum(sums, []), strict=True):  # noqa: RUF017 (unrolled in compilation)
            outs.store(place, total.value.at_least(floor))

    with code.loop(columns, step=COLUMNS) as column:
        done: Whole | int = 0
        for height in (6, 4, 2, 1):  # six rows fill the sixteen registers of AVX2
            end = done + (rows - done) // height * height
            with code.loop(end, start=done, step=height) as row:
                tile(row, column, height)
            done = end


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
def fill_rows(
    code: Code, out: Floats, to: Whole, ld: Whole, rows: Whole, columns: Whole, values: Floats, first: Whole
) -> None:
    """out[row, column] = values[first + row]."""
    with code.loop(rows) as i:
        value = values.everywhere(first + i)
        with code.loop(columns, step=LANES) as v:
            out.store(to + i * ld + v, value)


@emitted
def clear(code: Code, out: Floats, to: Whole, ld: Whole, rows: Whole, columns: Whole) -> None:
    """out = 0."""
    with code.loop(rows) as i, code.loop(columns, step=LANES) as v:
        out.store(to + i * ld + v, code.number(0.0))


@emitted
def add_matrix(
    code: Code, out: Floats, a: Floats, b: Floats, b_start: Whole, ld: Whole, rows: Whole, columns: Whole
) -> None:
    """out = a + b."""
    with code.loop(rows) as i, code.loop(columns, step=LANES) as v:
        out.store(i * ld + v, a.load(i * ld + v) + b.load(b_start + i * ld + v))


@emitted
def gate(
    code: Code, out: Floats, to: Whole, values: Floats, start: Whole, by: Floats, by_start: Whole,
    ld: Whole, rows: Whole, columns: Whole,
) -> None:  # fmt: skip
    """out = values where by > 0, else 0: the gradient of a ReLU with result ``by``."""
    with code.loop(rows) as i, code.loop(columns, step=LANES) as v:
        at = i * ld + v
        out.store(to + at, (by.load(by_start + at) > 0.0).select(values.load(start + at), 0.0))


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
