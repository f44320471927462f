"""What a user has in memory, as a data set: pairs of arrays, and data sets of torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import check_integer, check_labels, reason_of
from splic_ext.data.arrays import ROUNDED, array_of, bytes_of, channels_first, layout_of
from splic_ext.data.collecting import collect
from splic_ext.data.dataset import Dataset
from splic_ext.data.fitting import Fitting, make_fitting
from splic_ext.data.npz import MAX_BYTES
from splic_ext.data.pictures import picture_pixels
from splic_ext.data.sources.base import Sample, Source, checked_label
from splic_ext.data.sources.stored import DatasetSource

__all__ = ["DatasetLike", "Items", "as_dataset", "fit_dataset"]


class Items(Protocol):
    """A map-style data set, as torch has them: items by index, and their number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


#: What :func:`as_dataset` takes.
DatasetLike: TypeAlias = Dataset | tuple[Any, Any] | Items

IMAGE_KEYS, LABEL_KEYS = ("image", "img"), ("label", "labels", "fine_label")


def as_dataset(
    data: DatasetLike,
    *,
    name: str | None = None,
    classes: tuple[str, ...] | None = None,
    limit: int | None = None,
    resize: int | str | tuple[int, int] | None = None,
    center_crop: int | str | tuple[int, int] | None = None,
    interpolation: str = "bilinear",
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Return a data set of what holds images with labels in memory.

    Functions that take a :class:`Dataset` call it on what they are given.

    Parameters
    ----------
    data : Dataset, pair or map-style data set
        - a pair ``(images, labels)`` of arrays, tensors or lists, of any library. Images are of
          shape (N, C, H, W), (N, H, W, C) or (N, H, W), uint8, or floats in [0, 1], which become
          rint(255 x); labels are integers of shape (N,);
        - a map-style data set, as torch has them, that is anything with ``len()`` whose items are
          pairs ``(image, label)``, or mappings with ``"image"`` or ``"img"`` and ``"label"``.
          An image is an array or tensor of shape (C, H, W), (H, W, C) or (H, W), or one of Pillow.
    name : str, optional
        Default: "arrays" of a pair, the name of the class of a data set.
    classes : tuple of str, optional
        Names of the classes; default: the attribute `classes` of a data set, else numbers.
    limit : int, optional
        Keep this many images, the first ones; no others are asked for.
    resize, center_crop, interpolation
        As of :func:`load_dataset`.
    max_bytes : int, default 2**31
        Most bytes of the images of a map-style data set.

    Returns
    -------
    Dataset
        Images uint8 (N, C, H, W). Bytes of a pair with the channels first are shared, not copied.

    Raises
    ------
    TypeError
        `data` is none of these, or images or labels are of another kind.
    ValueError
        Floats outside [0, 1], images of several sizes, labels below 0, or no image.
    ShapeError
        A shape of another number of axes, or one that may be channel first or last.

    Warns
    -----
    UserWarning
        Floats between the 256 levels, which are rounded; a data set that returns another image
        when it is asked again.

    Examples
    --------
    >>> import numpy as np
    >>> as_dataset((np.zeros((5, 32, 32, 3)), [0, 1, 1, 0, 2]))
    Dataset('arrays': 5 images of 3 x 32 x 32, 3 classes)
    >>> as_dataset([(np.ones((28, 28)), 1), (np.zeros((28, 28)), 0)], name="two", resize=14)
    Dataset('two': 2 images of 1 x 14 x 14, 2 classes)
    """
    fitting = make_fitting(resize, center_crop, interpolation)
    if limit is not None:
        limit = check_integer("limit", limit, 1, 2**63 - 1)
    if isinstance(data, Dataset):
        if name is not None or classes is not None:
            data = replace(data, name=name or data.name, classes=classes or data.classes)
        return fit_dataset(data if limit is None else data.first(limit), fitting, max_bytes)
    if _is_pair(data):
        made = _of_pair(data, name or "arrays", classes, limit)
        return fit_dataset(made, fitting, max_bytes)
    if not _is_map_style(data):
        raise TypeError(
            f"`dataset` must be a Dataset, got {type(data).__name__}; make one with "
            "`load_dataset`, or give a pair `(images, labels)` or a data set of torch with "
            "`__len__` and items (image, label)"
        )
    if len(data) == 0:
        raise ValueError("`dataset` must hold an image at least; check the file and the split")
    source = _ItemSource(data, name or type(data).__name__, classes, limit)
    return collect(source, limit=limit, fitting=fitting, max_bytes=max_bytes)


def fit_dataset(data: Dataset, fitting: Fitting, max_bytes: int = MAX_BYTES) -> Dataset:
    """Return a data set whose images are resized and cut."""
    if not fitting or len(data) == 0:
        return data
    source = DatasetSource(Path(data.name), data)
    made = collect(source, limit=None, fitting=fitting, max_bytes=max_bytes)
    return replace(made, unread=(*data.unread, *made.unread))


def _is_array(data: Any) -> bool:
    return hasattr(data, "dtype") and hasattr(data, "shape")


def _is_pair(data: Any) -> bool:
    """Say whether this is images and labels; a list of two may be two items, unless of arrays."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    if isinstance(data, tuple):
        return True
    return _is_array(data[0]) and len(data[0].shape) >= 3


def _is_map_style(data: Any) -> bool:
    refused = (str, bytes, bytearray, tuple, Mapping, set, Path)
    return (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, (*refused, type))
        and not _is_array(data)
    )


def _of_pair(pair: Any, name: str, classes: tuple[str, ...] | None, limit: int | None) -> Dataset:
    images, labels = pair
    if images is None or np.isscalar(images) or isinstance(images, (str, bytes, Mapping)):
        raise TypeError(
            f"`dataset` must be a Dataset, got a pair whose images are of "
            f"{type(images).__name__}; give `(images, labels)`, arrays or tensors"
        )
    array = array_of(images)
    layout = layout_of(array.shape)
    numbers = check_labels(labels, len(array))
    array, rounded = bytes_of(channels_first(array[:limit], layout))
    if rounded:
        warnings.warn(f"{ROUNDED} in '{name}'", stacklevel=3)
    return Dataset(name, array, numbers[:limit], classes or _numbered(numbers))


def _numbered(labels: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """Return numbers as the names of the classes of labels."""
    if labels.size and labels.min() < 0:
        raise ValueError(f"`labels` must be at least 0, got {labels.min()}; count from 0")
    largest = checked_label(int(labels.max(initial=-1)) if labels.size else 0, None)
    return tuple(map(str, range(largest + 1 if labels.size else 0)))


class _ItemSource(Source):
    """The items of a map-style data set."""

    unit = ""

    def __init__(
        self, data: Any, name: str, classes: tuple[str, ...] | None, limit: int | None
    ) -> None:
        super().__init__(Path(name), name, classes or _class_names(data), len(data))
        self._data = data
        self._limit = len(data) if limit is None else min(limit, len(data))

    def _samples(self) -> Iterator[Sample]:
        for index in range(self._limit):
            image, label, notes = self._item(index)
            if index == 0 and not np.array_equal(self._item(0)[0], image):
                warnings.warn(
                    f"the data set '{self.name}' returns another image 0 when it is asked again: "
                    "leave random transforms out, since each image is taken once",
                    stacklevel=6,
                )
            for note in notes:
                self.note(note, f"image {index}")
            yield Sample(f"image {index}", image, label)

    def _item(self, index: int) -> tuple[npt.NDArray[np.uint8], int, list[str]]:
        """Return the pixels and the label of an item, and what was lost."""
        item = self._data[index]
        image, label = _parts(item, index)
        try:
            pixels, notes = _pixels(image)
            known = None if self.classes is None else len(self.classes)
            label = checked_label(_integer(label), known)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"item {index} of the data set '{self.name}' cannot be read: {reason_of(error)}"
            ) from error
        return pixels, label, notes


def _class_names(data: Any) -> tuple[str, ...] | None:
    """Return the names that a data set of torchvision, or a part of it, gives its classes."""
    for _ in range(8):
        names = getattr(data, "classes", None)
        if isinstance(names, (list, tuple)) and names and all(isinstance(n, str) for n in names):
            return tuple(names)
        features = getattr(data, "features", None)  # of a data set of Hugging Face
        if isinstance(features, Mapping):
            labels = [features[key] for key in LABEL_KEYS if key in features]
            names = getattr(labels[0], "names", None) if labels else None
            if isinstance(names, list) and names and all(isinstance(n, str) for n in names):
                return tuple(names)
        data = getattr(data, "dataset", None)  # of a Subset
    return None


def _parts(item: Any, index: int) -> tuple[Any, Any]:
    """Return image and label of an item."""
    if isinstance(item, Mapping):
        images = [item[key] for key in IMAGE_KEYS if key in item]
        labels = [item[key] for key in LABEL_KEYS if key in item]
        if images and labels:
            return images[0], labels[0]
    elif isinstance(item, (tuple, list)) and len(item) >= 2:
        return item[0], item[1]
    raise TypeError(
        f"`dataset` must have items (image, label), got {type(item).__name__} for item {index}; "
        "wrap it in a data set that returns both"
    )


def _integer(label: Any) -> Any:
    """Return an integer of any library as Python's."""
    if hasattr(label, "item") and getattr(label, "ndim", 1) == 0:
        label = label.item()
    return label


def _pixels(image: Any) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return an image of Pillow, or an array, as bytes (C, H, W)."""
    if hasattr(image, "getbands") and hasattr(image, "convert"):
        return picture_pixels(image)
    array = array_of(image)
    if array.ndim not in (2, 3) or math.prod(array.shape) == 0:
        raise ValueError(f"its image must be of shape (C, H, W) or (H, W), got {array.shape}")
    made, rounded = bytes_of(channels_first(array[None], layout_of((1, *array.shape))))
    return made[0], [ROUNDED] if rounded else []
