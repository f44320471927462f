"""Defences of this library as preprocessors of the Adversarial Robustness Toolbox (ART)."""

from __future__ import annotations

from typing import Any

import torch

from splic_ext.common.optional import optional
from splic_ext.defenses import SPLIC, Defense
from splic_ext.options import SolverOptions

with optional("`splic_ext.defenses.art`", "attack", "art"):
    from art.defences.preprocessor.preprocessor import PreprocessorPyTorch

__all__ = ["DefensePreprocessor", "SPLICPreprocessor"]


class DefensePreprocessor(PreprocessorPyTorch):
    """A defence that ART applies before the network, and differentiates as the defence is set.

    Parameters
    ----------
    defense : Defense
        Applied to batches (N, C, H, W) in [0, 1]: the classifier has ``clip_values=(0, 1)`` and
        channels first. Its `gradient` is what ART's attacks see.
    apply_fit : bool, default True
        Apply it in training.
    apply_predict : bool, default True
        Apply it in prediction, and so in attacks.
    device_type : {"cpu", "gpu"}, default "cpu"
        Where ART puts NumPy batches for it.

    Raises
    ------
    TypeError
        `defense` is no :class:`~splic_ext.defenses.Defense`.
    MissingExtraError
        On import of the module: ART is not installed.

    Notes
    -----
    ART passes no index of the images: a defence with a seed gives image i of each batch the same
    mask. With fresh masks, :func:`splic_ext.defenses.seeded_masks` makes a run repeatable.

    Examples
    --------
    >>> import numpy as np
    >>> from splic_ext.defenses import BitDepth
    >>> preprocessor = DefensePreprocessor(BitDepth(1))
    >>> preprocessor(np.full((1, 1, 1, 2), [0.2, 0.9], dtype=np.float32))[0]
    array([[[[0., 1.]]]], dtype=float32)
    """

    params = ("defense",)

    def __init__(
        self,
        defense: Defense,
        apply_fit: bool = True,
        apply_predict: bool = True,
        device_type: str = "cpu",
    ) -> None:
        if not isinstance(defense, Defense):
            raise TypeError(
                f"`defense` must be a Defense, got {type(defense).__name__}; "
                "use Identity() for none, Compose(...) for several"
            )
        super().__init__(
            device_type=device_type,
            is_fitted=True,
            apply_fit=apply_fit,
            apply_predict=apply_predict,
        )
        self.defense = defense

    def forward(self, x: torch.Tensor, y: Any = None) -> tuple[torch.Tensor, Any]:
        """Return the defended images, and the labels as they are.

        Parameters
        ----------
        x : tensor of shape (N, C, H, W)
            In [0, 1].
        y : object, optional
            Labels.

        Returns
        -------
        tensor, object
        """
        return self.defense(x), y

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.defense!r})"


class SPLICPreprocessor(DefensePreprocessor):
    """:class:`splic_ext.defenses.SPLIC` as a preprocessor of ART.

    Parameters
    ----------
    options, seed, gradient, backend
        As for :class:`splic_ext.defenses.SPLIC`.
    apply_fit, apply_predict, device_type
        As for :class:`DefensePreprocessor`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As :class:`splic_ext.defenses.SPLIC`.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    >>> SPLICPreprocessor("recommended", seed=7)(images)[0].shape
    (2, 3, 32, 32)
    """

    def __init__(
        self,
        options: SolverOptions | str | None = None,
        seed: int | None = None,
        gradient: str = "identity",
        backend: str = "auto",
        apply_fit: bool = True,
        apply_predict: bool = True,
        device_type: str = "cpu",
    ) -> None:
        defense = SPLIC(options, seed, gradient, backend)
        super().__init__(defense, apply_fit, apply_predict, device_type)
