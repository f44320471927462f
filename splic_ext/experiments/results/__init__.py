"""Results of experiments: rows, points and pictures; as files, as tables, drawn."""

from splic_ext.experiments.results.result import ExperimentResult
from splic_ext.experiments.results.rows import Gallery, Point, Row

__all__ = ["ExperimentResult", "Gallery", "Point", "Row"]
