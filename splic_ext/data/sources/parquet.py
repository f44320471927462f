"""Parquet files with image files in a column, as the Hugging Face hub keeps data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from splic_ext.common.checks import printable, reason_of, shortened
from splic_ext.common.optional import optional
from splic_ext.data.sources.base import MOST_CLASSES, Sample, Source, checked_label

__all__ = [
    "BUFFER",
    "IMAGES",
    "LABELS",
    "ParquetSource",
    "check_groups",
    "class_names",
    "holds_bytes",
    "parquet_shards",
    "rows_at_once",
]

IMAGES, LABELS = ("image", "img"), ("label", "labels", "fine_label")

#: Most bytes of the images that are read at a time, about; at least one row is, and one page.
AT_ONCE = 2**23

#: Bytes of the file that are read at a time.
BUFFER = 2**20

#: Most rows that are read at a time.
MOST_ROWS = 256


def parquet_shards(folder: Path, split: str) -> tuple[list[Path], bool]:
    """Return the files of a split, in a folder or in ``data`` in it, and whether there are others.

    The name of a file begins with its split, as ``train-00000-of-00002.parquet`` does. If no name
    does so, all files are one split.
    """
    found = sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))
    splits = [path.stem.partition("-")[0].lower() for path in found]
    known = ("train", "test", "validation", "val", "valid", "extra")
    if found and all(name in known for name in splits):
        if split not in splits:
            raise ValueError(
                f"`split` must be one of {', '.join(sorted(set(splits)))}, got {split!r}; "
                "choose one"
            )
        return [path for path, name in zip(found, splits, strict=True) if name == split], True
    return found, False


class ParquetSource(Source):
    """Images and labels of one file or several, row by row."""

    def __init__(self, place: Path, name: str, shards: list[Path], max_bytes: int = 2**31) -> None:
        with optional("a Parquet file", "parquet", "pyarrow"):
            self._parquet: Any = import_module("pyarrow.parquet")
            self._arrow: Any = import_module("pyarrow")
        self._shards, self._max_bytes = shards, max_bytes
        count, classes, text = 0, None, False
        for shard in shards:
            with self._opened(shard) as file:
                columns = self._columns(file, shard)
                check_groups(file.metadata, shard, self._max_bytes)
                count += file.metadata.num_rows
                classes = classes or class_names(file.schema_arrow, columns[1])
                text = text or _is_text(self._arrow, file.schema_arrow.field(columns[1]).type)
        super().__init__(place, name, classes, count)
        self._numbers: dict[str, int] | None = None
        if text:
            names = sorted({label for shard in shards for label in self._texts(shard)})
            if len(names) > MOST_CLASSES:
                raise ValueError(
                    f"the labels of '{place}' are {len(names):,} different texts, more than the "
                    f"limit of {MOST_CLASSES:,}; are they no names of classes?"
                )
            self.classes = tuple(names)
            self._numbers = {label: number for number, label in enumerate(names)}

    def _opened(self, shard: Path) -> Any:
        try:
            return self._parquet.ParquetFile(
                shard, memory_map=False, pre_buffer=False, buffer_size=BUFFER
            )
        except MemoryError:
            raise
        except Exception as error:  # of any type, from Arrow
            raise ValueError(
                f"the file '{shard}' is no Parquet file that can be read: {reason_of(error)}; "
                "fetch or save it again"
            ) from error

    def _columns(self, file: Any, shard: Path) -> tuple[str, str]:
        """Return the names of the columns of images and labels, or raise."""
        schema = file.schema_arrow
        names = [name for name in IMAGES if name in schema.names]
        images = [name for name in names if holds_bytes(schema.field(name).type)]
        labels = [name for name in LABELS if name in schema.names]
        if images and labels:
            return images[0], labels[0]
        got = ", ".join(f"{field.name} ({str(field.type)[:60]})" for field in list(schema)[:12])
        raise ValueError(
            f"the file '{shard}' must hold a column image or img with the bytes of image files, "
            f"and a column label, got {shortened(printable(got), 300) or 'no column'}; "
            f"{'embed the images, not their paths' if names else 'rename its columns'}"
        )

    def _samples(self) -> Iterator[Sample]:
        for shard in self._shards:
            told = f"{shard.name}:" if len(self._shards) > 1 else ""
            row = 0
            try:
                with self._opened(shard) as file:
                    for images, labels in self._rows(file, *self._columns(file, shard)):
                        for image, label in zip(images, labels, strict=True):
                            key = f"{told}row {row}"
                            row += 1
                            try:
                                yield Sample(key, _content(image), self._number(label))
                            except _RowError as error:
                                self.leave_out(key, str(error))
            except MemoryError:
                raise
            except Exception as error:  # of any type, from Arrow
                self.leave_out(shard.name, f"not read from row {row} on: {reason_of(error, 120)}")

    def _rows(self, file: Any, image: str, label: str) -> Iterator[tuple[list[Any], list[Any]]]:
        """Yield images and labels of some rows at a time."""
        for index in range(file.metadata.num_row_groups):
            for batch in file.iter_batches(
                batch_size=rows_at_once(file.metadata.row_group(index)),
                row_groups=[index],
                columns=[image, label],
                use_threads=False,
            ):
                yield _bytes_of(batch.column(image), self._arrow), batch.column(label).to_pylist()

    def _number(self, label: Any) -> int:
        if label is None:
            raise _RowError("its label is null")
        try:
            if self._numbers is not None:
                return self._numbers[label]
            return checked_label(label, None if self.classes is None else len(self.classes))
        except (KeyError, TypeError, ValueError) as error:
            raise _RowError(reason_of(error, 120)) from None

    def _texts(self, shard: Path) -> Iterator[str]:
        """Yield the labels of a file, which are names of classes."""
        with self._opened(shard) as file:
            column = self._columns(file, shard)[1]
            try:
                for batch in file.iter_batches(columns=[column], use_threads=False):
                    yield from (name for name in batch.column(0).to_pylist() if name is not None)
            except MemoryError:
                raise
            except Exception as error:  # of any type, from Arrow
                raise ValueError(
                    f"the labels of the file '{shard}' cannot be read: {reason_of(error)}; "
                    "fetch or save it again"
                ) from error


def check_groups(metadata: Any, shard: Any, max_bytes: int) -> None:
    """Raise if a row group of a file is larger than the limit."""
    for index in range(metadata.num_row_groups):
        size = metadata.row_group(index).total_byte_size
        if size > max_bytes:
            raise ValueError(
                f"the file '{shard}' has {size:,} bytes in a row group, more than the limit "
                f"of {max_bytes:,}; save it with smaller ones, such as "
                "`write_table(..., row_group_size=1000)`, or raise `max_bytes`"
            )


def holds_bytes(kind: Any) -> bool:
    """Say whether a type of Arrow is one of bytes, or a struct with bytes."""
    types = import_module("pyarrow").types
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and holds_bytes(kind.field(index).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def rows_at_once(group: Any) -> int:
    """Return how many rows of a row group are read at a time."""
    size = max(1, int(group.total_byte_size))
    return max(1, min(MOST_ROWS, AT_ONCE * max(1, int(group.num_rows)) // size))


class _RowError(ValueError):
    """A row that is left out."""


def _content(image: Any) -> bytes:
    if image is None:
        raise _RowError("its image is null")
    return bytes(image)


def _bytes_of(images: Any, arrow: Any) -> list[Any]:
    """Return the image files of a column."""
    if arrow.types.is_struct(images.type):
        images = images.flatten()[images.type.get_field_index("bytes")]
    values: list[Any] = images.to_pylist()
    return values


def _is_text(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))


def class_names(schema: Any, column: str) -> tuple[str, ...] | None:
    """Return the names that Hugging Face's `datasets` writes beside the schema."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        label = json.loads(text)["info"]["features"][column]
        names = label.get("names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) or None
