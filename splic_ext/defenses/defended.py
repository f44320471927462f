"""A network behind a defence, as one module."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from splic_ext.defenses import operators
from splic_ext.defenses.base import Index
from splic_ext.defenses.registry import as_defense

__all__ = ["Defended"]


class Defended(nn.Module):
    """A network that sees defended images: ``model(defense(images))``.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1]; one that needs normalised images does that itself.
    defense : Defense, nn.Module or str
        Applied to the images first; see :func:`splic_ext.defenses.as_defense`.

    Raises
    ------
    TypeError
        `model` is no module, or `defense` none of these.
    ValueError, MissingExtraError
        A text that describes no defence.

    Warns
    -----
    UserWarning
        Once, in the first forward under ``torch.no_grad()`` with the network in train mode.

    Examples
    --------
    >>> from splic_ext.defenses import BitDepth
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    >>> defended = Defended(network, BitDepth(3)).eval()
    >>> defended(torch.rand(5, 3, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, model: nn.Module, defense: nn.Module | str) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"`model` must be a torch.nn.Module, got {type(model).__name__}; wrap it in one"
            )
        self.model = model
        self.defense = as_defense(defense)
        self._warned = False

    def forward(self, images: torch.Tensor, index: Index = None) -> Any:
        """Return what the network makes of the defended images.

        Parameters
        ----------
        images : tensor of shape (N, C, H, W), float16, bfloat16, float32 or float64
            In [0, 1].
        index : int or integer tensor of shape (N,), optional
            Selects the masks of a random defence; see :meth:`Defense.forward`.

        Returns
        -------
        object
            What `model` returns, as a rule logits of shape (N, K).

        Raises
        ------
        TypeError, ValueError
            As :meth:`Defense.forward`.
        """
        if self.model.training and not torch.is_grad_enabled() and not self._warned:
            if torch.compiler.is_dynamo_compiling():
                images = operators.train_mode(images)
            else:
                self._warned = True
                operators.warn_of_train_mode()
        return self.model(self.defense(images, index))
