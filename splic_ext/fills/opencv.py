"""Inpainting of OpenCV: along the front of a fast march, and by the flow of a fluid."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.common.checks import check_integer
from splic_ext.common.optional import optional
from splic_ext.fills.base import Fill
from splic_ext.fills.rows import fill_rows

__all__ = ["NavierStokes", "Telea"]

#: OpenCV looks no farther, whatever it is told.
MOST_RADIUS = 100
#: The side that an image must have: of one row or column OpenCV reads what lies beside it.
LEAST_SIDE = 2


class _OpenCV(Fill):
    """One of the methods of ``cv2.inpaint``."""

    differentiable: ClassVar[bool] = False
    shown: ClassVar[tuple[str, ...]] = ("radius",)
    #: Name of the method's flag.
    flag: ClassVar[str]

    def __init__(self, radius: int = 3) -> None:
        super().__init__()
        self.radius = check_integer("radius", radius, 1, MOST_RADIUS)
        self._library()

    def _library(self) -> ModuleType:
        """Return OpenCV, or raise unless it is installed."""
        with optional(f"`{type(self).__name__}`", "certify", "cv2"):
            import cv2
        return cv2

    def fill(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Inpaint image by image; threads of OpenCV are not used."""
        return fill_rows(self._inpaint, images, mask)

    def _inpaint(self, image: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """Return one image (C, H, W), inpainted."""
        cv2 = self._library()
        # At the upper and the left border OpenCV reads hidden pixels, too: a neutral value.
        mean = image[:, mask].mean(axis=1, keepdims=True)[..., None]
        pixels = np.rint(np.where(mask, image, mean) * 255.0).astype(np.uint8)
        missing = (~mask).astype(np.uint8)
        height, width = mask.shape
        pad = [(0, max(0, LEAST_SIDE - side)) for side in (height, width)]
        pixels, missing = np.pad(pixels, [(0, 0), *pad], "edge"), np.pad(missing, pad, "edge")
        flag = getattr(cv2, self.flag)
        if len(pixels) == 3:
            color = np.ascontiguousarray(pixels.transpose(1, 2, 0))
            done = np.asarray(cv2.inpaint(color, missing, self.radius, flag)).transpose(2, 0, 1)
        else:
            done = np.stack(
                [np.asarray(cv2.inpaint(plane, missing, self.radius, flag)) for plane in pixels]
            )
        result: npt.NDArray[Any] = (done[:, :height, :width] / 255.0).astype(image.dtype)
        return result


class Telea(_OpenCV):
    """The fast-marching method of Telea [1]_, by OpenCV.

    Hidden pixels become, from the border of the hole inwards, weighted means of the known ones
    within the radius. OpenCV computes in 8 bits: values are rounded to multiples of 1 / 255, and
    may miss a constant by some of them. Three channels are inpainted together, others one by one.
    Where OpenCV reads hidden pixels, at the upper and the left border of an image, it finds the
    mean of the visible ones.

    Parameters
    ----------
    radius : int, default 3
        How far known pixels are taken into account, in pixels: 1 to 100.

    Raises
    ------
    TypeError, ValueError
        `radius` of the wrong kind, or out of its range.
    MissingExtraError
        OpenCV is not installed.

    References
    ----------
    .. [1] A. Telea, "An image inpainting technique based on the fast marching method", Journal of
       Graphics Tools 9, 2004.

    Examples
    --------
    >>> mask = torch.ones(8, 8, dtype=torch.bool)
    >>> mask[2:4, 3:6] = False
    >>> filled = Telea()(torch.full((1, 3, 8, 8), 0.2), mask)
    >>> bool((filled - 0.2).abs().max() < 0.02)
    True
    """

    flag: ClassVar[str] = "INPAINT_TELEA"


class NavierStokes(_OpenCV):
    """Inpainting by the equations of a fluid [1]_, by OpenCV.

    Lines of equal intensity are continued into the hole. OpenCV computes in 8 bits: values are
    rounded to multiples of 1 / 255. Three channels are inpainted together, others one by one.
    Where OpenCV reads hidden pixels, at the upper and the left border of an image, it finds the
    mean of the visible ones.

    Parameters
    ----------
    radius : int, default 3
        How far known pixels are taken into account, in pixels: 1 to 100.

    Raises
    ------
    TypeError, ValueError
        `radius` of the wrong kind, or out of its range.
    MissingExtraError
        OpenCV is not installed.

    References
    ----------
    .. [1] M. Bertalmio, A. L. Bertozzi, G. Sapiro, "Navier-Stokes, fluid dynamics, and image and
       video inpainting", CVPR 2001.

    Examples
    --------
    >>> mask = torch.ones(8, 8, dtype=torch.bool)
    >>> mask[2:4, 3:6] = False
    >>> filled = NavierStokes()(torch.full((1, 3, 8, 8), 0.2), mask)
    >>> bool((filled - 0.2).abs().max() < 1e-6)
    True
    """

    flag: ClassVar[str] = "INPAINT_NS"
