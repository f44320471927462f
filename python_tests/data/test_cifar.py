"""CIFAR-10 in its official files; damaged ones, and archives without an end."""

from __future__ import annotations

import gzip
import pickle
import tarfile
import tracemalloc

import numpy as np
import pytest
from helpers.data import batch_values, python2_batch, write_tar

from splic_ext.data import load_dataset


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


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_batch_without_end(cifar, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("splic_ext.data.cifar.MAX_BYTES", 5000)
    place = cifar if kind == "folder" else write_tar(cifar, tmp_path / "cifar.tar.gz")
    with pytest.raises(ValueError, match=r"test_batch' is no batch .* more than 5,000 bytes"):
        load_dataset(place)


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
