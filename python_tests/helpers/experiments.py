"""What the tests of experiments share: a budget of seconds, digits as if they were of the paper.

Importing this skips the test module where a package is absent.
"""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from splic_ext.data import load_dataset
from splic_ext.experiments import BUDGETS, Subject
from splic_ext.experiments.runner import _prepare

_RECIPE = dataclasses.replace(
    BUDGETS["smoke"].recipes["digits"],
    images=400,
    epochs=4,
    adversarial_images=64,
    adversarial_epochs=1,
    sweep_epochs=2,
)
#: A network takes a second; digits have columns of the paper.
TINY = dataclasses.replace(
    BUDGETS["smoke"],
    name="tiny",
    recipes=dict.fromkeys(("digits", "cifar10", "svhn"), _RECIPE),
    images=30,
    attacked=6,
)


def make_subject(kind="digits", model=None, name="digits/test"):
    train = load_dataset("digits", "train", limit=400)
    test = dataclasses.replace(load_dataset("digits", limit=60), name=name)
    return Subject(kind, test, model, None if model is None else "given", train)


def make_bench(name, *subjects, budget=TINY, **given):
    """The bench that `reproduce` would hand to an experiment."""
    found = list(subjects) or [make_subject()]
    return _prepare(name, found, budget, **{"progress": False, **given})
