"""One capture encoded, inspected and evaluated by the installed commands; results that are kept, and their tables.

What the benchmarks over captures (scenes.py, ablation.py, rate_distortion.py) share. A run has a folder: its settings,
the file, every command's report and log. A result that is there with the same settings is not measured again, and a
training that was interrupted goes on; with other settings it is made anew, which is said. Whether the code has changed
since is not noticed: give another OUTPUT then. A folder that no run made is never deleted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import numpy as np
from adcgs.bitstream import write_atomically
from adcgs.cli.common import EXIT_INTERRUPTED, EXIT_REFUSED, handle_errors, parse_background, parse_size
from adcgs.cli.encode import configure, without_preset
from adcgs.cli.encode import main as encode_command
from adcgs.errors import AdcError, OptionError
from adcgs.evaluation.tables import Column, Value
from adcgs.scene import detect_layout
from adcgs.training import TrainingConfig
from adcgs.training.overrides import apply, parse_assignments

if TYPE_CHECKING:
    from adcgs.camera import Camera
    from adcgs.decode import DecodedScene

Row = dict[str, Value]
Task = TypeVar("Task")
Result = TypeVar("Result")

QUALITY = [
    Column("scene", "scene"),
    Column("size", "size"),
    Column("views", "views"),
    Column("psnr", "PSNR", ".2f"),
    Column("psnr_dynamic", "PSNR moving", ".2f"),
    Column("psnr_foreground", "PSNR foregr.", ".2f"),
    Column("psnr_color", "PSNR, colours fitted", ".2f"),
    Column("ssim", "SSIM", ".4f"),
    Column("ms_ssim", "MS-SSIM", ".4f"),
    Column("lpips", "LPIPS", ".4f"),
    Column("st_lpips", "ST-LPIPS", ".4f"),
    Column("psnr_model", "PSNR in memory", ".2f"),
    Column("psnr_loss", "lost by coding", ".3f"),
    Column("psnr_rounding", "lost by rounding", ".2f"),
    Column("fps", "fps", ".1f"),
]
BYTES = [
    Column("scene", "scene"),
    Column("bytes", "bytes", ",.0f"),
    Column("positions", "positions", ",.0f"),
    Column("f_v", "f_v + hyper", ",.0f"),
    Column("f_g", "f_g", ",.0f"),
    Column("sigma", "Sigma", ",.0f"),
    Column("color", "C", ",.0f"),
    Column("networks", "networks", ",.0f"),
    Column("rest", "cameras, header", ",.0f"),
    Column("anchors", "anchors", ",.0f"),
    Column("bits_per_coefficient", "bits/coeff.", ".2f"),
    Column("minutes", "train min", ".1f"),
    Column("iterations", "steps", ",.0f"),
]
SECTIONS = {
    "positions": ("positions",),
    "f_v": ("f_v", "hyper"),
    "f_g": ("f_g",),
    "sigma": ("sigma",),
    "color": ("color",),
    "networks": ("networks", "entropy", "view_colors"),
}
MODEL_VIEWS = 20  # adcgs-encode measures its model in memory on at most so many, evenly spread


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


class Parser(argparse.ArgumentParser):
    """Of a benchmark's command line: a usage error is one line, as the commands' are, and --help has a docstring's."""

    def __init__(self, description: str | None, prog: str | None = None) -> None:
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """As argparse's, which says the usage in several lines first."""
        self.exit(EXIT_REFUSED, f"error: {' '.join(message.split())}; --help says what there is\n")


class StepError(Exception):
    """A command ended with an error; the message is its last line."""


def add_options(parser: argparse.ArgumentParser, output: str, jobs: int) -> None:
    """What every benchmark over captures can be told."""
    parser.add_argument("captures", type=Path, help="folder of captures, or one capture")
    parser.add_argument("--only", help="names of scenes, separated by commas")
    parser.add_argument("--downscale", nargs="+", action="extend", default=[], metavar="NAME=N", help="size per scene")
    parser.add_argument("--jobs", type=int, default=jobs, choices=range(1, 65), metavar="N", help=f"at a time ({jobs})")
    parser.add_argument("--threads", type=positive, help="threads of each command (the machine's by --jobs)")
    parser.add_argument("--extra-encode-args", default="", metavar="ARGS", help="one string, for adcgs-encode")
    parser.add_argument("--st-lpips", action="store_true", help="measure ST-LPIPS as well")
    parser.add_argument("--force", action="store_true", help="run again what is already there")
    parser.add_argument("-o", "--output", type=Path, default=Path(output))


def positive(text: str) -> int:
    """An argument that counts something."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 on")
    return int(text)


def minutes(text: str) -> float:
    """An argument that says how long to train."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of minutes above 0")
    return value


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
    candidates = [folder] if _is_capture(folder) else sorted(p for p in folder.glob("*") if _is_capture(p))
    wanted = None if only is None else {name.strip() for name in only.split(",")}
    chosen = [path for path in candidates if wanted is None or path.name in wanted]
    missing = sorted((wanted or set()) - {path.name for path in chosen})
    if missing or not chosen:
        names = ", ".join(path.name for path in candidates) or "none"
        what = f"no capture {', '.join(missing)}" if missing else "holds no capture"
        raise OptionError("bad-option", f"{folder}: {what}; there are: {names}")
    return chosen


def _is_capture(path: Path) -> bool:
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


def check_folders(settings: Sequence[Settings], output: Path, folders: Iterable[Path]) -> None:
    """Refuse, before anything runs, to put results where a capture is, or other files that no run made.

    Args:
        folders: of the runs.

    Raises:
        OptionError: naming the folder.
    """
    for one in settings:
        place, capture = (output / one.scene).resolve(), Path(one.capture).resolve()
        if capture.is_relative_to(place) or place.is_relative_to(capture):
            problem = f"the results of {one.scene} would go to {place}, where the capture is; give another -o"
            raise OptionError("bad-option", f"-o {output}: {problem}")
    for folder in folders:
        _earlier(folder)


def in_parallel(
    jobs: int,
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    note: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """The results of all tasks, in their order, ``jobs`` at a time; ``note`` is told each after those before it."""
    results = []
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(work, tasks):
            note(result)
            results.append(result)
    return results


def one_line(program: Callable[[], None]) -> None:
    """Run a program as the commands are: what it refuses, or cannot read or write, is one line and exit status 2."""
    handle_errors(program)()


def interruptible(program: Callable[[], None]) -> None:
    """Run a program, as :func:`one_line` does, that Ctrl-C may stop: its commands save what they have, and the same
    line goes on.
    """

    def run() -> None:
        try:
            program()
        except KeyboardInterrupt:
            print("interrupted; the same line goes on from here", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    one_line(run)


def keep(settings: Settings, folder: Path, force: bool, name: str, measure: Callable[[Settings, Path], Row]) -> Row:
    """A run's row: from an earlier run with the same settings, or measured; ``error`` says what went wrong.

    ``commit`` is that of the code which measured it; None where it was not kept, or no git knew.
    """
    stated = json.loads(json.dumps(asdict(settings)))
    _remove_stale(stated, folder, force, name)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", stated)
    earlier = read_json(folder / "result.json")
    if earlier is not None:
        print(f"{name}: results are there", file=sys.stderr)
        return {"commit": None, **earlier}
    print(f"{name}: started {time.strftime('%H:%M')}", file=sys.stderr)
    try:
        row = {"commit": commit(), **measure(settings, folder)}
    except StepError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return {"scene": settings.scene, "error": str(error)}
    write_json(folder / "result.json", row)
    reached = f"{row['psnr']:.2f} dB in {row['bytes']} bytes" if "psnr" in row else f"{row['fps']:.1f} fps"
    print(f"{name}: {reached}, {time.strftime('%H:%M')}", file=sys.stderr)
    return row


def _earlier(folder: Path) -> dict[str, Any] | None:
    """The settings of the run whose folder it is; None where there is none yet.

    Raises:
        OptionError: the folder holds what no run made, and so must not be deleted.
    """
    found = read_json(folder / "settings.json")
    if isinstance(found, dict) and {field.name for field in fields(Settings) if field.default is MISSING} <= set(found):
        return {"split": "test", **found}  # older results are of test views
    if folder.exists() and any(folder.iterdir()):
        problem = "holds files, but no settings.json of a run; give another -o, or remove the folder"
        raise OptionError("bad-option", f"{folder}: {problem}")
    return None


def _remove_stale(stated: Mapping[str, Any], folder: Path, force: bool, name: str) -> None:
    """Delete what an earlier run with other settings has left, or its measurement alone where its training stands."""
    earlier = _earlier(folder)
    if earlier is None:
        return
    changed = [key for key in {**stated, **earlier} if earlier.get(key) != stated.get(key)]
    said = ", ".join(f"{key} {earlier.get(key)}, now {stated.get(key)}" for key in changed)
    if force or not _of_measurement(stated).issuperset(changed):
        if changed:
            print(f"{name}: is made anew, what was there had other settings: {said}", file=sys.stderr)
        shutil.rmtree(folder)
    elif changed:
        print(f"{name}: is measured anew, its training stands: {said}", file=sys.stderr)
        (folder / "result.json").unlink(missing_ok=True)
        report = read_json(folder / "encode.json")
        if "threads" in changed and report is not None:  # tables would show its time as that of as many as now
            write_json(folder / "encode.json", {**report, "minutes": None})


def _of_measurement(stated: Mapping[str, Any]) -> set[str]:
    """Settings that do not matter to what was trained; threads only where they say how far a training gets."""
    return {"split", "st_lpips"} | (set() if stated["iterations"] is None else {"threads"})


def encode(settings: Settings, folder: Path) -> dict[str, Any]:
    """adcgs-encode's report on FOLDER/scene.adc, which is made if it is not there; a training that was cut goes on."""
    report = read_json(folder / "encode.json")
    if report is not None:
        return dict(report)
    options = encode_options(settings)
    if (folder / "scene.adc.checkpoint").exists():
        options = ["--resume", *without_preset(options)]
    return command("encode", settings.capture, "-o", folder / "scene.adc", *options, log=folder)


def encode_options(settings: Settings) -> list[str]:
    """The run's options of adcgs-encode; what was asked for comes last and so prevails."""
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
    own |= {"resume": False, "checkpoint": None}
    for name, value in own.items():
        if given[name] != value:
            raise OptionError("bad-option", f"--{name} is the benchmark's to say; leave it out")


def score(settings: Settings, folder: Path, file: Path, *options: object) -> dict[str, Any]:
    """adcgs-eval's report on a file of the capture."""
    extra = [*(["--st-lpips"] if settings.st_lpips else []), "--split", settings.split]
    size = size_of(settings)
    return command("eval", file, settings.capture, *size, *threads_of(settings), *extra, *options, log=folder)


def encode_and_score(settings: Settings, folder: Path) -> Row:
    """A run without pictures."""
    report = encode(settings, folder)
    file = folder / "scene.adc"
    sizes = command("inspect", file, log=folder)
    return make_row(settings.scene, report, sizes, score(settings, folder, file), settings.split)


def size_of(settings: Settings) -> list[str]:
    """The option for the size of the views."""
    return ["--downscale", str(settings.downscale)]


def threads_of(settings: Settings) -> list[str]:
    """The option for the number of threads."""
    return ["--threads", str(settings.threads)]


@cache
def commit() -> str | None:
    """That of this program when it began, ``+changes`` where files differ from it; None where no git knows."""
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        line = ["git", "--no-optional-locks", "-C", str(here.parent), *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # a copy without a history may lie in another repository
        name, changes = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{name}+changes" if changes else name


def _code_of(rows: Sequence[Mapping[str, Value]]) -> str:
    """The commits that measured the rows, as far as they are known."""
    known = sorted({str(row["commit"]) for row in rows if row.get("commit")})
    if not known:
        return ""
    lost = any("commit" in row and row["commit"] is None for row in rows)
    return f", code of commit {' and '.join(known)}{', of some runs not known' if lost else ''}"


def describe(settings: Settings, jobs: int, rows: Sequence[Mapping[str, Value]]) -> str:
    """How the runs of a table were made."""
    length = f"{settings.iterations} steps" if settings.iterations else f"{settings.minutes:g} minutes"
    extra = f", `{shlex.join(settings.encode_args)}`" if settings.encode_args else ""
    return (
        f"{length} of training a run{extra}; {settings.threads} thread(s) a command, {jobs} run(s) at a time, "
        f"{platform.machine()}, {os.cpu_count()} cores{_code_of(rows)}. Measured from the decoded file on "
        f"held-out views ({settings.split}). PSNR in dB; 'moving': over the pixels that change before a fixed camera."
    )


def command(verb: str, *arguments: object, log: Path, cwd: Path | None = None, name: str = "") -> dict[str, Any]:
    """Run adcgs-VERB with --json; its report, which also goes to VERB.json, as its stderr does to VERB.log.

    Raises:
        StepError: with the command's last line.
    """
    program = Path(sys.executable).with_name(f"adcgs-{verb}")
    line = [str(program), *map(str, arguments), "--json"]
    name = name or verb
    with (log / f"{name}.log").open("w", encoding="utf-8") as stderr:
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=stderr, cwd=cwd, text=True, check=False)
    if done.returncode:
        lines = (log / f"{name}.log").read_text(encoding="utf-8").strip().splitlines()
        raise StepError(f"adcgs-{verb} ended with {done.returncode}: {lines[-1] if lines else 'no message'}")
    report = json.loads(done.stdout)
    write_atomically(log / f"{name}.json", done.stdout.encode())  # cut, it would be taken for a training to do again
    return dict(report)


def make_row(
    name: str, report: Mapping[str, Any], sizes: Mapping[str, Any], scores: Mapping[str, Any], split: str = "test"
) -> dict[str, Value]:
    """A table row from the commands' reports.

    Args:
        split: of the views that were asked for. The encoder measures its model on "test" alone (as which a capture
            without test views counts its validation views); beside others its numbers would mean something else.
    """
    row: dict[str, Value] = {
        "scene": name,
        "size": f"{scores['width']}x{scores['height']}",
        "views": f"{len(scores['views'])} {scores['split']}",
        **scores["mean"],
        "bytes": scores["bytes"],
        **component_bytes(sizes["components"]),
        "anchors": sizes["anchors"],
        "bits_per_coefficient": bits_per_coefficient(sizes),
        **{key: report.get(key) for key in ("minutes", "iterations")},
    }
    if split != "test":
        return row
    row["psnr_model"] = report.get("psnr_model")
    if report.get("psnr_model") is not None:
        same = [scores["views"][i]["psnr"] for i in evenly(len(scores["views"]), MODEL_VIEWS)]
        row["psnr_loss"] = report["psnr_model"] - sum(same) / len(same)
    if report.get("psnr_model") is not None and report.get("psnr_unrounded") is not None:
        row["psnr_rounding"] = report["psnr_unrounded"] - report["psnr_model"]
    return row


def component_bytes(components: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes of each of :data:`SECTIONS`, and the rest."""
    totals = dict.fromkeys([*SECTIONS, "rest"], 0)
    for component in components:
        family = component["name"].split(".")[0]
        family = "f_g" if family.startswith("f_g_") else family
        key = next((k for k, names in SECTIONS.items() if family in names), "rest")
        totals[key] += component["bytes"]
    return totals


def bits_per_coefficient(sizes: Mapping[str, Any]) -> float:
    """Bits of f_v, f_g, Sigma and C, the hyperprior's included, over the number of those coefficients."""
    coded = [c for c in sizes["components"] if c["coefficients"] and c["name"] != "positions"]
    coefficients = sum(c["coefficients"] for c in coded if c["name"] != "hyper")
    return 8 * sum(c["bytes"] for c in coded) / (sizes["anchors"] * coefficients)


def evenly(count: int, limit: int) -> list[int]:
    """At most ``limit`` indices, evenly spread over ``count``."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(limit, count)).round())]


def first_camera(decoded: DecodedScene) -> Camera:
    """That of the first of a file's views.

    Raises:
        OptionError: ``no-views`` for a file without cameras, which the format allows.
    """
    if not decoded.views:
        problem = "holds no cameras, so there is no view to draw; give a file that holds some"
        raise OptionError("no-views", f"{decoded.path}: {problem}")
    return decoded.views[0].camera


def write_json(path: Path, document: object) -> None:
    """Atomically, so that a run which is killed leaves no cut file."""
    write_atomically(path, json.dumps(document, indent=1).encode())


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is none, or it is cut."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
