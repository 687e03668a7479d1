"""Which of a capture's views the steps of a run look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..scene import Frame
from .seeds import seed_of


class ViewOrder:
    """All frames in a new random order every epoch; what a step looks at follows from the seed and its iteration.

    Attributes:
        one_view: whether no two frames are of one instant, as with a single moving camera.
    """

    def __init__(self, frames: Sequence[Frame], seed: int, views: int = 1) -> None:
        """``views``: of one instant, in each step."""
        self.frames, self.seed, self.views = frames, seed, views
        self._instants: dict[float, list[Frame]] = {}
        for frame in frames:
            self._instants.setdefault(frame.time, []).append(frame)
        self.one_view = len(self._instants) == len(frames)
        self._epoch = -1
        self._order: list[int] = []

    def at(self, iteration: int) -> list[Frame]:
        """The frame whose turn it is, and others of its instant, drawn from torch's generator, if steps take several.

        An instant of fewer frames gives all that it has.
        """
        frame = self.frames[self._next(iteration)]
        if self.views == 1:
            return [frame]
        others = [other for other in self._instants[frame.time] if other is not frame]
        return [frame, *(others[i] for i in torch.randperm(len(others))[: self.views - 1].tolist())]

    def _next(self, iteration: int) -> int:
        epoch, place = divmod(iteration, len(self.frames))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
            self._order = torch.randperm(len(self.frames), generator=generator).tolist()
            self._epoch = epoch
        return self._order[place]
