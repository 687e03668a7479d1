"""A file's scene as one SPZ file per frame of the clip: ``python benchmarks/spz_frames.py SCENE FILE [FILE ...]``.

What playing the scene would take with the format that static splats are passed on in, and what its quantisation costs:
total bytes over the clip's frames, and PSNR on held-out views drawn from what was read back. Positions get 16 bits
after the point, since a scene here has unit size (SPZ's default of 12 is meant for metres).

Needs the package gsply (the extra ``spz``), a writer and reader of Niantic's SPZ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from adcgs.decode import DecodedScene, open_scene
from adcgs.errors import OptionError
from adcgs.evaluation.matching import camera_in_file
from adcgs.evaluation.metrics import psnr
from adcgs.evaluation.tables import Column, Value, markdown, write_csv
from adcgs.scene import Scene
from command_lines import Parser, one_line
from heldout import load_scene_of

if TYPE_CHECKING:
    from adcgs.gaussians import Gaussians

FRACTIONAL_BITS = 16
SH_C0 = 0.28209479177387814  # the constant spherical harmonic: colour = 0.5 + SH_C0 * coefficient
COLUMNS = [
    Column("scene", "scene"),
    Column("method", "method"),
    Column("frames", "frames"),
    Column("bytes", "bytes", ",.0f"),
    Column("psnr", "PSNR", ".2f"),
    Column("of", "the scene of"),
]


def available() -> bool:
    """Whether gsply is there."""
    from importlib.util import find_spec

    return find_spec("gsply") is not None


def write(gaussians: Gaussians, path: Path) -> int:
    """Gaussians to an SPZ file; its bytes."""
    from gsply import GSData, write_spz

    def numpy(value: object) -> np.ndarray:  # type: ignore[type-arg]
        return np.ascontiguousarray(value.detach().cpu().numpy(), np.float32)  # type: ignore[attr-defined]

    opacity = numpy(gaussians.opacities).clip(1e-6, 1 - 1e-6)
    data = GSData(
        means=numpy(gaussians.means),
        scales=np.log(numpy(gaussians.scales)),
        quats=numpy(gaussians.quaternions),
        opacities=np.log(opacity / (1 - opacity)),
        sh0=(numpy(gaussians.colors) - 0.5) / SH_C0,
        shN=None,  # type: ignore[arg-type]
    )
    write_spz(path, data, fractional_bits=FRACTIONAL_BITS)
    return path.stat().st_size


def read(path: Path) -> Gaussians:
    """The Gaussians of an SPZ file."""
    import torch
    from adcgs.gaussians import Gaussians
    from gsply import read_spz

    data = read_spz(path)
    means, scales, quaternions, opacity, color = (
        torch.from_numpy(np.array(v, np.float32))
        for v in (data.means, data.scales, data.quats, data.opacities, data.sh0)
    )
    opacity = torch.sigmoid(opacity.flatten())
    return Gaussians(
        means, torch.nn.functional.normalize(quaternions, dim=-1), scales.exp(), opacity, 0.5 + SH_C0 * color
    )


def measure(decoded: DecodedScene, scene: Scene, folder: Path) -> dict[str, Value]:
    """Bytes of all frames of the clip, and PSNR of the held-out views from what was written."""
    import torch
    from adcgs.render import RasterSettings, render

    if decoded.model.view_colors is not None:
        problem = f"{decoded.path}: its colours depend on the view, which is not written here; give a file without"
        raise OptionError("no-export", problem)
    frames, path = decoded.header.frame_count, folder / "frame.spz"
    size = sum(write(decoded.gaussians_at(k / max(frames - 1, 1)), path) for k in range(frames))
    background = torch.tensor(decoded.header.background)
    settings, scores = RasterSettings(near=decoded.header.near, blur=decoded.header.blur), []
    for frame in scene.split("test"):
        write(decoded.gaussians_at(frame.time), path)
        with torch.inference_mode():
            image = render(read(path), camera_in_file(decoded, scene, frame), background, settings).image.clamp(0, 1)
        scores.append(psnr(image.numpy(), scene.target(frame)))
    return {"frames": frames, "bytes": size, "psnr": float(np.mean(scores)) if scores else None}


def compare(capture: Path, files: Sequence[Path]) -> list[dict[str, Value]]:
    """A row per file."""
    scene = load_scene_of(files, capture)
    rows: list[dict[str, Value]] = []
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(open_scene(file), scene, Path(folder))
        rows.append({"scene": scene.root.name, "method": "SPZ per frame", **row, "of": str(file)})
    return rows


def main() -> None:
    """Run what the command line asks for."""
    parser = Parser(__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, help="CSV")
    options = parser.parse_args()
    if not available():
        raise OptionError("no-gsply", "SPZ needs the package gsply: pip install 'adcgs[spz]'")
    rows = compare(options.scene, options.files)
    print(markdown(rows, COLUMNS))
    if options.output:
        write_csv(options.output, rows, COLUMNS)


if __name__ == "__main__":
    one_line(main)
