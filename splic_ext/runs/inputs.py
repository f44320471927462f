"""What a long computation is given, checked before any work."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from splic_ext.data import Dataset
from splic_ext.defenses import Defense, RandomDefense

__all__ = ["check_dataset", "is_random", "resolve_device"]


def check_dataset(dataset: Any) -> None:
    """Raise unless `dataset` is a Dataset that holds an image at least.

    Parameters
    ----------
    dataset : object
        What a caller passed.

    Raises
    ------
    TypeError, ValueError
        As said.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"`dataset` must be a Dataset, got {type(dataset).__name__}; make one with "
            "`load_dataset`, or `Dataset(name, images, labels, classes)`"
        )
    if len(dataset) == 0:
        raise ValueError("`dataset` must hold an image at least; check the file and the split")


def is_random(name: str, defense: Defense, images: torch.Tensor) -> bool:
    """Say whether a defence draws fresh masks in each forward.

    Parameters
    ----------
    name : str
        Names it in messages.
    defense : Defense
    images : tensor of shape (N, C, H, W)
        To try it on.

    Raises
    ------
    ValueError
        It is random in a way that cannot be repeated, or returns NaN or infinity.

    Examples
    --------
    >>> from splic_ext.defenses import defense_from_spec
    >>> images = torch.rand(1, 1, 8, 8)
    >>> [is_random(spec, defense_from_spec(spec), images) for spec in ("tv", "usvt", "usvt:seed=1")]
    [False, True, False]
    """
    if any(isinstance(part, RandomDefense) and part.seed is None for part in defense.modules()):
        return True
    with torch.no_grad():
        first, second = defense(images), defense(images)
    if not (first.isfinite().all() and second.isfinite().all()):
        raise ValueError(f"the defence {name!r} returns NaN or infinity; mend it")
    if not torch.equal(first, second):
        raise ValueError(
            f"the defence {name!r} returns other images in each forward, which no seed makes "
            "repeatable; derive it from RandomDefense and take its masks from `draw()`"
        )
    return False


def resolve_device(device: Any, model: nn.Module) -> torch.device:
    """Return the device to work on: that asked for, else that of the network, else the CPU.

    Parameters
    ----------
    device : str, torch.device or None
    model : nn.Module

    Raises
    ------
    ValueError
        There is no such device here.

    Examples
    --------
    >>> resolve_device(None, nn.Linear(2, 2))
    device(type='cpu')
    """
    if device is None:
        tensors = list(model.state_dict().values()) if isinstance(model, nn.Module) else []
        device = tensors[0].device if tensors else "cpu"
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()  # which the device "meta" refuses
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"`device` must be one that torch can use here, got {str(device)!r}: {reason}; "
            "leave it out for that of the network"
        ) from None
    return found
