"""The official files of data sets: where they are, what they must hash to, and their download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from splic_ext.common.optional import optional

__all__ = ["OFFICIAL_FILES", "OfficialFile", "download_file"]


@dataclass(frozen=True)
class OfficialFile:
    """A file that can be downloaded.

    Attributes
    ----------
    name : str
        File name.
    url : str
        Where it is.
    sha256 : str
        What it must hash to.
    """

    name: str
    url: str
    sha256: str


_SVHN = "http://ufldl.stanford.edu/housenumbers"

#: (data set, split) -> the file that holds it.
OFFICIAL_FILES: Mapping[tuple[str, str], OfficialFile] = MappingProxyType(
    {
        **{
            ("cifar10", split): OfficialFile(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            )
            for split in ("train", "test")
        },
        **{
            ("svhn", split): OfficialFile(
                f"{split}_32x32.mat", f"{_SVHN}/{split}_32x32.mat", sha256
            )
            for split, sha256 in {
                "train": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
                "test": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
                "extra": "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
            }.items()
        },
    }
)


def download_file(file: OfficialFile, folder: Path) -> Path:
    """Download a file into a folder, unless it is there and intact; return where it is.

    What comes with another SHA-256 is not kept.
    """
    with optional("`download=True`", "data", "pooch"):
        pooch: Any = import_module("pooch")
    try:
        place = pooch.retrieve(
            file.url, known_hash=f"sha256:{file.sha256}", fname=file.name, path=folder
        )
    except ValueError as error:
        raise ValueError(
            f"the download from {file.url} is not the official file: {error}; "
            "try again, or fetch it by other means"
        ) from error
    except OSError as error:
        raise ConnectionError(
            f"{file.url} cannot be downloaded to '{folder}': {error}; "
            f"fetch it by other means and put it there as {file.name}"
        ) from error
    return Path(place)
