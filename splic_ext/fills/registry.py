"""Fills by name, and from the texts of a command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from splic_ext.defenses import Defense
from splic_ext.fills.base import Fill, FunctionFill
from splic_ext.fills.biharmonic import Biharmonic
from splic_ext.fills.constant import Constant, Mean
from splic_ext.fills.encodings import Null
from splic_ext.fills.opencv import NavierStokes, Telea
from splic_ext.fills.splic import SPLICFill
from splic_ext.fills.thinplate import ThinPlate
from splic_ext.fills.tv import TVInpainting
from splic_ext.options import SolverOptions
from splic_ext.specs import parse_spec

__all__ = ["ENCODINGS", "FILLS", "as_fill", "create_fill", "fill_from_spec"]

#: Name -> class; see :func:`create_fill`.
FILLS: Mapping[str, type[Fill]] = MappingProxyType(
    {
        "gray": Constant,
        "mean": Mean,
        "telea": Telea,
        "navier-stokes": NavierStokes,
        "biharmonic": Biharmonic,
        "thin-plate": ThinPlate,
        "tv": TVInpainting,
        "splic": SPLICFill,
    }
)

#: Name -> class of fills that return more channels than the images have, for networks made for it.
ENCODINGS: Mapping[str, type[Fill]] = MappingProxyType({"null": Null})

_OPTIONS = tuple(field.name for field in fields(SolverOptions))


def create_fill(name: str, **parameters: Any) -> Fill:
    """Return the fill of that name.

    Parameters
    ----------
    name : str
        One of :data:`FILLS` or :data:`ENCODINGS`.
    **parameters
        As the class takes them. ``"splic"`` takes the fields of
        :class:`splic_ext.SolverOptions` as well, and `preset`, the name of the preset whose
        fields these change: ``"refine"`` by default. Its `start` is that of
        :class:`splic_ext.fills.SPLICFill` or ``"zero"``; the field of that name follows.

    Returns
    -------
    Fill

    Raises
    ------
    ValueError
        No fill of this name, or a parameter out of its range.
    TypeError
        A parameter that the fill does not have, or of the wrong kind.
    MissingExtraError
        What the fill needs is not installed.

    Examples
    --------
    >>> create_fill("gray", value=0.25)
    Constant(value=0.25)
    >>> create_fill("splic", tv_weight=0.1).options.alternate
    False
    """
    kinds = {**FILLS, **ENCODINGS}
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(f"fill name must be one of {', '.join(kinds)}, got {name!r}; choose one")
    kind = kinds[name]
    known = list(inspect.signature(kind).parameters)
    solver = issubclass(kind, SPLICFill)
    extra = ("preset", *(key for key in _OPTIONS if key not in known)) if solver else ()
    unknown = [key for key in parameters if key not in known and key not in extra]
    if unknown:
        raise TypeError(
            f"unknown parameter `{unknown[0]}` of the fill {name!r}; "
            f"known are {', '.join((*known, *extra)) or 'none'}"
        )
    build: Callable[..., Fill] = kind
    if not solver or "options" in parameters:
        if any(key in parameters for key in extra):
            raise TypeError(
                f"`options` of the fill {name!r} contradicts `preset` and single options; "
                "give the one or the other"
            )
        return build(**parameters)
    preset = parameters.pop("preset", "refine")
    changes = {key: parameters.pop(key) for key in extra if key in parameters}
    if parameters.get("start") is not None:
        zero = parameters["start"] == "zero"
        changes["start"] = "zero" if zero else "image"
        parameters["start"] = None if zero else parameters["start"]
    return build(options=SolverOptions.preset(preset, **changes), **parameters)


def fill_from_spec(spec: str) -> Fill:
    """Return the fill that a text describes.

    Parameters
    ----------
    spec : str
        ``name`` or ``name:key=value,key=value``, with the names and parameters of
        :func:`create_fill`; see :func:`splic_ext.specs.parse_spec` for values.

    Returns
    -------
    Fill

    Raises
    ------
    TypeError, ValueError, MissingExtraError
        As :func:`create_fill` and :func:`splic_ext.specs.parse_spec`.

    Examples
    --------
    >>> fill_from_spec("splic:rank=12,tv_weight=0.2").options.rank
    12
    """
    name, parameters = parse_spec(spec)
    return create_fill(name, **parameters)


def as_fill(fill: Any) -> Fill:
    """Return a fill: a :class:`Fill` itself, one by its text, or a function as one.

    Raises
    ------
    TypeError
        A defence, whose masks and second pass are no fill, or something else.
    ValueError, MissingExtraError
        As :func:`fill_from_spec`.
    """
    if isinstance(fill, Fill):
        return fill
    if isinstance(fill, str):
        return fill_from_spec(fill)
    if isinstance(fill, Defense) or not callable(fill):
        raise TypeError(
            f"`fill` must be a Fill, its name, or a function of images and mask, got "
            f"{type(fill).__name__}; a defence draws masks of its own and re-estimates what is "
            "visible: use 'splic' for one pass of completion"
        )
    return FunctionFill(fill)
