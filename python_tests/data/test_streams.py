"""Data sets in IDX and .npy files: read, cut short, refused; the memory that readers take."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest
from helpers.streams import GRAY, IMAGES, LABELS, arrow, idx, write_parquet, write_tar

from splic_ext.data import load_dataset, open_source

__all__ = ["arrow"]  # a fixture


# IDX


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


# .npy


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


# The memory that readers take, those of other files too


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
