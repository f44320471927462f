"""Parquet files with image files in a column; the other columns go along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar

from splic_ext.common.checks import printable, reason_of, shortened
from splic_ext.common.optional import optional
from splic_ext.conversion.items import Item, Unit
from splic_ext.conversion.places import Entry, Place
from splic_ext.conversion.readers.base import Hashed, Reader, group_of
from splic_ext.data.sources.parquet import (
    BUFFER,
    IMAGES,
    LABELS,
    check_groups,
    class_names,
    holds_bytes,
    rows_at_once,
)

__all__ = ["ParquetReader"]


class ParquetReader(Reader):
    """Files of a folder, or one. All must have the columns of the first."""

    kind: ClassVar[str] = "parquet"

    def __init__(self, place: Place, max_bytes: int) -> None:
        super().__init__(place, max_bytes)
        with optional("a Parquet file", "parquet", "pyarrow"):
            self._parquet: Any = import_module("pyarrow.parquet")
        self._column = self._first = ""

    def entries(self) -> list[Entry]:
        """Return the files."""
        found = [self.place.entry()] if self.place.kind() == "file" else []
        if not found:
            found = [e for e in self.place.files() if e.name.lower().endswith(".parquet")]
        self._begin(found[0].name)
        return found

    def _opened(self, file: Any, name: str) -> Any:
        try:
            return self._parquet.ParquetFile(
                file, memory_map=False, pre_buffer=False, buffer_size=BUFFER
            )
        except MemoryError:
            raise
        except Exception as error:  # of any type, from Arrow
            raise ValueError(
                f"the file '{name or self.place.text}' is no Parquet file that can be read: "
                f"{reason_of(error)}; fetch or save it again"
            ) from error

    def state(self) -> dict[str, Any]:
        """Return classes and the name of the first file."""
        return {**super().state(), "first": self._first}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both up, and the columns of that file."""
        super().restore(state)
        self._begin(state["first"])

    def _begin(self, name: str) -> None:
        """Take columns and classes from a file."""
        self._first = name
        with self.place.open(name) as file, self._opened(file, name) as table:
            self._look(table, name)

    def _look(self, table: Any, name: str) -> None:
        """Find the column of images; it and the others must be those of the first file."""
        schema, shown = table.schema_arrow, name or self.place.text
        images = [
            column
            for column in IMAGES
            if column in schema.names and holds_bytes(schema.field(column).type)
        ]
        if not images:
            got = ", ".join(f"{field.name} ({str(field.type)[:60]})" for field in list(schema)[:12])
            known = any(column in schema.names for column in IMAGES)
            raise ValueError(
                f"the file '{shown}' must hold a column image or img with the bytes of image "
                f"files, got {shortened(printable(got), 300) or 'no column'}; "
                f"{'embed the images, not their paths' if known else 'rename its columns'}"
            )
        if self.schema is None:
            self._column, self.schema = images[0], schema
            label = next((name for name in LABELS if name in schema.names), None)
            if label is not None:
                self.classes = class_names(schema, label)
        elif not schema.equals(self.schema):
            raise ValueError(
                f"the file '{shown}' must have the columns of the first, "
                f"{shortened(', '.join(self.schema.names), 200)}, with the same types, got "
                f"{shortened(printable(', '.join(schema.names)), 200)}; convert them apart"
            )

    def scan(self, entry: Entry) -> Unit:
        """Count the rows."""
        with self.place.open(entry.name) as file, self._opened(file, entry.name) as table:
            self._look(table, entry.name)
            check_groups(table.metadata, entry.name or self.place.text, self.max_bytes)
            count = table.metadata.num_rows
        with self.place.open(entry.name) as file:
            sha256 = self.hash_of(Hashed(file))
        group = group_of(entry.name or self.place.text.rpartition("/")[2])
        return Unit(entry.name, group, entry.size, entry.stamp, count, sha256)

    def read(self, unit: Unit, start: int, stop: int) -> Iterator[Item]:
        """Yield rows; after damage the rest has a problem each."""
        row, stem = 0, (unit.name or self.place.text).rpartition("/")[2].rpartition(".")[0]
        try:
            with self.place.open(unit.name) as file, self._opened(file, unit.name) as table:
                self._look(table, unit.name)
                for batch, first in _batches(table, start, stop):
                    row = first
                    for item in self._items(batch, stem, first):
                        if start <= row < stop:
                            yield item
                        row += 1
        except MemoryError:
            raise
        except Exception as error:  # of any type, from Arrow
            self.failing(error)
            if isinstance(error, ValueError) and "; " in str(error):
                raise
            problem = f"'{unit.name}' is not read from row {row} on: {reason_of(error, 120)}"
            for number in range(max(row, start), stop):
                yield Item(f"{stem}-{number:06}", None, problem=problem)

    def _items(self, batch: Any, stem: str, first: int) -> Iterator[Item]:
        images = batch.column(self._column)
        arrow: Any = import_module("pyarrow")
        if arrow.types.is_struct(images.type):
            images = images.flatten()[images.type.get_field_index("bytes")]
        label = next((name for name in LABELS if name in batch.schema.names), None)
        labels = [None] * len(batch) if label is None else batch.column(label).to_pylist()
        for row, (content, value) in enumerate(zip(images.to_pylist(), labels, strict=True)):
            key = f"{stem}-{first + row:06}"
            if content is None:
                yield Item(key, None, problem="its image is null")
                continue
            known = isinstance(value, (int, str)) and not isinstance(value, bool)
            extra = {"batch": batch, "row": row}
            yield Item(key, bytes(content), _suffix(content), value if known else None, extra)


def _batches(table: Any, start: int, stop: int) -> Iterator[tuple[Any, int]]:
    """Yield parts of a file that hold rows of a range, and the number of their first row."""
    first = 0
    for index in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(index)
        if first < stop and first + group.num_rows > start:
            at = first
            for batch in table.iter_batches(
                batch_size=rows_at_once(group), row_groups=[index], use_threads=False
            ):
                if at < stop and at + len(batch) > start:
                    yield batch, at
                at += len(batch)
        first += group.num_rows


def _suffix(content: bytes) -> str:
    """Return the suffix of an image file by its first bytes."""
    for magic, suffix in ((b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"BM", "bmp")):
        if content.startswith(magic):
            return suffix
    return "webp" if content[8:12] == b"WEBP" else "tif" if content[:2] in (b"II", b"MM") else "img"
