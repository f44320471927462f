"""Networks of others: made by their place, and normalised where they do not do it themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from splic_ext.common.checks import reason_of, shortened
from splic_ext.common.outside import import_object, split_place
from splic_ext.models.layers import Normalize
from splic_ext.specs import parse_parameters

__all__ = ["Normalized", "normalized", "own_model"]


class Normalized(nn.Module):
    """A network that gets normalised images: ``model(normalize(images))``.

    Parameters
    ----------
    model : nn.Module
        From normalised images to logits.
    mean, std : sequence of float
        One value for each channel; see :class:`Normalize`.

    Raises
    ------
    TypeError, ValueError
        As :class:`Normalize`.

    Examples
    --------
    >>> import torch
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    >>> Normalized(network, [0.5] * 3, [0.25] * 3)(torch.rand(4, 3, 2, 2)).shape
    torch.Size([4, 5])
    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.model = model

    def forward(self, images: Tensor) -> Any:
        """Return what the network makes of the normalised images."""
        return self.model(self.normalize(images))


def own_model(place: str, num_classes: int | None = None, channels: int | None = None) -> nn.Module:
    """Return the network that stands at a place. This runs the code of its module or file.

    Parameters
    ----------
    place : str
        ``package.module:name`` or ``folder/file.py:name``, see
        ``splic_ext.common.outside.import_object``; parameters may follow a second colon, as in
        ``"torchvision.models:resnet18:num_classes=10"``. What stands there is a class or a function
        that returns a network, or a network itself.
    num_classes, channels : int, optional
        Passed on under these names to a function or class that has such parameters, unless the
        place gives them.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    TypeError
        It is no network, or a parameter is missing or unknown.
    ValueError
        No such place, or its code raises an error, which is the cause.

    Examples
    --------
    >>> own_model("torch.nn:Linear:in_features=4,out_features=2")
    Linear(in_features=4, out_features=2, bias=True)
    """
    parts = split_place(place)
    home, name, rest = ("", "", "") if parts is None else parts
    short = f"{home}:{name}" if home else place
    found = import_object(short, "network")
    parameters: dict[str, Any] = parse_parameters(rest, place, short) if rest else {}
    if isinstance(found, nn.Module) and not parameters:
        return found
    if isinstance(found, nn.Module) or not callable(found):
        raise TypeError(
            f"the network {short!r} must be a class or a function that returns a network, got "
            f"{type(found).__name__}{' with parameters' if parameters else ''}; name such a one"
        )
    _pass_on(found, parameters, num_classes=num_classes, channels=channels)
    made = _call(found, short, parameters)
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"the network {short!r} must be a torch.nn.Module, got {type(made).__name__}; return "
            "one"
        )
    return made


def normalized(
    network: nn.Module, mean: Any, std: Any, name: str, channels: int | None = None
) -> nn.Module:
    """Return a network behind a normalisation, by one number for all `channels` or one for each.

    Without `mean` and `std` it is the network itself.

    >>> normalized(nn.Flatten(), 0.5, 0.25, "mine.py:net", channels=3).normalize
    Normalize(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    """
    if mean is None and std is None:
        return network
    if mean is None or std is None:
        raise ValueError(
            f"`mean` and `std` belong together, got {'`std`' if mean is None else '`mean`'} alone; "
            "give both"
        )
    if split_place(name) is None:
        raise ValueError(
            f"`mean` and `std` are for networks of your own, got {shortened(repr(name))}, whose "
            "first layer is its normalisation; leave them out"
        )
    values = []
    for value in (mean, std):
        listed = list(value) if isinstance(value, (list, tuple)) else [value]
        values.append(listed * channels if len(listed) == 1 and channels else listed)
    return Normalized(network, *values)


def _pass_on(make: Callable[..., Any], parameters: dict[str, Any], **known: int | None) -> None:
    """Add what a function takes by these names."""
    try:
        names = inspect.signature(make).parameters
    except (TypeError, ValueError):  # one in C
        return
    for key, value in known.items():
        if key in names and value is not None:
            parameters.setdefault(key, value)


def _call(make: Callable[..., Any], name: str, parameters: dict[str, Any]) -> Any:
    try:
        inspect.signature(make).bind(**parameters)
    except TypeError as error:
        raise TypeError(
            f"the network {name!r} cannot be called with {', '.join(parameters) or 'no parameters'}"
            f": {reason_of(error)}; write it like '{name}:key=value'"
        ) from None
    except ValueError:  # of one in C there is no signature
        pass
    try:
        return make(**parameters)
    except Exception as error:  # of any type: it is the code of others
        raise ValueError(
            f"the network {name!r} cannot be made: {type(error).__name__}: {reason_of(error)}; "
            "give other parameters, or mend its code"
        ) from error
