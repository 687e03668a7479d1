"""``bitstream_spec/POSITIONS.md`` as a program: slow, in Python's own integers, sharing no code with adcgs.

    python bitstream_spec/reference/positions.py SECTION     # prints the points of a positions section, one a line
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

Point = tuple[int, int, int]
Fit = tuple[int, int, int, int]

SPLIT_WEIGHTS = (-17544, 5788, 2550, 463, 311, 621, -302, 1211, -8937, -2969, 6663, -2348, 63, -281, -1219, -170)
SIDE_WEIGHTS = (456, -56, -50, -301, 248, 81)


class Refused(ValueError):  # noqa: N818
    """The message is the code."""


def clamp(a: int, low: int, high: int) -> int:
    return low if a < low else high if a > high else a


def make_squash() -> dict[int, int]:
    """Section 3."""
    decay, term, k = 0, 1 << 62, 0
    while term > 0:
        decay += term if k % 2 == 0 else -term
        k += 1
        term //= 256 * k
    squash, power = {}, 1 << 62
    for t in range(2048):
        squash[t] = (1 << 78) // ((1 << 62) + power)
        squash[-t] = 65536 - squash[t]
        power = power * decay >> 62
    return squash


SQUASH = make_squash()


def header(section: bytes, most: int | None) -> tuple[int, int, bytes]:
    """Section 1: bits per axis, number of points, payload."""
    if not section:
        raise Refused("positions-truncated")
    bits, count, end = section[0], 0, 1
    if not 1 <= bits <= 21:
        raise Refused("positions-malformed")
    while True:
        if end == 11:
            raise Refused("positions-malformed")
        if end == len(section):
            raise Refused("positions-truncated")
        byte = section[end]
        count += (byte & 127) << 7 * (end - 1)
        end += 1
        if byte < 128:
            break
    if count == 0 or (byte == 0 and end > 2):
        raise Refused("positions-malformed")
    if most is not None and count > most:
        raise Refused("limit-exceeded")
    if count > 2 ** (3 * bits) or len(section) - end < (count + 7) // 8:
        raise Refused("count-exceeds-data")
    return bits, count, section[end:]


class ArithmeticDecoder:
    """Section 2."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.read = 0
        self.code = 0
        self.range = 2**32 - 1
        for _ in range(4):
            self.code = self.code << 8 | self.byte()

    def byte(self) -> int:
        self.read += 1
        return self.payload[self.read - 1] if self.read <= len(self.payload) else 0

    def bit(self, p: int) -> int:
        bound = (self.range >> 16) * p
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        while self.range < 1 << 24:
            self.code = (256 * self.code + self.byte() + 2**63) % 2**64 - 2**63
            self.range *= 256
        return bit


class Model:
    """Section 3: what decides one kind of question."""

    def __init__(self, weights: tuple[int, ...]) -> None:
        self.weights = [4096 * weight for weight in weights]
        self.bias = [[0] * 512 for _ in range(3)]
        self.seen = [[0] * 512 for _ in range(3)]

    def decide(self, coder: ArithmeticDecoder, x: list[int], context: tuple[int, int, int], sign: int) -> int:
        z = sum(w * v for w, v in zip(self.weights, x, strict=True)) >> 8
        z += sign * sum(bias[c] for bias, c in zip(self.bias, context, strict=True))
        p = SQUASH[clamp(z >> 16, -2047, 2047)]
        answer = coder.bit(p)
        error = 65536 * answer - p
        for k, v in enumerate(x):
            self.weights[k] += v * error >> 10
        for bias, seen, c in zip(self.bias, self.seen, context, strict=True):
            bias[c] += sign * (256 * error // (2 * seen[c] + 8))
            seen[c] = min(seen[c] + 1, 60)
        return answer


@dataclass(eq=False)
class Node:
    """Section 4. ``known`` and ``both`` change while the node's level is decoded."""

    centre: Point
    history: int = 0
    loneliness: int = 0
    neighbours: list[Node] = field(default_factory=list)
    known: Point = (0, 0, 0)
    both: int = 0
    lower: Node | None = None
    upper: Node | None = None

    def __post_init__(self) -> None:
        self.known = self.centre

    @property
    def halves(self) -> list[Node]:
        return [half for half in (self.lower, self.upper) if half]


def moved(point: Point, axis: int, by: int) -> Point:
    x, y, z = (p + by * (b == axis) for b, p in enumerate(point))
    return x, y, z


def fill_list(child: Node, parent: Node, reach: int) -> None:
    """Section 4: the nearest of the child's candidates, and its loneliness."""
    candidates = [half for half in parent.halves if half is not child]
    for neighbour in parent.neighbours:
        candidates += neighbour.halves
    near = []
    for other in candidates:
        away = [abs(p - q) for p, q in zip(other.centre, child.centre, strict=True)]
        if max(away) <= reach:
            near.append((sum(p * p for p in away), other))
    near.sort(key=lambda pair: pair[0])  # a stable sort
    child.neighbours = [other for _, other in near[:16]]
    child.loneliness = 0 if near else min(255, parent.loneliness + 1)


def log2(v: int) -> int:
    n = v.bit_length() - 1
    m = (256 * v >> n) - 256
    return 256 * n + m + (88 * m * (256 - m) >> 16)


def fit(node: Node, neighbours: list[Node], quarter: int, axis: int) -> Fit:
    """Section 5: density, pull, spread, lean."""
    offsets = [[(p - q) // quarter for p, q in zip(j.known, node.centre, strict=True)] for j in neighbours]
    weights = [
        (1 + j.both) * (65536 // (8 + sum(o * o for o in offset)))
        for j, offset in zip(neighbours, offsets, strict=True)
    ]
    total = sum(weights)
    axes = range(3)
    first = [sum(w * o[b] for w, o in zip(weights, offsets, strict=True)) for b in axes]
    c = [(2 * first[b] + total) // (2 * total) for b in axes]
    e = [(32 * (first[b] - total * c[b]) + total) // (2 * total) for b in axes]
    u = [16 * c[b] + e[b] for b in axes]

    def covariance(b: int, d: int) -> int:
        second = sum(w * (o[b] - c[b]) * (o[d] - c[d]) for w, o in zip(weights, offsets, strict=True))
        return 256 * second // total - e[b] * e[d] + 164 * (b == d)

    xx, xy, xz = covariance(0, 0), covariance(0, 1), covariance(0, 2)
    yy, yz, zz = covariance(1, 1), covariance(1, 2), covariance(2, 2)
    a_xx, a_xy, a_xz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    a_yy, a_yz, a_zz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    determinant = xx * a_xx + xy * a_xy + xz * a_xz
    adjugate = ((a_xx, a_xy, a_xz), (a_xy, a_yy, a_yz), (a_xz, a_yz, a_zz))
    g = [sum(row[b] * u[b] for b in axes) for row in adjugate]
    distance = 16 * sum(g[b] * u[b] for b in axes) // determinant
    density = log2(total) - (log2(determinant) >> 1) - (185 * distance >> 4) + 1536
    spread = log2(determinant) - log2(adjugate[axis][axis])
    return density, 8192 * g[axis] // determinant, spread, u[axis]


def split_question(
    node: Node, depth: int, spare: int, left: int, wide: Fit, near: Fit
) -> tuple[list[int], tuple[int, int, int]]:
    """Section 6: inputs and context. ``left`` is n - i."""
    axis = depth % 3
    x = [0] * 16
    x[0], x[1], x[2] = 256, 256 * (axis == 0), 256 * (axis == 1)
    for k in range(4):
        x[3 + k] = 256 * (node.history >> k & 1)
    x[7] = clamp(log2(spare) - log2(left), -2304, 2304) // 3
    if not node.neighbours:
        x[8], x[9] = 256, 26 * min(node.loneliness, 20)
        strong, fine, rough = 0, 41 + min(node.loneliness, 22), 21 + min(node.loneliness, 10)
    else:
        for at, (density, pull, spread, _) in ((10, wide), (13, near)):
            x[at] = clamp(density, -2560, 2560) // 4
            x[at + 1] = min(abs(pull), 1536) // 3
            x[at + 2] = (spread - 3072) // 2
        strong = min(abs(wide[1]) >> 6, 7)
        fine, rough = 20 + clamp(wide[0] >> 7, -20, 20), 10 + clamp(wide[0] >> 8, -10, 10)
    return x, (3 * fine + axis, depth, 8 * rough + strong)


def side_question(node: Node, depth: int, wide: Fit, near: Fit) -> tuple[list[int], tuple[int, int, int], int]:
    """Section 7: inputs, context and sign."""
    x = []
    for _, pull, _, lean in (wide, near):
        sign = 1 if pull >= 0 else -1
        x += [clamp(pull, -1536, 1536) >> 1, sign * (log2(256 + 4 * abs(pull)) - 2048 >> 1), 4 * lean]
    _, pull, spread, _ = wide
    strength = min(log2(64 + abs(pull)) - 1536 >> 6, 23)
    context = (
        3 * strength + depth % 3,
        17 * strength + len(node.neighbours),
        16 * min(strength, 15) + clamp(spread - 2048 >> 7, 0, 15),
    )
    return x, context, 1 if pull >= 0 else -1


def decode(section: bytes, most: int | None = None) -> list[Point]:
    """The points of a positions section, in canonical order.

    Args:
        most: the header's number of anchors.

    Raises:
        Refused: with the code that the specification names.
    """
    bits, count, payload = header(section, most)
    coder = ArithmeticDecoder(payload)
    split, side = Model(SPLIT_WEIGHTS), Model(SIDE_WEIGHTS)
    level = [Node((2**bits, 2**bits, 2**bits))]
    for depth in range(3 * bits):
        axis, quarter = depth % 3, 2 ** (bits - 1 - depth // 3)
        made: list[Node] = []
        for i, node in enumerate(level):
            wide = near = (0, 0, 0, 0)
            if node.neighbours:
                wide = fit(node, node.neighbours, quarter, axis)
                near = fit(node, node.neighbours[:6], quarter, axis)
            left = len(level) - i
            spare = count - len(made) - left
            if spare > 0:
                node.both = split.decide(coder, *split_question(node, depth, spare, left, wide, near), 1)
            upper = 0
            if not node.both:
                if node.neighbours:
                    upper = side.decide(coder, *side_question(node, depth, wide, near))
                else:
                    upper = coder.bit(32768)
                node.known = moved(node.centre, axis, quarter if upper else -quarter)
            history = (2 * node.history + node.both) % 16
            if node.both or not upper:
                node.lower = Node(moved(node.centre, axis, -quarter), history)
            if node.both or upper:
                node.upper = Node(moved(node.centre, axis, quarter), history)
            made += node.halves
            if coder.read - 3 > len(payload):
                raise Refused("positions-truncated")
        for node in level:
            for half in node.halves:
                fill_list(half, node, 8 * 2 ** (bits + 1 - (depth + 1) // 3))
        level = made
    used = coder.read - 3
    if used > len(payload):
        raise Refused("positions-truncated")
    if len(level) != count or len(payload) != max(used, (count + 7) // 8) or any(payload[used:]):
        raise Refused("positions-malformed")
    points = ((x >> 1, y >> 1, z >> 1) for x, y, z in (node.centre for node in level))
    return list(points)


if __name__ == "__main__":
    for point in decode(Path(sys.argv[1]).read_bytes()):
        print(*point)
