"""What a long computation is given, checked before any work."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from splic_ext.data import Dataset
from splic_ext.defenses import Defense, RandomDefense
from splic_ext.runs.fingerprints import fingerprint_arrays
from splic_ext.runs.records import DatasetInfo

__all__ = [
    "MOST_SHARED",
    "check_dataset",
    "check_outputs",
    "count_shared_images",
    "describe_dataset",
    "is_random",
    "resolve_device",
]


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


def describe_dataset(dataset: Dataset) -> DatasetInfo:
    """Return what a record says of images.

    Parameters
    ----------
    dataset : Dataset

    Examples
    --------
    >>> from splic_ext.data import load_dataset
    >>> describe_dataset(load_dataset("digits", limit=3)).split
    'test'
    """
    name, slash, split = dataset.name.partition("/")
    return DatasetInfo(
        name=name,
        split=split if slash else None,
        images=len(dataset),
        shape=tuple(dataset.images.shape[1:]),
        sha256=fingerprint_arrays(dataset.images, dataset.labels),
    )


def check_outputs(parameter: str, logits: Any, count: int, labels: npt.NDArray[Any]) -> None:
    """Raise unless what a network returned are logits for all classes.

    Parameters
    ----------
    parameter : str
        Names the network in messages.
    logits : object
        What it returned.
    count : int
        Number of images that it was given.
    labels : ndarray of shape (M,)
        All labels.

    Raises
    ------
    ValueError
        As said.

    Examples
    --------
    >>> import numpy as np
    >>> check_outputs("model", torch.zeros(2, 10), 2, np.array([3, 9]))
    """
    shape = tuple(getattr(logits, "shape", ()))
    if not isinstance(logits, torch.Tensor) or len(shape) != 2 or shape[0] != count:
        raise ValueError(
            f"`{parameter}` must return logits of shape (N, K) = ({count}, K), got "
            f"{shape or type(logits).__name__}; wrap it in a module that does"
        )
    if int(labels.max()) >= shape[1]:
        raise ValueError(
            f"`{parameter}` has {shape[1]} outputs, but there is the label {int(labels.max())}; "
            "give a network and images of the same classes"
        )


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


#: Share of the test images that may be among the training images: large data sets hold a few twice.
MOST_SHARED = 0.01


def count_shared_images(first: Dataset, second: Dataset) -> int:
    """Return how many images of a data set are also in another, to the byte.

    Parameters
    ----------
    first, second : Dataset

    Examples
    --------
    >>> from splic_ext.data import load_dataset
    >>> digits = load_dataset("digits", limit=10)
    >>> count_shared_images(digits.first(5), digits)
    5
    """
    if first.images.shape[1:] != second.images.shape[1:]:
        return 0
    known = {image.tobytes() for image in second.images}
    return sum(image.tobytes() in known for image in first.images)


def resolve_device(device: Any, model: nn.Module | str) -> torch.device:
    """Return the device to work on: that asked for, else that of the network, else the CPU.

    Parameters
    ----------
    device : str, torch.device or None
    model : nn.Module or str
        A name has no device.

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
