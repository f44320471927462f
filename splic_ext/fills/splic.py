"""One pass of SPLIC as a fill."""

from __future__ import annotations

from typing import ClassVar

import torch

from splic_ext.autograd import complete_differentiable
from splic_ext.backends import get_backend, takes_device
from splic_ext.completion import complete, resolve_options
from splic_ext.fills.base import Fill
from splic_ext.fills.constant import Constant, Mean
from splic_ext.fills.thinplate import ThinPlate
from splic_ext.fills.tv import TVInpainting
from splic_ext.options import SolverOptions

__all__ = ["SPLICFill"]


class SPLICFill(Fill):
    """One pass of low-rank completion, with the visible pixels as anchors [1]_.

    A smooth surface through the visible pixels is the first iterate; a few iterations then bring
    in the structure of the whole image. With options of ``start="zero"`` the pass begins at 0, as
    in the paper, and takes ten times as many.

    Parameters
    ----------
    options : SolverOptions or str, default "refine"
        Options of the solver with ``alternate=False``, or the name of a preset with that.
    start : str, optional
        The fill whose result is the first iterate, such as ``"thin-plate"`` or
        ``"tv"``. Default: ``"thin-plate"`` where the options have ``start="image"``, else none.
    backend : str, default "auto"
        As in :func:`splic_ext.complete`. Images go to a device that it takes, and come back.

    Raises
    ------
    TypeError, ValueError
        Options of the wrong kind, of two passes or of several masks; a `start` that the options do
        not use.
    BackendUnavailableError
        The back end cannot run here.
    ArithmeticError
        In forward: the iteration diverged.

    References
    ----------
    .. [1] Z. Zhao, H. Wang, H. Sun, Z. He, "Structure-Preserving Progressive Low-rank Image
       Completion for Defending Adversarial Attacks", arXiv:2103.02781, 2021; the second pass,
       section 3.4, is left out, since it would show the hidden pixels to the visible ones.

    Examples
    --------
    >>> mask = torch.ones(8, 8, dtype=torch.bool)
    >>> mask[2:4, 3:6] = False
    >>> filled = SPLICFill()(torch.full((1, 3, 8, 8), 0.25), mask)
    >>> bool((filled - 0.25).abs().max() < 0.01)
    True
    """

    shown: ClassVar[tuple[str, ...]] = ("options", "start", "backend")

    def __init__(
        self,
        options: SolverOptions | str | None = "refine",
        start: str | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.options = resolve_options(options)
        if self.options.alternate or self.options.n_masks > 1:
            which = "alternate=True" if self.options.alternate else "n_masks > 1"
            raise ValueError(
                f"`options` of a fill must be of one pass with one mask, got {which}: a second "
                "pass re-estimates the visible pixels from hidden ones; use "
                "options.replace(alternate=False, n_masks=1), or the preset 'refine'"
            )
        if start is None and self.options.start == "image":
            start = "thin-plate"
        if (start is None) != (self.options.start != "image"):
            raise ValueError(
                f"`start` must be None for options that do not start from the image, got {start!r}; use "
                "options.replace(start='image'), or the preset 'refine'"
            )
        self.start = start
        self._first = None if start is None else _simple(start)
        get_backend(backend, "cpu")
        self.backend = backend

    def fill(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Complete the images; a gradient goes through all iterations."""
        if self._first is not None:
            guess = self._first.fill(images, mask).clamp(0.0, 1.0)
            images = torch.where(mask, images, guess.to(images.dtype))
        if torch.is_grad_enabled() and images.requires_grad:
            wide = mask.expand(images.shape)
            return complete_differentiable(images, wide, options=self.options)
        still = images.detach()
        if takes_device(self.backend, still.device.type):
            return complete(still, mask, options=self.options, backend=self.backend)
        host = complete(still.cpu(), mask.cpu(), options=self.options, backend=self.backend)
        return host.to(still.device)


def _simple(name: str) -> Fill:
    """Return the fill that makes a first iterate: one of those that need nothing else."""
    kinds: dict[str, type[Fill]] = {
        "gray": Constant,
        "mean": Mean,
        "thin-plate": ThinPlate,
        "tv": TVInpainting,
    }
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(
            f"`start` must be one of {', '.join(map(repr, kinds))}, got {name!r}; choose one"
        )
    return kinds[name]()
