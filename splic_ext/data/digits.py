"""Handwritten digits that come with scikit-learn: a small data set that is always there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from splic_ext.common.optional import optional
from splic_ext.data.dataset import DIGITS, Dataset

__all__ = ["load_digits"]

#: Split -> which of the 1,797 images, in scikit-learn's order.
DIGITS_SPLITS = {"train": slice(0, 1297), "test": slice(1297, 1797)}


def load_digits(split: str = "test") -> Dataset:
    """Return scikit-learn's 8 x 8 digits [1]_: 1,297 to train, the last 500 to test.

    scikit-learn has no split of its own; neighbours in its order may be of one writer, so the cut
    is in one place. Its values 0, ..., 16 are scaled to 0, ..., 255 and rounded.

    .. [1] E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI machine
       learning repository, 1998.

    >>> load_digits("train")
    Dataset('digits/train': 1297 images of 1 x 8 x 8, 10 classes)
    """
    with optional("`load_dataset`", "data", "sklearn"):
        datasets: Any = import_module("sklearn.datasets")
    content = datasets.load_digits()
    part = DIGITS_SPLITS[split]
    images = np.rint(content.images[part, None] * (255 / 16)).astype(np.uint8)
    labels = content.target[part].astype(np.int64)
    return Dataset(f"digits/{split}", images, labels, DIGITS)
