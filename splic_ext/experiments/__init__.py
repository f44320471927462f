"""The paper's tables and figures, and the adaptive protocol, which the paper lacks.

>>> from splic_ext.data import load_dataset
>>> from splic_ext.models import build_model
>>> subject = Subject("svhn", load_dataset("digits", limit=20), build_model("digits_cnn").eval())
>>> result = reproduce("table4", [subject], draws=1, slow_limit=1, attacks=["fgsm"])
>>> row = result.select(method="SPLIC, paper's constants", attack="FGSM")[0]
>>> row.mean.n, row.paper
(20, 59.8)
"""

from __future__ import annotations

from splic_ext.common.optional import optional

with optional("`splic_ext.experiments`", "torch", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.experiments.adaptive import SIZES, Size, evaluate_adaptively
from splic_ext.experiments.budgets import BUDGETS, Budget, Recipe
from splic_ext.experiments.lesson import Lesson, LessonRow, LessonSize, teach
from splic_ext.experiments.registry import EXPERIMENTS, Experiment
from splic_ext.experiments.results.keys import SECTIONS
from splic_ext.experiments.results.result import ExperimentResult
from splic_ext.experiments.results.rows import Gallery, Point, Row
from splic_ext.experiments.runner import reproduce, reproduce_all
from splic_ext.experiments.subjects import Subject, digits_subject, shapes_subject
from splic_ext.experiments.tables.gray_box import TABLES, GrayBoxTable

__all__ = [
    "BUDGETS",
    "EXPERIMENTS",
    "SECTIONS",
    "SIZES",
    "TABLES",
    "Budget",
    "Experiment",
    "ExperimentResult",
    "Gallery",
    "GrayBoxTable",
    "Lesson",
    "LessonRow",
    "LessonSize",
    "Point",
    "Recipe",
    "Row",
    "Size",
    "Subject",
    "digits_subject",
    "evaluate_adaptively",
    "reproduce",
    "reproduce_all",
    "shapes_subject",
    "teach",
]
