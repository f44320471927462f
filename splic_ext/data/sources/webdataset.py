"""WebDataset: tar archives in which ``key.png`` and ``key.cls`` are a sample."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from splic_ext.common.checks import printable, shortened
from splic_ext.data.cifar import BATCHES
from splic_ext.data.pictures import SUFFIXES
from splic_ext.data.sources.base import MOST_CLASSES, Sample, Source, checked_label
from splic_ext.data.sources.tarring import TarError, read_tar

__all__ = ["TAR_SUFFIXES", "WebDatasetSource", "expand_braces", "is_webdataset"]

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")

#: Most bytes of the label of a sample, and archives of a pattern.
MOST_LABEL, MOST_SHARDS = 2**20, 100_000

#: Keys of a label in a .json file, the first that is there counts.
LABELS = ("label", "cls", "class", "labels", "fine_label")

#: So many files at the beginning of an archive say what it is.
LOOKED_AT = 50

_BRACES = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}|\{([^{}]*,[^{}]*)\}")
_OTHERS = "files of other kinds are passed over"


def expand_braces(pattern: str) -> list[str] | None:
    """Return the paths that a pattern with braces stands for; None if it has none.

    >>> expand_braces("mine-{08..10}.tar")
    ['mine-08.tar', 'mine-09.tar', 'mine-10.tar']
    """
    parts = _BRACES.split(pattern)
    if len(parts) == 1:
        return None
    choices = [[parts[0]]]
    total = 1
    for first, last, names, text in zip(*(parts[k::4] for k in (1, 2, 3, 4)), strict=True):
        if names is None:
            numbers = range(int(first), int(last) + 1)
            if len(numbers) <= MOST_SHARDS:
                choices.append([str(number).zfill(len(first)) for number in numbers])
            total *= len(numbers)
        else:
            choices.append(names.split(","))
            total *= len(choices[-1])
        if not 0 < total <= MOST_SHARDS:
            raise ValueError(
                f"the pattern {shortened(pattern)!r} must stand for 1 to {MOST_SHARDS:,} files, "
                f"got {total:,}; write the smaller number first"
            )
        choices.append([text])
    return ["".join(chosen) for chosen in product(*choices)]


def is_webdataset(path: Path, max_bytes: int = 2**31) -> bool:
    """Say whether the first files of an archive are images or labels."""
    try:
        for index, member in enumerate(read_tar(path, max_bytes)):
            name, suffix = _split(member.name)
            if f".{suffix}" in SUFFIXES or suffix == "cls":
                return True
            if index == LOOKED_AT or name.rpartition("/")[2] in BATCHES:
                break
    except (OSError, ValueError):
        return False
    return False


class WebDatasetSource(Source):
    """Samples of one archive or several; labels are integers, or names of classes."""

    def __init__(self, place: Path, name: str, shards: list[Path], max_bytes: int = 2**31) -> None:
        for shard in shards:
            if not shard.is_file():
                raise FileNotFoundError(
                    f"the archive '{shard}' does not exist; check the numbers in the pattern"
                )
        super().__init__(place, name, None, None)
        self._shards, self._max_bytes = shards, max_bytes
        if any(isinstance(label, str) for label in self._labels(first=True)):
            names = {label for label in self._labels() if isinstance(label, str)}
            if len(names) > MOST_CLASSES:
                raise ValueError(
                    f"the labels of '{place}' are {len(names):,} different texts, more than the "
                    f"limit of {MOST_CLASSES:,}; are they no names of classes?"
                )
            self.classes = tuple(sorted(names))
            self._numbers = {text: number for number, text in enumerate(self.classes)}

    def _samples(self) -> Iterator[Sample]:
        for shard in self._shards:
            for key, content, label in self._of(shard):
                problem, number = None, 0
                if content is None or label is None:
                    problem = f"it has no {'image' if content is None else 'label'}"
                else:
                    try:
                        number = self._number(label)
                    except ValueError as error:
                        problem = str(error)
                if problem is None and content is not None:
                    yield Sample(key, content, number)
                else:
                    self.leave_out(key, str(problem))

    def _number(self, label: Any) -> int:
        """Return the index of a class that is a number or a name."""
        if self.classes is None:
            return checked_label(label, None)
        if not isinstance(label, str):
            raise ValueError(f"its label {label!r} is no name of a class, as others are")
        return self._numbers[label]

    def _labels(self, first: bool = False) -> Iterator[Any]:
        """Yield all labels, or the first, without reading the images; tell of nothing."""
        for shard in self._shards:
            for *_, label in self._of(shard, images=False):
                if label is not None:
                    yield label
                    if first:
                        self.unread.clear()
                        return
        self.unread.clear()

    def _of(self, shard: Path, images: bool = True) -> Iterator[tuple[str, Any, Any]]:
        """Yield the samples of an archive: key, image and label, None where there is none."""
        key, parts, seen = "", _Parts(), set()
        told = f"{shard.name}:" if len(self._shards) > 1 else ""
        try:
            for member in read_tar(shard, self._max_bytes):
                name, suffix = _split(member.name)
                place = f"{told}{member.name}"
                kind = suffix if suffix in ("cls", "json") else "image"
                if member.refused is not None:
                    self._refuse(images, place, member.refused)
                    continue
                if kind == "image" and f".{suffix}" not in SUFFIXES:
                    if images:
                        self.note(_OTHERS, place)
                    continue
                if name != key:
                    if parts and "again" not in parts:
                        yield f"{told}{key}", parts.get("image"), parts.label
                    key, parts = name, _Parts()
                    if hash(name) in seen:
                        parts["again"] = True
                    seen.add(hash(name))
                if "again" in parts or kind in parts:
                    self._refuse(images, place, "its key comes twice")
                elif kind != "image" and member.size > MOST_LABEL:
                    self._refuse(images, place, f"a label of {member.size:,} bytes")
                elif kind == "image":
                    parts[kind] = member.read() if images else True
                else:
                    try:
                        parts[kind] = _label(member.read(), suffix)
                    except ValueError as error:
                        self._refuse(images, place, str(error))
        except (OSError, TarError) as error:
            self._refuse(images, shard.name, f"what follows '{key}' is not read: {error}")
        if parts and "again" not in parts:
            yield f"{told}{key}", parts.get("image"), parts.label

    def _refuse(self, told: bool, key: str, reason: str) -> None:
        if told:
            self.leave_out(key, reason)


class _Parts(dict[str, Any]):
    """What an archive holds of a sample: its image, and its label from either file."""

    @property
    def label(self) -> Any:
        """The label of the .cls file if there is one."""
        return self.get("cls", self.get("json"))


def _split(name: str) -> tuple[str, str]:
    """Return the key of a file, which is its name up to the first dot, and the last suffix."""
    folder, slash, base = name.rpartition("/")
    key, dot, rest = base.partition(".")
    return f"{folder}{slash}{key}", rest.rpartition(".")[2].lower() if dot else ""


def _label(content: bytes, suffix: str) -> Any:
    """Return the label in a .cls or .json file: an integer, or the name of a class."""
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("its label is no text") from None
    label: Any = text
    if suffix == "json":
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("its label is no JSON") from None
        found = [values]
        if isinstance(values, dict):
            found = [values[name] for name in LABELS if name in values]
        if not found:
            return None
        label = found[0]
    if isinstance(label, str):
        label = label.strip()
        if re.fullmatch(r"-?\d{1,18}", label):
            label = int(label)
        elif not label or len(label) > 200 or printable(label) != label:
            raise ValueError(f"its label is no class but {shortened(repr(label))}")
    elif isinstance(label, bool) or not isinstance(label, int):
        raise ValueError(f"its label is no integer or name but {shortened(repr(label))}")
    return label
