"""Data sets in Parquet files: read, bounded, damaged, refused."""

from __future__ import annotations

import sys

import pytest
from helpers.streams import LABELS, arrow, pngs, same, write_parquet

from splic_ext.data import load_dataset, open_source
from splic_ext.errors import MissingExtraError

__all__ = ["arrow", "pngs"]  # fixtures


def structs(pngs):
    return [{"bytes": content, "path": f"{k}.png"} for k, content in enumerate(pngs)]


@pytest.mark.parametrize("column", [("image", "label"), ("img", "fine_label"), ("image", "labels")])
@pytest.mark.parametrize("plain", [False, True])
def test_parquet(tmp_path, pngs, arrow, column, plain):
    images = list(pngs) if plain else structs(pngs)
    names = ["ant", "bee", "cat", "dog"]
    path = write_parquet(
        arrow, tmp_path / "mine.parquet", images, LABELS, names, column, row_group_size=2
    )
    data = load_dataset(path)
    assert same(data, tuple(names))
    assert data.name == "mine"
    assert len(load_dataset(path, limit=3)) == 3
    source = open_source(path)
    assert len(source) == 5
    assert [s.key for s in source] == [f"row {k}" for k in range(5)]
    assert same(load_dataset(write_parquet(arrow, path, images, LABELS, None, column)))


def test_text_labels_of_parquet(tmp_path, pngs, arrow):
    names = ["ant", "bee", "cat"]
    texts = arrow.array([names[k] for k in LABELS])
    for labels in (texts, texts.dictionary_encode(), texts.cast(arrow.large_string())):
        path = write_parquet(arrow, tmp_path / "mine.parquet", structs(pngs), labels)
        assert same(load_dataset(path), tuple(names))
    assert load_dataset(path, limit=1).classes == tuple(names)


def test_parquet_shards(tmp_path, pngs, arrow):
    root = tmp_path / "mine"
    parts = {"test-0-of-2": slice(0, 2), "test-1-of-2": slice(2, 5), "train-0-of-1": slice(1, 2)}
    root.mkdir()
    for name, part in parts.items():
        write_parquet(
            arrow, root / "data" / f"{name}.parquet", structs(pngs)[part], LABELS[part],
            ["a", "b", "c"],
        )  # fmt: skip
    for place in (root, root / "data"):
        assert same(load_dataset(place), ("a", "b", "c"))
        assert load_dataset(place, "train").labels.tolist() == [0]
    assert load_dataset(root).name == "mine/test"
    with pytest.raises(ValueError, match="`split` must be one of test, train, got 'val'"):
        load_dataset(root, "val")
    (tmp_path / "one").mkdir()
    (root / "data" / "test-0-of-2.parquet").rename(tmp_path / "one" / "part0.parquet")
    assert len(load_dataset(tmp_path / "one", "train")) == 2


def test_rows_that_are_left_out(tmp_path, pngs, arrow):
    images = [*structs(pngs), None, {"bytes": None, "path": "a.png"}, structs(pngs)[0],
              {"bytes": b"damaged", "path": ""}, structs(pngs)[0]]  # fmt: skip
    labels = [*LABELS, 0, 0, None, 0, 7]
    path = write_parquet(arrow, tmp_path / "mine.parquet", images, labels, ["a", "b", "c"])
    with pytest.warns(UserWarning, match="5 of the images .* the file 'row 5'"):
        data = load_dataset(path)
    assert same(data, ("a", "b", "c"))
    assert [(found.key, found.reason) for found in data.unread] == [
        ("row 5", "its image is null"),
        ("row 6", "its image is null"),
        ("row 7", "its label is null"),
        ("row 8", "it is no BMP, JPEG, PNG, PPM, TIFF or WebP image, or is cut short"),
        ("row 9", "its label 7 is outside [0, 2]"),
    ]


@pytest.mark.parametrize(
    ("images", "column", "message"),
    [
        ([1, 2], ("image", "label"), r"column image or img with the bytes of .*image \(int64\)"),
        (["a.png", "b.png"], ("image", "label"), "; embed the images, not their paths"),
        ([{"path": "a.png"}] * 2, ("image", "label"), "; embed the images, not their paths"),
        ([b"", b""], ("pixels", "label"), "; rename its columns"),
        ([b"", b""], ("image", "class"), r"got image \(binary\), class \(int64\)"),
    ],
)
def test_parquet_without_images(tmp_path, arrow, images, column, message):
    path = write_parquet(arrow, tmp_path / "mine.parquet", images, [0, 1], column=column)
    with pytest.raises(ValueError, match=message):
        load_dataset(path)


def test_bounds_of_parquet(tmp_path, pngs, arrow):
    path = write_parquet(
        arrow, tmp_path / "mine.parquet", [bytes(10**6)] * 3, [0, 1, 2], use_dictionary=False
    )
    assert path.stat().st_size < 10**6
    with pytest.raises(
        ValueError, match=r"bytes in a row group, more .* `write_table\(..., row_gr"
    ):
        load_dataset(path, max_bytes=2 * 10**6)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"mine.parquet' is no Parquet file that can be read: "):
        load_dataset(path)


def test_damaged_pages(tmp_path, pngs, arrow):
    path = write_parquet(
        arrow, tmp_path / "mine.parquet", list(pngs), LABELS, row_group_size=2, compression="gzip"
    )
    from pyarrow import parquet

    column = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset or column.data_page_offset
    content[begin + 30 : begin + column.total_compressed_size] = bytes(
        column.total_compressed_size - 30
    )
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="mine.parquet' .not read from row 2 on: "):
        assert len(load_dataset(path)) == 2


def test_pyarrow_is_named(tmp_path, monkeypatch):
    (tmp_path / "mine.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"'pyarrow', .*splic-ext\[parquet\]"):
        load_dataset(tmp_path / "mine.parquet")
