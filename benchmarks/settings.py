"""What a benchmark over captures is asked for: which ones, in what size, and how adcgs-encode trains on them.

What the command would refuse is refused here, before anything runs.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from adcgs.cli.common import parse_background, parse_size
from adcgs.cli.encode import configure
from adcgs.cli.encode import main as encode_command
from adcgs.errors import AdcError, OptionError
from adcgs.scene import detect_layout
from adcgs.training import TrainingConfig
from adcgs.training.overrides import apply, parse_assignments
from command_lines import minutes, positive


@dataclass(frozen=True)
class Settings:
    """What a result depends on; a result with other settings is not reused."""

    capture: str
    minutes: float | None
    iterations: int | None
    downscale: float
    threads: int
    encode_args: tuple[str, ...]
    st_lpips: bool
    split: str = "test"  # of the views that are measured

    @property
    def scene(self) -> str:
        """The capture's name."""
        return Path(self.capture).name


def add_options(parser: argparse.ArgumentParser, output: str, jobs: int) -> None:
    """What every benchmark over captures can be told."""
    parser.add_argument("captures", type=Path, help="folder of captures, or one capture")
    parser.add_argument("--only", help="names of scenes, separated by commas")
    parser.add_argument("--downscale", nargs="+", action="extend", default=[], metavar="NAME=N", help="size per scene")
    parser.add_argument("--jobs", type=positive, default=jobs, metavar="N", help=f"at a time ({jobs})")
    parser.add_argument("--threads", type=positive, help="threads of each command (the machine's by --jobs)")
    parser.add_argument("--extra-encode-args", default="", metavar="ARGS", help="one string, for adcgs-encode")
    parser.add_argument("--st-lpips", action="store_true", help="measure ST-LPIPS as well")
    parser.add_argument("--force", action="store_true", help="run again what is already there")
    parser.add_argument("-o", "--output", type=Path, default=Path(output))


def add_length(parser: argparse.ArgumentParser, of: str, default: float | int) -> None:
    """How long a run trains: so many minutes (a float is the ``default``), or so many steps (an int is)."""
    steps = isinstance(default, int)
    group = parser.add_mutually_exclusive_group()
    said = f"training time {of}" + ("" if steps else f" ({default:g})")
    group.add_argument("--minutes", type=minutes, default=None if steps else default, help=said)
    said = f"training steps {of}" + (f" ({default})" if steps else "")
    group.add_argument("--iterations", type=positive, default=default if steps else None, help=said)


def settings_of(args: argparse.Namespace) -> list[Settings]:
    """One for each capture that was asked for.

    Raises:
        OptionError: among others for what adcgs-encode would refuse, before anything runs.
    """
    captures = find_captures(args.captures, args.only)
    downscales = find_downscales(args.downscale, [c.name for c in captures])
    try:
        extra = tuple(shlex.split(args.extra_encode_args))
    except ValueError as error:
        raise OptionError("bad-option", f"--extra-encode-args {args.extra_encode_args}: {error}") from None
    found = [
        Settings(
            capture=str(capture.resolve()),
            minutes=None if args.iterations else args.minutes,
            iterations=args.iterations,
            downscale=downscales.get(capture.name, 1.0),
            threads=args.threads or max(1, (os.cpu_count() or 1) // args.jobs),
            encode_args=extra,
            st_lpips=args.st_lpips,
            split=getattr(args, "split", "test"),
        )
        for capture in captures
    ]
    try:
        for settings in found:
            training_config(settings)
    except OptionError as error:
        given = f"--extra-encode-args {args.extra_encode_args}: " if extra else ""
        raise OptionError(error.code, f"{given}{error}") from None
    return found


def find_captures(folder: Path, only: str | None) -> list[Path]:
    """The captures in a folder, by name; or the folder itself where it is one."""
    if not folder.is_dir():
        raise OptionError("bad-option", f"{folder}: no such folder; give one of captures, or a capture")
    candidates = [folder] if is_capture(folder) else sorted(p for p in folder.glob("*") if is_capture(p))
    wanted = None if only is None else {name.strip() for name in only.split(",")}
    chosen = [path for path in candidates if wanted is None or path.name in wanted]
    missing = sorted((wanted or set()) - {path.name for path in chosen})
    if missing or not chosen:
        names = ", ".join(path.name for path in candidates) or "none"
        what = f"no capture {', '.join(missing)}" if missing else "holds no capture"
        raise OptionError("bad-option", f"{folder}: {what}; there are: {names}")
    return chosen


def is_capture(path: Path) -> bool:
    """Whether a folder is one, of any layout."""
    try:
        return path.is_dir() and bool(detect_layout(path))
    except AdcError:
        return False


def find_downscales(pairs: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """What each NAME=N gives, by name; ``names`` are the scenes' that are asked for."""
    found = {}
    for pair in pairs:
        name, _, factor = pair.partition("=")
        if name not in names:
            problem = f"--downscale {pair}: no capture {name} is asked for; there are: {', '.join(names)}"
            raise OptionError("bad-option", problem)
        try:
            found[name] = float(factor)
        except ValueError:
            found[name] = float("nan")
        if not 1 <= found[name] <= 1024:
            raise OptionError("bad-option", f"--downscale {pair}: give NAME=N, such as {names[0]}=2")
    return found


def encode_options(settings: Settings) -> list[str]:
    """The run's options of adcgs-encode."""
    length = (
        ["--minutes", str(settings.minutes)]
        if settings.iterations is None
        else ["--iterations", str(settings.iterations)]
    )
    return [*length, *size_of(settings), *threads_of(settings), *settings.encode_args]


def training_config(settings: Settings) -> TrainingConfig:
    """How the run trains, as adcgs-encode reads its options; cameras' colours are left out.

    Raises:
        OptionError: the command would refuse its options.
    """
    line = [settings.capture, "-o", "scene.adc", *encode_options(settings)]
    try:  # without --help, which would print its text and end
        given = encode_command.make_context("adcgs-encode", line, help_option_names=[]).params
    except click.ClickException as error:
        problem = f"{error.format_message().rstrip('.')}; adcgs-encode --help says what there is"
        raise OptionError("bad-option", problem) from None
    _leave_to_the_benchmark(settings, given)
    length = given["minutes"], given["iterations"]
    amounts = given["rate_lambda"], given["max_anchors"], given["voxel"], given["seed"] or 0
    base = configure(given["preset"] or "default", *length, *amounts)
    parse_background(given["background"])
    size = given["target_size"]
    return replace(
        apply(base, parse_assignments(given["assignments"])),
        target_bytes=None if size is None else parse_size(size),
        target_psnr=given["target_psnr"],
        target_weights=given["weights"] or "fp32",
    )


def _leave_to_the_benchmark(settings: Settings, given: Mapping[str, Any]) -> None:
    """Refuse options that a run gets from the benchmark: with others nothing would be found, or compared, behind it."""
    own = {"output": Path("scene.adc"), "downscale": settings.downscale, "threads": settings.threads}
    own |= {"minutes": settings.minutes, "iterations": settings.iterations, "resume": False, "checkpoint": None}
    if settings.iterations is not None:
        own["minutes"] = None
    for name, value in own.items():
        if given[name] != value:
            raise OptionError("bad-option", f"--{name} is the benchmark's to say; give it there, or leave it out")


def size_of(settings: Settings) -> list[str]:
    """The option for the size of the views."""
    return ["--downscale", str(settings.downscale)]


def threads_of(settings: Settings) -> list[str]:
    """The option for the number of threads."""
    return ["--threads", str(settings.threads)]
