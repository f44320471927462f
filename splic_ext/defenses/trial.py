"""A defence of one's own, tried on a few images before hours of work."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch

from splic_ext.autograd.guards import without_autocast
from splic_ext.common.checks import reason_of, told_apart
from splic_ext.defenses.base import Defense, Index, gradient_mode, values_checked
from splic_ext.defenses.own import ModuleDefense, check_result, failed
from splic_ext.defenses.randomness import frozen_masks, seeded_masks
from splic_ext.defenses.simple import Compose
from splic_ext.errors import ShapeError

__all__ = ["is_own", "title_of", "try_defense", "without_derivative"]

#: Results may leave [0, 1] by this much, as overshoots do: they are clipped. More is another scale.
OVERSHOOT = 0.5
#: Images may differ by this much from what they are alone, by rounding.
ROUNDING = 1e-3


def is_own(defense: Defense) -> bool:
    """Say whether the code of a defence, or of a part of it, is not of this library.

    >>> from splic_ext.defenses import JPEG, Compose
    >>> is_own(JPEG()), is_own(Compose(ModuleDefense(torch.nn.Identity())))
    (False, True)
    """
    return any(_own(part) for part in defense.modules())


def title_of(defense: Defense) -> str:
    """Return the name of the class of a defence, of the module where it holds one."""
    return defense.title if isinstance(defense, ModuleDefense) else type(defense).__name__


def try_defense(defense: Defense, images: torch.Tensor) -> None:
    """Raise unless what is not of this library returns images as a defence must.

    Parameters
    ----------
    defense : Defense
        On the device of the images.
    images : tensor of shape (N, C, H, W)
        In [0, 1]; a few are enough.

    Raises
    ------
    TypeError, ValueError
        The result is no tensor, or one of another shape, dtype, device or scale than the images, or
        has NaN or infinity; an image is changed by others of its batch; the defence raises an
        error, which is the cause. The message names the class.

    Examples
    --------
    >>> bright = ModuleDefense(torch.nn.Threshold(2.0, 255.0))
    >>> try_defense(bright, torch.rand(1, 1, 8, 8))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: the defence `Threshold` must return images in [0, 1], got minimum 255 and ...
    """
    if is_own(defense):
        with torch.no_grad(), without_autocast(images.device), values_checked():
            _tried(defense, images.detach())


def without_derivative(defense: Defense, mode: str, images: torch.Tensor) -> str | None:
    """Say why a gradient mode of a defence is of no use to an attacker; None if it is.

    >>> flat = ModuleDefense(torch.nn.Threshold(2.0, 0.5))
    >>> without_derivative(flat, "exact", torch.rand(1, 1, 8, 8))
    'its derivative is 0'
    >>> without_derivative(flat, "identity", torch.rand(1, 1, 8, 8)) is None
    True
    """
    if mode == "identity" or not is_own(defense):
        return None
    inputs = images.detach().clone().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(images.shape, generator=generator).to(images)
    with (
        gradient_mode(defense, mode),
        torch.enable_grad(),
        warnings.catch_warnings(),
        seeded_masks(0),
        values_checked(),
    ):
        warnings.simplefilter("ignore")  # of what has no derivative, which is said here
        try:
            result = defense(inputs, index=0)
            if not result.requires_grad or any(
                isinstance(part, Defense) and part.underived for part in defense.modules()
            ):
                return "its result is detached from the images"
            (found,) = torch.autograd.grad((weights * result).sum(), inputs)
        except RuntimeError as error:
            return f"its derivative fails with {type(error).__name__}: {reason_of(error)}"
    if not bool(found.isfinite().all()):
        return "its derivative is NaN or infinite"
    return None if bool((found != 0).any()) else "its derivative is 0"


def _own(part: torch.nn.Module) -> bool:
    home = type(part).__module__.partition(".")[0]
    return isinstance(part, ModuleDefense) or (isinstance(part, Defense) and home != "splic_ext")


def _tried(defense: Defense, images: torch.Tensor) -> torch.Tensor:
    """Check each part by what it gets; return the defended images."""
    if isinstance(defense, Compose):
        for part in _parts(defense):
            images = _tried(part, images)
        return images
    if not _own(defense):
        with seeded_masks(0):
            passed: torch.Tensor = defense(images, index=0)
        return passed
    title, shape = title_of(defense), tuple(images.shape)
    with seeded_masks(0), frozen_masks():
        raw = _raw(defense, images, 0)
        check_result(title, raw, images)
        _check_values(title, raw)
        alone = _raw(defense, images[:1], 0)
        if tuple(alone.shape) != (1, *shape[1:]):
            check_result(title, alone, images[:1])
        difference = float((alone - raw[:1]).abs().max())
    if difference > ROUNDING and _repeats(defense, images):
        raise ValueError(
            f"the defence `{title}` must defend each image by itself, got values that differ by "
            f"{difference:.3g} without the other images of the batch; put batch normalisation "
            "into eval mode with `.eval()`, and take means over one image at a time"
        )
    return raw.clamp(0.0, 1.0)


def _repeats(defense: Defense, images: torch.Tensor) -> bool:
    """Say whether the same draw gives the same images; if not, another error tells of it."""
    with seeded_masks(0), frozen_masks():
        return torch.equal(_raw(defense, images, 0), _raw(defense, images, 0))


def _raw(defense: Defense, images: torch.Tensor, index: Index) -> torch.Tensor:
    """Return what the class itself returns, before it is clipped and converted."""
    plain = type(defense).defend is Defense.defend  # a class with a `forward` of its own
    try:
        raw: torch.Tensor
        raw = defense(images, index=index) if plain else defense.defend(images, index)
    except (TypeError, ValueError, NotImplementedError) as error:
        if isinstance(error, ShapeError) or str(error).startswith("the defence `"):
            raise
        raise failed(title_of(defense), images, error) from error
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any type: it is the code of others
        raise failed(title_of(defense), images, error) from error
    return raw


def _check_values(title: str, raw: torch.Tensor) -> None:
    low, high = (bound.item() for bound in raw.aminmax())
    if not bool(raw.isfinite().all()):
        raise ValueError(
            f"the defence `{title}` must return finite images, got NaN or infinity; look for "
            "divisions by 0, and roots and logarithms at 0"
        )
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise ValueError(
            f"the defence `{title}` must return images in [0, 1], got minimum "
            f"{told_apart(low, 0.0)} and maximum {told_apart(high, 1.0)}; scale or clip them, and "
            "normalise in the network"
        )


def _parts(defense: Compose) -> Iterator[Defense]:
    for part in defense.parts:
        assert isinstance(part, Defense)  # as Compose has checked
        yield part
