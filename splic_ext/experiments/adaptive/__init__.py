"""The protocol for attackers who know the defence: gradients, draws, losses, steps, queries."""

from splic_ext.experiments.adaptive.protocol import evaluate_adaptively
from splic_ext.experiments.adaptive.sizes import SIZES, Size

__all__ = ["SIZES", "Size", "evaluate_adaptively"]
