"""Rendering on a CPU: torch tensors in and out of the compiled kernels, and their place in autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..camera import Camera
from ..errors import OptionError
from ..gaussians import Gaussians
from ..jit import run, thread_count
from ..vectors.arrays import counter, flat
from . import blending, projection, tiling
from .layout import CHUNKS, TILE, pack, padded_channels, row_stride
from .simd import LANES
from .types import RasterSettings, Render


def render_cpu(gaussians: Gaussians, camera: Camera, background: Tensor, settings: RasterSettings) -> Render:
    """Draw on this machine's processor. See :func:`adcgs.render.render`."""
    tensors = (gaussians.means, gaussians.quaternions, gaussians.scales, gaussians.opacities, gaussians.colors)
    if gaussians.means.device.type != "cpu" or gaussians.means.dtype != torch.float32:
        raise OptionError("not-cpu-float32", "backend 'cpu' needs float32 tensors on the CPU: use .cpu().float()")
    wants_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    frame = Frame(gaussians, camera, background, settings)
    frame.project()
    image, alpha, pair_weights = frame.blend(wants_gradient)
    means2d = frame.means2d
    if wants_gradient:
        means2d.requires_grad_()
        image, alpha = _Rasterize.apply(frame, image, alpha, means2d, *tensors)
        return Render(image, alpha, means2d, frame.radii, lambda: frame.sum_pairs(pair_weights))

    def weights() -> Tensor:
        again = Frame(gaussians, camera, background, settings)
        again.project()
        return again.sum_pairs(again.blend(for_training=True)[2])

    return Render(image, alpha, means2d, frame.radii, weights)


def aligned(size: int) -> NDArray[np.float32]:
    """Uninitialised floats that begin with a cache line; numpy's own memory begins 16 bytes after one."""
    return torch.empty(size).numpy()


class Frame:
    """One view on its way through the kernels: the projected splats and the tiles' lists.

    Memory: 92 bytes per primitive of up to four channels (156 with more), 20 bytes per pair (a splat in a tile; 28 in
    training), 272 per tile, and the image with its alpha. The backward pass adds 64 bytes per pair and the gradients.
    """

    def __init__(
        self, gaussians: Gaussians, camera: Camera, background: Tensor, settings: RasterSettings
    ) -> None:
        self.count, self.channels = gaussians.colors.shape
        self.width, self.height = camera.width, camera.height
        self.tiles_x, self.tiles_y = -(-camera.width // TILE), -(-camera.height // TILE)
        self.stride = row_stride(self.channels)
        self.geometry = tuple(
            flat(tensor) for tensor in (gaussians.means, gaussians.quaternions, gaussians.scales, gaussians.opacities)
        )
        self.colors = flat(gaussians.colors)
        padding = [0.0] * (padded_channels(self.channels) - self.channels)
        self.background = tuple(np.float32(value) for value in background.tolist() + padding)
        self.table = pack(camera, settings)
        self.threads = thread_count()

    def project(self) -> None:
        """Fills the rows, and lists every tile's splats."""
        padded, tiles = self.count + LANES, self.tiles_x * self.tiles_y
        self.rows = aligned(padded * self.stride)
        depths = np.empty(padded, np.float32)
        self.radii = torch.empty(self.count, dtype=torch.int32)
        self.means2d = torch.empty(self.count, 2)
        boxes = np.empty(self.count, np.int64)
        tile_counts, pair_counts = np.zeros((CHUNKS, tiles), np.int32), np.empty(CHUNKS, np.int64)
        self._run(
            projection.project, *self.geometry, self.colors, self.channels, self.table, counter(),
            self.rows, self.stride, depths, self.radii.numpy(), flat(self.means2d), boxes,
            self.tiles_x, self.tiles_y, tile_counts, pair_counts,
        )  # fmt: skip
        self.pairs = int(pair_counts.sum())
        if self.pairs >= 2**31:
            raise OptionError("too-many-pairs", "splats cover over 2^31 tiles together: render a smaller image")
        self.tile_starts, pair_starts = np.empty(tiles + 1, np.int64), np.empty(CHUNKS + 1, np.int64)
        tiling.prefix_sums(tile_counts, pair_counts, self.tile_starts, pair_starts)
        self.pair_bounds = np.empty(self.count + 1, np.int32)
        self.pair_bounds[self.count] = self.pairs
        self.entries = np.empty(4 * self.pairs, np.int32)
        self._run(
            tiling.fill_tiles, self.rows, self.stride, depths.view(np.int32), boxes, self.tiles_x, counter(),
            tile_counts, pair_starts, self.pair_bounds, self.entries,
        )  # fmt: skip
        # The longest lists first: no thread is left with a long one at the end.
        self.schedule = np.argsort(-np.diff(self.tile_starts), kind="stable")

    def blend(self, for_training: bool) -> tuple[Tensor, Tensor, NDArray[np.float32]]:
        """The image (H, W, C), alpha (H, W) and, if it is for training, every pair's summed weight."""
        image, alpha = torch.empty(self.height, self.width, self.channels), torch.empty(self.height, self.width)
        self.splats = np.empty(self.pairs, np.int32)
        self.places = np.empty(self.pairs if for_training else 0, np.int32)
        weights = np.empty(self.pairs if for_training else 0, np.float32)
        self._run(
            blending.blend, self.rows, self.stride, self.table, self.channels, self.background, self.width, self.height,
            self.tiles_x, counter(), self.schedule, self.tile_starts, self.entries, self.splats, self.places,
            flat(image), flat(alpha), weights,
        )  # fmt: skip
        del self.entries
        return image, alpha, weights

    def sum_pairs(self, values: NDArray[np.float32]) -> Tensor:
        """(M,) the pairs' values, summed by primitive."""
        sums = torch.empty(self.count)
        self._run(tiling.sum_pairs, counter(), self.pair_bounds, self.places, values, sums.numpy())
        return sums

    def gradients(
        self, image: Tensor, alpha: Tensor, image_gradient: Tensor, alpha_gradient: Tensor
    ) -> tuple[Tensor, ...]:
        """Of means2d, means, quaternions, scales, opacities, colors."""
        pair_stride = LANES * -(-(6 + len(self.background)) // LANES)
        pair_rows = aligned(self.pairs * pair_stride)
        self._run(
            blending.blend_gradient, self.rows, self.stride, self.table, self.channels, self.background, self.width,
            self.height, self.tiles_x, counter(), self.schedule, self.tile_starts, self.splats,
            flat(image), flat(alpha), flat(image_gradient), flat(alpha_gradient), pair_rows, pair_stride,
        )  # fmt: skip
        # The kernel writes whole vectors of primitives; what hangs over is cut off.
        widths = {"means": 3, "quaternions": 4, "scales": 3, "opacities": 1, "colors": self.channels, "means2d": 2}
        out = {name: torch.empty(self.count + LANES, width) for name, width in widths.items()}
        self._run(
            projection.pull_back, *self.geometry, self.channels, self.table, counter(), self.rows, self.stride,
            self.pair_bounds, self.places, pair_rows, pair_stride, *(flat(value) for value in out.values()),
        )  # fmt: skip
        out = {name: value[: self.count] for name, value in out.items()}
        out["opacities"] = out["opacities"][:, 0]
        return (out["means2d"], *(out[name] for name in ("means", "quaternions", "scales", "opacities", "colors")))

    def _run(self, kernel: Any, *args: Any) -> None:
        run(kernel, args, self.threads)


class _Rasterize(torch.autograd.Function):
    """Hangs a finished frame into autograd."""

    @staticmethod
    def forward(ctx: Any, frame: Frame, image: Tensor, alpha: Tensor, means2d: Tensor, *tensors: Tensor) -> Any:
        ctx.frame = frame
        ctx.save_for_backward(image, alpha, *tensors)
        ctx.mark_dirty(image, alpha)
        return image, alpha

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, image_gradient: Tensor, alpha_gradient: Tensor) -> Any:
        image, alpha, *_ = ctx.saved_tensors
        gradients = ctx.frame.gradients(image, alpha, image_gradient, alpha_gradient)
        return (None, None, None, *gradients)
