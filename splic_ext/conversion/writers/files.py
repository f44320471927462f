"""Shards of image files: folders and archives."""

from __future__ import annotations

import hashlib
import tarfile
from functools import cache
from typing import Any, ClassVar

from splic_ext.common.checks import printable, shortened
from splic_ext.conversion.items import Item
from splic_ext.conversion.readers.base import group_of
from splic_ext.conversion.writers.base import MANIFEST, REJECTS, Layout, Made, RejectedError, Writer

__all__ = ["FolderWriter", "TarWriter"]

#: Most bytes of a name of a file on most systems.
MOST_NAME = 240


class FolderWriter(Writer):
    """Image files under their keys; of what is no folder, in folders of their classes."""

    kind: ClassVar[str] = "folder"

    def begin(self) -> None:
        """Have nothing to open."""

    def add(self, index: int, item: Item, image: Any, suffix: str) -> None:
        """Write a file; of an archive also what belongs to it."""
        key, extra = self._key(index, item), {}
        if self.layout.source == "tar":
            extra = {name: content for name, content in item.extra.items() if name}
        if self.layout.source == "folder" and self.layout.encode == "keep":
            suffix = item.suffix  # two names that differ in no more would be one
        files = {f"{key}.{ending}": content for ending, content in {suffix: image, **extra}.items()}
        own = next((name for name in files if name in (MANIFEST, REJECTS)), None)
        if own is not None:
            raise RejectedError(f"its file would be named {own}, as that of the conversion is")
        for name, content in files.items():
            self.begun(name)
            with self.place.writing(name) as path:
                path.write_bytes(content)
            self.made.append(Made(name, len(content), hashlib.sha256(content).hexdigest()))

    def _key(self, index: int, item: Item) -> str:
        """Return the path of an image without its suffix, which no other image has."""
        layout, key = self.layout, item.key
        if layout.source != "folder":
            if layout.units > 1 and layout.source != "dataset":  # a key comes again in others
                above, slash, base = key.rpartition("/")
                key = f"{above}{slash}{index:09}-{base}"
            folders = [_folder(item.label, layout)]
            if layout.groups > 1:
                folders.insert(0, group_of(self.shard.pieces[0].unit))
            key = "/".join((*filter(None, folders), key))
        parts = key.split("/")
        if any(part in ("", ".", "..") or part.startswith(".") for part in parts):
            raise RejectedError(f"its key leads out of a folder: {shortened(printable(key))!r}")
        if any(len(part.encode("utf-8", "replace")) > MOST_NAME or "\0" in part for part in parts):
            raise RejectedError(f"its key is no name of a file: {shortened(printable(key))!r}")
        return key

    def finish(self) -> None:
        """Wait for the disk, once for all files."""
        self.place.settle()


def _folder(label: int | str | None, layout: Layout) -> str:
    """Return the folder of a class, its name; "_" of an image without one among others."""
    classes = layout.classes
    if label is None:
        return "" if layout.label is None else "_"
    if isinstance(label, int) and classes is not None and 0 <= label < len(classes):
        label = classes[label]
    return str(label).replace("/", "_").lstrip(".") or "_"


class TarWriter(Writer):
    """A WebDataset archive: the image first, then what belongs to it; times and owners are 0."""

    kind: ClassVar[str] = "tar"

    def begin(self) -> None:
        """Open the archive."""
        self._name = f"{self.shard.name}.tar"
        self._path = self.path_of(self._name)
        self._file = self._stack.enter_context(self._path.open("wb", buffering=2**18))
        self._digest, self._size = hashlib.sha256(), 0
        self._keys: set[str] = set()

    def add(self, index: int, item: Item, image: Any, suffix: str) -> None:
        """Write a sample."""
        key = item.key
        if self.layout.source != "tar":
            key = key.replace(".", "_")  # a key ends at its first dot
            suffix = suffix.lower()
        while key in self._keys:
            key = f"{key}~{index}"
        self._keys.add(key)
        files = {suffix: image}
        if self.layout.source == "tar":
            files |= item.extra
        elif item.label is not None:
            files["cls"] = str(self.layout.number(item.label)).encode()
        for ending, content in files.items():
            self._put(f"{key}.{ending}" if ending else key, content)

    def _put(self, name: str, content: bytes) -> None:
        """Write a file."""
        header = header_of(name, len(content))
        self._write(b"".join((header, content, bytes(-len(content) % tarfile.BLOCKSIZE))))

    def _write(self, content: bytes) -> None:
        self._digest.update(content)
        self._size += len(content)
        self._file.write(content)

    def finish(self) -> None:
        """Close the archive."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._size % tarfile.RECORDSIZE))
        self._file.flush()
        self.made.append(Made(self._name, self._size, self._digest.hexdigest()))


def header_of(name: str, size: int) -> bytes:
    """Return the header of a file in an archive: tarfile's, which is quick for short names.

    >>> info = tarfile.TarInfo("0001.png")
    >>> info.size = 1234
    >>> header_of("0001.png", 1234) == info.tobuf(tarfile.USTAR_FORMAT)
    True
    """
    if name.isascii() and len(name) <= tarfile.LENGTH_NAME and size < 8**11:
        block, known = _nameless()
        text, digits = name.encode("ascii"), b"%011o" % size
        check = b"%06o\0" % (known + sum(text) + sum(digits))
        rest = bytes(tarfile.LENGTH_NAME - len(text))
        return b"".join((text, rest, block[100:124], digits, block[135:148], check, block[155:]))
    info = _info(name)
    info.size = size
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError:  # a long name, or one of other letters
        return info.tobuf(tarfile.PAX_FORMAT)


def _info(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    return info


@cache
def _nameless() -> tuple[bytes, int]:
    """Return the header of a file without name and content; its sum but for the size."""
    block = _info("").tobuf(tarfile.USTAR_FORMAT)
    return block, int(block[148:154], 8) - sum(block[124:135])
