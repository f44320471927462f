"""SVHN and other MATLAB files; damaged ones."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from helpers.data import write_svhn

from splic_ext.data import load_dataset


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
    path = write_mat(tmp_path, do_compression=packed)
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


def write_mat(folder, **options):
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    content = {"X": np.zeros((2, 2, 3, 2), np.uint8), "y": np.array([[1], [2]], np.uint8)}
    scipy_io.savemat(folder / "small.mat", content, **options)
    return folder / "small.mat"


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
    path = write_mat(tmp_path, do_compression=True)
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


@pytest.mark.parametrize("again", [np.array([[1, "text"]], object), np.ones((2, 2, 3, 2), "u1")])
def test_a_matlab_file_with_a_variable_twice(tmp_path, again):
    """SciPy reads the first one, or the last, and warns."""
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    path, other = write_mat(tmp_path), tmp_path / "other.mat"
    scipy_io.savemat(other, {"X": again})
    whole = path.read_bytes()
    path.write_bytes(whole[:128] + other.read_bytes()[128:] + whole[128:])
    message = r"small.mat' is no MATLAB file .*: it holds the variable 'X' twice"
    with pytest.raises(ValueError, match=message):
        load_dataset(path)


def test_a_matlab_file_that_scipy_takes_for_one_of_matlab_4(tmp_path):
    path = write_mat(tmp_path)
    path.write_bytes(b"MA\0L" + path.read_bytes()[4:])
    with pytest.raises(ValueError, match="no header of MATLAB 5 to 7; save it with `save -v7`"):
        load_dataset(path)
