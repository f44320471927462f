"""Biharmonic inpainting of scikit-image as a fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.common.optional import optional
from splic_ext.fills.base import Fill
from splic_ext.fills.rows import fill_rows

__all__ = ["Biharmonic"]


class Biharmonic(Fill):
    r"""The smoothest surface through the visible pixels [1]_, by scikit-image.

    .. math:: \Delta^2 u = 0

    in the hidden pixels, each channel by itself, in float64. Linear ramps are restored. Hidden
    pixels keep to the range of the visible ones of their channel.

    Raises
    ------
    MissingExtraError
        scikit-image is not installed.

    References
    ----------
    .. [1] S. B. Damelin, N. S. Hoang, "On surface completion and image inpainting by biharmonic
       functions: numerical aspects", International Journal of Mathematics and Mathematical
       Sciences, 2018.

    Examples
    --------
    >>> mask = torch.ones(8, 8, dtype=torch.bool)
    >>> mask[2:4, 3:6] = False
    >>> ramp = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    >>> bool((Biharmonic()(ramp, mask) - ramp).abs().max() < 1e-6)
    True
    """

    differentiable: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._function()

    def _function(self) -> Callable[..., Any]:
        """Return the function of scikit-image, or raise unless it is installed."""
        with optional("`Biharmonic`", "certify", "skimage", "scipy"):
            from skimage.restoration import inpaint_biharmonic
        function: Callable[..., Any] = inpaint_biharmonic
        return function

    def fill(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Solve one sparse system for each image."""
        return fill_rows(self._inpaint, images, mask)

    def _inpaint(self, image: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """Return one image (C, H, W), inpainted."""
        pixels = image.astype(np.float64).transpose(1, 2, 0)
        done: npt.NDArray[Any] = self._function()(pixels, ~mask, channel_axis=-1)
        result: npt.NDArray[Any] = done.transpose(2, 0, 1)
        return result
