"""What each part of the method is worth, as the paper's Table 3: ``python benchmarks/ablation.py CAPTURES``.

First the paper's rows, each with what the row above has: a static scene, + coarse deformation with anchors carved on
what moves, + fine deformation, + rate-distortion optimisation, + refinement, which is the full method. Then the full
method with one thing changed, where that can matter: a row for fixed cameras is left out of a capture without, and
no-search of runs that do not look for what is missing, as they are configured, or are over or learn no new anchors
before they would.
Each is a switch of the configuration (``adcgs-encode --set``); none is code of its own. A row is encoded, decoded and
evaluated on held-out views for every scene and seed (test views; `--split val` takes those by which to choose, of
captures that have some); rows that come out within half a decibel of the full method are run with all seeds, the
others, whose sign is clear, with the first alone.

OUTPUT gets ablation.csv (every run), ablation.md (means over seeds, differences to the full method on the same scene
and seed) and a folder per run. It can be stopped and started again at any time: what is there with the same settings
is kept, and a training that was cut goes on. Runs are ordered by seed, so that what is there is a whole table first.

    python benchmarks/ablation.py captures/ --only dn_knight,n3d_workshop --jobs 2 --threads 1
    python benchmarks/ablation.py captures/dn_knight --rows full,one-chunk --iterations 500 --downscale dn_knight=4

The defaults take about 50 minutes for two scenes at 400x400 and one seed, with two runs at a time on two cores, and
about two hours with three seeds (reckoned from a run of fewer rows and more steps).
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from adcgs.bitstream import write_atomically
from adcgs.errors import OptionError
from adcgs.evaluation.tables import Column, Value, markdown, write_csv
from adcgs.scene import detect_layout
from adcgs.scene.detect import read_capture
from adcgs.training.missing import LEAST_MINUTES
from command_lines import Parser, interruptible, positive
from per_primitive import frame_rates
from rows import BYTES, QUALITY, Row
from runs import StepError, check_folders, describe, encode_and_score, in_parallel, keep, score
from settings import Settings, add_length, add_options, settings_of, training_config
from weights import require_fp32, rewrite

FIXED_CAMERAS = ("neural3d", "panoptic")  # layouts in which what moves is carved
ALPHA = "dnerf"  # that of one moving camera with alpha masks
CLOSE = 0.5  # dB; nearer to the full method than this, a row needs all seeds


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        name: in files and on the command line.
        title: in the table.
        changes: ``--set`` arguments.
        options: other arguments of adcgs-encode.
        cameras: before which it means something; "alpha": one that moves, with alpha masks.
    """

    name: str
    title: str
    changes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    cameras: Literal["all", "fixed", "moving", "alpha"] = "all"


_NO_RATE = ("hyperprior=false", "adaptive_step=false")  # and lambda 0, see `arguments`
STAGES = (
    Variant(
        "static",
        "base: canonical space, no deformation",
        ("model.coarse=false", "model.fine=false", "refine=false", "mover_instants=0", *_NO_RATE),
    ),
    Variant("coarse", "+ coarse deformation, anchors on what moves", ("model.fine=false", "refine=false", *_NO_RATE)),
    Variant("fine", "+ fine deformation", ("refine=false", *_NO_RATE)),
    Variant("rate", "+ rate-distortion optimisation", ("refine=false",)),
    Variant("full", "+ refinement: the full method"),
)
NO_SEARCH = Variant("no-search", "what is missing is not looked for in flight", ("missing_anchors=0",), cameras="alpha")
SWITCHES = (
    Variant("fixed-step", "step factors of Eq. 6 off", ("adaptive_step=false",)),
    Variant("one-chunk", "f_g in one chunk, not four", ("chunks=1",)),
    Variant("no-hyperprior", "hyperprior off", ("hyperprior=false",)),
    Variant("no-straight-through", "noise, not straight-through rounding, up to the seal", ("round_from=0.94",)),
    Variant("plain-gradient", "refinement by the plain gradient", ("significance_weights=false",)),
    Variant("ten-primitives", "ten primitives an anchor, not six", ("model.primitives=10",)),
    Variant("wide", "deformation networks of 96, not 64", ("model.deformation_width=96",)),
    Variant("decay", "learning rates decay from the start", ("lr_hold=0",)),
    Variant("even-rates", "learning rates do not fall with the steps", ("lr_steps=1000000000",)),
    Variant("no-fading", "anchors do not fade (coarse_opacity)", ("model.coarse_opacity=false",)),
    Variant("no-fine", "no fine deformation (Eq. 4)", ("model.fine=false",)),
    Variant("no-turning", "offsets do not turn (rotate_offsets)", ("model.rotate_offsets=false",)),
    Variant("strangers", "primitives as far from their anchor's scale as they like", ("residuals=0",)),
    Variant("wide-blur", "splats blurred by 0.3 px^2, as gsplat does", ("blur=0.3",)),
    Variant("view-colors", "colours depend on the view", ("view_colors=true",)),
    Variant("no-cuts", "training does not prepare for cut files", ("chunk_dropout=0",)),
    Variant("int8", "networks in 8 bits, rounded before the end of training", options=("--weights", "int8")),
    Variant("no-movers", "no anchors carved on what moves", ("mover_instants=0",), cameras="fixed"),
    Variant("forgetting", "motion learns as fast where its ways were taught", ("lr_taught=1",), cameras="fixed"),
    Variant("one-color", "cameras' colours not told apart", options=("--no-camera-colors",), cameras="fixed"),
    Variant("no-rigidity", "neighbours not kept at their distance", ("rigidity=0",), cameras="moving"),
    NO_SEARCH,
    Variant("needles", "primitives as long and thin as they like", ("needles=0",), cameras="moving"),
)
# Made from the full method's file, without training.
LATE_INT8 = Variant("late-int8", "networks in 8 bits, rounded behind it")
PER_PRIMITIVE = Variant("per-primitive", "deformation networks run per primitive (speed alone)")
DERIVED = (LATE_INT8, PER_PRIMITIVE)
ROWS = (*STAGES, *SWITCHES, *DERIVED)

DIFFERENCES = [
    Column("title", "row"),
    Column("runs", "runs"),
    Column("psnr", "PSNR", ".2f"),
    Column("psnr_change", "against full", "+.2f"),
    Column("psnr_spread", "± over seeds", ".2f"),
    Column("psnr_dynamic", "PSNR moving", ".2f"),
    Column("psnr_dynamic_change", "against full", "+.2f"),
    Column("psnr_rounding", "lost by rounding", ".2f"),
    Column("ssim", "SSIM", ".4f"),
    Column("bytes", "bytes", ",.0f"),
    Column("bytes_change", "against full, %", "+.1f"),
    Column("bits_per_coefficient", "bits/coeff.", ".2f"),
    Column("anchors", "anchors", ",.0f"),
    Column("fps", "fps", ".1f"),
    Column("minutes", "train min", ".1f"),
]
_MEANS = ("psnr", "psnr_dynamic", "psnr_rounding", "ssim", "bytes", "bits_per_coefficient", "anchors", "fps", "minutes")


def main() -> None:
    """Run what the command line asks for."""
    args = _parse()
    scenes = settings_of(args)
    if any(training_config(settings).seed for settings in scenes):
        raise OptionError("bad-option", f"--extra-encode-args {args.extra_encode_args}: seeds are --seeds' to say")
    wanted = [row for row in ROWS if args.rows is None or row.name in args.rows.split(",")]
    unknown = sorted(set((args.rows or "").split(",")) - {row.name for row in ROWS} - {""})
    if unknown or "full" not in {row.name for row in wanted}:
        names = ", ".join(row.name for row in ROWS)
        raise OptionError("bad-option", f"--rows {args.rows}: give full and any others of {names}")
    for settings in scenes:
        _require_views(settings)
        for row in wanted:
            _require_options(settings, row)
    check_folders(
        scenes,
        args.output,
        (_folder(args.output, one, row, seed) for one in scenes for row in wanted for seed in range(args.seeds)),
    )
    args.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []

    def work(task: tuple[Settings, Variant, int]) -> Row:
        return (derive if task[1] in DERIVED else run)(*task, args.output, args.force)

    def note(row: Row) -> None:
        rows.append(row)
        write_tables(rows, scenes, args.output, args.jobs)

    for seed in range(args.seeds):
        tasks = [
            (settings, variant, seed)
            for settings in scenes
            for variant in wanted
            if _applies(variant, settings) and (seed == 0 or args.all_seeds or _is_close(rows, settings, variant))
        ]
        for part in ([t for t in tasks if t[1] not in DERIVED], [t for t in tasks if t[1] in DERIVED]):
            in_parallel(args.jobs, work, part, note)
    print((args.output / "ablation.md").read_text(encoding="utf-8"))
    if any(row.get("error") for row in rows):
        sys.exit(1)


def _parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_options(parser, output="out/ablation", jobs=2)
    add_length(parser, "of a run", 1500)
    parser.add_argument("--seeds", type=positive, default=3, help="runs of a row (3)")
    parser.add_argument("--all-seeds", action="store_true", help="of every row, not of the close ones alone")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="measured views; choose by val (test)")
    parser.add_argument("--rows", help="names of rows, separated by commas; all of them otherwise")
    args = parser.parse_args()
    if args.minutes is not None:
        args.iterations = None
    return args


def _require_views(settings: Settings) -> None:
    """Raises OptionError ``no-views`` for a capture without views to choose by, before anything trains."""
    if settings.split == "test":  # which are the validation views of a capture that has no others
        return
    root = Path(settings.capture)
    there = {shot.split for shot in read_capture(root, detect_layout(root), settings.downscale, None, None).shots}
    if not {"val", "test"} <= there:
        lacks = "no such views" if "val" not in there else "none besides those that are reported"
        raise OptionError("no-views", f"--split {settings.split}: {settings.scene} has {lacks}; leave it out")


def _require_options(settings: Settings, variant: Variant) -> None:
    """Raises OptionError for what adcgs-encode would refuse when it is the row's turn, such as a field set twice."""
    if variant in DERIVED or not _applies(variant, settings):
        return
    try:
        training_config(_with(settings, variant, 0))
    except OptionError as error:
        raise OptionError(error.code, f"row {variant.name}: {error}") from None


def _applies(variant: Variant, settings: Settings) -> bool:
    if variant == NO_SEARCH and not searches(settings):
        return False
    layout = detect_layout(Path(settings.capture))
    kind = "fixed" if layout in FIXED_CAMERAS else "moving"
    return variant.cameras in ("all", kind) or (variant.cameras == "alpha" and layout == ALPHA)


def searches(settings: Settings) -> bool:
    """Whether the full method's run looks for what is missing, as it is configured and as long (see ``Trainer``)."""
    config = training_config(settings)
    if not (config.missing_anchors and config.model.coarse and config.model.coarse_opacity):
        return False
    if config.iterations is None:
        return config.minutes is not None and config.minutes >= LEAST_MINUTES
    first = max(config.missing_after, math.ceil(config.missing_at * config.iterations))
    return first / config.iterations < min(config.refine_until, config.freeze_positions_at)


def arguments(variant: Variant, seed: int) -> list[str]:
    """What adcgs-encode is told for a row."""
    given = [word for change in variant.changes for word in ("--set", change)]
    no_rate = ["--lambda", "0"] if set(_NO_RATE) <= set(variant.changes) else []
    return [*given, *variant.options, *no_rate, "--seed", str(seed)]


def _with(settings: Settings, variant: Variant, seed: int) -> Settings:
    """The capture's settings with those of a row."""
    return replace(settings, encode_args=(*settings.encode_args, *arguments(variant, seed)))


def run(settings: Settings, variant: Variant, seed: int, output: Path, force: bool) -> Row:
    """A row's run on one scene: its numbers, with ``scene``, ``row`` and ``seed``."""
    settings = _with(settings, variant, seed)
    folder = _folder(output, settings, variant, seed)
    name = f"{settings.scene}/{variant.name}/{seed}"
    return _named(keep(settings, folder, force, name, encode_and_score), settings, variant, seed)


def _folder(output: Path, settings: Settings, variant: Variant, seed: int) -> Path:
    return output / settings.scene / variant.name / str(seed)


def derive(settings: Settings, variant: Variant, seed: int, output: Path, force: bool) -> Row:
    """A row that is made from the full method's file of the same seed."""
    full, folder = (_folder(output, settings, row, seed) for row in (STAGES[-1], variant))
    name = f"{settings.scene}/{variant.name}/{seed}"
    settings = _with(settings, STAGES[-1], seed)
    force = force or not _newer(folder, full / "scene.adc")

    def measure(settings: Settings, folder: Path) -> Row:
        if not (full / "scene.adc").exists():
            raise StepError("the full method has no file")
        if variant == LATE_INT8:
            return _int8(settings, full, folder)
        return _per_primitive(settings, full)

    return _named(keep(settings, folder, force, name, measure), settings, variant, seed)


def _newer(folder: Path, file: Path) -> bool:
    result = folder / "result.json"
    return result.exists() and file.exists() and result.stat().st_mtime >= file.stat().st_mtime


def _int8(settings: Settings, full: Path, folder: Path) -> Row:
    file = folder / "scene.adc"
    try:
        require_fp32(full / "scene.adc")
    except OptionError as error:
        raise StepError(str(error)) from error
    rewrite(full / "scene.adc", file, "int8")
    scores = score(settings, folder, file)
    return {"scene": settings.scene, **scores["mean"], "bytes": scores["bytes"]}


def _per_primitive(settings: Settings, full: Path) -> Row:
    """Frames per second alone; against the anchors' in the same process."""
    rates = frame_rates(full / "scene.adc", settings.threads)
    return {"scene": settings.scene, "fps": rates["by primitive"], "fps_by_anchor": rates["by anchor"]}


def _named(row: Row, settings: Settings, variant: Variant, seed: int) -> Row:
    return {**row, "scene": settings.scene, "row": variant.name, "seed": seed}


def _is_close(rows: Sequence[Row], settings: Settings, variant: Variant) -> bool:
    """Whether a row's first run came out near the full method's; what failed is not."""
    first = {row["row"]: row.get("psnr") for row in rows if row["scene"] == settings.scene and row["seed"] == 0}
    ours, full = first.get(variant.name), first.get("full")
    return isinstance(ours, float) and isinstance(full, float) and abs(ours - full) < CLOSE


def summarise(rows: Sequence[Row], scenes: Sequence[str]) -> list[Row]:
    """One line per row of the table: means over seeds, then over scenes, of numbers and of differences to full.

    A difference is between two runs of the same scene and seed. ``psnr_spread`` is the standard deviation of PSNR's
    from seed to seed, in the root mean square over the scenes.
    """
    good = {(r["scene"], r["row"], r["seed"]): r for r in rows if not r.get("error")}
    lines = []
    for variant in ROWS:
        keys = [key for key in good if key[1] == variant.name and key[0] in scenes]
        if not keys:
            continue
        line: Row = {"row": variant.name, "title": variant.title, "runs": len(keys)}
        pairs = [(key[0], good[key], good.get((key[0], "full", key[2]), {})) for key in keys]
        for column in _MEANS:
            line[column] = _mean((scene, _number(ours, column)) for scene, ours, _ in pairs)
        for column in ("psnr", "psnr_dynamic"):
            changes = [(scene, _difference(ours, full, column)) for scene, ours, full in pairs]
            line[f"{column}_change"] = _mean(changes)
            line[f"{column}_spread"] = _spread(changes)
        line["bytes_change"] = _mean((scene, _percent(ours, full)) for scene, ours, full in pairs)
        lines.append(line)
    return lines


def _playback(rows: Sequence[Row], scenes: Sequence[str]) -> list[str]:
    """What the deformation per primitive is worth: both ways were timed in one process."""
    of = [row for row in rows if row["row"] == PER_PRIMITIVE.name and row["scene"] in scenes]
    rates = [(_number(row, "fps_by_anchor"), _number(row, "fps")) for row in of]
    ratios = [anchors / primitives for anchors, primitives in rates if anchors and primitives]
    if not ratios:
        return []
    return [f"Networks that run per anchor give {statistics.fmean(ratios):.1f} times the frame rate, in one process.\n"]


def _number(row: Mapping[Any, Value], column: str) -> float | None:
    value = row.get(column)
    return value if isinstance(value, (int, float)) else None


def _difference(ours: Mapping[Any, Value], full: Mapping[Any, Value], column: str) -> float | None:
    a, b = _number(ours, column), _number(full, column)
    return None if a is None or b is None else a - b


def _percent(ours: Mapping[Any, Value], full: Mapping[Any, Value]) -> float | None:
    a, b = _number(ours, "bytes"), _number(full, "bytes")
    return None if a is None or b is None else 100 * (a / b - 1)


def _by_scene(values: Iterable[tuple[Value, float | None]]) -> list[list[float]]:
    """The numbers of each scene among (scene, number) pairs."""
    found: dict[Value, list[float]] = {}
    for scene, value in values:
        if value is not None:
            found.setdefault(scene, []).append(value)
    return list(found.values())


def _mean(values: Iterable[tuple[Value, float | None]]) -> float | None:
    means = [statistics.fmean(numbers) for numbers in _by_scene(values)]
    return statistics.fmean(means) if means else None


def _spread(values: Iterable[tuple[Value, float | None]]) -> float | None:
    variances = [statistics.variance(numbers) for numbers in _by_scene(values) if len(numbers) > 1]
    return statistics.fmean(variances) ** 0.5 if variances else None


def write_tables(rows: Sequence[Row], settings: Sequence[Settings], output: Path, jobs: int) -> None:
    """ablation.csv with every run, ablation.md with a table per scene and one for their mean."""
    known = {c.key: c for c in [Column("scene", ""), Column("row", ""), Column("seed", ""), *QUALITY, *BYTES]}
    write_csv(output / "ablation.csv", rows, [*known.values(), Column("fps_by_anchor", ""), Column("error", "")])
    text = [
        f"{describe(settings[0], jobs, rows)} 'Against full': to the full method on the same scene with the same seed, "
        "mean over seeds; '±': standard deviation of that difference from seed to seed. Rows above 'the full method' "
        "add up, those below change one thing each. Before rate-distortion optimisation steps are fixed, and channels "
        "are coded with a mean and a deviation each. 'Lost by rounding': PSNR with the attributes as they are trained "
        "less that with rounded ones, over at most 20 of the views. Frame rates are of a busy machine.\n"
    ]
    names = [one.scene for one in settings]
    for title, chosen in [*((name, [name]) for name in names), *([("mean over scenes", names)] if names[1:] else [])]:
        lines = summarise(rows, chosen)
        shown = [c for c in DIFFERENCES if any(line.get(c.key) is not None for line in lines)]
        text.append(f"### {title}\n\n{markdown(lines, shown)}")
        text += _playback(rows, chosen)
    text += [
        f"**{row['scene']}, {row['row']}, seed {row['seed']} failed**: {row['error']}\n"
        for row in rows
        if row.get("error")
    ]
    write_atomically(output / "ablation.md", "\n".join(text).encode())


if __name__ == "__main__":
    interruptible(main)
