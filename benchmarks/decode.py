"""From a file to its first frame, by part: ``python benchmarks/decode.py FILE [--threads N] [--json]``.

Every part is timed in the order in which a decoder does it, as medians over repeats in a process that has imported
its libraries and loaded its kernels. Symbols are all coded values: those of the hyperprior, f_v, sigma, colours, f_g.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from adcgs.bitstream import Container, unpack_arrays, unpack_cameras
from adcgs.decode import configurations, open_scene, read_header
from adcgs.entropy import SealedEntropyModel
from adcgs.geometry import decode_positions
from adcgs.model import network_shapes
from command_lines import Parser, one_line, positive
from heldout import first_camera


def parts(path: Path) -> dict[str, Callable[[], Any]]:
    """What a decoder does, one by one."""
    with Container.open(path) as container:
        data = {name: container.read(name) for name in container.names}
        header = read_header(container)
    config, entropy = configurations(header)
    shapes = network_shapes(config)
    streams = {name: data[name] for name in entropy.components}
    sealed = SealedEntropyModel.from_bytes(data["entropy"], entropy)
    decoded = open_scene(path)
    camera = first_camera(decoded)

    def read() -> None:
        with Container.open(path) as container:
            for name in container.names:
                container.read(name)

    def frame() -> None:
        decoded._primitives = None
        decoded.render(camera, 0.5)

    return {
        "read and check": read,
        "networks": lambda: unpack_arrays(data["networks"], shapes),
        "cameras": lambda: unpack_cameras(data["cameras"], header.frame_count),
        "positions": lambda: decode_positions(data["positions"], max_points=header.anchors),
        "entropy model": lambda: SealedEntropyModel.from_bytes(data["entropy"], entropy),
        "attributes": lambda: sealed.decompress(streams, header.anchors),
        "first frame": frame,
        "file to anchors": lambda: open_scene(path),
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = Parser(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steps = parts(options.file)
    times: dict[str, float] = {}
    for name, step in steps.items():
        step()
        taken = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            step()
            taken.append(1e3 * (time.perf_counter() - start))
        times[name] = round(statistics.median(taken), 2)
        print(f"{name:<16} {times[name]:8.1f} ms", file=sys.stderr)
    with Container.open(options.file) as container:
        header = read_header(container)
    _, entropy = configurations(header)
    symbols = header.anchors * sum(entropy.width(name) for name in entropy.components)
    rate = symbols / (times["file to anchors"] / 1e3) / 1e6
    size = options.file.stat().st_size
    print(
        f"{size} bytes, {symbols} symbols: {rate:.1f} million a second from file to anchors, networks included; "
        f"first frame after {times['file to anchors'] + times['first frame']:.0f} ms",
        file=sys.stderr,
    )
    if options.json:
        print(json.dumps({"bytes": size, "symbols": symbols, "million_symbols_per_second": rate, "ms": times}))


if __name__ == "__main__":
    one_line(main)
