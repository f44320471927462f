"""Data files in the official formats; hostile and damaged ones."""

from __future__ import annotations

import gzip
import io
import lzma
import pickle
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from helpers.data import Malicious, batch_values, python2_batch, write_svhn, write_tar

from splic_ext.data import load_dataset
from splic_ext.data.pickles import load_pickle

# CIFAR-10


@pytest.mark.parametrize("kind", ["folder", "archive", "root", "root with archive"])
def test_cifar(cifar, tmp_path, kind):
    root = tmp_path
    if "archive" in kind:
        root = tmp_path / "root"
        root.mkdir()
        archive = write_tar(cifar, root / "cifar-10-python.tar.gz")
    place = {"folder": cifar, "archive": archive if "archive" in kind else None}.get(kind)
    for split, seeds in (("train", range(1, 6)), ("test", [6])):
        data = load_dataset(place or "cifar10", split, root=root)
        pixels, labels = zip(*(batch_values(seed) for seed in seeds), strict=True)
        assert data.images.shape == (4 * len(pixels), 3, 32, 32)
        assert np.array_equal(data.images.reshape(-1, 3072), np.concatenate(pixels))
        assert data.labels.tolist() == [k for part in labels for k in part]
        assert data.labels.dtype == np.int64
        assert data.classes[3] == "cat"
        assert data.name == f"cifar10/{split}"
        assert data.images.flags.writeable


@pytest.mark.parametrize("limit", [1, 4, 5, 20, 99])
def test_limit_of_cifar(cifar, limit):
    data = load_dataset(cifar, "train", limit=limit)
    assert len(data) == min(limit, 20)
    assert np.array_equal(data.images, load_dataset(cifar, "train").images[:limit])


def test_cifar_reads_no_more_than_needed(cifar):
    (cifar / "data_batch_2").write_bytes(b"")
    assert len(load_dataset(cifar, "train", limit=4)) == 4


def test_pickles_of_python_2(cifar):
    pixels, labels = batch_values(7, 3)
    (cifar / "test_batch").write_bytes(python2_batch(pixels, labels))
    data = load_dataset(cifar)
    assert np.array_equal(data.images.reshape(3, 3072), pixels)
    assert data.labels.tolist() == labels


def test_missing_batch(cifar):
    (cifar / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3' of CIFAR-10 does not exist"):
        load_dataset(cifar, "train")


def test_archive_without_a_batch(cifar, tmp_path):
    (cifar / "test_batch").unlink()
    archive = write_tar(cifar, tmp_path / "cifar.tar.gz")
    with pytest.raises(ValueError, match=r"cifar.tar.gz' of CIFAR-10 holds no file test_batch"):
        load_dataset(archive)


@pytest.mark.parametrize("keep", [0, 10, 1000, -4000])
def test_damaged_archive(cifar, tmp_path, keep):
    archive = write_tar(cifar, tmp_path / "cifar.tar.gz")
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cifar.tar.gz' is damaged: .*download it again"):
        load_dataset(archive)


def values_with(**changes):
    pixels, labels = batch_values(0)
    return {"data": pixels, "labels": labels, **changes}


@pytest.mark.parametrize(
    "values",
    [
        [1],
        {},
        values_with(data=None),
        values_with(data=np.zeros((4, 3071), np.uint8)),
        values_with(data=np.zeros((4, 3072), np.int64)),
        values_with(labels=[1, 2, 3]),
        values_with(labels=[1, 2, 3, 10]),
        values_with(labels=[1, 2, 3, -1]),
        values_with(labels=[1, 2, 3, 1.0]),
        values_with(labels=(1, 2, 3, 4)),
    ],
    ids=range(10),
)
def test_batches_that_hold_something_else(cifar, values):
    (cifar / "test_batch").write_bytes(pickle.dumps(values, protocol=2))
    with pytest.raises(ValueError, match=r"test_batch' is no batch of CIFAR-10: it must hold"):
        load_dataset(cifar)


@pytest.mark.parametrize("keep", [0, 1, 50, 2000, -1])
def test_truncated_batch(cifar, keep):
    content = (cifar / "test_batch").read_bytes()
    (cifar / "test_batch").write_bytes(content[:keep])
    with pytest.raises(ValueError, match=r"test_batch' is no batch of CIFAR-10: "):
        load_dataset(cifar)


# Hostile pickles


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_batch_is_refused(cifar, tmp_path, protocol):
    values = {"labels": [1], "data": Malicious(tmp_path / "run")}
    (cifar / "test_batch").write_bytes(pickle.dumps(values, protocol=protocol))
    with pytest.raises(ValueError, match=r"test_batch' .*asks for `\w+.\w+`, which is no part"):
        load_dataset(cifar)
    assert not (tmp_path / "run").exists()


def test_a_malicious_batch_in_an_archive_is_refused(cifar, tmp_path):
    (cifar / "test_batch").write_bytes(pickle.dumps(Malicious(tmp_path / "run"), protocol=2))
    archive = write_tar(cifar, tmp_path / "cifar.tar.gz")
    with pytest.raises(ValueError, match=r"test_batch' .*asks for `\w+.mkdir`"):
        load_dataset(archive)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("os system", "builtins eval", "builtins getattr", "__builtin__ eval"),
        *("numpy load", "numpy loads", "numpy.core.multiarray scalar", "_codecs decode"),
        *("numpy.core.multiarray _reconstruct.__globals__", "splic_ext.data.pickles pickle"),
    ],
)
def test_names_that_are_refused(name):
    module, _, attribute = name.partition(" ")
    with pytest.raises(pickle.UnpicklingError, match=f"asks for `{module}.{attribute}`"):
        load_pickle(f"c{module}\n{attribute}\n.".encode())
    strings = b"".join(b"\x8c%c%b" % (len(t), t.encode()) for t in (module, attribute))
    with pytest.raises(pickle.UnpicklingError, match=f"asks for `{module}.{attribute}`"):
        load_pickle(b"\x80\x04" + strings + b"\x93.")


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"c_codecs\nencode\n(Vtext\nVrot13\ntR.", "bytes encoded as 'rot13'"),
        (b"c_codecs\nencode\n(K\x01Vlatin1\ntR.", "bytes encoded as"),
        (b"cnumpy\ndtype\n(Vobject\ntR.", "an array of type 'object'"),
        (b"cnumpy\ndtype\n(VO8\ntR.", "an array of type 'O8'"),
        (b"cnumpy\nndarray\n(K\x03tR.", "an array made without NumPy's function"),
        (b"c_codecs\nencode\n}Vx\nK\x01sb.", "a function with a state"),
        (b"Pname\n.", "a reference to an outside object"),
        (b"c_codecs\nencode\n(tR.", "the pickle is damaged: TypeError"),
        (b"cnumpy\ndtype\n)\x81.", "NEWOBJ"),
    ],
)
def test_allowed_names_do_nothing_else(opcodes, message):
    with pytest.raises(pickle.UnpicklingError, match=message):
        load_pickle(opcodes)


def test_arrays_that_lie_about_their_size():
    """Nothing is allocated for a shape without its bytes."""
    content = pickle.dumps(np.zeros((2, 3), np.uint8), protocol=2)
    shape = b"K\x02K\x03\x86"
    assert shape in content
    for other in (b"J\xff\xff\xff\x7fK\x03\x86", b"K\x01K\x03\x86", b"J\xff\xff\xff\xffK\x03\x86"):
        with pytest.raises(pickle.UnpicklingError, match="the pickle holds"):
            load_pickle(content.replace(shape, other))


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "<u8", "int64"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", range(3))
def test_arrays_come_back(dtype, order, protocol):
    array = np.asarray(np.arange(12).reshape(3, 4), dtype=dtype, order=order)
    loaded = load_pickle(pickle.dumps([array, b"", b"\xff"], protocol=protocol))
    assert np.array_equal(loaded[0].array(), array)
    assert loaded[0].array().dtype == array.dtype
    assert loaded[1:] == [b"", b"\xff"]


TUPLES = b")" + b"\x85" * 200_000
SHARED = b")" + b"2\x86" * 30


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"}" + TUPLES + b"K\x01s.", "containers nested more than 32 deep"),
        (b"}" + SHARED + b"K\x01s.", "a key of type tuple"),
        (b"(" + SHARED + b"K\x01d.", "a key of type tuple"),
        (b"}(" + SHARED + b"K\x01u.", "a key of type tuple"),
        (b"cnumpy\ndtype\n(" + SHARED + b"tR.", "an array of type"),
        (SHARED + b"Q", "a reference to an outside object"),
        (b"]" * 200_000 + b"a" * 199_999 + b".", "containers nested more than 32 deep"),
        (b"K\x01r\x00\x00\x00\x20.", "a memo of the index 536870912"),
        (b"K\x01p536870912\n.", "a memo of the index 536870912"),
        (b"K\x01p-1\n.", "a memo of the index -1"),
        (b"B\xff\xff\xff\x7fabc.", "damaged: EOFError"),
        (b"\x8e" + b"\xff" * 8 + b"abc.", "damaged: EOFError"),
        (b"\x8d" + b"\xff" * 7 + b"\x7fabc.", "damaged: EOFError"),
        (b"T\xff\xff\xff\xffabc.", "damaged: EOFError"),
        (b"\x95" + b"\xff" * 7 + b"\x7fK\x01.", "damaged: EOFError"),
        (b"\x8b\xff\xff\xff\x7fabc.", "an integer of 2147483647 bytes"),
        (b"\x8b\x00\x10\x00\x00" + bytes(4096) + b".", "an integer of 4096 bytes"),
        (b"I" + b"9" * 5000 + b"\n.", "a number of 5000 digits"),
        (b"]" * 2**19 + b".", "more than 524,288 values"),
        (b"\x8f(K\x01\x90.", "the opcode EMPTY_SET"),
        (b"\x96" + b"\xff" * 7 + b"\x7f.", "the opcode BYTEARRAY8"),
        (
            b"c_codecs\nencode\np1\nX\xff\x00\x00\x00" + b"x" * 255 + b"p2\n"
            b"0" + b"g1\n(g2\ntR" * 99 + b".",
            "encoded again and again",
        ),
        (b"K\x01}b.", "a int with a state"),
        (b"(K\x01\x85.", None),
        (b"((\x85.", "damaged: ValueError"),
        (b"\x85.", "damaged: IndexError"),
    ],
    ids=range(26),
)
def test_pickles_that_would_take_the_stack_or_the_memory(cifar, opcodes, message):
    if message is None:
        assert load_pickle(opcodes) == (1,)
        return
    with pytest.raises(pickle.UnpicklingError, match=message):
        load_pickle(b"\x80\x02" + opcodes)
    (cifar / "test_batch").write_bytes(b"\x80\x02" + opcodes)
    with pytest.raises(ValueError, match=f"test_batch' is no batch of CIFAR-10: .*{message}"):
        load_dataset(cifar)


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_batch_without_end(cifar, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("splic_ext.data.cifar.MAX_BYTES", 5000)
    place = cifar if kind == "folder" else write_tar(cifar, tmp_path / "cifar.tar.gz")
    with pytest.raises(ValueError, match=r"test_batch' is no batch .* more than 5,000 bytes"):
        load_dataset(place)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol):
    same = ["a", 2.5, "\N{SNOWMAN}\n\\"]
    values = {
        "none": [None, True, False, 0, -1, 255, 256, 65536, -(2**31), 2**40, -(2**70), 1.5],
        1: [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, [], [[same], same], "x" * 300],
        b"bytes": [b"", b"\xff\x00", bytes(300), {"a": same, None: {2.0: same}}],
    }
    assert load_pickle(pickle.dumps(values, protocol)) == values


# SVHN


def test_svhn(tmp_path):
    X, _ = write_svhn(tmp_path / "svhn" / "test_32x32.mat")
    by_name = load_dataset("svhn", root=tmp_path)
    assert by_name.name == "svhn/test"
    assert by_name.images.shape == (6, 3, 32, 32)
    assert np.array_equal(by_name.images[4, 1], X[:, :, 1, 4])
    assert by_name.images.flags.c_contiguous
    assert by_name.labels.tolist() == [0, 1, 9, 0, 5, 2]
    assert by_name.classes == tuple("0123456789")
    by_path = load_dataset(tmp_path / "svhn" / "test_32x32.mat", limit=4)
    assert np.array_equal(by_path.images, by_name.images[:4])
    assert by_path.labels.tolist() == [0, 1, 9, 0]
    write_svhn(tmp_path / "extra_32x32.mat", n=3)
    assert load_dataset("svhn", "extra", root=tmp_path).name == "svhn/extra"


@pytest.mark.parametrize(
    "changes",
    [
        {"X": None},
        {"y": None},
        {"X": np.zeros((32, 32, 3, 6))},
        {"X": np.zeros((32, 32, 1, 6), np.uint8)},
        {"X": np.zeros((32, 32), np.uint8)},
        {"y": np.ones((5, 1), np.uint8)},
        {"y": np.full((6, 1), 11, np.uint8)},
        {"y": np.full((6, 1), np.nan)},
        {"y": "text"},
    ],
    ids=range(9),
)
def test_mat_files_that_hold_something_else(tmp_path, changes):
    write_svhn(tmp_path / "test_32x32.mat", **changes)
    with pytest.raises(ValueError, match=r"test_32x32.mat' is no file of SVHN: it must hold"):
        load_dataset("svhn", root=tmp_path)


@pytest.mark.parametrize("keep", [0, 60, 150, 5000])
def test_damaged_mat_file(tmp_path, keep):
    path = tmp_path / "test_32x32.mat"
    write_svhn(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"test_32x32.mat' is no "):
        load_dataset(path)


@pytest.mark.parametrize("packed", [False, True])
def test_changed_bytes_of_a_mat_file(tmp_path, run_python, packed):
    """SciPy reads behind its tables where a tag has an unknown type: in another process."""
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    content = {"X": np.zeros((2, 2, 3, 2), np.uint8), "y": np.array([[1], [2]], np.uint8)}
    path = tmp_path / "small.mat"
    scipy_io.savemat(path, content, do_compression=packed)
    assert len(load_dataset(path)) == 2
    path.rename(tmp_path / "whole")
    code = f"""
from pathlib import Path
from splic_ext.data import load_dataset
folder, packed = Path({str(tmp_path)!r}), {packed}
whole = (folder / "whole").read_bytes()
for index, byte in enumerate(whole):
    for value in (0, 1, 8, 14, 127, 255, byte ^ 0x80):
        (folder / "small.mat").write_bytes(whole[:index] + bytes([value]) + whole[index + 1 :])
        try:
            load_dataset(folder / "small.mat")
        except ValueError as error:
            assert "small.mat' is no " in str(error), error
print("done")
"""
    assert run_python(code).split() == ["done"]


def changed_mat(path, change):
    """Change a compressed variable from the inside, where its checksum does not protect it."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[132:136], "little")
    inner = bytearray(zlib.decompress(whole[136 : 136 + length]))
    change(inner)
    packed = zlib.compress(bytes(inner))
    tag = (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little")
    path.write_bytes(whole[:128] + tag + packed + whole[136 + length :])


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, 9, "a packed element of type 9"),
        (7, 0xFF, "more than the limit of"),
        (8, 0, "the class of a variable is of type 0"),
        (24, 6, "the shape of a variable is of type 6"),
        (28, 4, "the shape of a variable has 4 bytes"),
        (35, 0x80, "a variable has the shape"),
        (32, 1, "bytes for the shape"),
        (48, 2, "the name of a variable is of type 2"),
        (56, 0, "the numbers of 'X' are of type 0"),
        (56, 14, "the numbers of 'X' are of type 14"),
        (56, 200, "the numbers of 'X' are of type 200"),
        (62, 0x7F, "a variable is longer than it says"),
    ],
)
def test_changed_bytes_inside_a_packed_variable(tmp_path, index, value, message):
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    path = tmp_path / "small.mat"
    content = {"X": np.zeros((2, 2, 3, 2), np.uint8), "y": np.array([[1], [2]], np.uint8)}
    scipy_io.savemat(path, content, do_compression=True)
    changed_mat(path, lambda inner: inner.__setitem__(index, value))
    with pytest.raises(ValueError, match=f"small.mat' is no MATLAB file .*: .*{message}"):
        load_dataset(path)


@pytest.mark.parametrize(
    "content",
    [
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n",
        b"\x89HDF\r\n\x1a\n" + bytes(600),
    ],
    ids=["with a header", "without"],
)
def test_a_file_of_matlab_7_3(tmp_path, content):
    (tmp_path / "mine.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"MATLAB 7\.3 \(HDF5\), .*; save it with `save -v7`$"):
        load_dataset(tmp_path / "mine.mat")


def test_a_truncated_mat_file_says_so(tmp_path):
    path = tmp_path / "mine.mat"
    write_svhn(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        ValueError, match=r"it ends [\d,]+ bytes too early; fetch or save it again$"
    ):
        load_dataset(path)


# Archives


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


# Archives that would take the memory, or the time


def tar_header(size, kind=b"0", name="x"):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [b"0", b"x", b"L", b"g"])
def test_a_tar_that_unpacks_without_end(tmp_path, kind):
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(tar_header(3 * 2**30, kind) + bytes(2**20))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb.tar.gz' is damaged: .*\d+ bytes; .*load it again"):
        load_dataset(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_tar_of_many_files(tmp_path):
    headers = b"".join(tar_header(0, name=f"x{i}") for i in range(10_001))
    (tmp_path / "many.tar").write_bytes(headers + tar_header(0, name="test_batch") + bytes(1024))
    with pytest.raises(ValueError, match=r"holds no file test_batch; get cifar-10-python.tar.gz"):
        load_dataset(tmp_path / "many.tar")


def test_a_tar_of_nested_headers(tmp_path):
    headers = b"".join(tar_header(0, b"x") for _ in range(3000))
    (tmp_path / "deep.tar").write_bytes(headers + bytes(1024))
    with pytest.raises(ValueError, match=r"deep.tar' (is damaged|of CIFAR-10 holds no file)"):
        load_dataset(tmp_path / "deep.tar")


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


@pytest.mark.parametrize("again", [np.array([[1, "text"]], object), np.ones((2, 2, 3, 2), "u1")])
def test_a_matlab_file_with_a_variable_twice(tmp_path, again):
    """SciPy reads the first one, or the last, and warns."""
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    path = write_mat(tmp_path, scipy_io)
    other = tmp_path / "other.mat"
    scipy_io.savemat(other, {"X": again})
    whole = path.read_bytes()
    path.write_bytes(whole[:128] + other.read_bytes()[128:] + whole[128:])
    message = r"small.mat' is no MATLAB file .*: it holds the variable 'X' twice"
    with pytest.raises(ValueError, match=message):
        load_dataset(path)


def test_a_matlab_file_that_scipy_takes_for_one_of_matlab_4(tmp_path):
    path = write_mat(tmp_path, pytest.importorskip("scipy.io", reason="SciPy is not installed"))
    path.write_bytes(b"MA\0L" + path.read_bytes()[4:])
    with pytest.raises(ValueError, match="no header of MATLAB 5 to 7; save it with `save -v7`"):
        load_dataset(path)


def write_mat(folder, scipy_io):
    content = {"X": np.zeros((2, 2, 3, 2), np.uint8), "y": np.array([[1], [2]], np.uint8)}
    scipy_io.savemat(folder / "small.mat", content)
    return folder / "small.mat"
