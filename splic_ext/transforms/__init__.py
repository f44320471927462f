"""Completion in the input pipeline of a training: single images, samples of a data set, batches.

:class:`Complete` takes one image, as the transforms of torchvision do; :class:`CompletedDataset`
tells it the number of the sample and the epoch; :class:`CompleteCollate` completes a whole batch
in the worker of a ``DataLoader``. Import needs NumPy alone.

>>> import numpy as np
>>> from splic_ext.transforms import Complete
>>> Complete("recommended")(np.zeros((3, 8, 8), np.uint8)).shape
(3, 8, 8)
"""

from splic_ext.transforms.batch import CompleteCollate
from splic_ext.transforms.dataset import CompletedDataset
from splic_ext.transforms.image import Complete

__all__ = ["Complete", "CompleteCollate", "CompletedDataset"]
