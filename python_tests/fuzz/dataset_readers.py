"""Readers of data sets."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.samples import MAX_BYTES, Reader, Sample, X, Y, npy, npz_samples, whole, zipped

from splic_ext.data import load_dataset


def read_dataset(path: Path) -> None:
    load_dataset(path, max_bytes=MAX_BYTES)


def archive_reader() -> Reader:
    from PIL import Image

    jpegs = []
    for image in X:
        stream = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(stream, "JPEG")
        jpegs.append(stream.getvalue())
    files = {
        "jpeg_xz.npy": npy(np.frombuffer(lzma.compress(b"".join(jpegs)), np.uint8)),
        "offsets.npy": npy(np.cumsum([0, *map(len, jpegs)])),
        "labels.npy": npy(Y),
    }
    packed = [zipped(name, files) for name in files]

    def wrap(content: bytes) -> bytes:
        array = npy(np.frombuffer(lzma.compress(content), np.uint8))
        return zipped("jpeg_xz.npy", files | {"jpeg_xz.npy": array})[1](array)

    return Reader("data.npz", [*npz_samples(), *packed, (b"".join(jpegs), wrap)], read_dataset)


def batches() -> list[bytes]:
    from helpers.data import batch_values, python2_batch

    pixels, labels = batch_values(1, 2)
    values = {b"batch_label": b"a", b"labels": labels, b"data": pixels}
    return [python2_batch(pixels, labels), *(pickle.dumps(values, k) for k in (0, 2, 4, 5))]


def cifar_reader() -> Reader:
    return Reader("test_batch", whole(*batches()), lambda path: load_dataset(path.parent))


def tar_reader() -> Reader:
    def tarred(content: bytes, mode: str = "w") -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode) as archive:
            member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return stream.getvalue()

    contents = batches()
    samples: list[Sample] = [(content, tarred) for content in contents[:2]]
    plain = tarred(contents[0])
    samples += [(plain, gzip.compress), (plain, bytes), (plain[:1024], bytes)]
    return Reader(
        "cifar.tar.gz",
        [*samples, *whole(*(tarred(contents[0], mode) for mode in ("w:gz", "w:bz2", "w:xz")))],
        load_dataset,
    )


def matlab_reader() -> Reader:
    import scipy.io

    content = {"X": X.transpose(2, 3, 1, 0), "y": np.array([[1], [2]], np.uint8)}

    def saved(packed: bool, **more: Any) -> bytes:
        stream = io.BytesIO()
        scipy.io.savemat(stream, more | content, do_compression=packed)
        return stream.getvalue()

    plain = saved(False)
    more = {"a": "text", "s": {"b": np.ones(2)}, "c": np.array([[1, "x"]], object)}

    def pack(content: bytes) -> bytes:
        """Compress all after the header as one variable."""
        packed = zlib.compress(content[128:])
        return content[:128] + b"\x0f\0\0\0" + len(packed).to_bytes(4, "little") + packed

    samples = whole(plain, saved(True), saved(False, **more), saved(True, **more))
    return Reader("data.mat", [*samples, (plain, pack)], read_dataset)


def encoded(kind: str = "PNG") -> list[bytes]:
    from PIL import Image

    contents = []
    for image in X:
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(stream, kind)
        contents.append(stream.getvalue())
    return contents


def folder_reader() -> Reader:
    """A folder of two classes, in which one image is damaged."""
    valid = encoded()[0]

    def read(path: Path) -> None:
        root = path.parent.parent / "classes"
        for name in "ab":
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "a" / "valid.png").write_bytes(valid)
        (root / "b" / path.name).write_bytes(path.read_bytes())
        found = load_dataset(root, max_bytes=MAX_BYTES, resize=(8, 8))
        if len(found) + len(found.unread) != 2:
            raise AssertionError("an image is lost")
        if found.unread:
            raise ValueError(found.unread[0].told())

    contents = [*encoded(), *encoded("JPEG"), *encoded("BMP"), *encoded("TIFF"), *encoded("PPM")]
    return Reader("image.png", whole(*contents, *encoded("WEBP")), read)


def idx_reader(which: str) -> Callable[[], Reader]:
    """Images of MNIST's kind, or their labels; the other file is whole."""
    files = {
        "images": bytes((0, 0, 8, 3, *(0, 0, 0, 2), *(0, 0, 0, 8) * 2)) + X[:, 0].tobytes(),
        "labels": bytes((0, 0, 8, 1, *(0, 0, 0, 2), *Y.tolist())),
    }
    names = {"images": "t10k-images-idx3-ubyte", "labels": "t10k-labels-idx1-ubyte"}

    def read(path: Path) -> None:
        other = "labels" if which == "images" else "images"
        (path.parent / names[other]).write_bytes(files[other])
        try:
            load_dataset(path.parent / names["images"], max_bytes=MAX_BYTES)
        finally:
            (path.parent / names[other]).unlink()

    content = files[which]
    samples = [*whole(content, gzip.compress(content)), (content, gzip.compress)]
    return lambda: Reader(names[which], samples, read, named=which == "images")


def npy_dataset_reader() -> Reader:
    def read(path: Path) -> None:
        (path.parent / "labels.npy").write_bytes(npy(Y))
        try:
            load_dataset(path, max_bytes=MAX_BYTES)
        finally:
            (path.parent / "labels.npy").unlink()

    arrays = [X, X / 255, X.transpose(0, 2, 3, 1), X[:, 0], np.asfortranarray(X)]
    return Reader("images.npy", whole(*map(npy, arrays)), read)


def parquet_reader() -> Reader:
    import pyarrow
    from pyarrow import parquet

    images = encoded()
    classes = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    samples = []
    for column, labels, options in (
        ([{"bytes": image, "path": "a.png"} for image in images], Y, {}),
        (images, ["a", "b"], {"compression": "gzip"}),
        (images, Y, {"compression": "none", "row_group_size": 1, "use_dictionary": False}),
    ):
        table = pyarrow.table({"image": column, "label": labels})
        table = table.replace_schema_metadata({"huggingface": json.dumps(classes)})
        stream = io.BytesIO()
        parquet.write_table(table, stream, **options)
        samples.append(stream.getvalue())
    return Reader("data.parquet", whole(*samples), read_dataset)


def webdataset_reader() -> Reader:
    def tarred(files: Mapping[str, bytes], mode: str = "w", **options: Any) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode, **options) as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return stream.getvalue()

    first, second = encoded()
    files = {"a/0.png": first, "a/0.cls": b"0", "a/1.png": second, "a/1.json": b'{"label": 1}'}
    texts = {"0.png": first, "0.cls": b"cat", "b" * 120 + ".png": second, "b" * 120 + ".cls": b"d"}
    archives = [tarred(files), tarred(texts, format=tarfile.GNU_FORMAT), tarred(texts)]

    def wrap(label: bytes) -> bytes:
        return tarred(files | {"a/1.json": label})

    samples = [*whole(*archives, tarred(files, "w:gz")), (archives[0], gzip.compress)]
    return Reader("data.tar", [*samples, (files["a/1.json"], wrap)], read_dataset)
