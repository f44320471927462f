"""Images with labels, as every loader returns them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.checks import check_integer
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
        Indices into `classes`; also taken as a list of integers, or a tensor of int64 on the CPU.
    classes : tuple of str
        Names of the classes.

    Raises
    ------
    TypeError
        Not an array, one of another dtype, or `classes` that is no tuple of strings.
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

    def __post_init__(self) -> None:
        move = "permute" if _is_tensor(self.images) else "transpose"
        for parameter, array, dtype in (
            ("images", self.images, np.uint8),
            ("labels", self.labels, np.int64),
        ):
            array = _opened(array, np.dtype(dtype))
            object.__setattr__(self, parameter, array)
            if not isinstance(array, np.ndarray) or array.dtype != dtype:
                got, fix = conversion(parameter, array)
                raise TypeError(
                    f"`{parameter}` must be an array of {np.dtype(dtype)}, got {got}; convert {fix}"
                )
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
        if self.labels.shape != (len(self.images),):
            fix = "give the labels of these images"
            if self.labels.ndim == 2 and len(self.labels) == len(self.images):
                fix = (
                    "reshape them with `labels[:, 0]`"
                    if self.labels.shape[1] == 1
                    else "if they are one-hot, use `labels.argmax(axis=1)`"
                )
            raise ShapeError(
                f"`labels` must have shape ({len(self.images)},), one for each image, "
                f"got {self.labels.shape}; {fix}",
                self.labels.shape,
                f"({len(self.images)},)",
            )
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
        return Dataset(self.name, self.images[:count], self.labels[:count], self.classes)

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


def _opened(array: Any, dtype: np.dtype[Any]) -> Any:
    """Return what holds the very same values as a NumPy array; no value is cast."""
    if _is_tensor(array) and array.device.type == "cpu" and str(array.dtype) == f"torch.{dtype}":
        return array.detach().numpy() if array.layout == sys.modules["torch"].strided else array
    integers = isinstance(array, (list, tuple)) and dtype == np.int64
    if integers and all(type(item) is int and abs(item) < 2**63 for item in array):
        return np.array(array, np.int64)
    return array


def conversion(parameter: str, array: Any) -> tuple[str, str]:
    """Return what an array of the wrong kind is, and how to convert it."""
    if _is_tensor(array):
        got = f"a tensor of {array.dtype}"
        if array.device.type != "cpu":
            got += f" on {array.device}"
        if parameter == "labels":
            one_hot = ".argmax(dim=1)" if array.ndim == 2 and array.shape[1] > 1 else ""
            return got, f"it with `labels{one_hot}.to(torch.int64).cpu().numpy()`"
        if array.is_floating_point():
            scaled, kind = ("images", "it") if _exceeds_one(array) else _SCALED
            return got, f"{kind} with `({scaled}).round().to(torch.uint8).cpu().numpy()`"
        cast = "" if got.startswith("a tensor of torch.uint8") else ".to(torch.uint8)"
        return got, f"it with `images{cast}.cpu().numpy()`"
    dtype = getattr(array, "dtype", None)
    got = type(array).__name__ if dtype is None else str(dtype)
    if parameter == "images":
        if getattr(dtype, "kind", "") == "f":  # a cast alone would make them black
            scaled, kind = ("images", "it") if _exceeds_one(array) else _SCALED
            return got, f"{kind} with `np.rint({scaled}).astype(np.uint8)`"
        return got, "it with `np.asarray`" if dtype is None else "it with `.astype`"
    if getattr(dtype, "kind", "") in ("U", "S") or _holds_text(array):
        got = "names" if dtype is None else got
        return got, "names with `np.array([classes.index(name) for name in labels])`"
    if getattr(array, "ndim", 0) == 2 and array.shape[1] > 1:
        return got, "it with `.astype`, or if they are one-hot with `labels.argmax(axis=1)`"
    return got, "it with `np.asarray(labels, np.int64)`" if dtype is None else "it with `.astype`"


#: How images in [0, 1] become bytes, and what they are called.
_SCALED = ("255 * images", "images in [0, 1]")


def _exceeds_one(images: Any) -> bool:
    return bool((images > 1.5).any())  # then they are no images in [0, 1], but in [0, 255]


def _holds_text(array: Any) -> bool:
    some = array.reshape(-1)[:1].tolist() if isinstance(array, np.ndarray) else array
    return isinstance(some, (list, tuple)) and any(isinstance(item, str) for item in some[:1])
