"""Measures the position coder against TMC13: ``python benchmarks/positions.py CLOUDS [--json] [-o FOLDER]``.

CLOUDS holds NAME.npz files with an array ``xyz``, (N, 3) unsigned integers, and ``sizes.json``, which gives for each
NAME ``bits_per_axis`` and ``tmc13_octree_bytes``: the whole file of MPEG's G-PCC reference encoder, lossless octree.
Every cloud is encoded, decoded, and compared with its distinct points in Morton order; a difference ends the run.
A ratio is our bytes / TMC13's; seconds are processor time, after the kernels are compiled. Two clouds of 100,000 points
that a seed makes, at 12 and at the most bits, are timed as well. -o writes positions.csv and positions.md.
"""

from __future__ import annotations

import json
import platform
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
from adcgs.bitstream import write_atomically
from adcgs.errors import OptionError
from adcgs.evaluation.tables import Column, Value, markdown, write_csv
from adcgs.geometry import decode_positions, encode_positions, morton_order
from command_lines import Parser, one_line
from numpy.typing import NDArray

COLUMNS = [
    Column("cloud", "cloud"),
    Column("points", "points", ",.0f"),
    Column("bits", "bits per axis", ".0f"),
    Column("bytes", "bytes", ",.0f"),
    Column("tmc13_bytes", "TMC13", ",.0f"),
    Column("ratio", "ratio", ".4f"),
    Column("bits_per_point", "bits per point", ".3f"),
    Column("encode_seconds", "encode s", ".2f"),
    Column("decode_seconds", "decode s", ".2f"),
]
TIMED = {"synthetic_100k_b12": 12, "synthetic_100k_b21": 21}
TARGETS = "targets: mean 0.97 or less, none above 1.00; 100,000 points in 3 s each way"
Cloud = NDArray[np.unsignedinteger]
UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)  # JSON's, numpy's


def surfaces(count: int, bits: int, seed: int = 0) -> Cloud:
    """``count`` distinct points near twelve ellipsoids of all sizes: a scene's surfaces, a little noisy."""
    rng = np.random.default_rng(seed)
    shell = np.arange(count * 3 // 2) % 12
    centers, radii = rng.normal(0, 1, (12, 3)), np.exp(rng.uniform(-2, 0, (12, 3)))
    directions = rng.normal(0, 1, (len(shell), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = centers[shell] + radii[shell] * directions + rng.normal(0, 0.005, (len(shell), 3))
    low, high = points.min(axis=0), points.max(axis=0)
    grid = np.unique(np.round((points - low) / (high - low).max() * ((1 << bits) - 1)).astype(np.uint32), axis=0)
    return rng.permutation(grid)[:count]


def measure(name: str, xyz: Cloud, bits: int, tmc13: int | None) -> dict[str, Value]:
    """One line of the table; exits where the round trip is not exact."""
    distinct = np.unique(xyz, axis=0)
    expected = distinct[morton_order(distinct)]
    start = time.process_time()
    data = encode_positions(distinct)
    middle = time.process_time()
    decoded = decode_positions(data)
    end = time.process_time()
    if not np.array_equal(decoded, expected):
        sys.exit(f"error: {name}: the decoded points are not the cloud's; please report this as a bug")
    return {
        "cloud": name,
        "points": len(expected),
        "bits": bits,
        "bytes": len(data),
        "tmc13_bytes": tmc13,
        "ratio": None if tmc13 is None else round(len(data) / tmc13, 5),
        "bits_per_point": round(8 * len(data) / len(expected), 4),
        "encode_seconds": round(middle - start, 3),
        "decode_seconds": round(end - middle, 3),
    }


def clouds(folder: Path) -> list[tuple[str, Cloud, int, int]]:
    """(name, points, bits per axis, TMC13's bytes) of every cloud that ``sizes.json`` lists."""
    listed, reading = [], "sizes.json"
    try:
        sizes = json.loads((folder / reading).read_text(encoding="utf-8"))
        if not isinstance(sizes, dict):
            raise ValueError("is no object of clouds by name")
        for name, size in sorted(sizes.items()):
            reading = f"{name} in sizes.json"
            bits, tmc13 = (_count(size[key]) for key in ("bits_per_axis", "tmc13_octree_bytes"))
            reading = f"{name}.npz"
            with np.load(folder / reading) as file:
                listed.append((name, file["xyz"], bits, tmc13))
    except UNREADABLE as error:
        problem = f"{folder}: no folder of clouds with sizes.json (--help says what it holds): {reading}: {error}"
        raise OptionError("bad-option", problem) from None
    if not listed:
        raise OptionError("bad-option", f"{folder}: sizes.json lists no cloud")
    return listed


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is no number from 1 on")
    return value


def main() -> None:
    """Run what the command line asks for."""
    parser = Parser(__doc__)
    parser.add_argument("clouds", type=Path, metavar="CLOUDS")
    parser.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="keep the table as CSV and Markdown")
    options = parser.parse_args()

    decode_positions(encode_positions(surfaces(100, 8)))  # compiles
    rows = []
    for cloud in clouds(options.clouds):
        rows.append(measure(*cloud))
        print(f"{len(rows)} {cloud[0]}", file=sys.stderr)
    timed = [measure(name, surfaces(100_000, bits), bits, None) for name, bits in TIMED.items()]
    ratios = {str(row["cloud"]): float(row["ratio"] or 0) for row in rows}
    worst = max(ratios, key=ratios.__getitem__)
    mean = sum(ratios.values()) / len(ratios)

    table = markdown([*rows, *timed], COLUMNS)
    table += f"\nMean ratio {mean:.4f} over {len(rows)} clouds, worst {ratios[worst]:.4f} ({worst}); {TARGETS}.\n"
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        write_csv(options.output / "positions.csv", [*rows, *timed], COLUMNS)
        machine = f"Processor time on one core of {platform.machine()}, Python {platform.python_version()}."
        write_atomically(options.output / "positions.md", f"{table}\n{machine}\n".encode())
    if options.json:
        summary = {"mean_ratio": round(mean, 5), "worst_ratio": ratios[worst], "worst": worst}
        print(json.dumps({"clouds": rows, "timed": timed, **summary}))
    else:
        print(table, end="")


if __name__ == "__main__":
    one_line(main)
