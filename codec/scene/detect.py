"""Which layout a capture has, told by what lies in its folder, and the reader that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .capture import Capture
from .checks import scene_error
from .dnerf import read_dnerf
from .nerfies import read_nerfies
from .nerfstudio import read_nerfstudio
from .neural3d import read_neural3d
from .panoptic import read_panoptic

Progress = Callable[[str, float], None]

# layout: the files and folders that make it out
LAYOUTS: dict[str, tuple[str, ...]] = {
    "dnerf": ("transforms_train.json",),
    "nerfies": ("dataset.json", "metadata.json", "camera", "rgb"),
    "neural3d": ("poses_bounds.npy",),
    "panoptic": ("train_meta.json", "ims"),
    "nerfstudio": ("transforms.json",),
}


def detect_layout(root: Path) -> str:
    """The one layout whose files are all there.

    Raises:
        SceneError: unknown-layout with what was looked for, or ambiguous-layout when several fit.
    """
    root = Path(root)
    found = [name for name, signs in LAYOUTS.items() if all((root / sign).exists() for sign in signs)]
    if len(found) == 1:
        return found[0]
    if found:
        raise scene_error(
            "ambiguous-layout", root, "", f"fits {' and '.join(found)}", f"choose one, such as --layout {found[0]}"
        )
    wanted = "; ".join(f"{name}: {', '.join(signs)}" for name, signs in LAYOUTS.items())
    raise scene_error(
        "unknown-layout", root, "", f"no known layout (looked for {wanted})", "check the folder or give --layout"
    )


def read_capture(
    root: Path, layout: str, downscale: float, cache_dir: Path | None, progress: Progress | None
) -> Capture:
    """Read the capture with the layout's reader.

    Raises:
        SceneError: unknown-layout for a name that is none, and whatever the reader refuses.
    """
    simple = {
        "dnerf": read_dnerf,
        "nerfies": read_nerfies,
        "panoptic": read_panoptic,
        "nerfstudio": read_nerfstudio,
    }
    if layout in simple:
        return simple[layout](root)
    if layout == "neural3d":
        return read_neural3d(root, downscale, cache_dir, progress)
    raise scene_error("unknown-layout", root, "", f"{layout!r} is no layout", f"choose from {', '.join(LAYOUTS)}")
