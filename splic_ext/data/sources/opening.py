"""Which reader takes a path."""

from __future__ import annotations

from pathlib import Path

from splic_ext.common.checks import printable, shortened
from splic_ext.data.cifar import BATCHES
from splic_ext.data.pictures import SUFFIXES
from splic_ext.data.sources.base import Source
from splic_ext.data.sources.folders import FolderSource, split_folders, subfolders
from splic_ext.data.sources.idx import IdxSource, idx_files, is_idx
from splic_ext.data.sources.parquet import ParquetSource, parquet_shards
from splic_ext.data.sources.stored import NpySource, is_npy_folder
from splic_ext.data.sources.webdataset import (
    TAR_SUFFIXES,
    WebDatasetSource,
    expand_braces,
    is_webdataset,
)

__all__ = ["ONE_SPLIT", "check_one_split", "find_source", "is_tar"]

#: What may be asked for of what is one split, which is read in any case.
ONE_SPLIT = ("train", "test", "extra")


def is_tar(path: Path) -> bool:
    """Say whether the name is one of a tar archive."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def find_source(path: Path, split: str, max_bytes: int) -> Source | None:
    """Return the reader of a path; None if it is of another kind, or not there."""
    if not path.exists():
        names = expand_braces(str(path))
        if names is None:
            return None
        check_one_split(split, path)
        return WebDatasetSource(path, path.name, [Path(name) for name in names], max_bytes)
    if path.is_dir():
        return _in_folder(path, split, max_bytes)
    suffix, name = path.suffix.lower(), path.stem
    if is_idx(path):
        check_one_split(split, path)
        return IdxSource(path, name.partition(".")[0], max_bytes)
    if suffix == ".npy":
        check_one_split(split, path)
        return NpySource(path, path.absolute().parent.name if name == "images" else name)
    if suffix == ".parquet":
        check_one_split(split, path)
        return ParquetSource(path, name, [path], max_bytes)
    if is_tar(path) and is_webdataset(path, max_bytes):
        check_one_split(split, path)
        return WebDatasetSource(path, name.removesuffix(".tar"), [path], max_bytes)
    return None


def _in_folder(path: Path, split: str, max_bytes: int) -> Source | None:
    """Return the reader of what a folder holds; None for CIFAR-10."""
    if any((path / name).exists() for name in BATCHES):
        return None
    name = path.absolute().name or "images"
    found = idx_files(path)
    if found:
        return IdxSource(_chosen(found, split, path), f"{name}/{split}", max_bytes)
    shards, several = parquet_shards(path, split)
    if shards:
        _check_alone(path, "Parquet files")
        if not several:
            check_one_split(split, path)
        return ParquetSource(path, f"{name}/{split}" if several else name, shards, max_bytes)
    splits = split_folders(path)
    if splits:
        place = _chosen(splits, split, path)
        made = _of_one_split(place, f"{name}/{split}", max_bytes)
        if made is not None:
            return made
        others = tuple(other for other in splits.values() if other != place)
        return FolderSource(place, f"{name}/{split}", others, max_bytes)
    check_one_split(split, path)
    made = _of_one_split(path, name, max_bytes)
    return made if made is not None else FolderSource(path, name, (), max_bytes)


def _of_one_split(path: Path, name: str, max_bytes: int) -> Source | None:
    """Return the reader of a folder of arrays or of archives."""
    if is_npy_folder(path):
        return NpySource(path / "images.npy", name)
    shards = sorted(file for file in path.iterdir() if is_tar(file))
    if shards:
        _check_alone(path, "archives")
        return WebDatasetSource(path, name, shards, max_bytes)
    return None


def _check_alone(path: Path, what: str) -> None:
    """Raise if there are images in folders of classes, too, which nobody would read."""
    for name in subfolders(path):
        if any(file.suffix.lower() in SUFFIXES for file in (path / name).iterdir()):
            raise ValueError(
                f"the folder '{path}' holds {what}, and images in the folder "
                f"'{shortened(printable(name))}'; move one of them away, or give the path of a file"
            )


def _chosen(found: dict[str, Path], split: str, path: Path) -> Path:
    if split not in found:
        raise ValueError(
            f"`split` must be one of {', '.join(sorted(found))}, got {split!r}; "
            f"'{path}' holds no others: choose one"
        )
    return found[split]


def check_one_split(split: str, path: Path) -> None:
    """Raise unless a split is one of the names that are taken for what has no splits."""
    if split not in ONE_SPLIT:
        raise ValueError(
            f"`split` must be one of {', '.join(ONE_SPLIT)}, got {split!r}; '{path}' is one "
            "split, which is read whatever `split` says: leave it out"
        )
