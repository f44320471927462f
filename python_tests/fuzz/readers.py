"""Each reader of the project: small valid files of it, how it is called, what it may raise."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import os
import pickle
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splic_ext.data import load_dataset

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (2, 3, 8, 8), dtype=np.uint8), np.array([0, 1])
#: Limits of the readers that have one; the bound of the memory is far above.
MAX_BYTES, MAX_PIXELS = 2**24, 10**6

#: What is mutated, and how it becomes the file: packed anew, with the right checksums.
Sample = tuple[bytes, Callable[[bytes], bytes]]


@dataclass(frozen=True)
class Reader:
    """`read` takes the path of a file of that name."""

    file: str
    samples: Sequence[Sample]
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...] = (ValueError,)
    named: bool = True  # the message of an error names the file


def whole(*contents: bytes) -> list[Sample]:
    return [(content, bytes) for content in contents]


def zipped(name: str, files: Mapping[str, bytes], packing: int = zipfile.ZIP_STORED) -> Sample:
    """An archive, of which one file is mutated."""

    def wrap(content: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", packing) as archive:
            for other in files:
                archive.writestr(other, content if other == name else files[other])
        return stream.getvalue()

    return files[name], wrap


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


# Images


def image_reader(kind: str) -> Reader:
    from PIL import Image

    from splic_ext.files.images import (
        ImageFileError,
        encode_picture,
        no_pillow_limit,
        read_picture,
    )

    saved = []

    def save(mode: str, file_format: str = kind, size: int = 12, **options: Any) -> None:
        picture = Image.effect_noise((size, size + 3), 60).convert(mode)
        stream = io.BytesIO()
        picture.save(stream, file_format, **options)
        saved.append(stream.getvalue())

    exif = Image.Exif()
    exif[271], exif[274] = "maker", 6
    if kind in ("PNG", "TIFF", "WEBP"):
        save("RGBA"), save("RGB", exif=exif)
    if kind == "PNG":
        (
            save("L"),
            save("P"),
            save("1"),
            save("I;16"),
            save("L", transparency=3),
            save("RGB", icc_profile=b"x" * 90, dpi=(9, 9)),
        )
    if kind == "TIFF":
        save("F"), save("I;16"), save("1", compression="group4")
        for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
            save("RGB", compression=packing)
    if kind == "JPEG":
        save("L"), save("RGB", exif=exif, progressive=True), save("CMYK"), save("RGB")
        save("RGB", "MPO", save_all=True, append_images=[Image.new("RGB", (12, 15))])
    if kind == "WEBP":
        save("RGB", lossless=True)
    if kind == "BMP":
        save("L"), save("P"), save("RGB"), save("1")

    def read(path: Path) -> None:
        with no_pillow_limit():
            picture = read_picture(path, max_pixels=MAX_PIXELS)
            encode_picture(picture, picture.pixels, io.BytesIO())

    samples = whole(*saved)
    if kind == "PNG":
        samples += [(content, with_checksums) for content in saved]
    return Reader(f"image.{kind.lower()}", samples, read, (ImageFileError,), named=False)


def with_checksums(content: bytes) -> bytes:
    """Return a PNG file whose chunks have the right checksums, as far as there are chunks."""
    result, at = content[:8], 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        result += content[at:end] + zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return result + content[at:]


# Arrays


class Heard:
    """A reporter of failures; of each a reason in words is expected."""

    def __init__(self) -> None:
        self.reason = ""

    def expect(self, images: float) -> None:
        """Nothing to do."""

    advance = expect

    def note(self, path: Path, text: str) -> None:
        """Nothing to do."""

    def fail(self, path: Path, reason: str) -> None:
        self.reason = reason


def complete_reader(file: str, samples: Sequence[Sample]) -> Reader:
    """`splic-ext complete`, which reports a file that fails, and raises nothing."""
    from splic_ext import SolverOptions
    from splic_ext.files.pipeline import run_jobs
    from splic_ext.files.plan import Job
    from splic_ext.files.settings import JobSettings

    options = SolverOptions(max_iterations=1)
    settings = JobSettings(options, threads=1, jobs=1, max_bytes=MAX_BYTES, overwrite=True)

    def read(path: Path) -> None:
        heard = Heard()
        failed = run_jobs([Job(0, path, path.with_name(f"out-{path.name}"))], settings, heard)
        if failed:
            if heard.reason == "not enough memory":
                raise MemoryError
            if not heard.reason.count(" ") or len(heard.reason) > 1000:
                raise AssertionError(f"no reason: {heard.reason[:1000]!r}")
            raise ValueError(heard.reason)

    return Reader(file, samples, read, named=False)


def npy_reader() -> Reader:
    arrays = [X, X.astype(np.float32) / 255, X[0].copy("F"), X.astype(np.float64)[0] / 255]
    return complete_reader("array.npy", whole(*map(npy, arrays)))


def npz_samples() -> list[Sample]:
    files = {"x.npy": npy(X), "y.npy": npy(Y), "classes.npy": npy(np.array(["a", "b"]))}
    saved = io.BytesIO()
    np.savez_compressed(saved, x=X, y=Y)
    samples = [zipped(name, files, zipfile.ZIP_DEFLATED) for name in files]
    return [zipped("x.npy", files), *samples, *whole(saved.getvalue())]


def complete_npz_reader() -> Reader:
    return complete_reader("array.npz", npz_samples())


# Data sets


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


# Networks and trainings


def tensors() -> dict[str, Any]:
    import torch

    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


def read_weights(path: Path) -> None:
    import torch

    from splic_ext.models import load_weights

    load_weights(torch.nn.Linear(3, 2), path)


def safetensors_reader() -> Reader:
    from safetensors.torch import save

    return Reader(
        "w.safetensors", whole(save(tensors()), save(tensors(), {"a": "b"})), read_weights
    )


def weights_reader() -> Reader:
    import torch

    contents = []
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        for values in (tensors(), {"state_dict": tensors(), "epoch": 3}):
            stream = io.BytesIO()
            torch.save(values, stream, **options)
            contents.append(stream.getvalue())
    with zipfile.ZipFile(io.BytesIO(contents[0])) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    samples = [zipped(name, files) for name in files if not name.endswith("/data/0")]
    return Reader("w.pt", [*whole(*contents), *samples], read_weights)


def trained() -> dict[str, bytes]:
    """The files of a training, its last checkpoint too, and its identity in JSON."""
    from helpers.training import fit

    from splic_ext.training import checkpoint

    kept: dict[str, bytes] = {}
    write = checkpoint.Checkpoint.write

    def keep(self: Any, path: Path) -> None:
        write(self, path)
        kept[path.name] = path.read_bytes()
        kept["identity"] = json.dumps(self.identity).encode()

    with tempfile.TemporaryDirectory() as folder:
        checkpoint.Checkpoint.write = keep
        try:
            fit(output=Path(folder, "out"), epochs=1)
        finally:
            checkpoint.Checkpoint.write = write
        for name in ("training.json", "weights.safetensors"):
            kept[name] = Path(folder, "out", name).read_bytes()
    return kept


def checkpoint_reader() -> Reader:
    from splic_ext.training.checkpoint import META, Checkpoint

    kept = trained()
    content, identity = kept["checkpoint.safetensors"], json.loads(kept["identity"])
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])

    def with_meta(meta: bytes) -> bytes:
        changed = header | {"__metadata__": {META: meta.decode("utf-8", "replace")}}
        text = json.dumps(changed).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + length :]

    samples = [(content, bytes), (header["__metadata__"][META].encode(), with_meta)]
    return Reader("checkpoint.safetensors", samples, lambda path: Checkpoint.read(path, identity))


def record_reader() -> Reader:
    from splic_ext.training import TrainingRecord

    return Reader("training.json", whole(trained()["training.json"]), TrainingRecord.load)


def part_reader() -> Reader:
    """Finished parts: what is damaged is told in a warning, and made anew."""
    from splic_ext.runs.store import Part, PartStore

    description, expected = {"kind": "part", "seed": 3}, {"x": (X.dtype, X.shape)}
    with tempfile.TemporaryDirectory() as folder:
        store = PartStore(Path(folder))
        store.put(description, Part({"x": X}, {"attack": 0.5}))
        place = store.path(description)
        assert place is not None
        content = place.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    samples = [*whole(content), *(zipped(name, files) for name in files)]

    def read(path: Path) -> None:
        if PartStore(path.parent).get(description, expected) is None:
            raise ValueError(path.name)

    return Reader(place.name, samples, read)


# Results and options


def result_reader() -> Reader:
    from helpers.report import benchmarks, make_result, make_row, search

    from splic_ext.certify import CertificateReport, PixelEvaluation
    from splic_ext.evaluation import EvaluationReport
    from splic_ext.report import NoResultError, collect, write_report

    made = make_result(make_row(), make_row(attack="pgd", paper=40.0)).to_json()
    contents = [made, json.dumps(benchmarks()), json.dumps(search())]
    report = evaluation()
    contents += [report, trained()["training.json"].decode(), *certificates()[:2]]

    def read(path: Path) -> None:
        for kind in (EvaluationReport, CertificateReport, PixelEvaluation):
            with contextlib.suppress(ValueError):
                kind.load(path)
        page = write_report([path], path.with_name("page.html"), overwrite=True)
        if page.unread:
            raise NoResultError([path.name], page.unread)
        collect([path])

    return Reader("result.json", whole(*(text.encode() for text in contents)), read)


def evaluation() -> str:
    from helpers.evaluation import Step, fit_digits

    from splic_ext.evaluation import evaluate

    report = evaluate(
        fit_digits(), load_dataset("digits", limit=4), attacks={"step": Step()},
        defenses={"none": "identity"}, draws=1, progress=False,
    )  # fmt: skip
    return report.to_json()


def certificates() -> tuple[str, str, bytes]:
    """Reports against patches and changed pixels, and the pictures beside the first."""
    from helpers.evaluation import fit_digits

    from splic_ext.certify import evaluate_patches, evaluate_pixels

    network, digits = fit_digits(), load_dataset("digits", limit=2)
    with tempfile.TemporaryDirectory() as folder:
        patches = evaluate_patches(
            network, digits, fills=["gray"], patch=1, masks=2, output=folder, progress=False
        )
        pictures = Path(folder, "examples.npz").read_bytes()
    pixels = evaluate_pixels(
        network, digits, kept=6, encodings=["gray"], selection=2, draws=20, progress=False
    )
    return patches.to_json(), pixels.to_json(), pictures


def examples_reader() -> Reader:
    """Pictures of certificates."""
    from splic_ext.certify import Examples

    *_, content = certificates()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    samples = [*whole(content), *(zipped(name, files) for name in files)]
    return Reader("examples.npz", samples, Examples.load)


def options_reader() -> Reader:
    from splic_ext import SolverOptions
    from splic_ext.cli.solver_flags import resolve_options

    text = SolverOptions.preset("paper").to_json().encode()
    return Reader("options.json", whole(text), lambda path: resolve_options(None, path, {}))


def certificates_reader() -> Reader:
    from helpers.evaluation import fit_digits

    from splic_ext.certify import CertificateReport, PixelReport, certify_pixels, evaluate_patches
    from splic_ext.data import load_dataset

    digits = load_dataset("digits", limit=3)
    options = {"fills": ["gray", "mean"], "patch": 1, "masks": 4, "progress": False}
    patches = evaluate_patches(fit_digits(), digits, **options).to_json()
    images, kept = digits.to_float(), {"kept": 6, "encoding": "mean", "draws": 200}
    pixels = certify_pixels(fit_digits(), images, digits.labels, **kept).to_json()

    def read(path: Path) -> None:
        try:
            CertificateReport.load(path)
        except ValueError:
            PixelReport.load(path)

    return Reader("certificates.json", whole(patches.encode(), pixels.encode()), read)


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
