"""One capture encoded, inspected and evaluated by the installed commands; results that are kept.

What the benchmarks over captures (scenes.py, ablation.py, rate_distortion.py) do for each of their settings. A run has
a folder: its settings, the file, every command's report and log. A result that is there with the same settings is not
measured again, and a training that was interrupted goes on; with other settings it is made anew, which is said.
Whether the code has changed since is not noticed: give another OUTPUT then. A folder that no run made is never deleted.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, asdict, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from adcgs.bitstream import write_atomically
from adcgs.cli.resuming import without_preset
from adcgs.errors import OptionError
from adcgs.evaluation.tables import Value
from rows import Row, make_row
from settings import Settings, encode_options, is_capture, size_of, threads_of

Task = TypeVar("Task")
Result = TypeVar("Result")


class StepError(Exception):
    """A command ended with an error; the message is its last line."""


def check_folders(settings: Sequence[Settings], output: Path, folders: Iterable[Path]) -> None:
    """Refuse, before anything runs, to put results where a capture is, or other files that no run made.

    Args:
        folders: of the runs.

    Raises:
        OptionError: naming the folder.
    """
    if output.exists() and not output.is_dir():
        raise OptionError("bad-option", f"-o {output}: is a file; name a folder, there or not")
    for one in settings:
        place, capture = (output / one.scene).resolve(), Path(one.capture).resolve()
        if capture.is_relative_to(place) or place.is_relative_to(capture) or _in_a_capture(output):
            problem = f"the results of {one.scene} would go to {place}, where a capture is; give another -o"
            raise OptionError("bad-option", f"-o {output}: {problem}")
    for folder in folders:
        _earlier(folder)


def _in_a_capture(folder: Path) -> bool:
    """Whether a folder, which may not be there yet, is a capture or lies in one."""
    return any(is_capture(place) for place in (folder.resolve(), *folder.resolve().parents))


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


def write_json(path: Path, document: object) -> None:
    """Atomically, so that a run which is killed leaves no cut file."""
    write_atomically(path, json.dumps(document, indent=1).encode())


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is none, or it is cut."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
