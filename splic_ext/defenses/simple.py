"""Defences of a line or two: none, several, fewer bits, JPEG."""

from __future__ import annotations

import io
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from splic_ext.common.checks import check_integer
from splic_ext.common.optional import optional
from splic_ext.defenses.base import Defense, Index
from splic_ext.defenses.own import ModuleDefense
from splic_ext.errors import ShapeError

__all__ = ["JPEG", "BitDepth", "Compose", "Identity"]


class Identity(Defense):
    """No defence: returns the images.

    Parameters
    ----------
    gradient : {"exact", "identity"}, default "exact"
        Both mean the same here.

    Examples
    --------
    >>> images = torch.rand(2, 3, 8, 8)
    >>> torch.equal(Identity()(images), images)
    True
    """

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Return the images."""
        return images


class Compose(Defense):
    """Several defences, one after the other.

    Parameters
    ----------
    *defenses : Defense or nn.Module
        The first is applied first. `index` goes to each of them. A plain module becomes a
        :class:`ModuleDefense`.
    gradient : {"parts", "identity"}, default "parts"
        ``"parts"``: each part has the gradient that its own `gradient` says. ``"identity"``:
        the gradient passes all of them unchanged (BPDA).

    Raises
    ------
    TypeError
        A part that is no module.

    Examples
    --------
    >>> Compose(BitDepth(4), Identity())
    Compose(
      gradient='parts'
      (parts): ModuleList(
        (0): BitDepth(bits=4, gradient='identity')
        (1): Identity(gradient='exact')
      )
    )
    """

    gradients: ClassVar[tuple[str, ...]] = ("parts", "identity")
    gradients_reason: ClassVar[str] = "set that of the parts"

    def __init__(self, *defenses: nn.Module, gradient: str = "parts") -> None:
        super().__init__(gradient)
        for i, part in enumerate(defenses):
            if not isinstance(part, nn.Module):
                raise TypeError(
                    f"`defenses[{i}]` must be a Defense, got {type(part).__name__}; "
                    "pass each defence as an argument of its own"
                )
        self.parts = nn.ModuleList(
            part if isinstance(part, Defense) else ModuleDefense(part) for part in defenses
        )

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Apply the parts in order."""
        for part in self.parts:
            images = part(images, index)
        return images


class BitDepth(Defense):
    r"""Fewer bits: rounds to the nearest of :math:`2^b` equidistant values [1]_.

    .. math:: \hat x = \operatorname{round}((2^b - 1) \, x) / (2^b - 1)

    Parameters
    ----------
    bits : int, default 4
        The bits b of a value, 1 to 16; fewer -> coarser. 4 or 5 is what [1]_ uses for colour.
    gradient : {"identity"}
        The derivative is 0 almost everywhere.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] W. Xu, D. Evans, Y. Qi, "Feature squeezing: detecting adversarial examples in deep
       neural networks", NDSS 2018.

    Examples
    --------
    >>> BitDepth(1)(torch.tensor([0.2, 0.7]).reshape(1, 1, 1, 2)).flatten()
    tensor([0., 1.])
    """

    gradients: ClassVar[tuple[str, ...]] = ("identity",)
    gradients_reason: ClassVar[str] = "rounding has the derivative 0 almost everywhere"
    shown: ClassVar[tuple[str, ...]] = ("bits",)

    def __init__(self, bits: int = 4, gradient: str = "identity") -> None:
        super().__init__(gradient)
        self.bits = check_integer("bits", bits, 1, 16)

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Round the images."""
        steps = 2**self.bits - 1
        rounded: torch.Tensor = (images * steps).round() / steps
        return rounded


class JPEG(Defense):
    """JPEG compression by Pillow, on the CPU, of images rounded to 8 bits ([1]_, [2]_).

    Needs Pillow, of the extra ``cli``. Colour is subsampled 4:2:0, as Pillow does by default.

    Parameters
    ----------
    quality : int, default 75
        1 to 100; lower -> coarser. 75 is Pillow's default.
    gradient : {"identity"}
        The derivative is 0 almost everywhere.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    ShapeError
        In forward, a `ValueError`: neither 1 nor 3 channels.
    MissingExtraError
        Pillow is not installed.

    References
    ----------
    .. [1] G. K. Dziugaite, Z. Ghahramani, D. M. Roy, "A study of the effect of JPG compression on
       adversarial images", arXiv:1608.00853, 2016.
    .. [2] C. Guo, M. Rana, M. Cisse, L. van der Maaten, "Countering adversarial images using
       input transformations", ICLR 2018.

    Examples
    --------
    >>> JPEG(quality=50)(torch.full((1, 3, 8, 8), 0.5)).mean().round(decimals=2)
    tensor(0.5000)
    """

    gradients: ClassVar[tuple[str, ...]] = ("identity",)
    gradients_reason: ClassVar[str] = "quantisation has the derivative 0 almost everywhere"
    leaves_torch: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("quality",)

    def __init__(self, quality: int = 75, gradient: str = "identity") -> None:
        super().__init__(gradient)
        self.quality = check_integer("quality", quality, 1, 100)
        with optional("`JPEG`", "cli", "PIL"):
            import PIL.Image  # noqa: F401

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Encode and decode each image."""
        from PIL import Image

        shape = tuple(images.shape)
        if shape[1] not in (1, 3):
            raise ShapeError(
                f"`images` must have 1 or 3 channels for JPEG, got {shape[1]} in {shape}; "
                "split the channels",
                shape,
                "(N, 1, H, W) or (N, 3, H, W)",
            )
        pixels = (255 * images).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        decoded = np.empty_like(pixels)
        for source, target in zip(pixels, decoded, strict=True):
            with io.BytesIO() as file:
                Image.fromarray(source.squeeze(-1) if shape[1] == 1 else source).save(
                    file, "JPEG", quality=self.quality
                )
                with Image.open(file) as picture:
                    target[...] = np.asarray(picture).reshape(target.shape)
        result = torch.from_numpy(decoded).to(images.device).permute(0, 3, 1, 2)
        return result.to(images.dtype) / 255
