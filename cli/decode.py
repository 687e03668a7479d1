"""``adcgs-decode``: one file in, frames and a video out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from adcgs.errors import OptionError

from .common import Command, console, handle_errors, parse_background

if TYPE_CHECKING:
    from adcgs.decode import DecodedScene
    from adcgs.frames import RenderReport
    from adcgs.viewpoints import Viewpoint

EXAMPLES = """
\b
Examples:
  adcgs-decode scene.adc --render frames/                          the held-out views
  adcgs-decode scene.adc --render frames/ --views train --size 640x360
  adcgs-decode scene.adc --video orbit.mp4 --views orbit           a walk around the scene, no PNGs
  adcgs-decode scene.adc --render out/ --views all --times 0,0.5,1 every camera at three instants
  adcgs-decode scene.adc --render out/ --views my_cameras.json     the form of the cameras.json it writes
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--render", "folder", type=click.Path(path_type=Path), help="Folder for PNG frames and cameras.json.")
@click.option("--video", type=click.Path(path_type=Path), help="H.264 video to write (.mp4).")
@click.option(
    "--views",
    default="test",
    show_default=True,
    help="test, val, train, all, orbit, or a JSON file of cameras.",
)
@click.option("--times", help="Instants in 0..1: a list (0,0.5,1) or a count (60: evenly spread over the clip).")
@click.option("--size", help="WxH of the images; the views' own otherwise.")
@click.option("--background", help="white, black or R,G,B in 0..1; the file's own otherwise.")
@click.option(
    "--scene-colors",
    is_flag=True,
    help="Show the capture's cameras in the scene's colours, not in their own (files that have these).",
)
@click.option("--partial", is_flag=True, help="Accept a file that was cut: render what its complete sections give.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--json", "as_json", is_flag=True, help="A JSON report, alone on stdout.")
@handle_errors
def main(
    file: Path,
    folder: Path | None,
    video: Path | None,
    views: str,
    times: str | None,
    size: str | None,
    background: str | None,
    scene_colors: bool,
    partial: bool,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Render what FILE holds; nothing but FILE is needed."""
    if folder is None and video is None:
        raise OptionError("bad-option", "nothing to do: give --render FOLDER, --video FILE.mp4, or both")
    if video is not None and video.resolve() == file.resolve():
        raise OptionError("bad-option", f"--video {video}: that is the file to decode; give another name")
    from adcgs.decode import open_scene

    instants = None if times is None else parse_times(times)
    scene = open_scene(file, device=device, threads=threads, allow_partial=partial)
    if scene.missing:
        cut = f"{file} is cut; missing: {', '.join(scene.missing)} (rendered from what is there)"
        console().print(cut, style="yellow", soft_wrap=True)
    chosen = _viewpoints(scene, views, instants, size)
    if scene_colors:
        chosen = [replace(view, camera_id=None) for view in chosen]
    color = None if background is None else parse_background(background)
    report = _render(scene, chosen, folder, video, color)
    _print_report(report, chosen, scene, as_json)


def parse_times(text: str) -> list[float]:
    """``0,0.5,1`` or a count to instants in [0, 1].

    Raises:
        OptionError: ``bad-times``.
    """
    parts = text.split(",")
    try:
        if len(parts) == 1 and parts[0].strip().isdecimal() and int(parts[0]) > 1:
            count = int(parts[0])
            if count > 100_000:
                raise OptionError("bad-times", f"--times {text}: at most 100000 instants")
            return [index / (count - 1) for index in range(count)]
        times = [float(part) for part in parts]
    except ValueError:
        raise OptionError("bad-times", f"--times {text!r}: give numbers in 0..1 with commas, or a count") from None
    if not all(0 <= t <= 1 for t in times):
        raise OptionError("bad-times", f"--times {text}: times are in 0..1 over the clip")
    return times


def parse_size(text: str) -> tuple[int, int]:
    """``WxH`` to integers. Raises OptionError ``bad-size``."""
    width, _, height = text.lower().partition("x")
    if not (text.isascii() and width.isdigit() and height.isdigit()) or len(text) > 20:
        raise OptionError("bad-size", f"--size {text!r}: give it as WxH, such as 640x360")
    return int(width), int(height)


def _viewpoints(scene: DecodedScene, views: str, times: list[float] | None, size: str | None) -> list[Viewpoint]:
    from adcgs.viewpoints import resize, select_viewpoints

    orbit_frames = max(scene.header.frame_count, 60)
    chosen = select_viewpoints(views, scene.views, scene.similarity, times, orbit_frames)
    return chosen if size is None else resize(chosen, *parse_size(size))


def _render(
    scene: DecodedScene,
    chosen: Sequence[Viewpoint],
    folder: Path | None,
    video: Path | None,
    background: tuple[float, float, float] | None,
) -> RenderReport:
    from adcgs.frames import render_frames
    from rich.progress import Progress

    with Progress(console=console()) as progress:
        task = progress.add_task("rendering", total=len(chosen))

        def report(done: int, _: int) -> None:
            progress.update(task, completed=done)

        return render_frames(scene, chosen, folder, video, background=background, progress=report)


def _print_report(report: RenderReport, chosen: Sequence[Viewpoint], scene: DecodedScene, as_json: bool) -> None:
    if as_json:
        document = {
            "frames": report.frames,
            "seconds": report.seconds,
            "fps": report.fps,
            "fps_includes": "deformation, prediction, projection, rasterization",
            "folder": None if report.folder is None else str(report.folder),
            "video": None if report.video is None else str(report.video),
            "missing": list(scene.missing),
            "names": [view.name for view in chosen],
        }
        json.dump(document, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    where = " and ".join(str(p) for p in (report.folder, report.video) if p is not None)
    console().print(
        f"{report.frames} frames in {where}; {report.fps:.1f} frames per second "
        "(deformation to pixels, files not counted)"
    )
