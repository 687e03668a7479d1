"""From one ``.adc`` file to images: read, rebuild the anchors, place the primitives at an instant, draw them.

Needs the file alone; imports neither the training nor the capture rooms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .bitstream import (
    CameraView,
    Container,
    Header,
    unpack_arrays,
    unpack_cameras,
    unpack_colors,
    unpack_view_colors,
)
from .camera import Camera, Similarity
from .errors import BitstreamError, OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .entropy import DecodedFeatures, EntropyConfig
    from .gaussians import Gaussians
    from .model import AnchorModel, ModelConfig, Primitives

MAX_THREADS = 1024
_ENTROPY_KEYS = ("chunks", "hyper", "hidden")


@dataclass
class DecodedScene:
    """A scene as its file describes it.

    Attributes:
        header: sizes, clip, similarity, background.
        model: the anchors with their decoded attributes, and the networks.
        views: the capture's cameras, in the normalised space.
        missing: sections that a cut file lacks; empty for a whole one.
        camera_colors: by camera id, the (3, 4) difference of what the camera shows to the scene's colours; empty for
            files without any.
    """

    path: Path
    header: Header
    model: AnchorModel
    views: list[CameraView]
    missing: tuple[str, ...] = ()
    camera_colors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    _primitives: Primitives | None = field(default=None, repr=False)

    @property
    def anchors(self) -> int:
        """Number of anchors."""
        return self.header.anchors

    @property
    def similarity(self) -> Similarity:
        """From the capture's world to the normalised space."""
        return self.header.similarity

    def gaussians_at(self, time: float) -> Gaussians:
        """All primitives at ``time`` in [0, 1]; what does not depend on time is computed once.

        Their colours are those that do not depend on the view; :meth:`AnchorModel.seen_from` gives a camera's.
        """
        import torch

        with torch.inference_mode():
            if self._primitives is None:
                self._primitives = self.model.predict(self.model.features)
            return self.model.deform(self.model.features, self._primitives, time)

    def render(
        self,
        camera: Camera,
        time: float,
        background: tuple[float, float, float] | None = None,
        camera_id: int | None = None,
    ) -> Tensor:
        """An image, (H, W, 3) float32 in [0, 1], of a camera in the normalised space at ``time`` in [0, 1].

        Args:
            background: instead of the capture's.
            camera_id: of one of the capture's cameras, to show the scene in that camera's own colours, as far as the
                file knows them. None shows the scene's.
        """
        import torch

        from .render import RasterSettings, render

        color = self.header.background if background is None else background
        with torch.inference_mode():
            gaussians = self.model.seen_from(camera, self.gaussians_at(time), self.model.features)
            behind = torch.tensor(color, dtype=torch.float32, device=gaussians.means.device)
            settings = RasterSettings(near=self.header.near, blur=self.header.blur)
            image = render(gaussians, camera, behind, settings).image
            row = None if camera_id is None else self.camera_colors.get(camera_id)
            if row is not None:
                difference = torch.from_numpy(row).to(image.device)
                image = image + image @ difference[:, :3].T + difference[:, 3]
            return image.clamp(0.0, 1.0)


def open_scene(
    path: str | Path, *, device: str = "cpu", threads: int | None = None, allow_partial: bool = False
) -> DecodedScene:
    """Decode a file into a scene that can be rendered.

    Args:
        device: a torch device, ``"cpu"`` or ``"cuda"``.
        threads: CPU threads; None leaves torch's choice.
        allow_partial: accept a cut file whose chunks of f_g are missing; they take their predicted mean.

    Raises:
        BitstreamError: with a stable code, for a file that is not as specified.
        OptionError: for a device that is not there.
    """
    import torch

    from .model import AnchorModel, ViewColors, network_shapes

    use_threads(threads)
    check_device(device)
    path = Path(path)
    with _naming(path), Container.open(path, allow_partial=allow_partial) as container:
        header = read_header(container)
        config, entropy = configurations(header)
        arrays = unpack_arrays(container.read("networks"), network_shapes(config))
        grid, decoded = _read_anchors(container, header, entropy)
        views = unpack_cameras(container.read("cameras"), header.frame_count) if "cameras" in container else []
        colors = unpack_colors(container.read("camera_colors")) if "camera_colors" in container else {}
        missing = tuple(container.missing)
        layer = None
        if "view_colors" in container:
            layer = unpack_view_colors(container.read("view_colors"), config.reference_dim)
    origin = torch.tensor(header.grid_origin, dtype=torch.float32)
    positions = origin + torch.from_numpy(grid.astype(np.float32)) * header.voxel
    model = AnchorModel(config, positions, decoded.features, folded=True)
    model.load_network_arrays({name: torch.from_numpy(array) for name, array in arrays.items()})
    if layer is not None:
        model.view_colors = ViewColors.from_arrays(*(torch.from_numpy(array) for array in layer))
    model.requires_grad_(False)
    return DecodedScene(path, header, model.to(device), views, missing, colors)


def decoded_digest(path: str | Path) -> str:
    """SHA-256 over positions (N x 3 uint32, little-endian) and the entropy model's digest; equal on every machine.

    All sections are read, so a file with a wrong checksum anywhere is refused.
    """
    with _naming(path), Container.open(path) as container:
        for name in container.names:  # what the digest does not cover has its checksum at least
            container.read(name)
        header = read_header(container)
        _, entropy = configurations(header)
        grid, decoded = _read_anchors(container, header, entropy)
    positions = np.ascontiguousarray(grid, dtype="<u4").tobytes()
    return hashlib.sha256(positions + bytes.fromhex(decoded.digest())).hexdigest()


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Sections do not know whose they are: their refusals get the file's name."""
    try:
        yield
    except BitstreamError as error:
        if str(error).startswith(str(path)):
            raise
        raise BitstreamError(error.code, f"{path}: {error}") from error


def _read_anchors(
    container: Container, header: Header, config: EntropyConfig
) -> tuple[NDArray[np.uint32], DecodedFeatures]:
    """Grid positions (N, 3) and attributes, in the same order: that of the decoded positions.

    Raises:
        BitstreamError: ``length-mismatch`` where the streams disagree on the number of anchors, and their own codes.
    """
    from .entropy import SealedEntropyModel
    from .geometry import decode_positions

    grid = decode_positions(container.read("positions"), max_points=header.anchors)
    if len(grid) != header.anchors:
        raise BitstreamError(
            "length-mismatch", f"positions: {len(grid)} points, the header says {header.anchors}; re-encode the file"
        )
    sealed = SealedEntropyModel.from_bytes(container.read("entropy"), config)
    # A chunk that the configuration does not have is read too: it is refused, not passed over.
    named = {*config.components, *(name for name in container.names if name.startswith("f_g_"))}
    streams = {name: container.read(name) for name in container.names if name in named and name in container}
    return grid, sealed.decompress(streams, len(grid), partial=bool(container.missing))


def read_header(container: Container) -> Header:
    """The header section of an open container."""
    return Header.from_bytes(container.read("header"), f"{container.source}: header", container.version[1])


def configurations(header: Header) -> tuple[ModelConfig, EntropyConfig]:
    """Model and entropy configuration as the header states them.

    Raises:
        BitstreamError: ``bad-header`` or ``bad-entropy-config``.
    """
    from .entropy import EntropyConfig
    from .model import ModelConfig

    model = ModelConfig.from_dict(header.config)
    sizes = {}
    for key in _ENTROPY_KEYS:
        value = header.config.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise BitstreamError("bad-header", f"model configuration: '{key}' is {value!r}; re-encode the file")
        sizes[key] = value
    entropy = EntropyConfig(
        f_v=model.reference_dim,
        primitives=model.primitives,
        f_g=model.residual_dim,
        coder=header.coder,
        **sizes,
    )
    return model, entropy


def use_threads(threads: int | None) -> None:
    """Limit torch, and with it the rasterizer, to a number of CPU threads.

    Raises:
        OptionError: ``bad-option``.
    """
    import torch

    if threads is None:
        return
    if not 1 <= threads <= MAX_THREADS:
        raise OptionError("bad-option", f"--threads is {threads}; give 1 to {MAX_THREADS}")
    torch.set_num_threads(threads)


def check_device(device: str) -> None:
    """Raises OptionError ``no-device`` for a device that torch cannot use here."""
    import torch

    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise OptionError("no-device", f"--device {device!r} is not a torch device; use cpu or cuda") from None
    if wanted.type not in ("cpu", "cuda"):
        raise OptionError("no-device", f"--device {device!r} is not supported; use cpu or cuda")
    if wanted.type == "cpu":
        return
    if not torch.cuda.is_available():
        raise OptionError("no-device", f"--device {device!r}: torch sees no CUDA device here; use --device cpu")
    if (wanted.index or 0) >= torch.cuda.device_count():
        last = f"cuda:{torch.cuda.device_count() - 1}"
        raise OptionError("no-device", f"--device {device!r}: the last that torch sees here is {last}; use that")
