"""What the tests of evaluations share: small images, networks, attacks without foolbox.

Importing this skips the test module where torch is absent.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.attacks import Attack  # noqa: E402
from splic_ext.data import Dataset, load_dataset  # noqa: E402
from splic_ext.evaluation import EvaluationReport, evaluate  # noqa: E402

CLASSES = 4


def make_dataset(count=23, name="made/test"):
    """Random images of 3 x 8 x 8; labels that a network of seed 0 gets mostly right."""
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    with torch.no_grad():
        labels = make_network()(torch.from_numpy(images) / 255).argmax(1).numpy()
    labels[::7] = (labels[::7] + 1) % CLASSES
    return Dataset(name, images, labels.astype(np.int64), tuple("abcd"))


def make_network(seed=0):
    weights = torch.from_numpy(np.random.default_rng(seed).normal(size=(CLASSES, 192))).float()
    linear = torch.nn.Linear(192, CLASSES)
    with torch.no_grad():
        linear.weight.copy_(weights - weights.mean(1, keepdim=True))
        linear.bias.zero_()
    return torch.nn.Sequential(torch.nn.Flatten(), linear).eval()


def fit_digits():
    """The linear network that fits scikit-learn's digits best, in the least squares."""
    train = load_dataset("digits", "train")
    pixels = np.pad(train.to_float().reshape(len(train), -1), ((0, 0), (0, 1)), constant_values=1)
    fitted = np.linalg.lstsq(pixels, np.eye(10, dtype=np.float32)[train.labels], rcond=1e-3)[0]
    linear = torch.nn.Linear(64, 10)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(8 * fitted[:-1].T))
        linear.bias.copy_(torch.from_numpy(8 * fitted[-1]))
    return torch.nn.Sequential(torch.nn.Flatten(), linear).eval()


@dataclass(frozen=True, repr=False)
class Step(Attack):
    """One step along the sign of the gradient; notes whom it attacked."""

    name: ClassVar[str] = "step"
    calls: ClassVar[list] = []

    def run(self, model, images, labels, *, index=None, seed=None):
        Step.calls.append((model, index, len(images), seed))
        return super().run(model, images, labels, index=index, seed=seed)

    def perturb(self, target, images, streams):
        inputs = images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(target(inputs), target.labels)
        (gradient,) = torch.autograd.grad(loss, inputs)
        return self.threat.project(images + self.threat.epsilon * gradient.sign(), images)


@pytest.fixture
def calls():
    """Calls of :class:`Step`, from none on."""
    Step.calls.clear()
    return Step.calls


def run(model=None, dataset=None, **changes):
    """Evaluate a small problem."""
    arguments = {
        "defenses": ["identity", "usvt"],
        "attacks": {"step": Step()},
        "draws": 3,
        "batch_size": 10,
        "progress": False,
        **changes,
    }
    model = make_network() if model is None else model
    return evaluate(model, make_dataset() if dataset is None else dataset, **arguments)


def timeless(report):
    """The records, or reports, of a report without what differs from run to run."""
    return [
        dataclasses.replace(
            record,
            seconds=type(record.seconds)(),
            provenance=dataclasses.replace(record.provenance, date="", command=None),
        )
        for record in getattr(report, "reports", None) or report.records
    ]


# Of experiments


def numbers(rows):
    """The accuracies of rows or records."""
    return [(row.mean, row.all_draws, row.majority) for row in rows]


def no_work(folder):
    """Whether the last evaluation of an experiment took all from files."""
    seconds = EvaluationReport.load(folder / "work" / "report.json").seconds
    return seconds.attack == seconds.defense == seconds.network == 0


def part_times(folder):
    """When each of the finished parts of an experiment was written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "work" / "parts").iterdir()}
