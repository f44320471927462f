"""What a long computation is given, checked before any work."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from splic_ext.common.checks import check_integer
from splic_ext.data import Dataset, as_dataset
from splic_ext.defenses import Defense, RandomDefense
from splic_ext.defenses.trial import try_defense
from splic_ext.errors import AttackError, ShapeError
from splic_ext.runs.fingerprints import fingerprint_arrays
from splic_ext.runs.records import DatasetInfo

__all__ = [
    "MOST_SHARED",
    "check_dataset",
    "check_logits",
    "count_shared_images",
    "describe_dataset",
    "is_random",
    "network_device",
    "resolve_device",
    "unfit_weights",
]

#: Share of the test images that may be among the training images: large data sets hold a few twice.
MOST_SHARED = 0.01


def check_dataset(dataset: Any, limit: int | None = None) -> Dataset:
    """Return the images that something is done on, at least one, as a Dataset.

    What `as_dataset` takes counts; at most the first `limit` images are asked for.
    """
    limit = None if limit is None else check_integer("limit", limit, 1)
    data = as_dataset(dataset, limit=limit)
    if len(data) == 0:
        raise ValueError("`dataset` must hold an image at least; check the file and the split")
    return data


def describe_dataset(dataset: Dataset) -> DatasetInfo:
    """Return what a record says of images."""
    name, slash, split = dataset.name.partition("/")
    return DatasetInfo(
        name=name,
        split=split if slash else None,
        images=len(dataset),
        shape=tuple(dataset.images.shape[1:]),
        sha256=fingerprint_arrays(dataset.images, dataset.labels),
    )


def check_logits(parameter: str, logits: Any, count: int, largest: int, fewest: int = 1) -> None:
    """Raise unless a network returned logits (count, K), K at least `fewest` and above the labels.

    `parameter` names the network in messages.
    """
    shape = tuple(getattr(logits, "shape", ()))
    if (
        not isinstance(logits, torch.Tensor)
        or len(shape) != 2
        or shape[0] != count
        or shape[1] < fewest
    ):
        raise ShapeError(
            f"`{parameter}` must return logits of shape (N, K) = ({count}, at least {fewest}), got "
            f"{shape or type(logits).__name__}; wrap it in a module that does",
            shape,
            f"({count}, K)",
        )
    if largest >= shape[1]:
        raise ValueError(
            f"`{parameter}` has {shape[1]} outputs, but there is the label {largest}; "
            "give a network and images of the same classes"
        )


def unfit_weights(
    parameter: str, network: nn.Module, images: torch.Tensor, error: RuntimeError
) -> Exception | None:
    """Return our error in place of that of a network, if its weights are to blame."""
    text = str(error)
    if "nference tensor" in text:
        return ValueError(
            f"`{parameter}` must not compute with tensors made in `torch.inference_mode()`, which "
            "have no derivative; make them outside of it"
        )
    tensors = (*network.parameters(), *network.buffers())
    other = {str(part.dtype) for part in tensors if part.is_floating_point()} - {str(images.dtype)}
    if not other or isinstance(error, AttackError) or not re.search("type|not implemented", text):
        return None
    return TypeError(
        f"`{parameter}` must take images of {str(images.dtype).removeprefix('torch.')}, got "
        f"weights of {', '.join(sorted(other))}; convert it with "
        f"`{parameter}.{'double' if images.dtype == torch.float64 else 'float'}()`"
    )


def is_random(name: str, defense: Defense, images: torch.Tensor) -> bool:
    """Say whether a defence draws fresh masks in each forward, after trying it on images.

    One that is not of this library must be what :func:`splic_ext.defenses.trial.try_defense` asks.

    >>> from splic_ext.defenses import defense_from_spec
    >>> images = torch.rand(1, 1, 8, 8)
    >>> [is_random(spec, defense_from_spec(spec), images) for spec in ("tv", "usvt", "usvt:seed=1")]
    [False, True, False]
    """
    try_defense(defense, images)
    if any(isinstance(part, RandomDefense) and part.fresh for part in defense.modules()):
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


def count_shared_images(first: Dataset, second: Dataset) -> int:
    """Return how many images of a data set are also in another, to the byte."""
    if first.images.shape[1:] != second.images.shape[1:]:
        return 0
    known = {image.tobytes() for image in second.images}
    return sum(image.tobytes() in known for image in first.images)


def network_device(*models: nn.Module | str) -> torch.device:
    """Return the device of the first network that has one, else the CPU."""
    for model in models:
        for tensor in model.state_dict().values() if isinstance(model, nn.Module) else ():
            device: torch.device = tensor.device
            return device
    return torch.device("cpu")


def resolve_device(device: Any, model: nn.Module | str) -> torch.device:
    """Return the device to work on: that asked for, else that of the network, else the CPU.

    A network may be a name, which has no device.
    """
    if device is None:
        device = network_device(model)
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
