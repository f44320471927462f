"""Data sets in IDX, .npy, Parquet and WebDataset files: read, bounded, cut short, refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc

import numpy as np
import pytest

from splic_ext.data import load_dataset, open_source
from splic_ext.data.sources import tarring as tarring_module
from splic_ext.data.sources import webdataset as webdataset_module
from splic_ext.errors import MissingExtraError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 3, 8, 10), dtype=np.uint8)
GRAY = IMAGES[:, 0]
LABELS = np.array([2, 0, 1, 2, 0])


# IDX


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + b"".join(
        n.to_bytes(4, "big") for n in array.shape
    ) + array.astype(np.uint8).tobytes()  # fmt: skip


def write_idx(folder, begin="t10k-", dot="-", pack=bytes, end=""):
    folder.mkdir(exist_ok=True)
    (folder / f"{begin}images{dot}idx3-ubyte{end}").write_bytes(pack(idx(GRAY)))
    (folder / f"{begin}labels{dot}idx1-ubyte{end}").write_bytes(pack(idx(LABELS)))
    return folder


@pytest.mark.parametrize(
    ("begin", "dot", "pack", "end"),
    [
        ("t10k-", "-", bytes, ""),
        ("t10k-", ".", bytes, ""),
        ("t10k-", "-", gzip.compress, ".gz"),
        ("test-", "-", gzip.compress, ""),
        ("emnist-letters-test-", "-", gzip.compress, ".gz"),
    ],
)
def test_idx(tmp_path, begin, dot, pack, end):
    folder = write_idx(tmp_path / "mnist", begin, dot, pack, end)
    data = load_dataset(folder)
    assert data.name == "mnist/test"
    assert data.classes == ("0", "1", "2")
    assert np.array_equal(data.images, GRAY[:, None])
    assert data.labels.tolist() == LABELS.tolist()
    path = folder / f"{begin}images{dot}idx3-ubyte{end}"
    assert np.array_equal(load_dataset(path, limit=2).images, GRAY[:2, None])
    with pytest.raises(ValueError, match="`split` must be one of test, got 'train'"):
        load_dataset(folder, "train")


def test_both_splits_of_idx(tmp_path):
    write_idx(write_idx(tmp_path, "train-"), "t10k-", pack=gzip.compress, end=".gz")
    assert load_dataset(tmp_path, "train").name.endswith("/train")
    assert len(load_dataset(tmp_path)) == 5


def test_idx_that_is_cut_short(tmp_path):
    path = write_idx(tmp_path) / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="2 images from image 3 on: the file ends"):
        data = load_dataset(tmp_path)
    assert np.array_equal(data.images[:, 0], GRAY[:3])
    assert len(data.unread) == 1
    packed = write_idx(tmp_path / "packed", pack=gzip.compress, end=".gz")
    path = packed / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.warns(UserWarning, match="images from image . on: "):
        assert 0 < len(load_dataset(packed)) < 5


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"", idx(LABELS), "is no IDX file of bytes with 3 axes: it begins with nothing"),
        (idx(LABELS), idx(LABELS), "is no IDX file .*: it begins with 00 00 08 01; fetch"),
        (idx(GRAY).replace(b"\x08", b"\x0d", 1), idx(LABELS), "it begins with 00 00 0d 03"),
        (idx(GRAY), idx(LABELS[:4]), "holds 5 images, but 't10k-labels-idx1-ubyte' 4 labels"),
        (idx(GRAY[:, :0]), idx(LABELS), "must hold images of at least a pixel, got 5 of 0 x 10"),
        (idx(GRAY[:0]), idx(LABELS[:0]), "must hold images of at least a pixel, got 0 of"),
        (b"\x1f\x8b damaged", idx(LABELS), "cannot be unpacked: "),
    ],
)
def test_damaged_idx(tmp_path, images, labels, message):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path)


def test_idx_files_that_are_missing_or_too_many(tmp_path):
    write_idx(tmp_path)
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte' unpacks to more than the limit"):
        list(open_source(tmp_path, max_bytes=399))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="put 't10k-labels-idx1-ubyte' or"):
        load_dataset(tmp_path)
    write_idx(tmp_path, "emnist-test-")
    with pytest.raises(ValueError, match="holds several files of images for the split test"):
        load_dataset(tmp_path)


# Arrays


@pytest.mark.parametrize(
    "images", [IMAGES, IMAGES.transpose(0, 2, 3, 1), IMAGES / 255], ids=["first", "last", "floats"]
)
def test_npy(tmp_path, images, monkeypatch):
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", LABELS)
    for place in (tmp_path, tmp_path / "images.npy"):
        data = load_dataset(place)
        assert np.array_equal(data.images, IMAGES)
        assert data.labels.tolist() == LABELS.tolist()
        assert (data.name, data.classes) == (tmp_path.name, ("0", "1", "2"))
    monkeypatch.chdir(tmp_path)
    assert load_dataset("images.npy", limit=2).name == tmp_path.name
    np.savez(tmp_path / "mine.npz", data=images, labels=LABELS)
    assert np.array_equal(load_dataset("mine.npz").images, IMAGES)
    np.savez(tmp_path / "mine.npz", images=images, labels=LABELS)
    assert np.array_equal(load_dataset("mine.npz", resize=4).images.shape, (5, 3, 4, 5))


def test_npy_in_splits(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "images.npy", IMAGES)
        np.save(tmp_path / split / "labels.npy", LABELS)
    assert load_dataset(tmp_path).name == f"{tmp_path.name}/test"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:3], "hold no data set: `labels` must have shape"),
        (IMAGES, LABELS - 1, "its label -1 is outside"),
        (IMAGES, LABELS / 1, "`labels` must be integers"),
        (IMAGES.astype(int), LABELS, "`images` must be uint8, or floats in .* got int64"),
        (IMAGES[..., :3], LABELS, "may have their channels first or last"),
        (IMAGES * 1.0, LABELS, "holds no images from 0 on: .* divide them by 255"),
        (np.array([{}, {}]), LABELS, "is no .npy file that can be read: .*Python objects"),
        (np.uint8(3), LABELS, "it holds a single value"),
    ],
)
def test_damaged_npy(tmp_path, images, labels, message):
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path)


def test_npy_without_labels(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    with pytest.raises(FileNotFoundError, match=r"the labels of .*images.npy' do not exist; save"):
        load_dataset(tmp_path)


# Image files in archives and tables


@pytest.fixture(scope="module")
def pngs():
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    contents = []
    for image in IMAGES:
        stream = io.BytesIO()
        image_module.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(stream, "PNG")
        contents.append(stream.getvalue())
    return contents


def write_tar(path, files, mode="w", **options):
    with tarfile.open(path, mode, **options) as archive:
        for name, content in files:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(pngs, label="{}".format, suffix="cls"):
    for index, content in enumerate(pngs):
        yield f"a/{index:04}.png", content
        yield f"a/{index:04}.{suffix}", label(LABELS[index]).encode()


def same(data, classes=("0", "1", "2")):
    assert np.array_equal(data.images, IMAGES)
    assert data.labels.tolist() == LABELS.tolist()
    assert data.classes == classes
    return True


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_webdataset(tmp_path, pngs, mode, format):
    name = "mine.tar.gz" if mode == "w:gz" else "mine.tar"
    files = [*samples(pngs), ("a/notes.txt", b"text")]
    path = write_tar(tmp_path / name, files, mode, format=format)
    with pytest.warns(UserWarning, match="files of other kinds are passed over: 1 in"):
        data = load_dataset(path)
    assert same(data)
    assert data.name == "mine"
    assert len(load_dataset(path, limit=2)) == 2
    source = open_source(path)
    assert source.count is None
    with pytest.raises(TypeError, match=r"the length of .* is not known before it is read"):
        len(source)
    assert [s.key for s in source] == [f"a/{k:04}" for k in range(5)]


def test_labels_of_webdataset(tmp_path, pngs):
    path = tmp_path / "mine.tar"
    write_tar(path, samples(pngs, '{{"label": {}, "more": [1]}}'.format, "json"))
    assert same(load_dataset(path))
    names = ["ant", "bee", "cat"]
    write_tar(path, samples(pngs, lambda n: names[n]))
    assert same(load_dataset(path), tuple(names))
    data = load_dataset(path, limit=2)
    assert (data.classes, data.labels.tolist()) == (tuple(names), [2, 0])
    write_tar(path, samples(pngs, lambda n: json.dumps({"cls": names[n]}), "json"))
    assert same(load_dataset(path), tuple(names))
    both = [*samples(pngs), *(())]
    both.insert(0, ("a/0000.json", b'{"label": 1}'))
    write_tar(path, both)
    assert same(load_dataset(path))  # the .cls counts


def test_long_names(tmp_path, pngs):
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "ä" * 60 + "/" + "b" * 120
        path = write_tar(
            tmp_path / "mine.tar", [(f"{name}.png", pngs[0]), (f"{name}.cls", b"0")], format=format
        )
        (sample,) = open_source(path)
        assert sample.key == name


def test_shards(tmp_path, pngs, monkeypatch):
    files = list(samples(pngs))
    (tmp_path / "mine").mkdir()
    write_tar(tmp_path / "mine" / "s-08.tar", files[:4])
    write_tar(tmp_path / "mine" / "s-09.tar", files[4:])
    data = load_dataset(tmp_path / "mine")
    assert same(data)
    assert data.name == "mine"
    assert same(load_dataset(tmp_path / "mine" / "s-{08..09}.tar"))
    assert same(load_dataset(f"{tmp_path}/mine/s-{{08,09}}.tar"))
    assert [s.key for s in open_source(tmp_path / "mine")][:3:2] == ["s-08.tar:a/0000",
                                                                     "s-09.tar:a/0002"]  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"s-10.tar' does not exist; check the numbers"):
        load_dataset(tmp_path / "mine" / "s-{08..10}.tar")
    for pattern in ("s-{9..8}.tar", "s-{0..999999999}.tar", "s-{0..999}{0..999}.tar"):
        with pytest.raises(ValueError, match="must stand for 1 to 100,000 files, got"):
            load_dataset(tmp_path / "mine" / pattern)


def special(name, kind):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/passwd"
    return info, b""


def test_what_is_left_out_of_an_archive(tmp_path, pngs):
    files = [
        *samples(pngs),
        special("a/link.png", tarfile.SYMTYPE),
        special("a/hard.png", tarfile.LNKTYPE),
        special("a/device.png", tarfile.CHRTYPE),
        special("a/folder", tarfile.DIRTYPE),
        ("../out.png", pngs[0]),
        ("/abs.png", pngs[0]),
        ("a/0001.png", pngs[0]),
        ("b/0.png", pngs[0]),
        ("b/0.png", pngs[0]),
        ("b/1.cls", b"0"),
        ("b/2.png", pngs[0]),
        ("b/2.cls", b"-1"),
        ("b/3.png", pngs[0]),
        ("b/3.json", b'{"label": 0.5}'),
        ("b/4.png", pngs[0]),
        ("b/4.json", b"[" * 5000),
        ("b/5.png", b"damaged"),
        ("b/5.cls", b"1"),
        ("b/6.png", pngs[0]),
        ("b/6.cls", b"\xff\xfe"),
        ("b/7.png", pngs[0]),
        ("b/7.cls", b"9" * 18),
    ]
    path = write_tar(tmp_path / "mine.tar", files)
    with pytest.warns(UserWarning, match="cannot be read and are left out"):
        data = load_dataset(path)
    assert same(data)
    reasons = {}
    for found in data.unread:
        reasons.setdefault(found.key, found.reason)
    assert reasons == {
        "a/link.png": "it is a link",
        "a/hard.png": "it is a link",
        "a/device.png": "it is a device",
        "../out.png": "its name leads out of the archive",
        "/abs.png": "its name leads out of the archive",
        "a/0001.png": "its key comes twice",
        "b/0.png": "its key comes twice",
        "b/0": "it has no label",
        "b/1": "it has no image",
        "b/2": "its label -1 is outside [0, 1048575]",
        "b/3.json": "its label is no integer or name but 0.5",
        "b/3": "it has no label",
        "b/4.json": "its label is no JSON",
        "b/4": "it has no label",
        "b/5": "it is no BMP, JPEG, PNG, PPM, TIFF or WebP image, or is cut short",
        "b/6.cls": "its label is no text",
        "b/6": "it has no label",
        "b/7": "its label 999999999999999999 is outside [0, 1048575]",
    }


def test_sparse_files_are_refused(tmp_path, pngs):
    info, _ = special("b.png", tarfile.GNUTYPE_SPARSE)
    path = write_tar(tmp_path / "old.tar", [*samples(pngs), (info, b"")])
    with pytest.warns(UserWarning, match="'b.png' is a sparse file; write it without"):
        assert same(load_dataset(path))
    info = tarfile.TarInfo("b.png")
    info.pax_headers = {"GNU.sparse.major": "1"}
    path = write_tar(tmp_path / "new.tar", [*samples(pngs), (info, pngs[0]), ("b.cls", b"0")])
    with pytest.warns(UserWarning, match="b.png' .it is a sparse file"):
        assert same(load_dataset(path))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archives_that_are_cut_short(tmp_path, pngs, mode):
    path = write_tar(tmp_path / "mine.tar", samples(pngs), mode)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] if mode == "w:gz" else content[:3000])
    with pytest.warns(UserWarning, match="what follows 'a/000.' is not read: it"):
        data = load_dataset(path)
    assert 0 < len(data) < 5
    assert np.array_equal(data.images, IMAGES[: len(data)])


def test_damaged_headers(tmp_path, pngs):
    path = write_tar(tmp_path / "mine.tar", samples(pngs))
    content = bytearray(path.read_bytes())
    at = content.find(b"a/0002.png")
    content[at + 3] ^= 8  # the checksum no longer fits
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="it has a damaged header: bad checksum"):
        assert len(load_dataset(path)) == 2
    path.write_bytes(content[:at] + bytes(600) + content[at:])  # what follows the end is not read
    assert len(load_dataset(path)) == 2


def test_bounds_of_archives(tmp_path, pngs, monkeypatch):
    path = write_tar(tmp_path / "bomb.tar", [*samples(pngs), ("z.png", bytes(10**7))], "w:gz")
    assert path.stat().st_size < 10**5
    with pytest.warns(UserWarning, match="its 10,000,000 bytes are more than 1,000,000"):
        assert len(load_dataset(path, max_bytes=10**6)) == 5
    with pytest.warns(
        UserWarning, match="is not read: it unpacks to more than the limit of 10,500"
    ):
        assert 0 < len(load_dataset(path, max_bytes=10_500, resize=4)) <= 5
    monkeypatch.setattr(webdataset_module, "MOST_LABEL", 3)
    files = [*samples(pngs), ("z.png", pngs[0]), ("z.cls", b"0000")]
    with pytest.warns(UserWarning, match="a label of 4 bytes"):
        assert len(load_dataset(write_tar(tmp_path / "long.tar", files))) == 5
    monkeypatch.setattr(tarring_module, "MOST_META", 100)
    files = [*samples(pngs), ("b" * 200, b"")]
    path = write_tar(tmp_path / "name.tar", files, format=tarfile.GNU_FORMAT)
    with pytest.warns(UserWarning, match="it has a name or metadata of 201 bytes"):
        assert len(load_dataset(path)) == 5


def test_archives_without_a_sample(tmp_path, pngs):
    path = write_tar(tmp_path / "mine.tar", [("a.png", pngs[0]), ("b.png", pngs[1])])
    with pytest.raises(
        ValueError, match=r"no image of .* can be read: the file 'a' \(it has no lab"
    ):
        load_dataset(path)
    (tmp_path / "empty").mkdir()
    write_tar(tmp_path / "empty" / "none.tar", [])
    with pytest.raises(ValueError, match=r"no image of .*empty' can be read; check what it holds"):
        load_dataset(tmp_path / "empty")


def test_archives_beside_folders_of_classes(tmp_path, pngs):
    write_tar(tmp_path / "mine.tar", samples(pngs))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "notes.txt").write_text("text")
    assert same(load_dataset(tmp_path))
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "0.png").write_bytes(pngs[0])
    with pytest.raises(ValueError, match=r"holds archives, and images in the folder 'ant'; move"):
        load_dataset(tmp_path)


# Parquet


@pytest.fixture(scope="module")
def arrow():
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def write_parquet(arrow, path, images, labels, names=None, column=("image", "label"), **options):
    table = arrow.table({column[0]: images, column[1]: labels})
    if names:
        feature = {"names": names, "_type": "ClassLabel"}
        meta = {"info": {"features": {column[0]: {"_type": "Image"}, column[1]: feature}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(meta)})
    from pyarrow import parquet

    path.parent.mkdir(exist_ok=True)
    parquet.write_table(table, path, **options)
    return path


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
    import sys

    (tmp_path / "mine.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"'pyarrow', .*splic-ext\[parquet\]"):
        load_dataset(tmp_path / "mine.parquet")


# Memory


def large(count=100, size=200_000):
    """Files that take 20 MB together."""
    rng = np.random.default_rng(1)
    return [rng.bytes(size) for _ in range(count)]


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "npy", "idx"])
def test_readers_stream(tmp_path, kind):
    """The memory that Python and NumPy take at once is that of a few images."""
    contents, place = large(), tmp_path / "mine"
    place.mkdir()
    if kind == "folder":
        for name in "ab":
            (place / name).mkdir()
        for index, content in enumerate(contents):
            (place / "ab"[index % 2] / f"{index:03}.png").write_bytes(content)
    elif kind in ("tar", "tar.gz"):
        files = [(f"{k}.{end}", v) for k, c in enumerate(contents) for end, v in
                 (("png", c), ("cls", b"0"))]  # fmt: skip
        write_tar(place / f"mine.{kind}", files, "w:gz" if kind == "tar.gz" else "w")
    else:
        images = np.frombuffer(b"".join(contents), np.uint8).reshape(100, 400, 500)
        if kind == "idx":
            (place / "test-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images), 1))
            (place / "test-labels-idx1-ubyte").write_bytes(idx(np.zeros(100)))
        else:
            np.save(place / "images.npy", images / np.float32(255))
            np.save(place / "labels.npy", np.zeros(100, int))
    contents = images = files = None
    source = open_source(place)
    tracemalloc.start()
    try:
        size = sum(len(s.image) if isinstance(s.image, bytes) else s.image.size for s in source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 100 * 200_000
    assert peak < (2_000_000 if kind in ("folder", "tar", "tar.gz", "idx") else 8_000_000)


def test_parquet_streams(tmp_path, arrow):
    """Page by page, of one large row group too."""
    write_parquet(
        arrow, tmp_path / "mine.parquet", large(400), [0] * 400, use_dictionary=False,
        write_batch_size=8,
    )  # fmt: skip
    pool, before = arrow.default_memory_pool(), arrow.total_allocated_bytes()
    most = size = 0
    for sample in open_source(tmp_path / "mine.parquet"):
        size += len(sample.image)
        most = max(most, pool.bytes_allocated() - before)
    assert size == 400 * 200_000
    assert most < 30_000_000
