"""Data sets as NumPy arrays: CIFAR-10, SVHN, digits, drawn shapes, and ``.npz`` archives.

The official file formats are read as they are. Nothing is downloaded unless asked for, and
nothing in a file is run. The extra ``data`` brings what single formats need: SciPy for SVHN,
scikit-learn for the digits, pooch for downloads; shapes, CIFAR-10 and archives need NumPy alone.

>>> load_dataset("shapes", limit=100).images.shape
(100, 3, 32, 32)
"""

from __future__ import annotations

from splic_ext.data.dataset import Dataset
from splic_ext.data.download import OFFICIAL_FILES, OfficialFile
from splic_ext.data.loading import DATASETS, load_dataset

__all__ = ["DATASETS", "OFFICIAL_FILES", "Dataset", "OfficialFile", "load_dataset"]
