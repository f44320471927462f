"""What a fill is: a torch module that gives values to hidden pixels from the visible ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from splic_ext.autograd.guards import without_autocast
from splic_ext.defenses.images import check_form, check_images
from splic_ext.errors import ShapeError

__all__ = ["EMPTY", "Fill", "FunctionFill", "check_visible"]

#: What every pixel gets of an image of which nothing is visible.
EMPTY = 0.5


class Fill(nn.Module):
    """Base class of the fills: images with hidden pixels, and a mask, to images without holes.

    A subclass implements :meth:`fill`. This class checks what comes in, sets the hidden pixels to
    0 before the subclass sees them, and puts the visible ones back afterwards, bit for bit. So the
    result is a function of the visible pixels alone, which is what makes a certificate by hidden
    pixels a proof ([1]_, section 3). Half-precision images are computed in float32.

    Attributes
    ----------
    differentiable : bool
        Whether the filled pixels have a derivative in the visible ones. Without it the gradient
        passes through the visible pixels alone.
    outputs : int
        Channels of the result for each channel of the images: 1, but for encodings that tell the
        network what is hidden.
    shown : tuple of str
        Attributes that the repr shows: all parameters, since results are found by it.

    References
    ----------
    .. [1] C. Xiang, S. Mahloujifar, P. Mittal, "PatchCleanser: Certifiably Robust Defense against
       Adversarial Patches for Any Image Classifier", USENIX Security 2022.

    Examples
    --------
    >>> class White(Fill):
    ...     def fill(self, images, mask):
    ...         return torch.ones_like(images)
    >>> mask = torch.tensor([[True, False]])
    >>> White()(torch.full((1, 1, 1, 2), 0.25), mask)
    tensor([[[[0.2500, 1.0000]]]])
    """

    differentiable: ClassVar[bool] = True
    outputs: ClassVar[int] = 1
    shown: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()

    def extra_repr(self) -> str:
        """Return the parameters, as the constructor takes them."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.shown)

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Fill the hidden pixels.

        Parameters
        ----------
        images : tensor of shape (N, C, H, W), float16, bfloat16, float32 or float64
            In [0, 1] where visible; hidden pixels may be anything, NaN too.
        mask : bool tensor of shape (H, W), or (M, 1, H, W)
            True = visible, False = hidden, the same for all channels. M is N; or one of M and N
            is 1, and stands for as many as the other.

        Returns
        -------
        tensor of shape (max(M, N), C * outputs, H, W)
            In [0, 1], dtype and device of `images`; visible pixels are those of `images`. Where
            nothing is visible all is 0.5. With `outputs` above 1 all is as the subclass says.

        Raises
        ------
        TypeError, ValueError
            As for a :class:`splic_ext.defenses.Defense`; a `mask` of another dtype or device; a
            fill that returns NaN or infinity.
        ShapeError
            A `ValueError`: another shape of `images`, of `mask`, or of what the subclass returns.
        """
        check_form(images)
        visible = check_visible(mask, images)
        erased = torch.where(visible, images, images.new_zeros(()))
        check_images(erased)
        with without_autocast(images.device):
            work = erased if erased.dtype == torch.float64 else erased.float()
            work = work.clamp(0.0, 1.0)
            shown = visible.expand(len(work), 1, *work.shape[2:])
            return self._finish(work, shown).to(images.dtype)

    def _finish(self, work: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the filled images, of which the subclass decides the hidden pixels alone."""
        # Copies: what the subclass writes to decides nothing, and their layout is always the same.
        given = [x.clone(memory_format=torch.contiguous_format) for x in (work, mask)]
        count, channels, *sides = work.shape
        expected = (count, channels * self.outputs, *sides)
        filled = self.fill(*given) if count else work.new_zeros(expected)
        if not isinstance(filled, torch.Tensor) or tuple(filled.shape) != expected:
            got = tuple(filled.shape) if isinstance(filled, torch.Tensor) else type(filled).__name__
            raise ShapeError(
                f"the fill {self!r} must return images of shape {expected}, got {got}; return one "
                "image for each image and mask",
                got if isinstance(got, tuple) else (),
                str(expected),
            )
        if self.outputs == 1:
            empty = ~mask.flatten(1).any(dim=1)[:, None, None, None]
            filled = torch.where(empty, filled.new_tensor(EMPTY), filled)
        if not bool(filled.detach().isfinite().all()):
            raise ValueError(
                f"the fill {self!r} must return finite images, got NaN or infinity; mend it"
            )
        filled = filled.clamp(0.0, 1.0).to(work.dtype)
        return torch.where(mask, work, filled) if self.outputs == 1 else filled

    def fill(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return images whose hidden pixels have values; what a subclass implements.

        Parameters
        ----------
        images : tensor of shape (N, C, H, W), float32 or float64
            In [0, 1]; hidden pixels are 0, and must not be looked at: certificates try a fill
            with other values there, and refuse it if its result changes.
        mask : bool tensor of shape (N, 1, H, W)
            True = visible. A row may have no visible pixel: its result does not count.

        Returns
        -------
        tensor of shape (N, C * outputs, H, W)
            Each image a function of its own visible pixels and mask, without randomness. Visible
            pixels of it do not count, where `outputs` is 1; excess over [0, 1] is clipped.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement the method `fill`")


class FunctionFill(Fill):
    """A function of one's own as a fill.

    Parameters
    ----------
    function : callable
        Images (N, C, H, W) and mask (N, 1, H, W) to images; see :meth:`Fill.fill`.

    Raises
    ------
    TypeError
        `function` cannot be called.

    Examples
    --------
    >>> def black(images, mask):
    ...     return images * mask
    >>> FunctionFill(black)
    FunctionFill(function='black')
    """

    shown: ClassVar[tuple[str, ...]] = ("function",)

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(
                f"`function` must be callable with images and mask, got {type(function).__name__}; "
                "pass a function, or derive a class from Fill"
            )
        self._function = function
        self.function = getattr(function, "__qualname__", type(function).__qualname__)

    def fill(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Call the function."""
        return self._function(images, mask)


def check_visible(mask: Any, images: torch.Tensor) -> torch.Tensor:
    """Return the mask as (M, 1, H, W), or raise unless it fits the images."""
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise TypeError(
            f"`mask` must be a bool tensor (True = visible), got {kind}; convert it with `mask > 0`"
        )
    if mask.device != images.device:
        raise ValueError(
            f"`mask` must be on the device of `images`, {images.device}, got {mask.device}; move "
            "one of them"
        )
    count, _, height, width = images.shape
    whole = mask[None, None] if mask.ndim == 2 else mask
    fits = whole.ndim == 4 and tuple(whole.shape[1:]) == (1, height, width)
    if not fits or not (len(whole) == count or 1 in (len(whole), count)):
        expected = f"({height}, {width}) or (M, 1, {height}, {width}) with M = {count}"
        if count == 1:
            expected = f"({height}, {width}) or (M, 1, {height}, {width})"
        raise ShapeError(
            f"`mask` must have shape {expected} for images of shape {tuple(images.shape)}, got "
            f"{tuple(mask.shape)}; one mask serves all channels",
            tuple(mask.shape),
            expected,
        )
    return whole
