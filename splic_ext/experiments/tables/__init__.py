"""The paper's tables and the tables that it lacks, each one function."""

from splic_ext.experiments.tables.gray_box import TABLES, GrayBoxTable

__all__ = ["TABLES", "GrayBoxTable"]
