"""Rate and distortion over lambda, beside other ways to keep the same frames: ``rate_distortion.py CAPTURES``.

Every scene is encoded, decoded and evaluated on held-out views at four lambdas, and compared with

- a single static model: the same program, deformation off (at 1.5e-3: its best lambda is a guess);
- the training videos coded by AV1 and H.265 in exactly the same bytes (videos.py: PSNR on training views, a bound);
- the decoded scene as one SPZ file per frame of the clip (spz_frames.py; where the package gsply is installed).

OUTPUT gets rd.csv (every scene, and the mean over scenes), rd.md, a rate-distortion plot per scene and for the mean
like the paper's Figure 5, the allocation of bytes like its Figure 6, and a folder per run. It can be stopped and
started again: what is there with the same settings is kept, and a training that was cut goes on.

    python benchmarks/rate_distortion.py captures/ --only mutant,workshop --downscale mutant=2 --threads 1
    python benchmarks/rate_distortion.py bd BEFORE/rd.csv AFTER/rd.csv

The second line compares two such tables by Bjontegaard's differences (adcgs.evaluation.rd: PCHIP through quality and
the logarithm of rate); curves of fewer than four points get a warning, of one point are refused.
The defaults take about 50 minutes for two scenes, with two runs at a time on two cores.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adcgs.bitstream import write_atomically
from adcgs.errors import OptionError
from adcgs.evaluation.rd import Curve, bd_psnr, bd_rate, plot_allocation, plot_rd
from adcgs.evaluation.tables import Column, Value, markdown, mean_row, read_csv, write_csv
from command_lines import Parser, interruptible
from rows import BYTES, QUALITY, SECTIONS, Row
from runs import StepError, check_folders, describe, encode_and_score, in_parallel, keep
from settings import Settings, add_length, add_options, settings_of
from spz_frames import COLUMNS as SPZ_COLUMNS
from spz_frames import available as spz_available
from videos import COLUMNS as VIDEO_COLUMNS

LAMBDAS = "5e-4,1.5e-3,5e-3,1.5e-2"
STATIC_LAMBDA = "1.5e-3"
OURS, STATIC, SPZ, VIDEOS = "adcgs", "static model", "SPZ per frame", ("AV1", "H.265")
STATIC_ARGUMENTS = ("model.coarse=false", "model.fine=false", "mover_instants=0")
HEAD = [Column("scene", "scene"), Column("method", "method"), Column("lambda", "lambda", "g")]
TRAIN = Column("psnr_train", "PSNR on training views", ".2f")
SHOWN = ("psnr", "psnr_dynamic", "ssim", "ms_ssim", "lpips", "st_lpips", "fps", "bytes", "anchors", "minutes", "note")
BASELINES = {"videos": VIDEO_COLUMNS, "spz_frames": SPZ_COLUMNS}
PERCENT = "BD-rate %"
ENOUGH = 4  # points a curve, as the common test conditions of BD-rates have


def main() -> None:
    """Run what the command line asks for."""
    if sys.argv[1:2] == ["bd"]:
        compare_tables(sys.argv[2:])
        return
    args = _parse()
    scenes, lambdas = settings_of(args), args.lambdas.split(",")
    if not all(_is_number(value) for value in lambdas):
        raise OptionError("bad-option", f"--lambdas {args.lambdas}: give numbers over 0, separated by commas")
    if len(set(map(float, lambdas))) < len(lambdas):
        raise OptionError("bad-option", f"--lambdas {args.lambdas}: names one twice")
    if any(word.split("=")[0] == "--lambda" for settings in scenes for word in settings.encode_args):
        raise OptionError("bad-option", f"--extra-encode-args {args.extra_encode_args}: lambdas are --lambdas' to say")
    methods = [(OURS, value) for value in lambdas] + [(STATIC, STATIC_LAMBDA)]
    tasks = [(settings, *method) for settings in scenes for method in methods]
    check_folders(scenes, args.output, (_folder(args.output, *task) for task in tasks))
    args.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []

    def note(*found: Row) -> None:
        rows.extend(found)
        write_tables(rows, scenes, args.output, args.jobs)

    in_parallel(args.jobs, lambda task: run(*task, args.output, args.force), tasks, note)
    if not args.no_baselines:
        names = [name for name in BASELINES if name != "spz_frames" or spz_available()]
        programs = [(settings, name) for name in names for settings in scenes]

        def beside(task: tuple[Settings, str]) -> list[Row]:
            return baseline(*task, lambdas, args.output, args.force)

        in_parallel(args.jobs, beside, programs, lambda found: note(*found))
    print((args.output / "rd.md").read_text(encoding="utf-8"))
    if any(row.get("error") for row in rows):
        sys.exit(1)


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def _parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_options(parser, output="out/rate_distortion", jobs=2)
    add_length(parser, "of a run", 8.0)
    parser.add_argument("--lambdas", default=LAMBDAS, help=f"separated by commas ({LAMBDAS})")
    parser.add_argument("--no-baselines", action="store_true", help="no videos and no SPZ")
    return parser.parse_args()


def run(settings: Settings, method: str, value: str, output: Path, force: bool) -> Row:
    """One lambda of one scene, of the whole method or of a static model."""
    switches = [word for change in STATIC_ARGUMENTS for word in ("--set", change)] if method == STATIC else []
    settings = replace(settings, encode_args=(*settings.encode_args, "--lambda", value, *switches))
    folder = _folder(output, settings, method, value)
    row = keep(settings, folder, force, f"{settings.scene}, {method}, lambda {value}", encode_and_score)
    return {**row, "scene": settings.scene, "method": method, "lambda": float(value)}


def _folder(output: Path, settings: Settings, method: str, value: str) -> Path:
    return output / settings.scene / (f"lambda_{value}" if method == OURS else "static")


def baseline(settings: Settings, program: str, lambdas: Sequence[str], output: Path, force: bool) -> list[Row]:
    """The rows of videos.py or spz_frames.py for the scene's files.

    They are made anew when a file is newer, and when another version of the program, with other columns, made them.
    """
    folder = output / settings.scene
    files = {folder / f"lambda_{value}" / "scene.adc": float(value) for value in lambdas}
    files = {file: value for file, value in files.items() if file.exists()}
    table = folder / f"{program}.csv"
    try:
        fresh = table.exists() and all(file.stat().st_mtime <= table.stat().st_mtime for file in files)
        made = read_csv(table) if fresh and not force else []
        columns = {column.key for column in BASELINES[program]}
        if any(set(row) != columns for row in made) or {row["of"] for row in made} != {str(file) for file in files}:
            _run_program(program, settings, list(files), table)
            made = read_csv(table)
    except StepError as error:
        return [{"scene": settings.scene, "method": program, "error": str(error)}]
    rows: list[Row] = []
    for row in made:
        about = {key: value for key, value in row.items() if key != "of"}
        rows.append({**about, "scene": settings.scene, "lambda": files[Path(str(row["of"]))]})
    return rows


def _run_program(program: str, settings: Settings, files: Sequence[Path], table: Path) -> None:
    """A program beside this one, in a process of its own; its words go to a log beside the table."""
    if not files:
        raise StepError("there is no file to compare with")
    script = Path(__file__).with_name(f"{program}.py")
    line = [sys.executable, str(script), settings.capture, *map(str, files), "-o", str(table)]
    print(f"{settings.scene}: {program}", file=sys.stderr)
    with table.with_suffix(".log").open("w", encoding="utf-8") as log:
        done = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = table.with_suffix(".log").read_text(encoding="utf-8").strip().splitlines()
        raise StepError(f"{program}.py ended with {done.returncode}: {lines[-1] if lines else 'no message'}")


def merged(rows: Sequence[Row]) -> list[Row]:
    """One row per scene, method and lambda, and the mean over scenes of those that every scene has.

    What videos.py says of our own files on training views joins their rows. A mean over videos that are not all of
    their files' bytes says so.
    """
    found: dict[tuple[Value, ...], Row] = {}
    for row in rows:
        found.setdefault((row["scene"], row["method"], row.get("lambda")), {}).update(row)
    lines = list(found.values())
    scenes = list(dict.fromkeys(row["scene"] for row in lines))
    columns = [Column("scene", ""), *(Column(c.key, "") for c in _all_columns() if c.key not in ("scene", "lambda"))]
    for method, value in dict.fromkeys((row["method"], row.get("lambda")) for row in lines):
        of = [row for row in lines if (row["method"], row.get("lambda")) == (method, value) and not row.get("error")]
        if len(scenes) > 1 and len(of) == len(scenes):
            notes = [f"{row['scene']}: {row['note']}" for row in of if row.get("note")]
            about: Row = {"method": method, "lambda": value, "note": "; ".join(notes) or None}
            lines.append({**mean_row(of, columns), **about})
    return lines


def _all_columns() -> list[Column]:
    known = {c.key: c for c in [*HEAD, *QUALITY, TRAIN, *BYTES]}
    known |= {c.key: c for columns in BASELINES.values() for c in columns if c.key not in known and c.key != "of"}
    return [*known.values(), Column("error", "error")]


def write_tables(rows: Sequence[Row], settings: Sequence[Settings], output: Path, jobs: int) -> None:
    """rd.csv with every number; rd.md and the plots to look at."""
    lines = merged(rows)
    write_csv(output / "rd.csv", lines, _all_columns())
    good = [row for row in lines if not row.get("error")]
    text = [
        f"{describe(settings[0], jobs, rows)} The videos are measured on the training views that they were given, a "
        "bound rather than a rival; our files' PSNR on the same views stands beside it. A video has exactly a file's "
        "bytes where no note says otherwise: its PSNR is read off between two neighbouring qualities, linearly in the "
        "logarithm of bytes (rd.csv has both).\n"
        f"{'' if spz_available() else chr(10) + 'No SPZ: the package gsply is not installed.' + chr(10)}"
    ]
    for scene in dict.fromkeys(row["scene"] for row in good):
        of = [row for row in good if row["scene"] == scene]
        columns = [c for c in _all_columns() if c.key in {*SHOWN, "lambda", "method", "psnr_train", *SECTIONS, "rest"}]
        shown = [c for c in columns if any(row.get(c.key) is not None for row in of)]
        text.append(f"### {scene}\n\n{markdown(of, shown)}\n![rate and distortion](rd_{scene}.png)\n")
        plot_rd(output / f"rd_{scene}.png", curves(of), title=str(scene))
    allocations = {
        str(scene): {
            f"{row['lambda']:g}": {key: _bytes(row, key) for key in [*SECTIONS, "rest"]}
            for row in good
            if row["scene"] == scene and row["method"] == OURS and row.get("f_g") is not None
        }
        for scene in dict.fromkeys(row["scene"] for row in good)
    }
    if any(allocations.values()):
        plot_allocation(output / "bytes.png", {scene: bars for scene, bars in allocations.items() if bars})
        text.append("### where the bytes go\n\n![bytes by component](bytes.png)\n")
    text += [f"**{r['scene']}, {r['method']} failed**: {r['error']}\n" for r in lines if r.get("error")]
    write_atomically(output / "rd.md", "\n".join(text).encode())


def _bytes(row: Mapping[str, Value], key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) else 0.0


def curves(rows: Sequence[Row]) -> dict[str, Curve]:
    """Lines of the plot: (kB, dB). SPZ, a hundred times as large, is left to the table."""

    def points(method: str, column: str) -> Curve:
        of = [(row.get("bytes"), row.get(column)) for row in rows if row["method"] == method]
        return [(size / 1e3, quality) for size, quality in of if _is_known(size) and _is_known(quality)]  # type: ignore[operator,misc]

    found = {
        "adcgs, held-out views": points(OURS, "psnr"),
        "static model, held-out views": points(STATIC, "psnr"),
        "adcgs, training views": points(OURS, "psnr_train"),
        **{f"{codec} of the training views": points(codec, "psnr_train") for codec in VIDEOS},
    }
    return {name: line for name, line in found.items() if line}


def _is_known(value: Value) -> bool:
    return isinstance(value, (int, float))


# ---------------------------------------------------------------- Bjontegaard


def compare_tables(words: Sequence[str]) -> None:
    """The ``bd`` subcommand.

    Raises:
        OptionError: no scene of the tables can be compared.
    """
    about = "Average difference of two rd.csv: negative BD-rate is smaller."
    parser = Parser(about, prog="rate_distortion.py bd")
    parser.add_argument("anchor", type=Path, help="rd.csv to compare with")
    parser.add_argument("test", type=Path, help="rd.csv to compare")
    parser.add_argument("--metric", default="psnr", help="a column of the tables: psnr, psnr_dynamic, ssim, ms_ssim")
    args = parser.parse_args(words)
    anchor, test = (_table(path, args.metric) for path in (args.anchor, args.test))
    lines = bd_rows(anchor, test, args.metric)
    if all(line.get("note") for line in lines):
        raise OptionError("bad-curve", "; ".join(f"{line['scene']}: {line['note']}" for line in lines))
    for line in lines:
        _warn_of_few_points(line)
    print(markdown(lines, bd_columns(args.metric)))


def _warn_of_few_points(line: Row) -> None:
    points = line.get("points")
    if isinstance(points, int) and points < ENOUGH:
        problem = f"a curve of {points} points, fewer than {ENOUGH}: most of its BD-rate is interpolated, not measured"
        print(f"warning: {line['scene']}: {problem}", file=sys.stderr)


def _table(path: Path, metric: str) -> list[Row]:
    try:
        rows: list[Row] = [dict(row) for row in read_csv(path)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionError("bad-table", f"{path}: is no rd.csv ({str(error).splitlines()[0]})") from None
    needed = {"scene", "method", "bytes", metric}
    if not rows or not needed <= set(rows[0]):
        lacks = ", ".join(sorted(needed - set(rows[0] if rows else ())))
        raise OptionError("bad-table", f"{path}: is no rd.csv, it lacks {lacks}")
    return rows


def bd_columns(metric: str) -> list[Column]:
    """Of the table of differences."""
    unit = " dB" if metric.startswith("psnr") else ""
    quality = Column("quality", f"BD-{metric}{unit}", "+.3f")
    return [Column("scene", "scene"), Column("rate", PERCENT, "+.2f"), quality, Column("note", "")]


def bd_rows(anchor: Sequence[Row], test: Sequence[Row], metric: str) -> list[Row]:
    """A row per scene that both tables have, and the mean of those that could be compared.

    ``points`` is the number of points of the shorter curve.
    """
    lines: list[Row] = []
    for scene in dict.fromkeys(row["scene"] for row in anchor):
        first, second = (_curve(rows, scene, metric) for rows in (anchor, test))
        if not second or scene == "mean":
            continue
        try:
            found: Row = {"rate": bd_rate(first, second), "quality": bd_psnr(first, second)}
            lines.append({"scene": scene, **found, "points": min(len(first), len(second))})
        except OptionError as error:
            lines.append({"scene": scene, "note": str(error)})
    good = [line for line in lines if "note" not in line]
    if len(good) > 1:
        lines.append(mean_row(good, [Column("scene", ""), Column("rate", ""), Column("quality", "")]))
    if not lines:
        raise OptionError("bad-table", f"the tables have no scene with {metric} in common")
    return lines


def _curve(rows: Sequence[Row], scene: Value, metric: str) -> Curve:
    of = [(row.get("bytes"), row.get(metric)) for row in rows if row["scene"] == scene and row["method"] == OURS]
    return [(size, quality) for size, quality in of if _is_known(size) and _is_known(quality)]  # type: ignore[misc]


if __name__ == "__main__":
    interruptible(main)
