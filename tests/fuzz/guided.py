"""A coverage-guided run over the sections' contents, with atheris (``pip install atheris``; Linux).

    python -m tests.fuzz.guided out/corpus -max_total_time=600 -rss_limit_mb=4096

Arguments are libFuzzer's. An input is one byte that chooses a section, and the section's new content: the file
around it is valid, checksums included, so that coverage leads into the decoders instead of ending at the first
checksum. The corpus folder is seeded with the sample's own sections. Findings go into ``tests/attacks/corpus.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

# numba cannot compile instrumented code: what holds kernels comes first, as it is.
import adcgs.geometry
import adcgs.render
import atheris

with atheris.instrument_imports(include=["adcgs"], exclude=["adcgs.geometry", "adcgs.render", "adcgs.model"]):
    import adcgs.bitstream
    import adcgs.decode
    import adcgs.entropy  # noqa: F401

from . import samples
from .mutators import assemble, rows_of
from .targets import TARGETS, outcome


def file_of(data: bytes) -> bytes:
    """The file that an input stands for."""
    if not data:
        return b""
    weights = "int8" if data[0] & 0x80 else "fp32"
    sections = dict(samples.sections(weights))  # type: ignore[arg-type]
    sections[list(sections)[(data[0] & 0x7F) % len(sections)]] = data[1:]
    return assemble(rows_of(sections))


def seed(folder: Path) -> None:
    """Write the sample's sections as first inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    for flag, weights in ((0, "fp32"), (0x80, "int8")):
        for index, (name, content) in enumerate(samples.sections(weights).items()):  # type: ignore[arg-type]
            (folder / f"{weights}-{name}").write_bytes(bytes([flag | index]) + content)


def main() -> None:
    """Hand over to libFuzzer."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        seed(Path(sys.argv[1]))
    # Valid seeds all cover the same, and libFuzzer would drop all but the shortest, then stay that short.
    options = [*sys.argv, "-keep_seed=1", "-len_control=0"]
    atheris.Setup(options, lambda data: outcome(TARGETS["decode"], file_of(data)) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
