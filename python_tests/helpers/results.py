"""Results of experiments that were never run: rows, a curve.

Importing this skips the test module where torch is absent.
"""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.evaluation import Accuracy, DatasetInfo, Machine, NetworkInfo, Provenance
from splic_ext.experiments import ExperimentResult, Point, Row
from splic_ext.experiments.results.keys import CLEAN, WORST

ORIGIN = Provenance(
    versions={"splic_ext": "1.0", "torch": "2.0", "foolbox": None},
    code="c0de",
    machine=Machine("a processor", 2, "Linux", 1, 1, "cpu"),
    command="splic-ext reproduce table4",
    date="2026-01-02T03:04:05+00:00",
)


def attack_parameters(attack):
    """What a row has of an attack."""
    more = {"attacks": []} if attack == WORST else {"steps": 7}
    return "" if attack == CLEAN else json.dumps({"name": attack, **more})


def make_row(method="tv", attack="clean", right=1, *, n=4, paper=None, **changes):
    """A row of `right` of n images in one draw, or in all of 3."""
    values = {
        "section": "made",
        "method": method,
        "defense": "TotalVariation(weight=0.1)",
        "attack": attack,
        "parameters": attack_parameters(attack),
        "scenario": "gray",
        "dataset": DatasetInfo("made", "test", n, (3, 8, 8), "da7a"),
        "model": NetworkInfo("a network", "0123"),
        "draws": 1,
        "mean": Accuracy(right / n, min(0.125, right / n), max(0.875, right / n), n),
        "all_draws": Accuracy(0.0, 0.0, 0.5, n),
        "majority": Accuracy(1.0, 0.5, 1.0, n),
        "paper": paper,
        "seconds": 1.5,
    }
    return Row(**{**values, **changes})


def make_result(*rows, **changes):
    values = {"name": "made", "title": "A table", "rows": rows, "provenance": ORIGIN}
    return ExperimentResult(**{**values, **changes})


CURVE = tuple(
    Point("made", series, "rank", x, "accuracy (%)", y, y - 5, y + 5, 200, paper, "made")
    for series, y, paper in (("clean", 80.0, None), ("PGD", 40.5, 68.5))
    for x in (8.0, 4.0)
)
