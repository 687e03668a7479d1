"""Between the captured instants a trained scene moves evenly: nothing jumps, and something does move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from adcgs.decode import open_scene
from adcgs.encode import write_scene
from adcgs.evaluation.pictures import Picture, to_uint8
from adcgs.evaluation.smoothness import largest_jump, steps
from adcgs.scene import load_scene
from adcgs.training import Trainer

from .test_trainer import TINY

INSTANTS = 12  # of the capture
BETWEEN = 8  # rendered from each to the next


def test_a_decoded_scene_does_not_jump_between_the_captured_instants(balls: Path, tmp_path: Path) -> None:
    trainer = Trainer(load_scene(balls), replace(TINY, iterations=450))
    trainer.train()
    write_scene(trainer, tmp_path / "scene.adc")
    decoded = open_scene(tmp_path / "scene.adc")
    camera = decoded.views[0].camera

    def frames(times: Sequence[float]) -> list[Picture]:
        return [to_uint8(decoded.render(camera, time).numpy()) for time in times]

    times = np.linspace(0, 1, BETWEEN * (INSTANTS - 1) + 1)
    smooth = frames(times.tolist())
    assert steps([smooth[0], smooth[-1]])[0] > 2, "nothing moved: the test would show nothing"
    assert largest_jump(smooth) < 3
    # What would be found: the same scene shown at the captured instants alone, each held until the next.
    assert largest_jump(frames((np.round(times * (INSTANTS - 1)) / (INSTANTS - 1)).tolist())) > 6
