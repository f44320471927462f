"""Weights from files, checked against the network before it is touched."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from splic_ext.common.checks import reason_of
from splic_ext.common.optional import optional
from splic_ext.models.pickled import UnsafeError, check_saved

__all__ = ["load_weights"]

Network = TypeVar("Network", bound=nn.Module)

#: Where checkpoints keep the weights, beside epochs, optimisers and the like.
CONTAINERS = ("state_dict", "model_state_dict", "model", "net")

#: What a file may lack: the network has it from its builder.
OPTIONAL = (".num_batches_tracked", "normalize.mean", "normalize.std")

#: Name of the weights in the folder of a training.
USUAL = "weights.safetensors"

#: What wrappers put beside the network: averaged models, and our own `Defended`.
BESIDE = (".n_averaged.", ".defense.")

SHOWN = 5


def load_weights(model: Network, path: str | os.PathLike[str]) -> Network:
    """Load the weights of a file into a network.

    Nothing in the file is run: it is read by ``torch.load(weights_only=True)``, or by safetensors
    if its name ends in ``.safetensors``. A prefix of all names, left by a wrapper, is taken off:
    ``module.`` of data-parallel training and averaged models, ``_orig_mod.`` of compiled ones,
    ``model.`` of Lightning and of our own ``Defended``, and others. What wrappers have beside it
    is left out. Weights are looked for under ``state_dict`` and the like. The normalisation is
    taken from the file if it is there. The network is changed only if all of the file fits.

    Parameters
    ----------
    model : torch.nn.Module
        A network, such as from :func:`~splic_ext.models.build_model`; on any device.
    path : path
        The file.

    Returns
    -------
    torch.nn.Module
        `model` itself, in the mode, training or evaluation, that it was in.

    Raises
    ------
    FileNotFoundError
        There is no such file, or it is a folder.
    ValueError
        The file holds no weights, or those of another network: the message has the names.
    MissingExtraError
        safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from splic_ext.models import digits_cnn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(digits_cnn().state_dict(), f"{folder}/digits.pt")
    ...     network = load_weights(digits_cnn(), f"{folder}/digits.pt").eval()
    """
    path = Path(path)
    if path.is_dir():
        fix = f"'{path / USUAL}'" if (path / USUAL).is_file() else "the file in it"
        raise FileNotFoundError(f"the weights file '{path}' is a folder; give {fix}")
    if not path.is_file():
        raise FileNotFoundError(f"the weights file '{path}' does not exist; check its path")
    own: dict[str, Tensor] = model.state_dict()
    given, prefix = _unwrapped(_tensors(_read(path), path), own)
    missing = [key for key in own if key not in given and not key.endswith(OPTIONAL)]
    unexpected = [key for key in given if key not in own]
    if missing or unexpected:
        told = f", without the prefix {prefix!r} of its names" if prefix else ""
        raise ValueError(
            f"the weights file '{path}' is of another network than {type(model).__name__}{told}: "
            f"missing {_names(missing)}, unexpected {_names(unexpected)}; "
            "build the network that the file was saved from"
        )
    other = [key for key, value in given.items() if value.shape != own[key].shape]
    if other:
        key, pairs = other[0], [(given[key], own[key]) for key in other]
        classes, channels = _other_classes(pairs), _other_channels(pairs)
        fix = "the `num_classes` and the widths of the file"
        if classes is not None:
            fix = f"`num_classes={classes}`"
        elif channels is not None:
            fix = f"`channels={channels}`"
        raise ValueError(
            f"the weights file '{path}' has `{key}` of shape {tuple(given[key].shape)}, expected "
            f"{tuple(own[key].shape)}; build the network with {fix}"
        )
    model.load_state_dict(own | given)
    return model


def _read(path: Path) -> Any:
    if path.suffix.lower() == ".safetensors":
        with optional("`load_weights`", "torch", "safetensors"):
            safetensors: Any = import_module("safetensors.torch")
        read = safetensors.load_file
    else:

        def read(file: Path) -> Any:
            content = file.read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old storages, and odd escapes in texts
                check_saved(content)
                # in memory, where a length that is damaged allocates nothing
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    try:
        return read(path)
    except MemoryError:
        raise
    except Exception as error:  # of any type: the content of a damaged file is anything
        # torch's own words advise to run what is in the file.
        advice = isinstance(error, pickle.UnpicklingError)
        raise ValueError(
            f"the weights file '{path}' cannot be read: {_reason(error)}; "
            "give a file written by `torch.save(model.state_dict(), path)` or by safetensors"
        ) from (None if advice else error)


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights by name, without containers."""
    for name in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    ):
        raise ValueError(
            f"the weights file '{path}' must hold a dict of names to tensors, or one under "
            f"{', '.join(CONTAINERS)}, got {type(content).__name__}; "
            "save `model.state_dict()`, not the model"
        )
    return dict(content)


def _unwrapped(
    given: dict[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str]:
    """Return the weights without the prefix that a wrapper put before all names, and the prefix."""
    needed = [key for key in own if not key.endswith(OPTIONAL)]
    kept = {k: v for k, v in given.items() if k in own or not _is_beside(k)}
    if not needed or needed[0] in given:
        return kept, ""
    # A name such as conv1.weight is also the end of others: the prefix is what all names share.
    ends = (key for key in kept if key.endswith(f".{needed[0]}"))
    found = {key.removesuffix(needed[0]) for key in ends}
    prefix = next((p for p in found if all(key.startswith(p) for key in kept)), "")
    return {key.removeprefix(prefix): value for key, value in kept.items()}, prefix


def _is_beside(key: str) -> bool:
    return any(part in f".{key}." for part in BESIDE)


def _names(keys: list[str]) -> str:
    if not keys:
        return "none"
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


def _other_classes(pairs: list[tuple[Tensor, Tensor]]) -> int | None:
    """Return the outputs of the file, if tensors there and here differ in their number alone."""
    counts = {(there.shape[:1], here.shape[:1]) for there, here in pairs}
    if len(counts) == 1 and all(t.shape[1:] == h.shape[1:] and t.ndim for t, h in pairs):
        return int(pairs[0][0].shape[0])
    return None


def _other_channels(pairs: list[tuple[Tensor, Tensor]]) -> int | None:
    """Return the input channels of the file, if these alone differ: constants and a convolution."""
    first = [(t, h) for t, h in pairs if t.ndim == h.ndim == 4]
    rest = [(t, h) for t, h in pairs if t.ndim == h.ndim == 3 and t.shape[1:] == h.shape[1:]]
    if len(first) != 1 or len(first) + len(rest) != len(pairs):
        return None
    there, here = first[0]
    inputs = int(there.shape[1])
    alike = there.shape[0] == here.shape[0] and there.shape[2:] == here.shape[2:]
    return inputs if alike and all(len(t) == inputs for t, _ in rest) else None


def _reason(error: Exception) -> str:
    """Say in one line why a file cannot be read."""
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than tensors, or is no weights file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnsafeError) or type(error).__name__ == "SafetensorError":
        return reason_of(error)
    return "it is damaged, or no weights file"
