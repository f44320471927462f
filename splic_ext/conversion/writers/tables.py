"""Shards of Parquet."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any, ClassVar

from splic_ext.common.checks import printable, shortened
from splic_ext.common.optional import optional
from splic_ext.conversion.items import Item
from splic_ext.conversion.writers.base import RejectedError, Writer
from splic_ext.data.sources.parquet import IMAGES, holds_bytes

__all__ = ["ParquetWriter"]

#: Bytes of images of a row group, and most rows.
GROUP_BYTES, GROUP_ROWS = 2**23, 1000


class ParquetWriter(Writer):
    """A file with the columns of the source; of what is no Parquet, `image` and `label`.

    Those have the types of the Hugging Face hub.
    """

    kind: ClassVar[str] = "parquet"

    def begin(self) -> None:
        """Open the file, with the first images."""
        with optional("a Parquet file", "parquet", "pyarrow"):
            self._arrow: Any = import_module("pyarrow")
        self._parquet: Any = import_module("pyarrow.parquet")
        self._name = f"{self.shard.name}.parquet"
        self._path = self.path_of(self._name)
        self._file: Any = None
        self._rows: list[tuple[Item, bytes, str, int | str | None]] = []
        self._bytes = 0

    def add(self, index: int, item: Item, image: Any, suffix: str) -> None:
        """Keep an image for the next row group."""
        label = item.label
        if self.layout.source != "parquet":
            if any("\ud800" <= letter <= "\udfff" for letter in item.key):
                raise RejectedError(f"its key is no UTF-8: {shortened(printable(item.key))!r}")
            if self.layout.label == "integer":
                label = self.layout.integer(label)
            elif label is not None:
                label = str(label)
        self._rows.append((item, image, suffix, label))
        self._bytes += len(image)
        if self._bytes >= GROUP_BYTES or len(self._rows) >= GROUP_ROWS:
            self._write()

    def _write(self) -> None:
        rows, self._rows, self._bytes = self._rows, [], 0
        if self.layout.source != "parquet":
            table = self._new(rows)
        else:
            table = self._same(rows) if rows else self.schema.empty_table()
        if self._file is None:
            self._file = self._parquet.ParquetWriter(self._path, table.schema)
        self._file.write_table(table, row_group_size=max(1, len(rows)))

    def _new(self, rows: list[Any]) -> Any:
        """Return a table of the columns image and label."""
        arrow, layout = self._arrow, self.layout
        fields = [
            arrow.field(
                "image", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
            )
        ]
        features: dict[str, Any] = {"image": {"_type": "Image"}}
        images = [
            {"bytes": image, "path": f"{item.key.rpartition('/')[2]}.{suffix}"}
            for item, image, suffix, _ in rows
        ]
        columns = [arrow.array(images, fields[0].type)]
        if layout.label is not None:
            kind = arrow.int64() if layout.label == "integer" else arrow.string()
            fields.append(arrow.field("label", kind))
            columns.append(arrow.array([label for *_, label in rows], kind))
            features["label"] = {"dtype": str(kind), "_type": "Value"}
            if layout.classes is not None and layout.label == "integer":
                features["label"] = {"names": list(layout.classes), "_type": "ClassLabel"}
        told = json.dumps({"info": {"features": features}})
        return arrow.table(columns, schema=arrow.schema(fields, {"huggingface": told}))

    def _same(self, rows: list[Any]) -> Any:
        """Return a table of the columns of the source, with other images."""
        arrow, parts, start = self._arrow, [], 0
        while start < len(rows):
            batch, stop = rows[start][0].extra["batch"], start
            while stop < len(rows) and rows[stop][0].extra["batch"] is batch:
                stop += 1
            taken = batch.take(arrow.array([row[0].extra["row"] for row in rows[start:stop]]))
            column = next(
                name
                for name in IMAGES
                if name in taken.schema.names and holds_bytes(taken.schema.field(name).type)
            )
            at = taken.schema.get_field_index(column)
            contents = [row[1] for row in rows[start:stop]]
            made = self._replaced(taken.column(at), contents)
            table = arrow.Table.from_batches([taken])
            parts.append(table.set_column(at, taken.schema.field(at), made))
            start = stop
        return arrow.concat_tables(parts)

    def _replaced(self, images: Any, contents: list[bytes]) -> Any:
        """Return a column of images with other bytes."""
        arrow, kind = self._arrow, images.type
        if not arrow.types.is_struct(kind):
            return arrow.array(contents, kind)
        fields = [kind.field(number) for number in range(kind.num_fields)]
        columns = [
            arrow.array(contents, field.type) if field.name == "bytes" else column
            for field, column in zip(fields, images.flatten(), strict=True)
        ]
        return arrow.StructArray.from_arrays(columns, fields=fields)

    def finish(self) -> None:
        """Write the last rows."""
        if self._rows or self._file is None:
            self._write()
        self._file.close()
        self.note(self._name, self._path)
