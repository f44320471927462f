"""The derivative of the solver: reverse mode through its iterations, as a torch function."""

from splic_ext.common.optional import optional

with optional("`splic_ext.autograd`", "torch", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.autograd.differentiable import SURROGATE_WIDTH, Gradient, complete_differentiable
from splic_ext.autograd.spectral import spectral_backward

__all__ = ["SURROGATE_WIDTH", "Gradient", "complete_differentiable", "spectral_backward"]
