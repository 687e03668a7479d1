"""PSNR against the bytes that were read: ``python benchmarks/prefix.py FILE SCENE [-o OUT.csv]``.

A file is cut behind every section from which on it can be rendered (positions, f_v, sigma and colours must be there,
the chunks of f_g may be missing), decoded as ``adcgs-decode --partial`` does, and compared on held-out views of the
capture that it was made from.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from adcgs.bitstream import Container
from adcgs.evaluation.tables import Value
from command_lines import Parser, one_line, positive
from heldout import heldout_psnr, load_scene_of, write_rows


def boundaries(path: Path) -> list[tuple[int, str]]:
    """(bytes, the last section that is whole) of every prefix that can be rendered."""
    with Container.open(path) as container:
        found = [(entry.end, entry.name) for entry in container]
    first = next(i for i, (_, name) in enumerate(found) if name.startswith("f_g_")) - 1
    return found[first:]


def main() -> None:
    """Run what the command line asks for."""
    parser = Parser(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--views", type=positive, default=20, help="held-out views, evenly spread")
    parser.add_argument("-o", "--output", type=Path, help="CSV")
    options = parser.parse_args()
    cuts, data = boundaries(options.file), options.file.read_bytes()  # before the capture, which may take minutes
    scene = load_scene_of([options.file], options.scene)
    rows: list[dict[str, Value]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size, name in cuts:
            cut = Path(folder) / "cut.adc"
            cut.write_bytes(data[:size])
            quality = round(heldout_psnr(cut, scene, options.views), 3)
            rows.append({"scene": options.scene.name, "bytes": size, "last": name, "psnr": quality})
            print(f"{size:>9} bytes, up to {name:<6} {quality:7.2f} dB", file=sys.stderr)
    if options.output:
        write_rows(options.output, rows)


if __name__ == "__main__":
    one_line(main)
