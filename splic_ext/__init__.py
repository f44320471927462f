"""SPLIC: structure-preserving progressive low-rank image completion, a defence by completion.

>>> import numpy as np
>>> import splic_ext
>>> splic_ext.complete(np.zeros((28, 28), dtype=np.uint8)).max()
np.uint8(0)
"""

__version__ = "0.2.0"

from splic_ext import signals as _signals  # noqa: F401

# isort: split

from splic_ext import masks
from splic_ext.backends import available_backends, backend_info
from splic_ext.backends.base import BackendInfo, CompletionInfo
from splic_ext.completion import complete
from splic_ext.conversion import convert
from splic_ext.errors import (
    BackendUnavailableError,
    ConversionError,
    MissingExtraError,
    ShapeError,
)
from splic_ext.inpainting import inpaint
from splic_ext.options import SolverOptions

__all__ = [
    "BackendInfo",
    "BackendUnavailableError",
    "CompletionInfo",
    "ConversionError",
    "MissingExtraError",
    "ShapeError",
    "SolverOptions",
    "__version__",
    "available_backends",
    "backend_info",
    "complete",
    "convert",
    "inpaint",
    "masks",
]
