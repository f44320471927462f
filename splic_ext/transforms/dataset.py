"""A data set whose samples know their number and the epoch."""

from __future__ import annotations

from functools import partial
from typing import Any

from splic_ext.common.checks import check_integer
from splic_ext.common.optional import optional
from splic_ext.transforms.image import MOST, Complete
from splic_ext.transforms.samples import Key, check_key, with_image

__all__ = ["CompletedDataset"]


class CompletedDataset:
    """A map-style data set with completed images; each mask belongs to a sample and an epoch.

    Parameters
    ----------
    dataset : object with ``__len__`` and ``__getitem__``
        Samples are images, tuples or lists that hold one, or mappings. Images are those that
        :class:`Complete` takes: before they are normalised.
    transform : Complete
        With a seed, sample i has the mask of its number and of the epoch; without one, fresh
        masks.
    key : int or str, optional
        Place of the image in a tuple, its name in a mapping. Default: the first part of a tuple or
        list; all else is the image itself. Mappings need it.

    Raises
    ------
    TypeError
        A data set without a length or items, a transform of another kind, or such a `key`.
    MissingExtraError
        torch is not installed.

    Notes
    -----
    *Processes*: workers see the epoch that :meth:`set_epoch` sets in the process that made the
    data set, those with ``persistent_workers=True`` too: it is in shared memory.

    Examples
    --------
    >>> import torch
    >>> from splic_ext.transforms import Complete, CompletedDataset
    >>> plain = [(torch.rand(3, 8, 8), label) for label in range(4)]
    >>> dataset = CompletedDataset(plain, Complete(seed=0))
    >>> first, label = dataset[2]
    >>> dataset.set_epoch(1)
    >>> bool((dataset[2][0] == first).all()), label
    (False, 2)
    """

    def __init__(self, dataset: Any, transform: Complete, *, key: Key = None) -> None:
        with optional("`CompletedDataset`", "torch", "torch"):
            import torch
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(
                f"`dataset` must have a length and items, got {type(dataset).__name__}; use "
                "Complete or CompleteCollate with an iterable one"
            )
        if not isinstance(transform, Complete):
            raise TypeError(
                f"`transform` must be a Complete, got {type(transform).__name__}; pass "
                "splic_ext.transforms.Complete(...), and apply other transforms before or after"
            )
        self.dataset, self.transform, self.key = dataset, transform, check_key(key)
        shared: Any = torch.zeros((), dtype=torch.int64)
        self._epoch = shared.share_memory_()

    def __repr__(self) -> str:
        return f"CompletedDataset({self.dataset!r}, {self.transform!r}, key={self.key!r})"

    @property
    def epoch(self) -> int:
        """Number of the epoch."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Give all samples the masks of that epoch, as ``DistributedSampler.set_epoch`` does.

        Call it before the data loader is iterated over. Without a call the masks of a transform
        with a seed stay the same.

        Parameters
        ----------
        epoch : int
            In [0, 2**32).

        Raises
        ------
        TypeError, ValueError
            An epoch of the wrong kind, or out of range.
        """
        self._epoch.fill_(check_integer("epoch", epoch, 0, MOST - 1))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Return a sample with its image completed; its number counts from 0, also if negative."""
        length = len(self.dataset)
        number = check_integer("index", index, -length, length - 1) % length
        change = partial(self.transform, index=number, epoch=self.epoch)
        return with_image(self.dataset[index], self.key, change)
