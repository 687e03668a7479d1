"""``bitstream_spec/ENTROPY.md`` as a program: slow, in Python's own integers, sharing no code with adcgs."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

from .twins import BitDecoder, RangeDecoder

TABLES = json.loads((Path(__file__).parents[2] / "bitstream_spec" / "entropy_tables.json").read_text())
BIT = [32768, 32768]
Rows = list[list[int]]


def clamp(x: int, low: int, high: int) -> int:
    return max(low, min(high, x))


def rounded(x: int, shift: int) -> int:
    return (x + (1 << shift >> 1)) >> shift


class Symbols:
    """Section 3: the symbols of one stream, asked for group by group."""

    def __init__(self, coder: str, data: bytes) -> None:
        self.data = data
        self.whole = RangeDecoder(data) if coder == "constriction" else None

    def group(self, tables: Sequence[Sequence[int]]) -> list[int]:
        if self.whole is not None:
            return [self.whole.symbol(table) for table in tables]
        symbols: list[int] = []
        left, length = 0, -1
        for table in tables:
            if left == 0 or len(table) != length:
                size = int.from_bytes(self.data[:4], "little")
                block, self.data = BitDecoder(self.data[4 : 4 + size]), self.data[4 + size :]
                left, length = 16384, len(table)
            symbols.append(block.symbol(table))
            left -= 1
        return symbols


def residuals(coder: str, data: bytes, levels: list[int]) -> list[int]:
    """Section 2."""
    stream = Symbols(coder, data)
    order = sorted(range(len(levels)), key=lambda p: levels[p])
    tables = [TABLES["gaussian"][levels[p]] for p in order]
    symbols = stream.group([table["frequencies"] for table in tables])
    out = [0] * len(levels)
    escapes = []
    for p, table, symbol in zip(order, tables, symbols, strict=True):
        out[p] = symbol - table["reach"]
        if symbol == 2 * table["reach"] + 1:
            escapes.append((p, table["reach"]))
    lengths = stream.group([TABLES["magnitude"]] * len(escapes))
    bits = iter(stream.group([BIT] * (sum(lengths) + len(lengths))))
    for (p, reach), length in zip(escapes, lengths, strict=True):
        negative, a = next(bits), 1
        for _ in range(length):
            a = 2 * a + next(bits)
        out[p] = -(reach + a) if negative else reach + a
    return out


class Model:
    """Section 4. ``sizes`` has V, K, G, M, E, H, S, C; ``coder`` as in the header."""

    def __init__(self, data: bytes, sizes: dict[str, int], coder: str) -> None:
        self.data, self.sizes, self.coder = data, sizes, coder
        v, g, m, e, h, s, c = (sizes[letter] for letter in "VGMEHSC")
        self.w = sizes["K"] * g // m
        self.steps = {
            name: struct.unpack(f"<{count}f", self.take(4 * count))
            for name, count in (("f_v", v), ("sigma", s), ("color", c), ("f_g", g))
        }
        self.priors = [self.prior() for _ in range(e)]
        networks = {"f_v": (e, 2 * v + 1), "attributes": (v, 2 * (s + c) + 2 + m)}
        networks |= {f"f_g_{i}": (v + i * self.w, 2 * self.w) for i in range(m)}
        contexts = [("f_v", v), *((f"f_g_{i}", self.w) for i in range(m - 1))]
        counts = [width for _, width in contexts for _ in range(2)]
        shapes = {name: [(h, inputs), (h, h), (outputs, h)] for name, (inputs, outputs) in networks.items()}
        counts += [n for layers in shapes.values() for rows, inputs in layers for n in (rows * inputs, rows, rows)]
        arrays = iter(self.arrays(counts))
        self.contexts = {name: (next(arrays), next(arrays)) for name, _ in contexts}
        self.networks = {
            name: [
                ([*zip(*[iter(next(arrays))] * inputs, strict=True)], next(arrays), next(arrays))
                for _, inputs in layers
            ]
            for name, layers in shapes.items()
        }
        assert self.data == b""

    def take(self, size: int) -> bytes:
        part, self.data = self.data[:size], self.data[size:]
        return part

    def varint(self) -> int:
        byte = self.take(1)[0]
        return byte if byte < 128 else byte - 128 + 128 * self.varint()

    def prior(self) -> tuple[int, list[int]]:
        low, n = struct.unpack("<bB", self.take(2))
        frequencies = [self.varint() for _ in range(n - 1)]
        return low, [*frequencies, 65536 - sum(frequencies)]

    def arrays(self, counts: list[int]) -> list[list[int]]:
        heads = []
        for _ in counts:
            coded = self.varint()
            heads.append((coded // 2 if coded % 2 == 0 else -(coded + 1) // 2, *self.take(2)))
        stream = self.take(self.varint())
        levels = [level for (_, level, _), count in zip(heads, counts, strict=True) for _ in range(count)]
        high = iter(residuals(self.coder, stream, levels))
        bits = iter("".join(f"{byte:08b}" for byte in self.take(len(self.data))))
        out = []
        for (centre, _, k), count in zip(heads, counts, strict=True):
            low = [int("0" + "".join(next(bits) for _ in range(k)), 2) for _ in range(count)]
            out.append([centre + next(high) * (1 << k) + part for part in low])
        assert "1" not in "".join(bits)
        return out

    def network(self, name: str, x: list[int]) -> list[int]:
        """Section 5."""

        def affine(layer: tuple, x: list[int]) -> list[int]:
            return [
                rounded(sum(a * b for a, b in zip(row, x, strict=True)), shift) + bias
                for row, shift, bias in zip(*layer, strict=True)
            ]

        def leaky(a: int) -> int:
            return max(a, a >> 3)

        first, second, last = self.networks[name]
        h1 = [clamp(leaky(a), -32767, 32767) for a in affine(first, x)]
        h2 = [clamp(h + leaky(a), -32767, 32767) for h, a in zip(h1, affine(second, h1), strict=True)]
        return affine(last, h2)

    def context(self, name: str, values: Rows) -> Rows:
        offset, shift = self.contexts[name]
        return [
            [clamp(rounded(v - o, s), -32767, 32767) for v, o, s in zip(row, offset, shift, strict=True)]
            for row in values
        ]

    def decode(self, streams: dict[str, bytes], count: int) -> dict[str, Rows]:
        """Section 6: component -> N rows of integers."""
        v, m, s, c = (self.sizes[letter] for letter in "VMSC")
        eta_symbols = Symbols(self.coder, streams["hyper"]).group([f for _, f in self.priors for _ in range(count)])
        eta = [[low + eta_symbols[j * count + i] for j, (low, _) in enumerate(self.priors)] for i in range(count)]
        values = {"hyper": eta}

        def component(name: str, outputs: Rows, mean_at: int, level_at: int, width: int, factors: list[int]) -> None:
            index = [clamp(factor + 128, 0, 255) for factor in factors]
            mu = [[clamp(x, -(1 << 30), 1 << 30) for x in row[mean_at : mean_at + width]] for row in outputs]
            levels = [
                clamp((x - TABLES["log"][i] + 128) >> 8, 0, 63)
                for row, i in zip(outputs, index, strict=True)
                for x in row[level_at : level_at + width]
            ]
            r = residuals(self.coder, streams[name], levels) if name in streams else [0] * len(levels)
            values[name] = [
                [
                    clamp(r[a * width + b] * TABLES["factor"][index[a]] + mu[a][b], -(1 << 30), 1 << 30)
                    for b in range(width)
                ]
                for a in range(count)
            ]

        out = [self.network("f_v", [clamp(256 * x, -32767, 32767) for x in row]) for row in eta]
        component("f_v", out, 0, v, v, [row[2 * v] for row in out])
        context = self.context("f_v", values["f_v"])
        attributes = [self.network("attributes", row) for row in context]
        factors = [row[2 * (s + c) :] for row in attributes]
        component("sigma", attributes, 0, s + c, s, [row[0] for row in factors])
        component("color", attributes, s, s + c + s, c, [row[1] for row in factors])
        for i in range(m):
            name = f"f_g_{i}"
            out = [self.network(name, row) for row in context]
            component(name, out, 0, self.w, self.w, [row[2 + i] for row in factors])
            if i < m - 1:
                context = [a + b for a, b in zip(context, self.context(name, values[name]), strict=True)]
        return values

    def floats(self, values: dict[str, Rows], name: str) -> list[list[float]]:
        """float32(v) * (Q / 4096) of f_v, sigma or color, through struct's rounding to float32."""

        def float32(x: float) -> float:
            return float(struct.unpack("<f", struct.pack("<f", x))[0])

        # A product of two float32 has at most 48 bits, so the double is exact and rounds once.
        return [
            [float32(float32(v) * math.ldexp(q, -12)) for v, q in zip(row, self.steps[name], strict=True)]
            for row in values[name]
        ]


def digest(values: dict[str, Rows]) -> str:
    """SHA-256 in coding order; ``values`` is in that order."""
    numbers = [x for rows in values.values() for row in rows for x in row]
    return hashlib.sha256(struct.pack(f"<{len(numbers)}i", *numbers)).hexdigest()
