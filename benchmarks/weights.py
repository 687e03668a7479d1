"""What fp16 and int8 network weights cost: ``python benchmarks/weights.py FILE SCENE [-o OUT.csv]``.

A file with fp32 networks, whose training knew of no others, is written again with the other kinds of weights,
everything else alike, and each is decoded and compared on held-out views of the capture that it was made from.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from adcgs.bitstream import Container, array_sizes, pack_arrays, unpack_arrays, write_container
from adcgs.decode import configurations, open_scene, read_header
from adcgs.errors import OptionError
from adcgs.evaluation.tables import Value
from adcgs.model import network_shapes
from adcgs.training.rounding import round_networks
from command_lines import Parser, one_line, positive
from heldout import heldout_psnr, load_scene_of, write_rows

KINDS = ("fp32", "fp16", "int8")


def rewrite(source: Path, target: Path, kind: str) -> int:
    """The file with its networks stored as ``kind``; bytes of the networks."""
    with Container.open(source) as container:
        sections = {name: container.read(name) for name in container.names}
        config, _ = configurations(read_header(container))
    if kind == "int8":  # as the encoder does for a run that was not told of eight bits
        model = open_scene(source).model
        arrays, rounded = round_networks(model, model.features)
    else:
        arrays, rounded = unpack_arrays(sections["networks"], network_shapes(config)), {}
    sections["networks"] = pack_arrays(arrays, kind, rounded=rounded)  # type: ignore[arg-type]
    write_container(target, list(sections.items()))
    return len(sections["networks"])


def require_fp32(file: Path) -> None:
    """Refuse a file that has lost already what is to be measured: OptionError."""
    with Container.open(file) as container:
        kind, _ = array_sizes(container.read("networks"))
    if kind != "fp32":
        raise OptionError("bad-option", f"{file}: its networks are {kind}; encode with --weights fp32")


def main() -> None:
    """Run what the command line asks for."""
    parser = Parser(__doc__)
    parser.add_argument("file", type=Path, help="made with --weights fp32, the default")
    parser.add_argument("scene", type=Path)
    parser.add_argument("--views", type=positive, default=20, help="held-out views, evenly spread")
    parser.add_argument("-o", "--output", type=Path, help="CSV")
    options = parser.parse_args()
    require_fp32(options.file)
    scene = load_scene_of([options.file], options.scene)
    rows: list[dict[str, Value]] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            target = Path(folder) / f"{kind}.adc"
            networks = rewrite(options.file, target, kind)
            quality = heldout_psnr(target, scene, options.views)
            rows.append({"scene": options.scene.name, "weights": kind, "bytes": target.stat().st_size,
                         "network_bytes": networks, "psnr": round(quality, 3)})  # fmt: skip
            lost = rows[0]["psnr"] - rows[-1]["psnr"]  # type: ignore[operator]
            print(f"{kind}  {target.stat().st_size:>9} bytes  {quality:7.3f} dB  lost {lost:6.3f}", file=sys.stderr)
    if options.output:
        write_rows(options.output, rows)


if __name__ == "__main__":
    one_line(main)
