"""Tiny data sets in the official formats, and what a hostile file would hold."""

from __future__ import annotations

import os
import pickle
import tarfile

import numpy as np
import pytest

BATCHES = [f"data_batch_{k}" for k in range(1, 6)]


def batch_values(seed, n=4):
    """The pixels and labels of a batch."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
    return pixels, rng.integers(0, 10, n).tolist()


def write_cifar(folder, n=4):
    """Pickles of protocol 2 with bytes as keys, as Python 3 writes them."""
    folder.mkdir(parents=True)
    for seed, name in enumerate([*BATCHES, "test_batch"], 1):
        pixels, labels = batch_values(seed, n)
        values = {b"batch_label": b"a batch", b"labels": labels, b"data": pixels}
        values[b"filenames"] = [b"%d.png" % i for i in range(n)]
        (folder / name).write_bytes(pickle.dumps(values, protocol=2))
    return folder


def write_tar(folder, target):
    with tarfile.open(target, "w:gz") as archive:
        archive.add(folder, arcname="cifar-10-batches-py")
    return target


def write_svhn(path, n=6, **changes):
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    rng = np.random.default_rng(n)
    X = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
    y = np.array([[10], [1], [9], [10], [5], [2]], dtype=np.uint8)[:n]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"X": X, "y": y, **changes}
    scipy_io.savemat(path, {key: value for key, value in content.items() if value is not None})
    return X, y


def python2_batch(pixels, labels):
    """The opcodes of the official files: strings of Python 2, an array of an early NumPy."""

    def short(text):
        return b"U" + bytes([len(text)]) + text

    data = pixels.tobytes()
    shape = b"M%bM%b\x86" % (len(pixels).to_bytes(2, "little"), (3072).to_bytes(2, "little"))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01"
        + shape
        + b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        + b"K\x00tb\x89T"
        + len(data).to_bytes(4, "little")
        + data
        + b"tb"
    )
    numbers = b"](" + b"".join(b"K%c" % label for label in labels) + b"e"
    return b"\x80\x02}(" + short(b"labels") + numbers + short(b"data") + array + b"u."


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
