"""Which reader takes a source."""

from __future__ import annotations

from pathlib import Path

from splic_ext.conversion.places import Place
from splic_ext.conversion.readers.arrays import DatasetReader, NpyReader
from splic_ext.conversion.readers.base import Reader
from splic_ext.conversion.readers.folder import FolderReader
from splic_ext.conversion.readers.parquet import ParquetReader
from splic_ext.conversion.readers.tar import TarReader
from splic_ext.data.cifar import BATCHES
from splic_ext.data.loading import DATASETS
from splic_ext.data.pictures import SUFFIXES
from splic_ext.data.sources.idx import is_idx
from splic_ext.data.sources.webdataset import TAR_SUFFIXES, is_webdataset

__all__ = ["READERS", "find_reader"]

READERS: dict[str, type[Reader]] = {
    reader.kind: reader
    for reader in (FolderReader, TarReader, ParquetReader, NpyReader, DatasetReader)
}

_WORDS = {
    "tar": "archives (.tar)",
    "parquet": "Parquet files",
    "npy": "arrays (.npy)",
    "folder": "image files",
}

#: So many files of a folder say what it holds.
LOOKED_AT = 10_000


def find_reader(source: str, place: Place, max_bytes: int) -> Reader:
    """Return the reader of a path, a URL or the name of a data set."""
    if source in DATASETS and place.kind() is None:
        return DatasetReader(place, max_bytes, source)
    kind = place.kind()
    if kind is None:
        raise FileNotFoundError(
            f"the source '{place.text}' does not exist; give a folder, a file, a URL, or one of "
            f"{', '.join(DATASETS)}"
        )
    if kind == "file":
        return READERS[_of_file(place)](place, max_bytes)
    found: dict[str, str] = {}
    for number, entry in enumerate(place.files()):
        base = entry.name.rpartition("/")[2]
        if base in BATCHES or is_idx(Path(base)) or base.endswith((".mat", ".npz")):
            return DatasetReader(place, max_bytes)
        of_file = _by_name(base)
        if of_file is not None:
            found.setdefault(of_file, entry.name)
        if number >= LOOKED_AT:
            break
    if len(found) > 1:
        shown = ", ".join(f"{_WORDS[kind]} such as '{name}'" for kind, name in found.items())
        raise ValueError(
            f"the source '{place.text}' must hold one kind of files, got {shown}; move one kind "
            "away, or give the path of a folder or file"
        )
    return READERS[next(iter(found), "folder")](place, max_bytes)


def _by_name(name: str) -> str | None:
    name = name.lower()
    if name.endswith(TAR_SUFFIXES):
        return "tar"
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith(".npy"):
        return "npy"
    return "folder" if name[name.rfind(".") :] in SUFFIXES else None


def _of_file(place: Place) -> str:
    kind = _by_name(place.text.rpartition("/")[2])
    if kind == "tar" and place.local and not is_webdataset(place.path):
        return "dataset"
    if kind == "folder":
        raise ValueError(
            f"the source '{place.text}' must be a data set, got one image; give its folder, or "
            "use `splic-ext complete`"
        )
    return "dataset" if kind is None else kind
