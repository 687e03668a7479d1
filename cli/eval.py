"""``adcgs-eval``: how good a file is, measured against the capture it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from .common import Command, Number, console, handle_errors, print_json

if TYPE_CHECKING:
    from adcgs.decode import DecodedScene
    from adcgs.evaluation.evaluate import Evaluation, SaveView
    from adcgs.evaluation.perceptual import PerceptualMetric
    from adcgs.scene import Scene
    from rich.progress import Progress

_TABLE_WIDTH = 100

_TITLES = {
    "psnr": "PSNR",
    "psnr_dynamic": "PSNR moving",
    "psnr_foreground": "PSNR fg.",
    "psnr_color": "PSNR col.",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS",
    "st_lpips": "ST-LPIPS",
}

EXAMPLES = """
\b
Examples:
  adcgs-eval scene.adc capture/                       the held-out views, one row each, and their mean
  adcgs-eval scene.adc capture/ --split val --json | jq .mean
  adcgs-eval scene.adc capture/ --save-images out/    truth, decoded and error of every view

\b
PSNR moving: over the pixels that change by more than 10 % against their
camera's temporal median, now or in a neighbouring frame; fixed cameras only.
PSNR fg.: the foreground, where the capture's alpha is not zero. PSNR col.:
after the affine colour that fits the view best, which leaves out what a
held-out camera's exposure costs. SSIM is plain SSIM. The capture is read at
the size that FILE was made for.
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("scene", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["test", "val", "train"]), default="test", show_default=True)
@click.option("--save-images", type=click.Path(path_type=Path), help="Folder for truth/, decoded/ and compare/.")
@click.option("--st-lpips", is_flag=True, help="Shift-tolerant LPIPS as well (another scale; about 1 s a view).")
@click.option("--layout", help="Capture layout, where it is not recognised (as for adcgs-encode).")
@click.option(
    "--downscale", type=Number(1, 1024), help="As given to adcgs-encode; found out from the file otherwise."
)
@click.option(
    "--cache-gb", type=Number(min=0), default=2.0, show_default=True, help="Memory for decoded images."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--json", "as_json", is_flag=True, help="A JSON report, alone on stdout.")
@handle_errors
def main(
    file: Path,
    scene: Path,
    split: Literal["test", "val", "train"],
    save_images: Path | None,
    st_lpips: bool,
    layout: str | None,
    downscale: float | None,
    cache_gb: float,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Render views of FILE and compare them with the capture in folder SCENE."""
    from adcgs.decode import open_scene
    from adcgs.evaluation.evaluate import evaluate, save_views

    notes: dict[str, str] = {}
    with _progress() as progress:
        task = progress.add_task(f"decoding {file}", total=None)
        decoded = open_scene(file, device=device, threads=threads)
        capture = _load(scene, decoded, layout, downscale, cache_gb, progress)
        lpips, shift_tolerant = _perceptual(device, st_lpips, notes)
        save: SaveView | None = None if save_images is None else save_views(save_images)
        result = evaluate(
            decoded,
            capture,
            split,
            lpips=lpips,
            st_lpips=shift_tolerant,
            notes=notes,
            save=save,
            progress=lambda k, n: progress.update(task, description="comparing", completed=k, total=n),
        )
    if as_json:
        print_json(result.to_dict())
    else:
        _print_table(result)
    if save_images is not None:
        console().print(f"images in {save_images}", soft_wrap=True)


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn())
    return Progress(*columns, console=console(), transient=True, disable=not console().is_terminal)


def _load(
    root: Path,
    decoded: DecodedScene,
    layout: str | None,
    downscale: float | None,
    cache_gb: float,
    progress: Progress,
) -> Scene:
    from adcgs.evaluation.matching import load_matching_scene

    task = progress.add_task(f"reading {root}", total=1.0)

    def report(what: str, part: float) -> None:
        progress.update(task, description=what, completed=part)

    scene = load_matching_scene(root, decoded, layout=layout, downscale=downscale, cache_gb=cache_gb, progress=report)
    progress.remove_task(task)
    return scene


def _perceptual(
    device: str, st_lpips: bool, notes: dict[str, str]
) -> tuple[PerceptualMetric | None, PerceptualMetric | None]:
    """LPIPS where its weights are at hand, ST-LPIPS where it was asked for; one line for each that is missing."""
    from adcgs.evaluation.perceptual import UnavailableError, load_lpips, load_st_lpips

    found: dict[str, PerceptualMetric] = {}
    for key, wanted, load in (("lpips", True, load_lpips), ("st_lpips", st_lpips, load_st_lpips)):
        if not wanted:
            notes[key] = "not asked for; give --st-lpips"
            continue
        try:
            found[key] = load(device)
        except UnavailableError as error:
            notes[key] = str(error)
            console().print(f"measured without {_TITLES[key]} ({error})", soft_wrap=True)
    return found.get("lpips"), found.get("st_lpips")


def _print_table(result: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    keys = [key for key in _TITLES if result.counted(key)]
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("view", no_wrap=True)
    table.add_column("time", justify="right")
    for key in keys:
        table.add_column(_TITLES[key], justify="right", no_wrap=True)
    table.add_column("fps", justify="right")
    for view in result.views:
        table.add_row(
            view.name,
            f"{view.time:.3f}",
            *(_number(key, view.values[key]) for key in keys),
            f"{1 / view.seconds:.1f}",
        )
    table.add_section()
    mean = result.mean
    table.add_row("mean", "", *(_number(key, mean[key]) for key in keys), f"{mean['fps']:.1f}", style="bold")
    out = Console(highlight=False, markup=False, soft_wrap=True)
    out.width = max(out.width, _TABLE_WIDTH)
    out.print(table)
    out.print(
        f"\n{result.file}: {result.bytes:,} bytes; {len(result.views)} {result.split} views at "
        f"{result.width}x{result.height}, {result.device}, {result.threads} threads"
    )
    for key in keys:
        if result.counted(key) < len(result.views):
            out.print(f"{_TITLES[key]}: mean over {result.counted(key)} of the views; {result.notes[key]}")
    for key, why in result.notes.items():
        if not result.counted(key) and key not in ("lpips", "st_lpips"):
            out.print(f"no {_TITLES[key]}: {why}")
    from adcgs.evaluation.evaluate import FPS_INCLUDES

    out.print(f"fps includes {FPS_INCLUDES}")


def _number(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if key.startswith("psnr") else f"{value:.4f}"
