"""A whole batch at once, where the samples are put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from splic_ext.common.optional import optional
from splic_ext.completion import complete
from splic_ext.errors import ShapeError
from splic_ext.options import SolverOptions
from splic_ext.transforms.image import Completing, refuse_channel_last
from splic_ext.transforms.processes import fresh_seed, threads_here
from splic_ext.transforms.samples import Key, check_key, with_image

__all__ = ["CompleteCollate"]


class CompleteCollate(Completing):
    """The ``collate_fn`` of a ``DataLoader`` that completes its batches (SPLIC [1]_).

    One call of the solver for each batch: images of one size are solved side by side in the lanes
    of a vector unit, which takes a fraction of the time of as many calls for single images. Masks
    are fresh in each batch, from torch's default CPU generator: they differ between workers and
    epochs, and can be repeated by ``torch.manual_seed``, or by the `generator` of the loader where
    it has workers.

    Parameters
    ----------
    options : SolverOptions or str, optional
        Options of the solver, or the name of a preset: ``"paper"`` (the default) or
        ``"recommended"``.
    key : int or str, optional
        Place of the images in a batch that is a tuple or list, their name in a mapping. Default:
        the first part, or the batch itself. Mappings need it.
    collate : callable, optional
        Puts samples together to a batch. Default: ``torch.utils.data.default_collate``.
    channel_axis, data_range, threads, backend
        As for :class:`Complete`.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    BackendUnavailableError
        The back end cannot run here.
    MissingExtraError
        torch is not installed.

    Notes
    -----
    *Thread safety* and *processes* as for :class:`Complete`.

    References
    ----------
    .. [1] Z. Zhao, H. Wang, H. Sun, Z. He, "Structure-Preserving Progressive Low-rank Image
       Completion for Defending Adversarial Attacks", arXiv:2103.02781, 2021.

    Examples
    --------
    >>> import torch
    >>> from splic_ext.transforms import CompleteCollate
    >>> dataset = torch.utils.data.TensorDataset(torch.rand(6, 3, 8, 8), torch.arange(6))
    >>> loader = torch.utils.data.DataLoader(dataset, 3, collate_fn=CompleteCollate())
    >>> [(images.shape[0], labels.tolist()) for images, labels in loader]
    [(3, [0, 1, 2]), (3, [3, 4, 5])]
    """

    def __init__(
        self,
        options: SolverOptions | str | None = None,
        *,
        key: Key = None,
        collate: Callable[[list[Any]], Any] | None = None,
        channel_axis: int = -3,
        data_range: float | None = None,
        threads: int | None = None,
        backend: str = "auto",
    ) -> None:
        with optional("`CompleteCollate`", "torch", "torch"):
            from torch.utils.data import default_collate
        super().__init__(options, channel_axis, data_range, threads, backend)
        self.key = check_key(key)
        if collate is not None and not callable(collate):
            raise TypeError(
                f"`collate` must be callable with a list of samples, got {type(collate).__name__}; "
                "leave it out for torch's own"
            )
        self.collate = default_collate if collate is None else collate

    def __repr__(self) -> str:
        return f"CompleteCollate(options={self.options!r}, key={self.key!r})"

    def __call__(self, samples: list[Any]) -> Any:
        """Put samples together, and complete their images.

        Parameters
        ----------
        samples : list
            As a ``DataLoader`` hands them over. Their images are uint8 or floats in [0, 1], of
            shape (C, H, W) or (H, W), or (H, W, C) with ``channel_axis=-1``.

        Returns
        -------
        batch
            What `collate` returns, with other images in it.

        Raises
        ------
        TypeError, ValueError, ArithmeticError
            As :func:`splic_ext.complete`; a `key` that the batch does not have.
        ShapeError
            A `ValueError`: images of other axes, or channel last where `channel_axis` says
            otherwise.
        """
        return with_image(self.collate(samples), self.key, self._complete)

    def _complete(self, images: Any) -> Any:
        """Return a batch (N, C, H, W), (N, H, W, C), or of gray images (N, H, W), completed."""
        shape = tuple(getattr(images, "shape", ()))
        if len(shape) not in (3, 4):
            expected = "(N, C, H, W) or (N, H, W)"
            raise ShapeError(
                f"a batch of images must have shape {expected}, got {shape or type(images)}; name "
                "the images with `key`, and give all of them one size",
                shape,
                expected,
            )
        flat = len(shape) == 3  # gray images without an axis of channels
        if not flat:
            refuse_channel_last("images", shape[1:], self.channel_axis)
        done = complete(
            images[:, None] if flat else images,
            options=self.options,
            seed=fresh_seed(),
            backend=self.backend,
            threads=threads_here(self.threads),
            channel_axis=-3 if flat else self.channel_axis,
            data_range=self.data_range,
        )
        return done[:, 0] if flat else done
