"""The whole path on the capture that ships with the repository: encode, decode from the file alone, inspect, measure.

Run by ``make demo``. Every step is a command that can be typed by hand; each is printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent


def run(*arguments: str | Path, cwd: Path, capture: bool = False) -> Any:
    """Show and run one of the commands; its JSON where ``capture``."""
    command = [str(a) for a in arguments]
    print(f"\n$ {shlex.join(command)}", flush=True)
    result = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=cwd,
        check=False,
        text=True,
        stdout=subprocess.PIPE if capture else None,
    )
    if result.returncode:
        sys.exit(result.returncode)
    return json.loads(result.stdout) if capture else None


def main() -> None:
    """Encode, decode in an empty folder, inspect, evaluate; end with a table and the paths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="training time")
    parser.add_argument("--scene", type=Path, default=HERE / "knight")
    parser.add_argument("--output", type=Path, default=HERE.parent / "out" / "demo")
    options = parser.parse_args()
    scene, output = options.scene.resolve(), options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    name = f"{scene.name}.adc"

    run("adcgs-encode", scene, "-o", name, "--minutes", f"{options.minutes:g}", cwd=output)

    # A decoder needs the file and nothing else: give it an empty folder.
    with tempfile.TemporaryDirectory() as empty:
        alone = Path(empty)
        shutil.copy(output / name, alone / name)
        run("adcgs-decode", name, "--render", "frames", cwd=alone)
        run("adcgs-decode", name, "--views", "orbit", "--video", "orbit.mp4", cwd=alone)
        shutil.rmtree(output / "frames", ignore_errors=True)
        shutil.move(alone / "frames", output / "frames")
        shutil.move(alone / "orbit.mp4", output / "orbit.mp4")

    run("adcgs-inspect", name, "--plot", "bits.png", cwd=output)
    report = run("adcgs-eval", name, scene, "--json", cwd=output, capture=True)

    mean = report["mean"]
    print(f"\n{'held-out PSNR':>16}  {'SSIM':>6}  {'bytes':>8}  {'frames per second':>18}")
    print(f"{mean['psnr']:13.2f} dB  {mean['ssim']:6.4f}  {report['bytes']:8d}  {mean['fps']:18.1f}")
    for what, path in (
        ("the scene", name),
        ("held-out frames", "frames"),
        ("video", "orbit.mp4"),
        ("where the bits went", "bits.png"),
    ):
        print(f"{what:>20}: {output / path}")


if __name__ == "__main__":
    main()
