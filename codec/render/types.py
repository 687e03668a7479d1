"""What a rasterizer takes besides Gaussians and a camera, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

# Larger scales count as this, normalised units. It is far beyond any scene, and squares of it still fit into float32.
MAX_SCALE = 1e10


@dataclass(frozen=True)
class RasterSettings:
    """The constants of splatting; the defaults are gsplat's, which every backend follows.

    Attributes:
        blur: px^2 added to both diagonal entries of the projected covariance (a splat is never thinner).
        alpha_max: largest alpha of one splat at one pixel. gsplat compiles its own in (0.999 in 1.5.3, 0.99 in
            newer versions), so the CUDA path refuses other values; see :mod:`adcgs.render.cuda`.
        alpha_min: a splat leaves pixels alone at which its alpha is under this.
        stop: a pixel is finished just before the splat that would bring its transmittance to this or less.
        near: primitives whose centre is nearer to the camera than this (normalised units) are not drawn.
    """

    blur: float = 0.3
    alpha_max: float = 0.99
    alpha_min: float = 1.0 / 255.0
    stop: float = 1e-4
    near: float = 0.01


@dataclass
class Render:
    """One view of M primitives.

    Attributes:
        image: (H, W, C) colours over the background; not clamped.
        alpha: (H, W) one minus the transmittance that is left for the background.
        means2d: (M, 2) projected centres in pixels (undefined where ``radii`` is 0). If the image carries
            gradients, ``means2d.grad`` is the loss's gradient with respect to them after ``backward``.
        radii: (M,) int32, half the longer side of the splat's bounding box in pixels, rounded up; 0 for a
            primitive that can't touch the image.
    """

    image: Tensor  # (H, W, C)
    alpha: Tensor  # (H, W)
    means2d: Tensor  # (M, 2)
    radii: Tensor  # (M,)
    _weights: Tensor | Callable[[], Tensor] = field(repr=False)

    @property
    def weights(self) -> Tensor:
        """(M,) each primitive's alpha-blending weight, summed over the view (Psi of Eq. 11); no gradient.

        Where the backend did not need them for the image they are computed at the first access.
        """
        if callable(self._weights):
            self._weights = self._weights()
        return self._weights

    @property
    def visible(self) -> Tensor:
        """(M,) bool: the primitive may touch the image."""
        return self.radii > 0

    def mean2d_grad(self) -> Tensor:
        """(M, 2) gradient of the loss with respect to the projected centres, in pixels; after ``backward``."""
        if self.means2d.grad is None:
            raise RuntimeError("mean2d_grad() needs a backward pass through this render's image first")
        return self.means2d.grad
