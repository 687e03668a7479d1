"""Cut the capture ``dn_knight`` down to the sample that ships in ``examples/knight``.

    python examples/make_knight.py path/to/dn_knight [examples/knight]

Frames are picked evenly in time, images halved by the area filter that ``--downscale`` uses (colours weighted by
alpha), transforms trimmed to the frames that are there. The same source gives the same files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from adcgs.scene.images import area_resize, open_image
from PIL import Image

SIDE = 200  # pixels
KEPT = {"train": 80, "test": 8, "val": 4}
MOST_BYTES = 2_700_000


def cut_split(source: Path, target: Path, split: str, count: int) -> None:
    """Copy ``count`` frames of a split, evenly spread from the first to the last."""
    document = json.loads((source / f"transforms_{split}.json").read_text())
    frames = document["frames"]
    picks = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    document["frames"] = [frames[i] for i in picks]
    for frame in document["frames"]:
        image = open_image(source / f"{frame['file_path']}.png").read()
        path = target / f"{frame['file_path']}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(area_resize(image, SIDE, SIDE)).save(path, optimize=True)
    (target / f"transforms_{split}.json").write_text(json.dumps(document, indent=1) + "\n")


def main(source: Path, target: Path) -> None:
    for split, count in KEPT.items():
        cut_split(source, target, split, count)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1e6:.2f} MB")
    if size > MOST_BYTES:
        raise SystemExit(f"{size} bytes are more than the {MOST_BYTES} that may ship")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent / "knight")
