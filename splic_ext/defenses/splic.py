"""SPLIC itself as a defence, and its variant without total variation."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from splic_ext.autograd import complete_differentiable
from splic_ext.autograd.masks import image_indices, masks_on
from splic_ext.backends import get_backend, takes_device
from splic_ext.completion import complete, resolve_options
from splic_ext.defenses.base import Index
from splic_ext.defenses.randomness import RandomDefense
from splic_ext.masks import consecutive_runs
from splic_ext.options import SolverOptions

__all__ = ["SPLIC", "SRF"]


class SPLIC(RandomDefense):
    """Structure-preserving progressive low-rank image completion [1]_.

    What :func:`splic_ext.complete` computes, on the device of the images where a back end takes
    that; else, and where `backend` names one of the CPU, the images go there and come back. With
    another gradient than the identity they stay on their device in any case.

    Parameters
    ----------
    options : SolverOptions or str, optional
        Options of the solver, or the name of a preset: ``"paper"`` (the default) or
        ``"recommended"``.
    seed : int, optional
        See :class:`RandomDefense`; None draws fresh masks in each forward. With a seed, image
        i comes out as from ``complete(..., seed=seed, first_index=i)``.
    gradient : {"identity", "exact", "surrogate"}, default "identity"
        ``"identity"``: backward passes the gradient through unchanged (BPDA). ``"exact"`` and
        ``"surrogate"``: through all iterations of the solver, with a rank cut that is constant or
        smooth; see :func:`splic_ext.autograd.complete_differentiable`. Their forward pass takes
        the compiled solver where it can, whatever `backend` says.
    backend : str, default "auto"
        As in :func:`splic_ext.complete`.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    BackendUnavailableError
        The back end cannot run here.
    ShapeError
        In forward, a `ValueError`: images of more than 512 pixels a side.
    ArithmeticError
        In forward: the iteration diverged.

    References
    ----------
    .. [1] Z. Zhao, H. Wang, H. Sun, Z. He, "Structure-Preserving Progressive Low-rank Image
       Completion for Defending Adversarial Attacks", arXiv:2103.02781, 2021.

    Examples
    --------
    >>> import splic_ext
    >>> images = torch.rand(2, 3, 32, 32)
    >>> expected = splic_ext.complete(images, options="recommended", seed=7)
    >>> torch.equal(SPLIC("recommended", seed=7)(images), expected)
    True
    """

    gradients: ClassVar[tuple[str, ...]] = ("identity", "exact", "surrogate")
    shown: ClassVar[tuple[str, ...]] = ("options", "seed", "backend")

    def __init__(
        self,
        options: SolverOptions | str | None = None,
        seed: int | None = None,
        gradient: str = "identity",
        backend: str = "auto",
    ) -> None:
        super().__init__(seed, gradient)
        self.options = resolve_options(options)
        get_backend(backend, "cpu")
        self.backend = backend

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Complete the images."""
        indices, seed = image_indices(index, len(images)), self.draw()
        if self.gradient != "identity":
            return self._complete(images, indices, seed)
        if takes_device(self.backend, images.device.type):
            return self._complete(images.detach(), indices, seed)
        return self._complete(images.detach().cpu(), indices, seed).to(images.device)

    def _complete(
        self, images: torch.Tensor, indices: np.ndarray[tuple[int], np.dtype[np.uint64]], seed: int
    ) -> torch.Tensor:
        options = self.options
        parts = consecutive_runs(indices)
        if len(parts) > 1 and options.n_masks == 1:
            drawn = masks_on(
                images,
                indices,
                anchor_fraction=options.anchor_fraction,
                seed=seed,
                channels=options.channels,
            )
            return self._solve(images, mask=drawn)
        # The masks of several streams are drawn by the solver, for consecutive indices alone.
        results = [
            self._solve(images[part], seed=seed, first_index=int(indices[part.start]))
            for part in parts
        ]
        return torch.cat(results)

    def _solve(self, images: torch.Tensor, **masks: Any) -> torch.Tensor:
        if self.gradient == "identity":
            done: torch.Tensor = complete(
                images, options=self.options, backend=self.backend, **masks
            )
            return done
        gradient: Any = self.gradient
        return complete_differentiable(images, options=self.options, gradient=gradient, **masks)


class SRF(SPLIC):
    """SPLIC without total variation, channel by channel: the paper's "SRF".

    Parameters
    ----------
    options : SolverOptions or str, optional
        As for :class:`SPLIC`; `tv_weight` is set to 0 and `channels` to ``"separate"``.
    seed, gradient, backend
        As for :class:`SPLIC`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As :class:`SPLIC`.

    Examples
    --------
    >>> SRF(seed=0).options
    SolverOptions.preset('paper', tv_weight=0.0, channels='separate')
    """

    def __init__(
        self,
        options: SolverOptions | str | None = None,
        seed: int | None = None,
        gradient: str = "identity",
        backend: str = "auto",
    ) -> None:
        plain = resolve_options(options).replace(tv_weight=0.0, channels="separate")
        super().__init__(plain, seed, gradient, backend)
