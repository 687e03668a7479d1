"""Frames per second of a file by anchors and per primitive: ``python benchmarks/per_primitive.py FILE [--threads N]``.

The paper's claim is that deformation networks which run once per anchor make playback 3 to 8 times faster. So the
file's own scene is drawn twice, in one run: as it is, and with the same networks run for each primitive, as methods
without anchors do (the fine network's last layer then has outputs for one primitive instead of K; its weights are
drawn at random, since speed alone is measured).
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from command_lines import Parser, one_line, positive
from heldout import first_camera
from runs import StepError

if TYPE_CHECKING:
    from adcgs.model import AnchorModel

INSTANTS = 24


def frame_rates(file: Path, threads: int) -> dict[str, float]:
    """``by anchor`` and ``by primitive``, in frames per second; measured in a process of its own.

    Raises:
        StepError: with the process's last line.
    """
    line = [sys.executable, __file__, str(file), "--threads", str(threads), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        problem = lines[-1] if lines else "no message"
        raise StepError(f"per_primitive.py ended with {done.returncode}: {problem}")
    return dict(json.loads(done.stdout))


def measure(file: Path, threads: int) -> dict[str, float]:
    """The same, in this process."""
    import torch
    from adcgs.decode import open_scene
    from adcgs.render import RasterSettings, render

    decoded = open_scene(file, threads=threads)
    model = decoded.model
    camera, settings = first_camera(decoded), RasterSettings(near=decoded.header.near, blur=decoded.header.blur)
    background = torch.tensor(decoded.header.background)
    rates = {}
    with torch.inference_mode():
        primitives = model.predict(model.features)
        single = per_primitive(model)
        singles = type(primitives)(*(v.flatten(0, 1)[:, None].contiguous() for v in vars(primitives).values()))
        for name, net, rows in (("by anchor", model, primitives), ("by primitive", single, singles)):
            times = []
            for k in range(INSTANTS + 2):
                start = time.perf_counter()
                render(net.deform(net.features, rows, k / (INSTANTS + 1)), camera, background, settings)
                times.append(time.perf_counter() - start)
            rates[name] = 1 / statistics.median(times[2:])
    return rates


def per_primitive(model: AnchorModel) -> AnchorModel:
    """A model with an anchor for each primitive of ``model``: what a deformation without anchors has to evaluate."""
    import torch
    from adcgs.features import Features
    from adcgs.model import AnchorModel

    k = model.config.primitives

    def repeated(value: torch.Tensor) -> torch.Tensor:
        return value.detach().repeat_interleave(k, dim=0)

    f_g = model.f_g.detach().flatten(0, 1)[:, None]
    features = Features(repeated(model.f_v), f_g, repeated(model.sigma), repeated(model.color))
    config = dataclasses.replace(model.config, primitives=1)
    single = AnchorModel(config, repeated(model.positions), features, folded=model.z is None)
    single = single.to(model.positions.device)
    if config.coarse:
        single.coarse_net.load_state_dict(model.coarse_net.state_dict())
    if config.fine:
        torch.nn.init.normal_(single.fine_net.last.weight, std=0.003)
    return single


def main() -> None:
    """Run what the command line asks for."""
    parser = Parser(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--json", action="store_true", help="alone on stdout")
    options = parser.parse_args()
    rates = measure(options.file, options.threads)
    if options.json:
        print(json.dumps(rates))
        return
    ratio = rates["by anchor"] / rates["by primitive"]
    print(", ".join(f"{name} {rate:.1f} fps" for name, rate in rates.items()) + f": {ratio:.1f} times")


if __name__ == "__main__":
    one_line(main)
