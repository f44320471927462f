"""Networks by name or place, with their weights, and tried on the images that they are for."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import nn

from splic_ext.common.checks import reason_of, shortened
from splic_ext.common.outside import split_place
from splic_ext.data import Dataset
from splic_ext.errors import ShapeError
from splic_ext.models import build_model, load_weights
from splic_ext.models.own import normalized, own_model
from splic_ext.runs.inputs import check_dataset

__all__ = ["check_own_network", "load_network"]


def load_network(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    channels: int | None = None,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    dataset: Dataset | None = None,
) -> nn.Module:
    """Return a network with its weights, in evaluation mode.

    Parameters
    ----------
    name : str
        One of :data:`splic_ext.models.MODELS`; or the place of one's own, such as
        ``"mine.py:make_network"``, see :func:`splic_ext.models.own_model`: its code is run.
    weights : path, optional
        A file for :func:`splic_ext.models.load_weights`. Only a network of one's own may go
        without, which then has those that its code gives it.
    num_classes : int, optional
        Number of outputs. Default: that of the data set, else 10.
    channels : int, optional
        See :func:`splic_ext.models.build_model`; the record of a training has them.
    mean, std : float or sequence of float, optional
        For a network of one's own that does not normalise itself: one number, or one for each
        channel, on the scale of [0, 1].
    dataset : Dataset, optional
        The images that it is for: four of them are classified.

    Returns
    -------
    nn.Module

    Raises
    ------
    FileNotFoundError, TypeError, ValueError, MissingExtraError
        As :func:`splic_ext.models.build_model`, :func:`splic_ext.models.own_model` and
        :func:`splic_ext.models.load_weights`; a network without weights; one of one's own that
        does not take the images, or has not as many outputs as there are classes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(build_model("digits_cnn").state_dict(), f"{folder}/digits.pt")
    ...     load_network("digits_cnn", f"{folder}/digits.pt").training
    False
    """
    if dataset is not None:
        check_dataset(dataset)  # of no classes there is no network
    usual = 10 if dataset is None else len(dataset.classes)
    classes = usual if num_classes is None else num_classes
    if not isinstance(name, str) or split_place(name) is None:
        network = build_model(name, classes, channels)
        normalized(network, mean, std, name)  # which refuses them
        if weights is None:
            raise ValueError(
                f"`weights` must be given for the network {name!r}, which is random without them; "
                "train it, or give a network of your own that has its weights"
            )
        return load_weights(network, weights).eval()
    count = channels if channels is not None or dataset is None else dataset.images.shape[1]
    network = normalized(own_model(name, classes, count), mean, std, name, count).eval()
    if weights is not None:
        _load(network, weights)
    if dataset is not None and channels is None:
        check_own_network(name, network, dataset, classes)
    return network


def _load(network: nn.Module, weights: str | os.PathLike[str]) -> None:
    """Load weights of the whole, or of what a normalisation was put before."""
    inner = getattr(network, "model", None)
    if isinstance(inner, nn.Module) and hasattr(network, "normalize"):
        try:
            load_weights(network, weights)
        except ValueError:
            load_weights(inner, weights)
        return
    load_weights(network, weights)


def check_own_network(name: str, network: nn.Module, dataset: Dataset, classes: int) -> None:
    """Raise unless a network of one's own takes the images, and has an output for each class."""
    images = torch.from_numpy(dataset.first(4).to_float())
    device = next((part.device for part in network.parameters()), images.device)
    shown, shape = shortened(repr(name)), tuple(images.shape)
    try:
        with torch.no_grad():
            logits = network(images.to(device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any type: it is the code of others
        raise ValueError(
            f"the network {shown} must take images of shape (N, C, H, W) = {shape}, got "
            f"{type(error).__name__}: {reason_of(error)}; give a network for such images, or other "
            "images"
        ) from error
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    expected = (len(images), classes)
    if found != expected:
        raise ShapeError(
            f"the network {shown} must return logits of shape (N, classes) = {expected}, got "
            f"{found}; give it a parameter `num_classes`, or set its outputs in its code",
            found if isinstance(found, tuple) else (),
            str(expected),
        )
