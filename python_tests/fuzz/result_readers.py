"""Readers of what was computed: weights, trainings, parts, results, certificates, options."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fuzz.samples import Reader, X, whole, zipped

from splic_ext.data import load_dataset

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
