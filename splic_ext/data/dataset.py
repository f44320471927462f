"""Images with labels, as every loader returns them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import check_integer, check_labels
from splic_ext.data.sources.base import Unread
from splic_ext.errors import ShapeError

__all__ = ["Dataset", "conversion"]

DIGITS = tuple("0123456789")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images with labels.

    Attributes
    ----------
    name : str
        What the images are, split included: "cifar10/test".
    images : ndarray of shape (N, C, H, W), uint8
        Also taken as a torch tensor of uint8 on the CPU, which shares its memory.
    labels : ndarray of shape (N,), int64
        Indices into `classes`. Integers of other sizes, in a list or a tensor too, are converted.
    classes : tuple of str
        Names of the classes.
    unread : tuple of Unread
        Files that could not be read and were left out, each with its `key` and `reason`.

    Raises
    ------
    TypeError
        Images of another dtype, labels that are no integers, or `classes` that is no tuple of
        strings.
    ShapeError
        An array of another shape, or images whose last axis looks like that of the channels.
    ValueError
        A label without a class.

    Examples
    --------
    >>> import numpy as np
    >>> Dataset("two", np.zeros((2, 3, 8, 8), np.uint8), np.array([0, 1]), ("cat", "dog"))
    Dataset('two': 2 images of 3 x 8 x 8, 2 classes)
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    unread: tuple[Unread, ...] = ()

    def __post_init__(self) -> None:
        move = "permute" if _is_tensor(self.images) else "transpose"
        object.__setattr__(self, "images", _opened(self.images))
        if not isinstance(self.images, np.ndarray) or self.images.dtype != np.uint8:
            got, fix = conversion(self.images)
            raise TypeError(f"`images` must be an array of uint8, got {got}; convert {fix}")
        if self.images.ndim != 4:
            raise ShapeError(
                f"`images` of a data set must have shape (N, C, H, W), got {self.images.shape}; "
                "add the axis of a single channel with `images[:, None]`",
                self.images.shape,
                "(N, C, H, W)",
            )
        if self.images.shape[3] in (1, 3, 4) and self.images.shape[1] > 4:
            raise ShapeError(
                f"`images` of shape {self.images.shape} look channel last, expected (N, C, H, W); "
                f"move the axis with `images.{move}(0, 3, 1, 2)`",
                self.images.shape,
                "(N, C, H, W)",
            )
        object.__setattr__(self, "labels", check_labels(self.labels, len(self.images)))
        if not isinstance(self.classes, tuple) or not all(
            isinstance(name, str) for name in self.classes
        ):
            raise TypeError(
                f"`classes` must be a tuple of names, got {self.classes!r}; "
                "convert it with `tuple(map(str, classes))`"
            )
        if self.labels.size and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"`labels` must be in [0, {len(self.classes) - 1}], the indices of `classes`, got "
                f"[{self.labels.min()}, {self.labels.max()}]; count the classes from 0"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.images.shape[1:]))
        return f"Dataset({self.name!r}: {len(self)} images of {shape}, {len(self.classes)} classes)"

    def first(self, count: int) -> Dataset:
        """Return the first `count` images, or all if there are fewer; arrays are views.

        Parameters
        ----------
        count : int
            At least 1.

        Returns
        -------
        Dataset

        Raises
        ------
        TypeError, ValueError
            `count` is no positive integer.
        """
        count = check_integer("count", count, 1, 2**63 - 1)
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def to_float(self) -> npt.NDArray[np.float32]:
        """Return the images as float32 in [0, 1].

        Returns
        -------
        ndarray of shape (N, C, H, W), float32
        """
        images = self.images.astype(np.float32)
        images /= np.float32(255)
        return images


def _is_tensor(array: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def _opened(images: Any) -> Any:
    """Return bytes of a tensor on the CPU as a NumPy array; no value is cast."""
    if _is_tensor(images) and (images.device.type, str(images.dtype)) == ("cpu", "torch.uint8"):
        return images.detach().numpy() if images.layout == sys.modules["torch"].strided else images
    return images


def conversion(images: Any) -> tuple[str, str]:
    """Return what images of the wrong kind are, and how to convert them."""
    if _is_tensor(images):
        got = f"a tensor of {images.dtype}"
        if images.device.type != "cpu":
            got += f" on {images.device}"
        if images.is_floating_point():
            scaled, kind = ("images", "it") if _exceeds_one(images) else _SCALED
            return got, f"{kind} with `({scaled}).round().to(torch.uint8).cpu().numpy()`"
        cast = "" if got.startswith("a tensor of torch.uint8") else ".to(torch.uint8)"
        return got, f"it with `images{cast}.cpu().numpy()`"
    dtype = getattr(images, "dtype", None)
    if getattr(dtype, "kind", "") == "f":  # a cast alone would make them black
        scaled, kind = ("images", "it") if _exceeds_one(images) else _SCALED
        return str(dtype), f"{kind} with `np.rint({scaled}).astype(np.uint8)`"
    if dtype is None:
        return type(images).__name__, "it with `np.asarray`"
    return str(dtype), "it with `.astype`"


#: How images in [0, 1] become bytes, and what they are called.
_SCALED = ("255 * images", "images in [0, 1]")


def _exceeds_one(images: Any) -> bool:
    return bool((images > 1.5).any())  # then they are no images in [0, 1], but in [0, 255]
