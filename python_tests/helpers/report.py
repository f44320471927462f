"""What the tests of reports share: results by hand, and real ones of digits.

Importing this skips the test module where torch, Jinja, Matplotlib or Pillow is absent.
"""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("jinja2", reason="the extra 'report' is not installed")
pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
pytest.importorskip("PIL", reason="the extra 'cli' is not installed")

from helpers.evaluation import Step, fit_digits  # noqa: E402
from helpers.results import attack_parameters  # noqa: E402

from splic_ext import defenses  # noqa: E402
from splic_ext.attacks import ThreatModel  # noqa: E402
from splic_ext.data import load_dataset  # noqa: E402
from splic_ext.evaluation import (  # noqa: E402
    Accuracy,
    DatasetInfo,
    Machine,
    NetworkInfo,
    Provenance,
    evaluate,
    worst_case,
)
from splic_ext.experiments import ExperimentResult, Gallery, Point, Row  # noqa: E402
from splic_ext.experiments.results.rows import encode_picture  # noqa: E402
from splic_ext.report import collect, make_page  # noqa: E402

ORIGIN = Provenance(
    versions={"splic_ext": "1.0", "torch": "2.0", "foolbox": None},
    code="c0de" * 16,
    machine=Machine("a processor", 2, "Linux", 1, 1, "cpu"),
    command="splic-ext reproduce table4",
    date="2026-01-02T03:04:05+00:00",
)

#: Method -> how its defence is written out.
DEFENSES = {
    "no defence": "Identity(gradient='exact')",
    "SPLIC": "SPLIC(rank=None)",
    "SPLIC, more": "SPLIC(rank=None, n_masks=4)",
    "blur": "Gaussian(sigma=0.7)",
    "strong blur": "Gaussian(sigma=2.0)",
}


def make_row(method="SPLIC", attack="clean", right=50, *, n=100, paper=None, **changes):
    """A row of `right` % of n images."""
    mean = Accuracy(right / 100, max(0.0, right / 100 - 0.1), min(1.0, right / 100 + 0.1), n)
    values = {
        "section": "made",
        "method": method,
        "defense": DEFENSES.get(method, method),
        "attack": attack,
        "parameters": attack_parameters(attack),
        "scenario": "gray",
        "dataset": DatasetInfo("made", "test", n, (3, 8, 8), "da7a" * 16),
        "model": NetworkInfo("a network", "0123" * 16),
        "draws": 1,
        "mean": mean,
        "all_draws": mean,
        "majority": mean,
        "paper": paper,
        "seconds": 1.5,
    }
    return Row(**{**values, **changes})


def make_result(*rows, **changes):
    values = {"name": "table4", "title": "A table", "rows": rows, "provenance": ORIGIN}
    return ExperimentResult(**{**values, **changes})


def write(folder, result, name=None):
    """Write a result as JSON alone; return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name or result.name}.json"
    path.write_text(result.to_json(), encoding="utf-8")
    return path


def benchmarks(**changes):
    """A run of the benchmarks, as ``benchmarks/condense.py`` writes it."""

    def result(test, method="cpu", us=2.5, channels=3, size=32, threads=1, batch=None, **extra):
        params = {"size": size, "channels": channels, "mode": "stacked", "threads": threads}
        return {
            "group": "a group", "name": f"{test}[{method}-{size}]", "method": method,
            "data": "images", "params": params | ({"batch": batch} if batch else {}),
            "rounds": 5, "median_s": 0.5, "iqr_s": 0.01, "images": 512,
            "matrix_iterations": 71680, "images_per_second": 400.0 + us,
            "us_per_matrix_iteration": us,
            "extra": {"mean_error": 1e-6, "max_error": 1e-4} | extra,
        }  # fmt: skip

    values = {
        "schema_version": 1,
        "date": "2026-01-02T03:04:05Z",
        "commit": "0123456789" * 4,
        "command": "pytest benchmarks --benchmark-only",
        "quick": False,
        "machine": {
            "cpu": "A processor", "cores": 2, "system": "Linux", "simd": "avx2",
            "splic_ext": "0.1.0", "numpy": "2.0", "torch": None, "python": "3.12",
        },
        "results": [
            *(result("test_complete", size=size, us=size / 10) for size in (28, 32, 64)),
            *(result("test_complete", "torch.linalg.svd", size, size=size) for size in (28, 32)),
            result("test_speedup", speedup_over_torch_svd=26.41, speedup_over_torch_eigh=11.0),
            *(result("test_batch", batch=batch, us=batch) for batch in (1, 16, 256)),
            result("test_gradient", over_forward=3.52),
            result("test_memory", batch=1000, peak_extra_mb=0.266),
        ],
    }  # fmt: skip
    return {**values, **changes}


def search(**changes):
    """A search for a preset, as ``benchmarks/tune_preset.py`` writes it."""

    def setting(options, clean):
        entry = {"options": options, "score": clean - 10}
        for kind, value in {"clean": clean, "fgsm": clean - 20, "pgd": clean - 30}.items():
            entry |= {kind: value, f"{kind}_interval": [value - 5.0, value + 5.0]}
        return entry

    values = {
        "schema_version": 1,
        "date": "2026-01-01T00:00:00Z",
        "machine": {"cpu": "A processor", "cores": 2},
        "versions": {"splic_ext": "0.1.0", "numpy": "2.0"},
        "command": "python benchmarks/tune_preset.py",
        "data": "training images",
        "images": {"round_1": 400, "round_2": 1000},
        "seeds": {"round_1": 1, "round_2": 2},
        "threads": 2,
        "undefended": setting(None, 99.0),
        "chosen": {"tv_weight": 0.1},
        "round_1": [],
        "round_2": [setting({"tv_weight": 0.1}, 68.0), setting({}, 55.5)],
        "photograph_psnr": {},
        "test_report": {},
    }
    return {**values, **changes}


def digits(folder):
    """Write real results of digits into a folder: an evaluation, curves, pictures."""
    images, network = load_dataset("digits", limit=12), fit_digits()
    parts = {
        "none": defenses.Identity(),
        "SPLIC": defenses.defense_from_spec("splic:max_iterations=14"),
    }
    attacks = {f"{e}/255": Step(ThreatModel(epsilon=e / 255)) for e in (16, 32, 64)}
    options = {"defenses": parts, "draws": 2, "progress": False, "model_name": "linear"}
    evaluate(network, images, attacks=attacks, output=folder / "evaluation", **options)
    white = evaluate(network, images, attacks=attacks, scenario="white", **options)
    records = white.select(defense="SPLIC")
    rows = tuple(
        Row.from_record(record, "radius", "SPLIC", record.attack or "clean")
        for record in (*records, worst_case(records[1:], "worst of them"))
    )
    clean = torch.from_numpy(images.to_float())[:4]
    labels = torch.from_numpy(images.labels)[:4]
    adversarial = Step(ThreatModel(epsilon=0.3))(network, clean, labels, index=0, seed=1)
    with defenses.seeded_masks(0):
        completed = parts["SPLIC"](adversarial, index=0)
    pictures, captions, right = [], [], []
    for i, label in enumerate(labels.tolist()):
        shown = [batch[i : i + 1] for batch in (clean, adversarial, completed)]
        with torch.no_grad():
            found = [int(network(image).argmax()) for image in shown]
        pictures.append(tuple(encode_picture(image[0].numpy(), magnify=4) for image in shown))
        captions.append(tuple(f"taken for {digit}" for digit in found))
        right.append(tuple(digit == label for digit in found))
    gallery = Gallery(
        "digits",
        "Digits, attacked and completed",
        tuple(f"a {label}" for label in labels.tolist()),
        ("original", "attacked", "SPLIC"),
        tuple(pictures),
        tuple(captions),
        tuple(right),
    )
    change = np.exp(-np.arange(1, 31) / 4)
    points = [
        Point("digits", f"image {k}", "iteration", i + 1.0, "relative change", float(y) / k)
        for k in (1, 2)
        for i, y in enumerate(change)
    ]
    points += [
        Point("PSNR", method, "data", 0.0, "PSNR (dB)", y, y - 1, y + 1, 12, 21.0, label="digits",
              kind="bar")
        for method, y in {"SPLIC": 22.0, "without total variation": 20.5}.items()
    ]  # fmt: skip
    provenance = dataclasses.replace(records[0].provenance, command="splic-ext reproduce figure8")
    result = ExperimentResult(
        "figure8", "Figure 8: digits", rows, provenance, ("seed 0",), tuple(points), (gallery,),
        (rows[0].dataset,), "smoke",
    )  # fmt: skip
    write(folder, result)
    (folder / "speed.json").write_text(json.dumps(benchmarks()), encoding="utf-8")
    (folder / "preset.json").write_text(json.dumps(search()), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    digits(folder)
    return folder


@pytest.fixture
def table():
    return make_result(
        make_row("no defence", right=90),
        make_row("no defence", "FGSM", 20),
        make_row("no defence", "PGD", 10),
        make_row("SPLIC", right=60, paper=95.9),
        make_row("SPLIC", "FGSM", 41, paper=40.0, draws=3),
        make_row("SPLIC", "PGD", 31, paper=63.6),
        make_row("SPLIC, more", right=65, paper=95.9),
        make_row("SPLIC, more", "PGD", 45, paper=63.6),
        make_row("blur", right=70),
        make_row("blur", "PGD", 40),
        make_row("strong blur", right=50),
        make_row("strong blur", "PGD", 49),
        title="Table 4: made",
        notes=("seed 0",),
    )


class Reader(HTMLParser):
    """Notes tags with their attributes, the names and links, and the visible text."""

    VOID = ("meta", "link", "img")

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open[-1:]:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open, "tags that do not end"
    return reader


def shown(*results, folder=None, **files):
    """The page of results, read."""
    for i, result in enumerate(results):
        write(folder, result, f"{i}")
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
    return read(make_page(collect([folder])).to_html())
