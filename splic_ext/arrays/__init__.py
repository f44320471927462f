"""Arrays of any library as memory and strides, on the CPU or on a CUDA device."""

from splic_ext.arrays.devices import Placement
from splic_ext.arrays.dtypes import DTYPES
from splic_ext.arrays.memory import Memory
from splic_ext.arrays.views import ArrayView, view_array

__all__ = ["DTYPES", "ArrayView", "Memory", "Placement", "view_array"]
