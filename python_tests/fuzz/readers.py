"""Each reader of the project, and readers with faults, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.dataset_readers import (
    archive_reader,
    cifar_reader,
    folder_reader,
    idx_reader,
    matlab_reader,
    npy_dataset_reader,
    parquet_reader,
    tar_reader,
    webdataset_reader,
)
from fuzz.file_readers import complete_npz_reader, image_reader, npy_reader
from fuzz.result_readers import (
    certificates_reader,
    checkpoint_reader,
    examples_reader,
    options_reader,
    part_reader,
    record_reader,
    result_reader,
    safetensors_reader,
    weights_reader,
)
from fuzz.samples import Reader, whole

IMAGES = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
#: Name -> what makes the reader, in the process that runs it.
READERS: dict[str, Callable[[], Reader]] = {
    **{kind.lower(): lambda kind=kind: image_reader(kind) for kind in IMAGES},
    "npy": npy_reader,
    "complete npz": complete_npz_reader,
    "data set npz": archive_reader,
    "CIFAR batch": cifar_reader,
    "CIFAR tar": tar_reader,
    "mat": matlab_reader,
    "class folder": folder_reader,
    "IDX images": idx_reader("images"),
    "IDX labels": idx_reader("labels"),
    "data set npy": npy_dataset_reader,
    "Parquet": parquet_reader,
    "WebDataset": webdataset_reader,
    "safetensors": safetensors_reader,
    "torch weights": weights_reader,
    "checkpoint": checkpoint_reader,
    "training record": record_reader,
    "finished part": part_reader,
    "certificates": certificates_reader,
    "results": result_reader,
    "pictures of certificates": examples_reader,
    "options": options_reader,
}


# Readers with faults, for the tests of the fuzzer itself


def faulty(fault: Callable[[], Any]) -> Callable[[], Reader]:
    """A reader of the file "valid", which does something bad where the first byte is another."""

    def read(path: Path) -> None:
        if path.read_bytes()[:1] != b"v":
            fault()

    return lambda: Reader("file", whole(b"valid"), read)


def hang() -> None:
    while True:
        pass


FAULTY = {
    "crash": faulty(os.abort),
    "hang": faulty(hang),
    "grow": faulty(lambda: bytearray(2**32)),
    "raise": faulty(lambda: {}["key"]),
}
