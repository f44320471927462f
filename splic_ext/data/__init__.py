"""Data sets as NumPy arrays: CIFAR-10, SVHN, digits, drawn shapes, your own images.

File formats are read as they are: folders of classes, IDX, ``.npz``, ``.npy``, Parquet and
WebDataset. Nothing is downloaded unless asked for, and nothing in a file is run. The extra ``data``
brings what single formats need: Pillow for image files, SciPy for SVHN, scikit-learn for the
digits, pooch for downloads; the extra ``parquet`` brings pyarrow. Shapes and arrays need NumPy
alone.
:func:`as_dataset` takes what is in memory.

>>> load_dataset("shapes", limit=100).images.shape
(100, 3, 32, 32)
"""

from __future__ import annotations

from splic_ext.data.dataset import Dataset
from splic_ext.data.download import OFFICIAL_FILES, OfficialFile
from splic_ext.data.given import DatasetLike, as_dataset
from splic_ext.data.loading import DATASETS, load_dataset, open_source
from splic_ext.data.sources import Sample, Source, Unread

__all__ = [
    "DATASETS",
    "OFFICIAL_FILES",
    "Dataset",
    "DatasetLike",
    "OfficialFile",
    "Sample",
    "Source",
    "Unread",
    "as_dataset",
    "load_dataset",
    "open_source",
]
