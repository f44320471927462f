"""Deterministic denoisers: Gaussian, total variation, bilateral, guided."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch.nn import functional

from splic_ext.common.checks import check_integer, check_number
from splic_ext.defenses.base import Defense, Index
from splic_ext.defenses.compiled import denoise_tv, is_native

__all__ = ["Bilateral", "GaussianBlur", "GuidedFilter", "TotalVariation"]

#: A Gaussian kernel is cut off at that many standard deviations.
TRUNCATE = 4.0

#: Bounds of what is divided by: with less, or more, float32 ends in NaN.
LEAST, MOST = 1e-6, 1e6

#: Rec. 601 weights of red, green and blue.
LUMA = (0.299, 0.587, 0.114)


class GaussianBlur(Defense):
    """Convolution with a Gaussian, each channel by itself.

    The kernel is cut off at 4 sigma, and pixels at the border are repeated outwards.

    Parameters
    ----------
    sigma : float, default 1.0
        Standard deviation in pixels, in [1e-6, 100]; larger -> smoother.
    gradient : {"exact", "identity"}, default "exact"
        See :class:`Defense`.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    Examples
    --------
    >>> GaussianBlur(sigma=0.5)(torch.eye(5).reshape(1, 1, 5, 5))[0, 0, 2, 2]
    tensor(0.6414)
    """

    shown: ClassVar[tuple[str, ...]] = ("sigma",)

    def __init__(self, sigma: float = 1.0, gradient: str = "exact") -> None:
        super().__init__(gradient)
        self.sigma = check_number("sigma", sigma, LEAST, 100.0)

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Blur along the rows, then along the columns."""
        radius = math.floor(TRUNCATE * self.sigma + 0.5)
        distance = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
        kernel = torch.exp(-0.5 * (distance / self.sigma) ** 2)
        kernel = (kernel / kernel.sum()).reshape(1, 1, -1, 1)
        planes = images.flatten(0, 1).unsqueeze(1)
        planes = functional.pad(planes, (radius,) * 4, mode="replicate")
        planes = functional.conv2d(planes, kernel)
        planes = functional.conv2d(planes, kernel.transpose(2, 3))
        return planes.reshape(images.shape)


class TotalVariation(Defense):
    r"""Total-variation denoising (Rudin, Osher, Fatemi [1]_), each channel by itself.

    .. math:: \min_u \; \tfrac12 \|u - x\|^2 + w \sum_{ij} |\nabla u_{ij}|

    with forward differences, by a fixed number of Chambolle's projected steps [2]_: those of
    ``skimage.restoration.denoise_tv_chambolle`` with a `channel_axis`, which by default stops
    earlier, at a tolerance.

    Parameters
    ----------
    weight : float, default 0.1
        w, in [1e-6, 1e6], for images in [0, 1]; larger -> smoother.
    iterations : int, default 50
        Steps, at least 1; more -> nearer to the minimum. Raise it with a weight above 0.1.
    gradient : {"exact", "identity"}, default "exact"
        See :class:`Defense`. ``"exact"``: the backward pass makes all steps anew, and keeps those
        of a channel in memory; a derivative of the gradient is computed in torch.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] L. Rudin, S. Osher, E. Fatemi, "Nonlinear total variation based noise removal
       algorithms", Physica D 60, 1992.
    .. [2] A. Chambolle, "An algorithm for total variation minimization and applications", Journal
       of Mathematical Imaging and Vision 20, 2004.

    Examples
    --------
    >>> noisy = 0.5 + 0.1 * torch.randn(1, 1, 16, 16).clamp(-2, 2)
    >>> bool(TotalVariation(weight=0.2)(noisy).std() < 0.5 * noisy.std())
    True
    """

    shown: ClassVar[tuple[str, ...]] = ("weight", "iterations")

    def __init__(self, weight: float = 0.1, iterations: int = 50, gradient: str = "exact") -> None:
        super().__init__(gradient)
        self.weight = check_number("weight", weight, LEAST, MOST)
        self.iterations = check_integer("iterations", iterations, 1)

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Denoise by native code, or in torch; the two agree to rounding."""
        if is_native(images):
            return denoise_tv(images, self.weight, self.iterations, self._in_torch)
        return self._in_torch(images)

    def _in_torch(self, images: torch.Tensor) -> torch.Tensor:
        """Iterate on the dual field (down, right), and add its divergence to the images."""
        step = 0.25
        result = images
        down = right = torch.zeros_like(images)
        for _ in range(self.iterations):
            d_down = functional.pad(result.diff(dim=2), (0, 0, 0, 1))
            d_right = functional.pad(result.diff(dim=3), (0, 1))
            squares = d_down**2 + d_right**2
            # The root has no derivative at 0, where the step is 0 whatever the root is.
            norm = torch.where(squares > 0, squares, torch.ones_like(squares)).sqrt()
            scale = 1 + (step / self.weight) * norm * (squares > 0)
            down = (down - step * d_down) / scale
            right = (right - step * d_right) / scale
            above = functional.pad(down[:, :, :-1], (0, 0, 1, 0))
            left = functional.pad(right[:, :, :, :-1], (1, 0))
            result = images - (down - above) - (right - left)
        return result


class Bilateral(Defense):
    r"""Bilateral filter [1]_: a mean over a window, weighted by nearness in space and colour.

    .. math:: \hat x_i = \frac{\sum_j w_{ij} x_j}{\sum_j w_{ij}}, \qquad
              w_{ij} = \exp\Bigl(-\frac{|i - j|^2}{2 \sigma_s^2}
                                 - \frac{\|x_i - x_j\|^2}{2 \sigma_c^2}\Bigr)

    The colour distance is Euclidean over the channels, which share the weights; pixels at the
    border are repeated outwards.

    Parameters
    ----------
    sigma_color : float, default 0.1
        In [1e-6, 1e6], for images in [0, 1]; larger -> smoother across edges.
    sigma_spatial : float, default 2.0
        In pixels, in [1e-6, 1e6]; larger -> smoother.
    window : int, default 5
        Side of the window in pixels: odd, at most 99.
    gradient : {"exact", "identity"}, default "exact"
        See :class:`Defense`.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] C. Tomasi, R. Manduchi, "Bilateral filtering for gray and color images", ICCV 1998.

    Examples
    --------
    >>> step = (torch.arange(8) < 4).float().expand(1, 1, 8, 8)
    >>> torch.allclose(Bilateral(sigma_color=0.1)(step), step)
    True
    """

    shown: ClassVar[tuple[str, ...]] = ("sigma_color", "sigma_spatial", "window")

    def __init__(
        self,
        sigma_color: float = 0.1,
        sigma_spatial: float = 2.0,
        window: int = 5,
        gradient: str = "exact",
    ) -> None:
        super().__init__(gradient)
        self.sigma_color = check_number("sigma_color", sigma_color, LEAST, MOST)
        self.sigma_spatial = check_number("sigma_spatial", sigma_spatial, LEAST, MOST)
        self.window = check_integer("window", window, 1, 99)
        if self.window % 2 == 0:
            raise ValueError(
                f"`window` must be odd, got {self.window}; use {self.window - 1} or "
                f"{self.window + 1}"
            )

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Add up the window, one displacement after the other."""
        height, width = images.shape[2:]
        radius = self.window // 2
        padded = functional.pad(images, (radius,) * 4, mode="replicate")
        total = torch.zeros_like(images)
        weights = torch.zeros_like(images[:, :1])
        for row in range(self.window):
            for column in range(self.window):
                moved = padded[:, :, row : row + height, column : column + width]
                near = ((row - radius) ** 2 + (column - radius) ** 2) / self.sigma_spatial**2
                alike = ((moved - images) / self.sigma_color).square().sum(1, keepdim=True)
                weight = torch.exp(-0.5 * (near + alike))
                total = total + weight * moved
                weights = weights + weight
        return total / weights


class GuidedFilter(Defense):
    r"""Guided filter [1]_: a linear function of a guide in each window, averaged over windows.

    .. math:: a = \frac{\operatorname{cov}(I, x)}{\operatorname{var}(I) + \epsilon}, \quad
              b = \bar x - a \bar I, \qquad \hat x = \bar a I + \bar b

    with means over square windows, cut off at the border of the image.

    Parameters
    ----------
    radius : int, default 2
        The window has 2 radius + 1 pixels a side; 1 to 512, larger -> smoother.
    eps : float, default 0.01
        Regularisation, in [1e-6, 1e6], for images in [0, 1]: windows of less variance are
        smoothed away.
    guide : {"gray", "self"}, default "gray"
        The guide I: luma (Rec. 601) for 3 channels and their mean for other numbers, or each
        channel for itself.
    gradient : {"exact", "identity"}, default "exact"
        See :class:`Defense`.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] K. He, J. Sun, X. Tang, "Guided image filtering", IEEE Transactions on Pattern Analysis
       and Machine Intelligence 35, 2013.

    Examples
    --------
    >>> GuidedFilter(radius=1)(torch.full((1, 3, 4, 4), 0.5)).unique()
    tensor([0.5000])
    """

    shown: ClassVar[tuple[str, ...]] = ("radius", "eps", "guide")

    def __init__(
        self, radius: int = 2, eps: float = 0.01, guide: str = "gray", gradient: str = "exact"
    ) -> None:
        super().__init__(gradient)
        self.radius = check_integer("radius", radius, 1, 512)
        self.eps = check_number("eps", eps, LEAST, MOST)
        if not isinstance(guide, str) or guide not in ("gray", "self"):
            raise ValueError(f"`guide` must be one of 'gray', 'self', got {guide!r}")
        self.guide = guide

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Filter as the formula says."""
        guide = images if self.guide == "self" else _gray(images)
        # The formula does not change when both are shifted; nearer to 0, less is cancelled.
        centre, guide_centre = images.mean((2, 3), True), guide.mean((2, 3), True)
        x, i = images - centre, guide - guide_centre
        mean_x, mean_i = self._mean(x), self._mean(i)
        variance = (self._mean(i * i) - mean_i * mean_i).clamp(min=0.0)  # rounding: below 0
        slope = (self._mean(i * x) - mean_i * mean_x) / (variance + self.eps)
        offset = mean_x - slope * mean_i
        return self._mean(slope) * i + self._mean(offset) + centre

    def _mean(self, planes: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(
            planes, 2 * self.radius + 1, stride=1, padding=self.radius, count_include_pad=False
        )


def _gray(images: torch.Tensor) -> torch.Tensor:
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = images.new_tensor(LUMA).reshape(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
