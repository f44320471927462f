"""Data sets in .npz archives, of pixels or of packed JPEG files; damaged and hostile ones."""

from __future__ import annotations

import io
import lzma
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from splic_ext.data import load_dataset


def test_archive_of_pixels(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (5, 3, 9, 8), dtype=np.uint8)
    y = np.array([0, 2, 1, 1, 0], dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", x=x, y=y, index=np.arange(5))
    data = load_dataset(tmp_path / "mine.npz")
    assert data.name == "mine"
    assert np.array_equal(data.images, x)
    assert data.labels.tolist() == y.tolist()
    assert data.classes == ("0", "1", "2")
    assert load_dataset(tmp_path / "mine.npz", limit=3).labels.tolist() == [0, 2, 1]
    np.savez(tmp_path / "named.npz", x=x, y=y, classes=["a", "b", "c", "d"])
    assert load_dataset(str(tmp_path / "named.npz")).classes == ("a", "b", "c", "d")


def jpeg_archive(path, n=3, **changes):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    files = []
    for k in range(n):
        stream = io.BytesIO()
        pillow.new("RGB", (16, 8), (80 * k, 100, 200)).save(stream, format="JPEG")
        files.append(stream.getvalue())
    packed = np.frombuffer(lzma.compress(b"".join(files)), dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, files)]).astype(np.uint32)
    content = {"jpeg_xz": packed, "offsets": offsets, "labels": np.arange(n, dtype=np.uint8)}
    np.savez(path, **{**content, **changes})


def test_archive_of_jpeg_files(tmp_path):
    jpeg_archive(tmp_path / "packed.npz")
    data = load_dataset(tmp_path / "packed.npz")
    assert data.images.shape == (3, 3, 8, 16)
    assert data.labels.tolist() == [0, 1, 2]
    means = data.images.mean(axis=(2, 3))
    assert np.abs(means - [[80 * k, 100, 200] for k in range(3)]).max() <= 3
    assert len(load_dataset(tmp_path / "packed.npz", limit=2)) == 2


def test_damaged_archive_of_jpeg_files(tmp_path):
    path = tmp_path / "packed.npz"
    for changes in (
        {"jpeg_xz": np.zeros(9, np.uint8)},
        {"offsets": np.array([0, 5, 9, 12])},
        {"labels": np.arange(2)},
        {"offsets": np.array([0])},
    ):
        jpeg_archive(path, **changes)
        with pytest.raises(ValueError, match=r"packed.npz' holds no data set: "):
            load_dataset(path)


X = np.zeros((2, 1, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": X}, "must hold the arrays x and y, images and labels, or jpeg_xz, offsets and labe"),
        ({"a": X, "y": X}, "got a, y"),
        (
            {"x": X + 3.0, "y": [0, 1]},
            r"holds no data set: `images` must be uint8, or floats in \[0, 1\], got values in "
            r"\[3, 3\]; divide them by 255$",
        ),
        ({"x": X - 3.0, "y": [0, 1]}, r"got values in \[-3, -3\]; leave out what normalises them"),
        ({"x": np.full(X.shape, np.nan), "y": [0, 1]}, "got NaN or infinity; replace them"),
        ({"x": X.astype(int), "y": [0, 1]}, "got int64; convert it with `.astype`$"),
        ({"x": X[0, 0], "y": [0, 1]}, r"holds no data set: `images` must have shape \(N, H, W\)"),
        ({"x": X, "y": [0]}, "holds no data set: `labels` must have shape"),
        ({"x": X, "y": [0.0, 1.0]}, "holds no data set: `labels` must be integers"),
        ({"x": X, "y": [0, -1]}, "holds no data set: `labels` must be in"),
        ({"x": X, "y": [0, 1], "classes": ["a"]}, "holds no data set: `labels` must be in"),
        ({"x": X, "y": np.array([0, None])}, r"is no \.npz archive that can be read"),
    ],
    ids=range(12),
)
def test_archives_that_hold_something_else(tmp_path, content, message):
    np.savez(tmp_path / "other.npz", **content)
    with pytest.raises(ValueError, match=rf"other\.npz' {message}|other.*{message}"):
        load_dataset(tmp_path / "other.npz")


@pytest.mark.parametrize("suffix", ["npz", "mat"])
def test_a_single_file_is_one_split(tmp_path, suffix):
    np.savez(tmp_path / "one.npz", x=X, y=[0, 1])
    assert len(load_dataset(tmp_path / "one.npz", "train")) == 2
    path = (tmp_path / "one.npz").rename(tmp_path / f"one.{suffix}")
    with pytest.raises(
        ValueError, match=r"got 'valid'; '.*one\....' is one split, .* leave it out"
    ):
        load_dataset(path, "valid")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04abc", pickle.dumps({"x": 1})])
def test_damaged_archives(tmp_path, content):
    (tmp_path / "damaged.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.npz' is no .npz archive that can be read"):
        load_dataset(tmp_path / "damaged.npz")


def npy_header(shape, dtype="|u1"):
    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def test_an_archive_that_unpacks_to_the_memory(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as stream:
            stream.write(npy_header((32, 1, 1024, 1024)))
            for _ in range(2):
                stream.write(bytes(2**24))
        archive.writestr("y.npy", npy_header((0,)))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb.npz' unpacks to .* more than the limit of 33,554"):
        load_dataset(path, max_bytes=2**25)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_the_limit_of_an_archive(tmp_path):
    np.savez(tmp_path / "mine.npz", x=X, y=[0, 1], other=np.zeros(10_000))
    assert len(load_dataset(tmp_path / "mine.npz", max_bytes=400)) == 2
    with pytest.raises(ValueError, match=r"limit of 399; raise it with `max_bytes`"):
        load_dataset(tmp_path / "mine.npz", max_bytes=399)
    with pytest.raises(ValueError, match="`max_bytes` must be an integer"):
        load_dataset(tmp_path / "mine.npz", max_bytes=0)


@pytest.mark.parametrize("shape", [(2**40, 3, 2, 2), (2**62, 2**62, 1, 1), (-1, 3, 2, 2)])
def test_headers_that_lie_about_the_shape(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("x.npy", npy_header(shape) + bytes(24))
        archive.writestr("y.npy", npy_header((2,)) + bytes(2))
    with pytest.raises(ValueError, match=r"lie.npz' is no .npz archive .*too few for its shape"):
        load_dataset(tmp_path / "lie.npz")


def test_packed_files_that_unpack_to_the_memory(tmp_path):
    path = tmp_path / "packed.npz"
    zeros = np.frombuffer(lzma.compress(bytes(10**6)), np.uint8)
    jpeg_archive(path, jpeg_xz=zeros)
    with pytest.raises(ValueError, match=r"packed.npz' unpacks to .*limit of 100,000"):
        load_dataset(path, max_bytes=100_000)
    jpeg_archive(path)
    with pytest.raises(ValueError, match=r"packed.npz' unpacks to .*1,152 bytes.*limit of 1,151"):
        load_dataset(path, max_bytes=1151)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([0, 1], object), r"holds Python objects, .*labels for example to np.int64"),
        (np.array(["cat", "dog"]), r"must be integers, .* got <U3; .*classes.index"),
        (np.array([0.0, 1.0]), r"must be integers, .* got float64; convert them with"),
        (np.eye(2), r"`labels.argmax\(1\)` if they are one-hot"),
        (np.eye(2, dtype=int), r"`labels.argmax\(1\)` if they are one-hot"),
        (np.array(1), r"have shape \(N,\), got \(\)"),
    ],
)
def test_labels_of_an_archive(tmp_path, y, message):
    np.savez(tmp_path / "mine.npz", x=X, y=y)
    with pytest.raises(ValueError, match=f"mine.npz' .*{message}"):
        load_dataset(tmp_path / "mine.npz")
