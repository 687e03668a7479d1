"""Where a file's bytes go: the report behind ``adcgs-inspect``. Reads the header and two tables of contents only,
unless it is asked to check the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .bitstream import MAX_DIRECTORY, Container, Entry, Header, array_sizes
from .errors import BitstreamError

GROUPS = {
    "reference": "reference feature f_v",
    "residual": "residual feature f_g",
    "attributes": "explicit attributes",
    "networks": "networks",
    "container": "container",
}
"""The paper's four components (section 4.3, Figure 6) and what a file needs besides, with titles for people."""

_GROUP_OF = {
    "hyper": "reference",
    "f_v": "reference",
    "sigma": "attributes",
    "color": "attributes",
    "positions": "attributes",
    "networks": "networks",
    "entropy": "networks",
    "view_colors": "networks",
}
_POSITION_AXES, _SIGMA, _COLOR = 3, 6, 3


@dataclass(frozen=True)
class Component:
    """One row of the report.

    Attributes:
        name: the section, or ``networks.<group>`` for a part of one.
        group: key of :data:`GROUPS`.
        bytes: in this file.
        share: of the file, 0 to 1.
        coefficients: numbers per anchor that it codes; None where it codes no such numbers.
        bits_per_anchor: its bits over the number of anchors.
        bits_per_coefficient: the same by coefficient; None where there are none, or some are cut off.
        complete: False where the file was cut before the component's end.
    """

    name: str
    group: str
    bytes: int
    share: float
    coefficients: int | None
    bits_per_anchor: float
    bits_per_coefficient: float | None
    complete: bool


@dataclass(frozen=True)
class Report:
    """What a file holds and what each part costs; ``components`` sum exactly to ``bytes``.

    Attributes:
        bytes: size of the file as it is; ``bytes_expected`` what it was before it was cut, if it was.
        missing: sections that are not complete.
        damaged: sections whose checksum is wrong, as far as they were read.
        checked: whether all were read.
        weights: how the networks are stored, None where they are missing or damaged.
    """

    path: str
    bytes: int
    bytes_expected: int
    missing: list[str]
    damaged: list[str]
    checked: bool
    version: str
    header: Header
    weights: str | None
    components: list[Component]

    @property
    def groups(self) -> dict[str, int]:
        """Bytes of each of :data:`GROUPS`."""
        totals = dict.fromkeys(GROUPS, 0)
        for component in self.components:
            totals[component.group] += component.bytes
        return totals

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        header = self.header
        return {
            "file": self.path,
            "bytes": self.bytes,
            "bytes_expected": self.bytes_expected,
            "complete": not self.missing,
            "missing": self.missing,
            "checked": self.checked,
            "damaged": self.damaged,
            "format": self.version,
            "encoder": header.encoder,
            "coder": header.coder,
            "weights": self.weights,
            "anchors": header.anchors,
            "frame_count": header.frame_count,
            "frame_rate": header.frame_rate,
            "bits_per_anchor": 8 * self.bytes / header.anchors,
            "similarity": {"scale": header.scale, "center": list(header.center)},
            "background": list(header.background),
            "grid": {"origin": list(header.grid_origin), "voxel": header.voxel},
            "blur": header.blur,
            "config": dict(header.config),
            "groups": self.groups,
            "components": [asdict(component) for component in self.components],
        }


def inspect_file(path: str | Path, *, check: bool = False) -> Report:
    """Take a file apart without decoding it; a cut or damaged one as far as it goes.

    Args:
        check: read all sections to compare their checksums, not only what the report needs.

    Raises:
        BitstreamError: the table of contents or the header cannot be read.
        OSError: the file cannot be read.
    """
    with Container.open(path, allow_partial=True) as container:
        header = Header.from_bytes(container.read("header"), f"{path}: header", container.version[1])
        weights, rows, damaged = _rows(container)
        components = [_component(name, size, complete, container.size, header) for name, size, complete in rows]
        return Report(
            path=str(path),
            bytes=container.size,
            bytes_expected=container.end,
            missing=container.missing,
            damaged=container.damaged() if check else damaged,
            checked=check,
            version=".".join(map(str, container.version)),
            header=header,
            weights=weights,
            components=components,
        )


def _rows(container: Container) -> tuple[str | None, list[tuple[str, int, bool]], list[str]]:
    """How weights are stored; (name, bytes in the file, complete) of each component in file order; what is damaged."""
    weights, damaged = None, []
    rows = [("table of contents", container.overhead, True)]
    for entry in container:
        complete = entry.name in container
        networks = None
        if entry.name == "networks" and complete:
            weights, networks = _networks(container, entry)
            if networks is None:
                damaged.append(entry.name)
        whole = [(entry.name, max(0, min(entry.end, container.size) - entry.offset), complete)]
        rows += whole if networks is None else networks
    return weights, rows, damaged


def _networks(container: Container, entry: Entry) -> tuple[str | None, list[tuple[str, int, bool]] | None]:
    """How weights are stored, and rows by network; None for both where the section's checksum is wrong."""
    source = f"{container.source}: networks"
    try:
        weights, sizes = array_sizes(container.peek(entry.name, MAX_DIRECTORY), entry.length, source)
    except BitstreamError:
        if entry.name not in container.damaged():
            raise
        return None, None
    rows = [(f"networks.{name}", size, True) for name, size in sizes.items()]
    return weights, [("networks.directory", entry.length - sum(sizes.values()), True), *rows]


def _component(name: str, size: int, complete: bool, total: int, header: Header) -> Component:
    coefficients = _coefficients(name, header.config)
    bits = 8 * size / header.anchors
    return Component(
        name=name,
        group=_group(name),
        bytes=size,
        share=size / total,
        coefficients=coefficients,
        bits_per_anchor=bits,
        bits_per_coefficient=bits / coefficients if coefficients and complete else None,
        complete=complete,
    )


def _group(name: str) -> str:
    if name.startswith("f_g_"):
        return "residual"
    return _GROUP_OF.get(name.split(".")[0], "container")


def _coefficients(name: str, config: Mapping[str, object]) -> int | None:
    """Numbers per anchor that a section codes, as far as the configuration says."""
    fixed = {"positions": _POSITION_AXES, "sigma": _SIGMA, "color": _COLOR}
    if name in fixed:
        return fixed[name]
    if name.startswith("f_g_"):
        size = 1
        for value in _integers(config, "primitives", "residual_dim"):
            size *= value
        chunks = next(_integers(config, "chunks"), 0)
        return size // chunks if chunks > 0 and size > 1 else None
    key = {"f_v": "reference_dim", "hyper": "hyper"}.get(name, "")
    return next(_integers(config, key), None)


def _integers(config: Mapping[str, object], *keys: str) -> Iterator[int]:
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            yield value
