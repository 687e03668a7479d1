"""What the fuzzer runs: readers that must accept an input or refuse it with a registered code."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adcgs import AdcError
from adcgs.bitstream import Container, Header, unpack_arrays, unpack_cameras, unpack_colors, unpack_view_colors

from . import samples

Target = Callable[[bytes], None]


def read_container(data: bytes) -> None:
    """The container, and the sections that this room reads, without torch."""
    for partial in (False, True):
        with Container.from_bytes(data, allow_partial=partial) as container:
            for name in container.names:
                if name in container:
                    container.read(name)
            Header.from_bytes(container.read("header"), minor=container.version[1])
            if "cameras" in container:
                unpack_cameras(container.read("cameras"), samples.FRAMES)
            if "camera_colors" in container:
                unpack_colors(container.read("camera_colors"))
            if "view_colors" in container:
                unpack_view_colors(container.read("view_colors"), samples.MODEL["reference_dim"])
            if "networks" in container:
                unpack_arrays(container.read("networks"), samples.LIGHT)


def inspect(data: bytes) -> None:
    """What adcgs-inspect does."""
    from adcgs.inspect import inspect_file

    with _on_disk(data) as path:
        report = inspect_file(path)
    assert sum(row.bytes for row in report.components) == report.bytes == len(data)


def decode(data: bytes) -> None:
    """What adcgs-decode does, whole and partial, to a small picture."""
    import torch
    from adcgs.decode import open_scene

    torch.set_num_threads(1)
    with _on_disk(data) as path:
        try:
            scene = open_scene(path)
        except AdcError as error:
            if error.code != "truncated":
                raise
            scene = open_scene(path, allow_partial=True)
    if scene.anchors <= 4 * samples.ANCHORS and scene.views:
        view = scene.views[-1]
        image = scene.render(view.camera.resized(8, 8), view.time, camera_id=0)
        assert image.shape == (8, 8, 3)


def dying(data: bytes) -> None:
    """Kills its process on one kind of damage: what the runner's own test watches it survive."""
    if _calls.append(data) or len(_calls) == _FATAL_CALL:
        os.kill(os.getpid(), signal.SIGKILL)


_calls: list[bytes] = []
_FATAL_CALL = 8  # after six clean warm-up calls and one input

TARGETS: dict[str, Target] = {"container": read_container, "inspect": inspect, "decode": decode, "dying": dying}


def outcome(target: Target, data: bytes) -> str:
    """``ok`` or the code of the refusal; whatever else the target raises is a finding and passes through."""
    try:
        target(data)
    except AdcError as error:
        if "\n" in str(error) or not error.code.replace("-", "").isalnum():
            raise AssertionError(f"not a one-line refusal with a kebab-case code: {error!r}") from error
        return error.code
    return "ok"


@contextmanager
def _on_disk(data: bytes) -> Iterator[Path]:
    memory = Path("/dev/shm")
    folder = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    path = folder / f"adcgs-fuzz-{os.getpid()}.adc"
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
