"""``adcgs-encode``: a capture in, one file out."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from adcgs.errors import OptionError, TrainingError

from .common import Command, Number, console, handle_errors, parse_background, parse_size, phase
from .resuming import check_resumed, resume_line

if TYPE_CHECKING:
    from adcgs.encode import EncodeReport
    from adcgs.scene import Scene
    from adcgs.training import Status, Trainer, TrainingConfig
    from rich.progress import Progress

EXAMPLES = """
\b
Examples:
  adcgs-encode capture/ -o scene.adc                     ten minutes, default quality
  adcgs-encode capture/ -o scene.adc --preset draft      a first look in two minutes
  adcgs-encode capture/ -o scene.adc --minutes 60 --weights int8
  adcgs-encode capture/ -o scene.adc --iterations 5000 --seed 1   reproducible on one machine
  adcgs-encode capture/ -o scene.adc --target-size 500KB --weights int8
  adcgs-encode capture/ -o scene.adc --target-psnr 34
  adcgs-encode capture/ -o scene.adc --resume            continue after Ctrl-C
  adcgs-encode capture/ -o scene.adc --set model.primitives=10 --set views_per_step=2

Training state is kept beside the output as OUTPUT.checkpoint and removed once the file is written
(--keep-checkpoint keeps it). Ctrl-C during training saves it, and nothing is lost. A run without --resume
moves what an earlier one left to OUTPUT.checkpoint.earlier.
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("scene", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .adc file to write.")
@click.option("--preset", type=click.Choice(["draft", "default", "best"]), help="[default: default]")
@click.option("--minutes", type=float, help="Train for this long (the preset says, otherwise).")
@click.option("--iterations", type=int, help="Train for this many steps instead; two such runs are byte-identical.")
@click.option("--lambda", "rate_lambda", type=float, help="Weight of the rate: 1e-4 (large, good) to 1e-2 (small).")
@click.option(
    "--target-size",
    metavar="SIZE",
    help="Meet this size of the whole file, such as 500KB, 0.5MB (decimal), 400KiB or plain bytes, within 5 %: lambda "
    "is steered during training, from --lambda on, and the anchor budget follows a target far from its usual size.",
)
@click.option(
    "--target-psnr",
    type=float,
    metavar="DB",
    help="Meet this mean PSNR of the training views (of up to 30) as the file shows them, within 0.2 dB, in as few "
    "bytes as that takes. (Views held out are often lower; the report gives both.)",
)
@click.option("--max-anchors", type=int, help="Anchor budget.")
@click.option(
    "--voxel",
    type=float,
    help="Step of the position grid, in the normalised space, where half the content is 1 wide.  "
    "[default: by its effect]",
)
@click.option(
    "--camera-colors/--no-camera-colors",
    default=None,
    help="Learn how each fixed camera's exposure and white balance differ from the scene's colours, which are the "
    "cameras' mean. The file shows its known cameras in their own colours, new views in the scene's.  "
    "[default: with four fixed cameras or more]",
)
@click.option(
    "--weights",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="How the networks are stored. In a run with int8 they are rounded before its end, and the rest learns what "
    "that changed.  [default: fp32, or as a resumed run was told]",
)
@click.option(
    "--coder",
    type=click.Choice(["constriction", "torchac"]),
    default="constriction",
    show_default=True,
    help="Entropy coder; torchac needs adcgs[torchac] and a C++ compiler, here and where the file is decoded.",
)
@click.option(
    "--downscale",
    type=Number(1, 1024),
    default=1.0,
    show_default=True,
    help="Work at 1/N of the capture's size (area filter).",
)
@click.option(
    "--layout",
    help="Capture layout, where it is not recognised: dnerf, nerfies, neural3d, panoptic, nerfstudio.",
)
@click.option(
    "--background",
    default="white",
    show_default=True,
    help="Behind captures with alpha: white, black or R,G,B in 0..1.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Set any field of the run's configuration that has no option of its own, such as views_per_step=2, or of the "
    "model's, such as model.primitives=10; may be given several times. A wrong name lists those that are close.",
)
@click.option("--seed", type=int, help="Of everything random.  [default: 0]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option(
    "--cache-gb", type=Number(min=0), default=2.0, show_default=True, help="Memory for decoded images."
)
@click.option("--resume", is_flag=True, help="Continue from OUTPUT.checkpoint.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Code this trained checkpoint; no training.")
@click.option("--keep-checkpoint", is_flag=True, help="Keep OUTPUT.checkpoint once the file is written.")
@click.option("--json", "as_json", is_flag=True, help="A JSON report, alone on stdout.")
@handle_errors
def main(
    scene: Path,
    output: Path,
    preset: str | None,
    minutes: float | None,
    iterations: int | None,
    rate_lambda: float | None,
    target_size: str | None,
    target_psnr: float | None,
    max_anchors: int | None,
    voxel: float | None,
    camera_colors: bool | None,
    weights: Literal["fp32", "fp16", "int8"] | None,
    coder: str,
    downscale: float,
    layout: str | None,
    background: str,
    assignments: tuple[str, ...],
    seed: int | None,
    device: str,
    threads: int | None,
    cache_gb: float,
    resume: bool,
    checkpoint: Path | None,
    keep_checkpoint: bool,
    as_json: bool,
) -> None:
    """Train a model of the capture in folder SCENE and write it to one .adc file."""
    from adcgs.decode import check_device, use_threads
    from adcgs.entropy import check_coder
    from adcgs.scene import load_scene
    from adcgs.training.checkpoint import load_checkpoint
    from adcgs.training.overrides import apply, parse_assignments
    from adcgs.training.state import stored_config

    if resume and checkpoint is not None:
        raise OptionError("bad-option", "--resume continues training, --checkpoint codes without: give one of them")
    _check_output(output)
    use_threads(threads)
    check_device(device)
    check_coder(coder)
    state = output.with_name(output.name + ".checkpoint")
    if resume or checkpoint is not None:
        stored = checkpoint or state
        stored_config(stored, load_checkpoint(stored)[1])  # before the capture is read, which may take minutes
    fields, behind = parse_assignments(assignments), parse_background(background)
    target_bytes = None if target_size is None else parse_size(target_size)
    base = configure(preset or "default", minutes, iterations, rate_lambda, max_anchors, voxel, seed or 0)
    config = apply(base, fields)
    config = replace(
        config,
        target_bytes=target_bytes,
        target_psnr=target_psnr,
        target_weights=weights or "fp32",
        camera_colors=camera_colors,
    )
    given: dict[str, float | int | str | None] = {
        "minutes": minutes,
        "iterations": iterations,
        "rate_lambda": rate_lambda,
        "target_bytes": target_bytes,
        "target_psnr": target_psnr,
        "target_weights": weights,
        "camera_colors": camera_colors,
        "max_anchors": max_anchors,
        "voxel": voxel,
        "seed": seed,
        "preset": preset,
    }
    with phase(f"reading {scene}") as say:
        capture = load_scene(
            scene,
            layout=layout,
            downscale=downscale,
            cache_gb=cache_gb,
            background=behind,
            progress=lambda what, part: say(f"{what}: {part:.0%}"),
        )
    _check_cameras(capture)
    _describe(capture)
    if checkpoint is not None:
        trainer = _restore(capture, checkpoint, None, device)
        check_resumed(trainer, "that is coded without training", given, fields)
    else:
        if resume:
            trainer = _restore(capture, state, state, device)
            check_resumed(trainer, "to resume", given, fields)
        else:
            trainer = _new_trainer(capture, _fitted(config, capture, max_anchors is not None), state, device)
            trainer.asked = {name: str(value) for name, value in fields.items()}
        _train(trainer, state)
    with phase("coding"):
        from adcgs.encode import write_scene

        report = write_scene(trainer, output, weights=weights or trainer.config.target_weights, coder=coder)
    if checkpoint is None and not keep_checkpoint:
        state.unlink(missing_ok=True)
    _print_report(report, as_json)


def _check_output(output: Path) -> None:
    """Refuse before training what could not be written after it."""
    folder = output.parent
    if not folder.is_dir():
        raise OptionError("bad-output", f"{output}: the folder {folder} does not exist; create it first")
    if output.is_dir():
        raise OptionError("bad-output", f"{output}: is a folder; give the name of the file to write")
    try:  # rights alone do not tell: the file system may be read-only
        probe = folder / f".{output.name}.{os.getpid()}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        problem = f"{output}: cannot be written ({error.strerror}); choose another place"
        raise OptionError("bad-output", problem) from error


def configure(
    name: str,
    minutes: float | None,
    iterations: int | None,
    rate_lambda: float | None,
    max_anchors: int | None,
    voxel: float | None,
    seed: int,
) -> TrainingConfig:
    """The preset of that name, with what options of their own say."""
    from adcgs.training import preset

    if minutes is not None and iterations is not None:
        raise OptionError("bad-option", "give --minutes or --iterations, not both")
    config = preset(name)
    if minutes is not None:
        config = replace(config, minutes=minutes, iterations=None)
    if iterations is not None:
        config = replace(config, minutes=None, iterations=iterations)
    if rate_lambda is not None:
        config = replace(config, rate_lambda=rate_lambda)
    if max_anchors is not None:
        config = replace(config, max_anchors=max_anchors)
    if voxel is not None:
        config = replace(config, voxel=voxel)
    return replace(config, seed=seed)


def _fitted(config: TrainingConfig, capture: Scene, keep_anchors: bool) -> TrainingConfig:
    """The configuration with the anchor budget that suits a target size, and a word where it is another one."""
    from adcgs.training.budget import fit_to_size

    fitted = fit_to_size(config, capture, keep_anchors=keep_anchors)
    if fitted != config:
        console().print(
            f"at most {fitted.max_anchors} anchors instead of {config.max_anchors}, to suit the target size",
            soft_wrap=True,
        )
    return fitted


def _new_trainer(capture: Scene, config: TrainingConfig, state: Path, device: str) -> Trainer:
    from adcgs.training import Trainer

    with phase("placing the first anchors"):
        return Trainer(capture, config, checkpoint=state, device=device)


def _restore(capture: Scene, source: Path, state: Path | None, device: str) -> Trainer:
    from adcgs.training import Trainer

    return Trainer.from_checkpoint(capture, source, checkpoint=state, device=device)


def _check_cameras(capture: Scene) -> None:
    """Refuse before training what the file could not hold after it."""
    from adcgs.bitstream import pack_cameras
    from adcgs.training.contents import camera_views

    pack_cameras(camera_views(capture), capture.frame_count)


def _describe(capture: Scene) -> None:
    counts = ", ".join(f"{len(capture.split(s))} {s}" for s in ("train", "val", "test") if capture.split(s))
    first = capture.frames[0].camera
    out = console()
    out.print(
        f"{capture.layout} capture: {counts} views at {first.width}x{first.height}, {capture.frame_count} instants"
    )
    out.print(f"{len(capture.cloud)} initial points: {capture.cloud.source}", soft_wrap=True)


def _train(trainer: Trainer, state: Path) -> None:
    """Train under a live line."""
    if state.exists() and not trainer.saved:
        aside = state.with_name(state.name + ".earlier")
        state.replace(aside)
        console().print(
            f"the state of an earlier run is now in {aside} (under its old name --resume goes on with it)",
            soft_wrap=True,
        )
    try:
        if console().is_terminal:
            with _progress() as progress:
                task = progress.add_task("", total=1.0, text="starting (compiles once per installation)")
                trainer.train(lambda s: progress.update(task, completed=s.progress, text=_line(s)))
        else:
            console().print("training", soft_wrap=True)
            trainer.train(
                lambda s: console().print(f"{s.progress:4.0%} {_line(s)}", soft_wrap=True), report_every=_LOG_SECONDS
            )
    except KeyboardInterrupt:
        if trainer.saved:
            console().print(f"stopped; state is in {state}\nresume with: {resume_line()}", soft_wrap=True)
        raise
    except TrainingError as error:
        if error.code == "not-finite" and trainer.saved:
            raise TrainingError(error.code, f"{error}; resume from {state} with --resume") from error
        raise


def _progress() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.percentage:>3.0f}%"),
        BarColumn(24),
        TextColumn("{task.fields[text]}", markup=False),
        console=console(),
    )


_LOG_SECONDS = 30.0  # between lines where nobody watches a terminal


def _line(status: Status) -> str:
    minutes, seconds = divmod(max(status.remaining, 0), 60) if status.remaining == status.remaining else (0, 0)
    size = "" if status.bits is None else f" in {status.bits / 8e3:.0f} KB"
    line = (
        f"step {status.iteration}  left {int(minutes)}:{int(seconds):02d}  {status.psnr:.2f} dB  "
        f"{status.anchors} anchors{size}  {status.phase}"
    )
    if status.heading is None:
        return line
    unit, predicted = status.heading.unit, status.heading.predicted
    end = "..." if predicted is None else _amount(unit, predicted)
    return f"{line}  target {_amount(unit, status.heading.target)}, heading for {end} (lambda {status.rate_lambda:.1e})"


def _amount(unit: str, value: float) -> str:
    return f"{value / 1e3:.1f} KB" if unit == "bytes" else f"{value:.2f} dB"


def _print_report(report: EncodeReport, as_json: bool) -> None:
    if as_json:
        json.dump(report.to_dict(), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    held_out = ""
    if report.psnr_model is not None and report.psnr_unrounded is not None:
        change = f"{report.psnr_model - report.psnr_unrounded:+.2f} by rounding attributes"
        held_out = f", {report.psnr_model:.2f} dB on held-out views ({change})"
    console().print(
        f"{report.path}: {report.bytes} bytes, {report.anchors} anchors, {report.iterations} steps "
        f"in {report.minutes:.1f} min{held_out}\n"
        f"anchors' attributes: {report.coded_bytes} bytes, estimated as {report.estimated_bytes:.0f} when sealed and "
        f"{report.training_bytes:.0f} in training\n"
        f"look at it: adcgs-decode {report.path} --render frames/   adcgs-inspect {report.path}",
        soft_wrap=True,
    )
    if report.target is not None and report.reached is not None:
        unit = report.target_unit
        console().print(
            f"target {_amount(unit, report.target)}, reached {_amount(unit, report.reached)}{_missed(report)}",
            soft_wrap=True,
        )
    if report.note:
        console().print(report.note, soft_wrap=True)


def _missed(report: EncodeReport) -> str:
    """What would help where the target is not met."""
    if report.is_met:
        return ""
    assert report.target is not None
    assert report.reached is not None
    below = report.reached < report.target
    if report.target_unit == "bytes":
        remedy = "--max-anchors or more training can use the rest" if below else "try fewer --max-anchors"
    else:
        remedy = "try more training or --max-anchors" if below else "fewer --max-anchors would do"
    return f": not met; {remedy}"
