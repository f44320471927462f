"""The paper's figures, each one function."""

from splic_ext.experiments.figures.features import figure10
from splic_ext.experiments.figures.filters import figure7
from splic_ext.experiments.figures.pictures import figure3, figure8
from splic_ext.experiments.figures.solver import figure4, figure5, figure12
from splic_ext.experiments.figures.sweeps import figure6, figure9, figure11

__all__ = [
    "figure3",
    "figure4",
    "figure5",
    "figure6",
    "figure7",
    "figure8",
    "figure9",
    "figure10",
    "figure11",
    "figure12",
]
