"""The first layer of every network: from images in [0, 1] to what the network was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from splic_ext.common.checks import check_integer, check_number
from splic_ext.errors import ShapeError

__all__ = ["MAX_CLASSES", "Normalize", "constants_for"]

#: A guard against a number of images or pixels given as `num_classes`.
MAX_CLASSES = 2**20


def constants_for(
    channels: int | None, mean: Sequence[float], std: Sequence[float]
) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and deviation: a network's own, or 0 and 1 for another number of channels.

    So where an encoding such as (x, 1 - x) has zeros for what is hidden, they stay zeros.

    >>> constants_for(None, [0.4], [0.2]), constants_for(2, [0.4], [0.2])
    (([0.4], [0.2]), ([0.0, 0.0], [1.0, 1.0]))
    """
    count = len(mean) if channels is None else check_integer("channels", channels, 1, 2**10)
    return (mean, std) if count == len(mean) else ([0.0] * count, [1.0] * count)


class Normalize(nn.Module):
    r"""Subtract the mean of each channel and divide by its standard deviation.

    .. math:: y_c = (x_c - \mathrm{mean}_c) / \mathrm{std}_c

    Both are buffers: they move with the network, and are saved and loaded with its weights.

    Parameters
    ----------
    mean, std : sequence of float
        One value for each channel, on the scale of [0, 1]; `std` is positive.

    Raises
    ------
    TypeError
        A value that is no number; in a call, images that are no floating-point tensor.
    ValueError
        Not one value for each channel, or out of range.
    ShapeError
        In a call, images that are not (N, C, H, W) with as many channels.

    Examples
    --------
    >>> import torch
    >>> Normalize([0.5], [0.25])(torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    tensor([[[[-2.,  0.,  2.]]]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        means = [check_number("mean", value, -1e6, 1e6) for value in mean]
        stds = [check_number("std", value, 0.0, 1e6, above=True) for value in std]
        if not means or len(means) != len(stds):
            raise ValueError(
                "`mean` and `std` must have one value for each channel, "
                f"got {len(means)} and {len(stds)}; give as many of both"
            )
        self.register_buffer("mean", torch.tensor(means).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(stds).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised images.

        Parameters
        ----------
        images : Tensor of shape (N, C, H, W), floating point
            In [0, 1].

        Returns
        -------
        Tensor of shape (N, C, H, W)
        """
        if not images.is_floating_point():
            raise TypeError(
                f"`images` must be a floating-point tensor in [0, 1], got {images.dtype}; "
                "convert bytes with `images.float() / 255`"
            )
        channels = self.mean.shape[0]
        if images.ndim != 4 or images.shape[1] != channels:
            expected = f"(N, {channels}, H, W)"
            raise ShapeError(
                f"`images` must have shape {expected}, got {tuple(images.shape)}; "
                f"{_advice(tuple(images.shape), channels)}",
                tuple(images.shape),
                expected,
            )
        return (images - self.mean) / self.std

    def extra_repr(self) -> str:
        """Show the constants in the repr of a network."""
        mean, std = (
            ", ".join(f"{v:.4g}" for v in t.flatten().tolist()) for t in (self.mean, self.std)
        )
        return f"mean=({mean}), std=({std})"


def _advice(shape: tuple[int, ...], channels: int) -> str:
    """Say how images of this shape become a batch of images with so many channels."""
    if len(shape) == 3:
        return "add the axis of a single image with `images[None]`"
    if len(shape) != 4:
        return "give a batch of images"
    if shape[1] not in (1, 3) and shape[3] in (1, 3):
        return (
            "move the channels first, with `images.permute(0, 3, 1, 2)`, or `transpose` of an array"
        )
    return (
        f"the network takes {channels} channel{'s' * (channels != 1)}, and the images have "
        f"{shape[1]}: give another network or other images"
    )
