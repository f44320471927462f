"""What the tests of streamed data sets share: five images, and files that hold them."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 3, 8, 10), dtype=np.uint8)
GRAY = IMAGES[:, 0]
LABELS = np.array([2, 0, 1, 2, 0])


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + b"".join(
        n.to_bytes(4, "big") for n in array.shape
    ) + array.astype(np.uint8).tobytes()  # fmt: skip


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


def same(data, classes=("0", "1", "2")):
    assert np.array_equal(data.images, IMAGES)
    assert data.labels.tolist() == LABELS.tolist()
    assert data.classes == classes
    return True


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
