"""The derivative of the solver: reverse mode through the unrolled iterations, in torch."""

from splic_ext.autograd.spectral import spectral_backward
from splic_ext.autograd.unrolled import complete_differentiable

__all__ = ["complete_differentiable", "spectral_backward"]
