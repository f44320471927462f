"""Data sets by name or path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from splic_ext.common.checks import check_bool, check_integer
from splic_ext.data.archive import load_archive
from splic_ext.data.cifar import CIFAR10_SPLITS, load_cifar10
from splic_ext.data.collecting import collect
from splic_ext.data.dataset import Dataset
from splic_ext.data.digits import DIGITS_SPLITS, load_digits
from splic_ext.data.download import OFFICIAL_FILES, download_file
from splic_ext.data.fitting import Fitting, make_fitting
from splic_ext.data.given import fit_dataset
from splic_ext.data.npz import MAX_BYTES
from splic_ext.data.shapes import SHAPES_SPLITS, load_shapes
from splic_ext.data.sources import Source
from splic_ext.data.sources.opening import check_one_split, find_source, is_tar
from splic_ext.data.sources.stored import DatasetSource
from splic_ext.data.svhn import SVHN_SPLITS, load_svhn

__all__ = ["DATASETS", "default_root", "load_dataset", "open_source"]

#: Name -> its splits.
DATASETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cifar10": tuple(CIFAR10_SPLITS),
        "svhn": tuple(SVHN_SPLITS),
        "digits": tuple(DIGITS_SPLITS),
        "shapes": tuple(SHAPES_SPLITS),
    }
)


def default_root() -> Path:
    """Return the folder of the environment variable ``SPLIC_DATA``, or ``~/.cache/splic_ext``."""
    place = os.environ.get("SPLIC_DATA")
    return Path(place).absolute() if place else Path.home() / ".cache" / "splic_ext"


def load_dataset(
    name_or_path: str | os.PathLike[str],
    split: str = "test",
    root: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    *,
    download: bool = False,
    max_bytes: int = MAX_BYTES,
    resize: int | str | tuple[int, int] | None = None,
    center_crop: int | str | tuple[int, int] | None = None,
    interpolation: str = "bilinear",
) -> Dataset:
    """Return a data set, by name or from a path.

    Parameters
    ----------
    name_or_path : str or path
        - "cifar10" or "svhn": the official files below `root`: the folder
          ``cifar-10-batches-py`` or the archive ``cifar-10-python.tar.gz``; ``SPLIT_32x32.mat``,
          there or in the folder ``svhn``;
        - "digits": scikit-learn's, always there;
        - "shapes": figures of ten shapes, drawn on the fly with NumPy alone;
        - a path, which has a separator or a suffix: to such a folder, archive or ``.mat`` file;
          to a folder with one of images for each class, or for each class of each split; to a
          folder or file of IDX (MNIST), ``.npy``, ``.npz``, Parquet or WebDataset. Their layouts
          are in the documentation, "Data sets".
    split : str, default "test"
        "train", "test", or what else there is. What has no splits, such as a ``.npz`` file, is one:
        it is read whichever of train, test and extra `split` says.
    root : path, optional
        Folder of the official files; default: the environment variable ``SPLIC_DATA``, or
        ``~/.cache/splic_ext``.
    limit : int, optional
        Keep this many images, the first ones; no others are read. In folders of classes they
        come in turn from each class.
    download : bool, default False
        Fetch the official file into `root` if it is missing, and check its SHA-256.
    max_bytes : int, default 2**31
        Most bytes that the images may take in memory, and that a file may unpack to: a guard
        against small files that take all of the memory.
    resize : int, pair of int or str, optional
        What each image is brought to by Pillow, antialiased: a single number is its shorter side,
        ``(height, width)`` or ``"28x32"`` both. Images must be of one size in the end.
    center_crop : int, pair of int or str, optional
        Height and width of what is kept of its centre, after `resize`; a single number is both.
    interpolation : {"bilinear", "bicubic"}, default "bilinear"
        Kernel of `resize`.

    Returns
    -------
    Dataset
        Images uint8 (N, C, H, W), labels int64 (N,), names of the classes. Image files are gray
        if all that are read are gray, else colour. Those that cannot be read are in `unread`.

    Raises
    ------
    FileNotFoundError
        The data is not there; the message says where it was looked for and how to get it.
    ValueError
        An unknown name or split, a file that is damaged or holds something else, images of
        several sizes, or none that can be read.
    TypeError
        A parameter of the wrong type.
    MissingExtraError
        A package of the extra ``data`` or ``parquet`` is not installed.
    ConnectionError
        The download failed.

    Warns
    -----
    UserWarning
        Images that cannot be read, which are left out; files that are no images; transparency
        and bits below the eighth, which are lost.

    Examples
    --------
    >>> digits = load_dataset("digits", "train", limit=200)
    >>> digits
    Dataset('digits/train': 200 images of 1 x 8 x 8, 10 classes)
    >>> digits.to_float().max()
    np.float32(1.0)
    """
    fitting = make_fitting(resize, center_crop, interpolation)
    if limit is not None:
        limit = check_integer("limit", limit, 1, 2**63 - 1)
    check_bool("download", download)
    max_bytes = check_integer("max_bytes", max_bytes, 1, 2**63 - 1)
    if _is_name(name_or_path):
        name = str(name_or_path)
        _check_split(split, DATASETS[name])
        folder = default_root() if root is None else Path(root)
        data = _load_named(name, split, folder, limit, download, max_bytes)
        return fit_dataset(data, fitting, max_bytes)
    return _load_path(Path(name_or_path), split, limit, max_bytes, fitting)


def open_source(
    name_or_path: str | os.PathLike[str],
    split: str = "test",
    root: str | os.PathLike[str] | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> Source:
    """Return the reader of a data set, which yields its samples one by one.

    The formats are those of :func:`load_dataset`. Folders of classes, IDX, ``.npy``, Parquet and
    WebDataset are read in memory that does not grow with the data set; of the others all is read
    at once.

    Parameters
    ----------
    name_or_path, split, root
        As of :func:`load_dataset`.
    max_bytes : int, default 2**31
        Most bytes of a file, of what a file or compressed archive unpacks to, and of a row group
        of Parquet.

    Returns
    -------
    Source
        Its `classes`, its samples by iteration, and `len` where that is known.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError, MissingExtraError
        As of :func:`load_dataset`. What is damaged at its beginning is so here, the rest is in
        `unread` of the source after the iteration.

    Examples
    --------
    >>> source = open_source("digits")
    >>> sample = next(iter(source))
    >>> len(source), sample.image.shape, source.classes[sample.label]
    (500, (1, 8, 8), '0')
    """
    max_bytes = check_integer("max_bytes", max_bytes, 1, 2**63 - 1)
    if not _is_name(name_or_path):
        found = find_source(Path(name_or_path), split, max_bytes)
        if found is not None:
            return found
    data = load_dataset(name_or_path, split, root, max_bytes=max_bytes)
    return DatasetSource(Path(name_or_path), data)


def _is_name(name_or_path: Any) -> bool:
    """Say whether this is the name of a data set and no path."""
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise TypeError(
            f"`name_or_path` must be a string or a path, got {type(name_or_path).__name__}; "
            f"give one of {', '.join(DATASETS)}, or a path"
        )
    return isinstance(name_or_path, str) and name_or_path in DATASETS


def _check_split(split: str, splits: tuple[str, ...]) -> None:
    if split not in splits:
        raise ValueError(f"`split` must be one of {', '.join(splits)}, got {split!r}; choose one")


def _load_named(
    name: str, split: str, root: Path, limit: int | None, download: bool, max_bytes: int
) -> Dataset:
    if name == "shapes":
        return load_shapes(split, limit)
    if name == "digits":
        digits = load_digits(split)
        return digits if limit is None else digits.first(limit)
    official = OFFICIAL_FILES[name, split]
    if name == "cifar10":
        places = [root / "cifar-10-batches-py", root / official.name]
    else:
        places = [root / "svhn" / official.name, root / official.name]
    path = next((place for place in places if place.exists()), None)
    if path is None and download:
        path = download_file(official, places[-1].parent)
    if path is None:
        raise FileNotFoundError(
            f"the data set {name!r} is neither at '{places[0]}' nor at '{places[1]}'; get it with "
            f"`download=True`, or put {official.url} there, or give another `root`"
        )
    if name == "cifar10":
        return load_cifar10(path, split, limit=limit)
    return load_svhn(path, limit=limit, max_bytes=max_bytes)


def _load_path(
    path: Path, split: str, limit: int | None, max_bytes: int, fitting: Fitting
) -> Dataset:
    source = find_source(path, split, max_bytes)
    if source is not None:
        return collect(source, limit=limit, fitting=fitting, max_bytes=max_bytes)
    return fit_dataset(_load_file(path, split, limit, max_bytes), fitting, max_bytes)


def _load_file(path: Path, split: str, limit: int | None, max_bytes: int) -> Dataset:
    """Read what is not read sample by sample."""
    if not path.exists():
        if path.suffix or path.parent != Path():
            raise FileNotFoundError(f"the data set '{path}' does not exist; check `name_or_path`")
        raise ValueError(
            f"`name_or_path` must be one of {', '.join(DATASETS)}, or a path that exists, "
            f"got {str(path)!r}; choose one"
        )
    if path.is_file() and path.suffix.lower() == ".npz":
        check_one_split(split, path)
        return load_archive(path, limit=limit, max_bytes=max_bytes)
    if path.is_file() and path.suffix.lower() == ".mat":
        check_one_split(split, path)
        return load_svhn(path, limit=limit, max_bytes=max_bytes)
    if path.is_dir() or is_tar(path):
        _check_split(split, tuple(CIFAR10_SPLITS))
        return load_cifar10(path, split, limit=limit)
    raise ValueError(
        f"the data set '{path}' must be a folder of classes, or a file of CIFAR-10, SVHN (.mat), "
        ".npz, .npy, IDX, Parquet (.parquet) or WebDataset (.tar); rename it if it is one of these"
    )
