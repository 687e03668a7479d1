"""Learns the weights that the position coder starts with, from clouds that a seed makes.

    python benchmarks/position_weights.py

Prints the two tuples of ``codec/geometry/logistic.py``. They are part of the format: whoever changes them
changes what a stream means. No measured cloud is used, so that benchmarks/positions.py stays a fair test.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from adcgs.geometry._octree import SIDE_INPUTS, SPLIT_INPUTS, code_tree
from adcgs.geometry.logistic import new_model
from adcgs.geometry.morton import morton_codes, morton_points
from numpy.typing import NDArray

Points = NDArray[np.float64]


def on_surfaces(rng: np.random.Generator, count: int) -> Points:
    """Patches of planes and ellipsoids with noise, sizes and densities of all orders, and some strays."""
    parts = []
    shares = rng.dirichlet(np.full(rng.integers(4, 40), 0.7))
    for share in shares:
        n = int(share * count)
        center, size = rng.normal(0, 1, 3), np.exp(rng.uniform(-3, 0.5))
        if rng.random() < 0.5:
            local = rng.uniform(-1, 1, (n, 3)) * [1, rng.uniform(0.1, 1), 0]
        else:
            local = rng.normal(0, 1, (n, 3))
            local *= rng.uniform(0.2, 1, 3) / np.linalg.norm(local, axis=1, keepdims=True)
        keep = rng.random(n) < np.exp(-rng.uniform(0, 2) * np.abs(local[:, 0]))
        rotation, _ = np.linalg.qr(rng.normal(0, 1, (3, 3)))
        noise = np.exp(rng.uniform(-7, -3)) * rng.standard_t(3, (n, 3))
        parts.append((center + size * local @ rotation.T + noise)[keep])
    parts.append(rng.normal(0, 1, (count // rng.integers(15, 100), 3)) * rng.uniform(0.5, 2))
    return np.concatenate(parts)


def in_clumps(rng: np.random.Generator, count: int) -> Points:
    """Clumps of clumps, flattened and stretched at random, as an optimiser that clones leaves them."""
    points = rng.normal(0, 1, (8, 3))
    while len(points) < count:
        grown = points[rng.integers(0, len(points), min(count - len(points), 3 * len(points)))]
        axes = np.exp(rng.normal(-0.5, 0.8, 3))
        spread = 0.9 * len(points) ** -rng.uniform(0.25, 0.55)
        points = np.concatenate([points, grown + spread * axes * rng.normal(0, 1, grown.shape)])
    return points


def voxelised(points: Points, bits: int) -> NDArray[np.int64]:
    """Distinct grid points in Morton order; strays beyond the 99.8th percentile are left out."""
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    points = points[((points >= low) & (points <= high)).all(axis=1)]
    grid = (points - low) / (high - low).max() * ((1 << bits) - 1)
    return morton_points(np.unique(morton_codes(np.round(grid).astype(np.int64)))).astype(np.int64)


def clouds(seed: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """48 clouds of 2,000 to 20,000 points at 9 to 15 bits per axis."""
    rng = np.random.default_rng(seed)
    for i in range(48):
        make = in_clumps if i % 2 else on_surfaces
        bits = int(rng.integers(9, 16))
        yield voxelised(make(rng, int(np.exp(rng.uniform(np.log(2000), np.log(20000))))), bits), bits


def main() -> None:
    """Print the weights that the corpus gives."""
    corpus = list(clouds(20250101))
    split, side = np.zeros(SPLIT_INPUTS), np.zeros(SIDE_INPUTS)
    rng = np.random.default_rng(0)
    for step in (1.0, 1.0, 0.5, 0.25, 0.12, 0.06, 0.03):
        total = 0
        for i in rng.permutation(len(corpus)):
            points, bits = corpus[i]
            model = new_model()
            model.split_weights[:], model.side_weights[:] = np.round(split), np.round(side)
            total += code_tree(False, np.zeros(4 * len(points), np.uint8), points, len(points), bits, model)[1]
            split += step * (model.split_weights - split)
            side += step * (model.side_weights - side)
        print(f"# step {step}: {8 * total / sum(len(points) for points, _ in corpus):.4f} bits per point")
    # Twelve of the twenty-four fractional bits are plenty, and are shorter to write down.
    for name, weights in (("SPLIT_WEIGHTS", split), ("SIDE_WEIGHTS", side)):
        print(f"{name} = ({', '.join(f'{round(w / 4096)} << 12' for w in weights)})")


if __name__ == "__main__":
    main()
