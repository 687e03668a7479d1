"""Functions of ``Vec``, or of anything with its operators: activations, and quaternions (w, x, y, z) as tuples of four."""

from __future__ import annotations

from .vector import Bits, Code, Vec, Whole

Three = list[Vec]
Four = list[Vec]
NORM_MIN = 1e-12  # torch's: shorter vectors are divided by this
_ROUNDING = 1.5 * 2**23  # added and subtracted, rounds a float32 to an integer


def _round(x: Vec) -> Vec:
    return (x + _ROUNDING) - _ROUNDING


def nearest(x: Vec) -> Vec:
    """The nearest whole number, ties to even; x itself where floats are half a unit or more apart."""
    return (x.magnitude() < 2.0**22).select(_round(x), x)


def clamp(x: Vec, low: Vec | float, high: Vec | float) -> Vec:
    """x within bounds; NaN stays NaN, so that a broken model shows."""
    return x.at_least(low).at_most(high)


def polynomial(x: Vec, *coefficients: float) -> Vec:
    """Highest power first."""
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


def exp(x: Vec) -> Vec:
    """e^x within the range of normal floats, to 1e-6 relative: 2^whole * 2^fraction of x log2(e)."""
    y = clamp(x * 1.4426950408889634, -126.0, 126.0)
    whole = _round(y)
    # 2^f on [-0.5, 0.5], minimax in the relative error (2.3e-7 in float32 arithmetic; found by linear programming).
    fraction = polynomial(
        y - whole, 0.00132764746, 0.00967554171, 0.0555071327, 0.240221197, 0.693146967, 1.00000007
    )
    return fraction.times_power_of_two(whole)


def sigmoid(x: Vec) -> Vec:
    return 1.0 / (exp(-x) + 1.0)


def tanh(x: Vec) -> Vec:
    """To 2e-7, absolute."""
    return 1.0 - 2.0 / (exp(x * 2.0) + 1.0)


def log2(x: Vec) -> Vec:
    """Of positive normal numbers, by the series of artanh, to 2e-7 absolute or relative, whichever is larger."""
    m, n = x.fraction_and_exponent()
    upper = m > 2.0**0.5
    m, n = upper.select(m * 0.5, m), upper.select(n + 1.0, n)
    s = (m - 1.0) * (1.0 / (m + 1.0))
    per_ln2 = 2.8853900817779268
    series = polynomial(s * s, per_ln2 / 9, per_ln2 / 7, per_ln2 / 5, per_ln2 / 3, per_ln2)
    return series * s + n


def uniform(place: Bits, seed: Bits) -> Vec:
    """Uniform in [-1/2, 1/2): a hash of 32 bits, so any thread can make any element's noise, and make it again."""
    x = place + seed
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    x = x ^ (x >> 16)
    return (x >> 8).to_vec() * 2.0**-24 - 0.5


def normal_density(z: Vec) -> Vec:
    """Of the standard normal distribution."""
    return exp(z * z * -0.5) * 0.3989422804014327


def upper_tail(z: Vec, density: Vec) -> Vec:
    """1 - Phi(z) of the standard normal, given its density at z; error under 1e-7 (Abramowitz and Stegun 26.2.17)."""
    t = 1.0 / (z.magnitude() * 0.2316419 + 1.0)
    tail = polynomial(t, 1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530) * t * density
    return (z < 0.0).select(1.0 - tail, tail)


def sine_cosine(x: Vec) -> tuple[Vec, Vec]:
    """sin(x), cos(x) to 1e-7 for |x| < 8000: reduction to a quarter turn, then the polynomials of Cephes."""
    quarters = _round(x * 0.6366197723675814)
    r = x - quarters * 1.5703125 - quarters * 4.837512969970703e-4 - quarters * 7.549789948768648e-8
    square = r * r
    sine = polynomial(square, -1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1) * square * r + r
    cosine = polynomial(
        square, 2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2, -0.5, 1.0
    )
    place = quarters - _round(quarters * 0.25) * 4.0  # -2 .. 2
    odd = (place * place > 0.5) & (place * place < 1.5)
    sine, cosine = odd.select(cosine, sine), odd.select(sine, cosine)
    down, left = (place < -0.5) | (place > 1.5), (place > 0.5) | (place < -1.5)
    return down.select(-sine, sine), left.select(-cosine, cosine)


def add(a: list[Vec], b: list[Vec]) -> list[Vec]:
    return [x + y for x, y in zip(a, b, strict=True)]


def dot(a: list[Vec], b: list[Vec]) -> Vec:
    products = [x * y for x, y in zip(a, b, strict=True)]
    return sum(products[1:], start=products[0])


def within(x: Vec, low: Vec, high: Vec, value: Vec) -> Vec:
    """``value`` where a clamp of x to [low, high] has a gradient, else 0."""
    return ((x >= low) & (x <= high)).select(value, 0.0)


def unit(q: Four) -> tuple[Four, Vec]:
    """q at unit length, and one over its length."""
    inverse = 1.0 / dot(q, q).sqrt().at_least(NORM_MIN)
    return [x * inverse for x in q], inverse


def unit_gradient(q: Four, inverse: Vec, g: Four) -> Four:
    """From the gradient of :func:`unit`'s result ``q`` to that of its argument."""
    along = (inverse < 0.999 / NORM_MIN).select(dot(q, g), 0.0)
    return [(y - x * along) * inverse for x, y in zip(q, g, strict=True)]


def hamilton(a: Four, b: Four) -> Four:
    """The quaternion product a * b."""
    return [
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    ]


def conjugate(a: Four) -> Four:
    return [a[0], -a[1], -a[2], -a[3]]


def rotation_matrix(q: Four) -> list[Three]:
    """Rows of the rotation matrix of a unit quaternion."""
    w, x, y, z = q
    return [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]


def rotation_gradient(q: Four, m: list[Three]) -> Four:
    """From the gradient ``m`` of :func:`rotation_matrix` to that of the quaternion."""
    w, x, y, z = q
    a, b, c = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    d, e, f = m[2][1] + m[1][2], m[0][2] + m[2][0], m[1][0] + m[0][1]
    return [
        2.0 * (x * a + y * b + z * c),
        2.0 * (w * a + y * f + z * e) - 4.0 * x * (m[1][1] + m[2][2]),
        2.0 * (w * b + x * f + z * d) - 4.0 * y * (m[0][0] + m[2][2]),
        2.0 * (w * c + x * e + y * d) - 4.0 * z * (m[0][0] + m[1][1]),
    ]


def existing(code: Code, first: Whole, count: Whole) -> Vec:
    """1 in lanes of rows before ``count``, 0 after."""
    return (code.lane_numbers() < (count - first).to_vec()).select(code.number(1.0), 0.0)
