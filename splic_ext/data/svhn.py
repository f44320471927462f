"""SVHN in its official cropped version: MATLAB files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from splic_ext.common.checks import reason_of
from splic_ext.common.optional import optional
from splic_ext.data.dataset import DIGITS, Dataset
from splic_ext.data.matlab import MatlabError, check_matlab
from splic_ext.data.npz import MAX_BYTES

__all__ = ["SVHN_SPLITS", "load_svhn"]

#: Split -> file.
SVHN_SPLITS = {split: f"{split}_32x32.mat" for split in ("train", "test", "extra")}


def load_svhn(path: Path, *, limit: int | None = None, max_bytes: int = MAX_BYTES) -> Dataset:
    """Read cropped digits of SVHN [1]_ from an official file, such as ``test_32x32.mat``.

    They are in the official order; the official label 10 is 0 here.

    .. [1] Y. Netzer et al., "Reading digits in natural images with unsupervised feature learning",
       NIPS workshop 2011; http://ufldl.stanford.edu/housenumbers
    """
    with optional("`load_dataset`", "data", "scipy"):
        scipy_io: Any = import_module("scipy.io")
    try:
        found = check_matlab(path, {"X", "y"}, max_bytes)
        content = {}
        if found == {"X", "y"}:
            content = scipy_io.loadmat(str(path), variable_names=["X", "y"])
    except MemoryError:
        raise
    except MatlabError as error:
        reason, _, fix = str(error).partition("; ")
        raise ValueError(
            f"the file '{path}' is no MATLAB file that can be read: {reason}; "
            f"{fix or 'fetch or save it again'}"
        ) from error
    except Exception as error:  # of any type: the content of a damaged file is anything
        raise ValueError(
            f"the file '{path}' is no MATLAB file that can be read: {reason_of(error)}; "
            "fetch or save it again"
        ) from error
    X, y = content.get("X"), content.get("y")
    if (
        not isinstance(X, np.ndarray)
        or not isinstance(y, np.ndarray)
        or X.dtype != np.uint8
        or X.ndim != 4
        or X.shape[2] != 3
        or y.dtype.kind not in "iuf"
        or y.size != X.shape[3]
        or not np.isin(y, np.arange(11)).all()
    ):
        raise ValueError(
            f"the file '{path}' is no file of SVHN: it must hold `X` of shape (H, W, 3, N), uint8, "
            "and as many labels `y` in [1, 10]; fetch or save it again"
        )
    images = np.ascontiguousarray(X[..., :limit].transpose(3, 2, 0, 1))
    labels = y.reshape(-1)[:limit].astype(np.int64) % 10
    split = path.stem.removesuffix("_32x32")
    return Dataset(f"svhn/{split}", images, labels, DIGITS)
