"""Data sets by name or path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from splic_ext.checks import check_bool, check_integer
from splic_ext.data.archive import load_archive
from splic_ext.data.cifar import CIFAR10_SPLITS, load_cifar10
from splic_ext.data.dataset import Dataset
from splic_ext.data.digits import DIGITS_SPLITS, load_digits
from splic_ext.data.download import OFFICIAL_FILES, download_file
from splic_ext.data.npz import MAX_BYTES
from splic_ext.data.shapes import SHAPES_SPLITS, load_shapes
from splic_ext.data.svhn import SVHN_SPLITS, load_svhn

__all__ = ["DATASETS", "default_root", "load_dataset"]

#: Name -> its splits.
DATASETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cifar10": tuple(CIFAR10_SPLITS),
        "svhn": tuple(SVHN_SPLITS),
        "digits": tuple(DIGITS_SPLITS),
        "shapes": tuple(SHAPES_SPLITS),
    }
)

TAR_SUFFIXES = (".tar.gz", ".tgz", ".tar")


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
        - a path to that folder, to that archive (``.tar.gz``), to a ``.mat`` file of SVHN, or to
          a ``.npz`` archive with images `x` and labels `y`. A path has a separator or a suffix.
    split : str, default "test"
        "train" or "test", for SVHN also "extra". A ``.mat`` or ``.npz`` file is one split: it is
        read whichever of these `split` says.
    root : path, optional
        Folder of the official files; default: the environment variable ``SPLIC_DATA``, or
        ``~/.cache/splic_ext``.
    limit : int, optional
        Keep this many images, the first ones.
    download : bool, default False
        Fetch the official file into `root` if it is missing, and check its SHA-256.
    max_bytes : int, default 2**31
        Most bytes that a ``.npz`` or ``.mat`` file may unpack to: a guard against small files
        that take all of the memory.

    Returns
    -------
    Dataset
        Images uint8 (N, C, H, W), labels int64 (N,), names of the classes.

    Raises
    ------
    FileNotFoundError
        The data is not there; the message says where it was looked for and how to get it.
    ValueError
        An unknown name or split, or a file that is damaged or holds something else.
    TypeError
        A parameter of the wrong type.
    MissingExtraError
        A package of the extra ``data`` is not installed.
    ConnectionError
        The download failed.

    Examples
    --------
    >>> digits = load_dataset("digits", "train", limit=200)
    >>> digits
    Dataset('digits/train': 200 images of 1 x 8 x 8, 10 classes)
    >>> digits.to_float().max()
    np.float32(1.0)
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise TypeError(
            f"`name_or_path` must be a string or a path, got {type(name_or_path).__name__}; "
            f"give one of {', '.join(DATASETS)}, or a path"
        )
    if limit is not None:
        limit = check_integer("limit", limit, 1, 2**63 - 1)
    check_bool("download", download)
    max_bytes = check_integer("max_bytes", max_bytes, 1, 2**63 - 1)
    if isinstance(name_or_path, str) and name_or_path in DATASETS:
        _check_split(split, DATASETS[name_or_path])
        folder = default_root() if root is None else Path(root)
        return _load_named(name_or_path, split, folder, limit, download, max_bytes)
    return _load_path(Path(name_or_path), split, limit, max_bytes)


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


def _load_path(path: Path, split: str, limit: int | None, max_bytes: int) -> Dataset:
    if not path.exists():
        if path.suffix or path.parent != Path():
            raise FileNotFoundError(f"the data set '{path}' does not exist; check `name_or_path`")
        raise ValueError(
            f"`name_or_path` must be one of {', '.join(DATASETS)}, or a path that exists, "
            f"got {str(path)!r}; choose one"
        )
    single = path.is_file() and path.suffix.lower() in (".npz", ".mat")
    if single and split not in DATASETS["svhn"]:
        raise ValueError(
            f"`split` must be one of {', '.join(DATASETS['svhn'])}, got {split!r}; '{path}' is one "
            "split, which is read whatever `split` says: leave it out"
        )
    if path.is_file() and path.suffix.lower() == ".npz":
        return load_archive(path, limit=limit, max_bytes=max_bytes)
    if path.is_file() and path.suffix.lower() == ".mat":
        return load_svhn(path, limit=limit, max_bytes=max_bytes)
    if path.is_dir() or path.name.lower().endswith(TAR_SUFFIXES):
        batches = [name for names in CIFAR10_SPLITS.values() for name in names]
        if path.is_dir() and not any((path / name).exists() for name in batches):
            raise ValueError(
                f"the folder '{path}' holds no batch of CIFAR-10; give the folder "
                "cifar-10-batches-py itself, or the name of a data set with this `root`"
            )
        _check_split(split, tuple(CIFAR10_SPLITS))
        return load_cifar10(path, split, limit=limit)
    raise ValueError(
        f"the data set '{path}' must be a folder or archive of CIFAR-10, a .mat file of SVHN or "
        "a .npz archive; rename it if it is one of these"
    )
