"""Accuracy of defended networks under attack, as typed records with intervals.

>>> from splic_ext.data import load_dataset
>>> from splic_ext.models import build_model
>>> digits = load_dataset("digits", limit=30)
>>> report = evaluate(
...     build_model("digits_cnn").eval(), digits, defenses=["tv:weight=0.1"], attacks=["fgsm"]
... )
>>> clean, attacked = report.records
>>> clean.mean.n, attacked.parameters["name"]
(30, 'fgsm')
"""

from __future__ import annotations

from splic_ext.common.optional import optional

with optional("`splic_ext.evaluation`", "torch", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.evaluation.inputs import (
    SCENARIOS,
    named_attacks,
    named_defenses,
)
from splic_ext.evaluation.networks import load_network
from splic_ext.evaluation.records import Perturbation, Record, Seconds, worst_case
from splic_ext.evaluation.reports import SCHEMA_VERSION, EvaluationReport
from splic_ext.evaluation.runner import evaluate
from splic_ext.evaluation.statistics import (
    Accuracy,
    Difference,
    all_draws_accuracy,
    majority_accuracy,
    mean_accuracy,
    paired_difference,
    wilson_interval,
)
from splic_ext.evaluation.tables import to_markdown
from splic_ext.runs.records import DatasetInfo, Machine, NetworkInfo, Provenance

__all__ = [
    "SCENARIOS",
    "SCHEMA_VERSION",
    "Accuracy",
    "DatasetInfo",
    "Difference",
    "EvaluationReport",
    "Machine",
    "NetworkInfo",
    "Perturbation",
    "Provenance",
    "Record",
    "Seconds",
    "all_draws_accuracy",
    "evaluate",
    "load_network",
    "majority_accuracy",
    "mean_accuracy",
    "named_attacks",
    "named_defenses",
    "paired_difference",
    "to_markdown",
    "wilson_interval",
    "worst_case",
]
