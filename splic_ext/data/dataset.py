"""Images with labels, as every loader returns them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splic_ext.checks import check_integer, check_labels
from splic_ext.errors import ShapeError

__all__ = ["Dataset"]

DIGITS = tuple("0123456789")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images with labels.

    Attributes
    ----------
    name : str
        What the images are, split included: "cifar10/test".
    images : ndarray of shape (N, C, H, W), uint8
    labels : ndarray of shape (N,), int64
        Indices into `classes`. Integers of other sizes, in a list or a tensor too, are converted.
    classes : tuple of str
        Names of the classes.

    Raises
    ------
    TypeError
        Images of another dtype, labels that are no integers, or `classes` that is no tuple of
        strings.
    ShapeError
        An array of another shape.
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
        if not isinstance(self.images, np.ndarray) or self.images.dtype != np.uint8:
            got = getattr(self.images, "dtype", type(self.images).__name__)
            fix = "it with `.astype`"
            if getattr(got, "kind", "") == "f":  # a cast alone would make them black
                fix = "images in [0, 1] with `np.rint(255 * images).astype(np.uint8)`"
            raise TypeError(f"`images` must be an array of uint8, got {got}; convert {fix}")
        if self.images.ndim != 4:
            raise ShapeError(
                f"`images` of a data set must have shape (N, C, H, W), got {self.images.shape}; "
                "add the axis of a single channel with `images[:, None]`",
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
