"""Defences by name, and from the texts of a command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from splic_ext.defenses.base import Defense
from splic_ext.defenses.filters import Bilateral, GaussianBlur, GuidedFilter, TotalVariation
from splic_ext.defenses.menet import USVT, NuclearNorm, SoftImpute
from splic_ext.defenses.simple import JPEG, BitDepth, Compose, Identity
from splic_ext.defenses.splic import SPLIC, SRF
from splic_ext.options import SolverOptions
from splic_ext.specs import parse_spec, split_spec

__all__ = ["DEFENSES", "create_defense", "defense_from_spec"]

#: Name -> class; see :func:`create_defense`.
DEFENSES: Mapping[str, type[Defense]] = MappingProxyType(
    {
        "splic": SPLIC,
        "srf": SRF,
        "usvt": USVT,
        "soft-impute": SoftImpute,
        "nuclear-norm": NuclearNorm,
        "tv": TotalVariation,
        "bilateral": Bilateral,
        "guided": GuidedFilter,
        "gaussian": GaussianBlur,
        "jpeg": JPEG,
        "bit-depth": BitDepth,
        "identity": Identity,
    }
)

_OPTIONS = tuple(field.name for field in fields(SolverOptions))


def create_defense(name: str, **parameters: Any) -> Defense:
    """Return the defence of that name.

    Parameters
    ----------
    name : str
        One of :data:`DEFENSES`.
    **parameters
        As the class takes them. SPLIC and SRF take the fields of
        :class:`splic_ext.SolverOptions` as well, and `preset`, the name of the preset whose
        fields these change: ``"paper"`` by default.

    Returns
    -------
    Defense

    Raises
    ------
    ValueError
        No defence of this name, or a parameter out of its range.
    TypeError
        A parameter that the defence does not have, or of the wrong kind.
    MissingExtraError
        What the defence needs is not installed.

    Examples
    --------
    >>> create_defense("tv", weight=0.2)
    TotalVariation(weight=0.2, iterations=50, gradient='exact')
    >>> create_defense("splic", preset="recommended", tv_weight=0.2).options.n_masks
    4
    """
    if not isinstance(name, str) or name not in DEFENSES:
        raise ValueError(
            f"defence name must be one of {', '.join(DEFENSES)}, got {name!r}; choose one"
        )
    kind = DEFENSES[name]
    known = list(inspect.signature(kind).parameters)
    extra = ("preset", *_OPTIONS) if issubclass(kind, SPLIC) else ()
    unknown = [key for key in parameters if key not in known and key not in extra]
    if unknown:
        raise TypeError(
            f"unknown parameter `{unknown[0]}` of the defence {name!r}; "
            f"known are {', '.join((*known, *extra))}"
        )
    build: Callable[..., Defense] = kind
    if not extra or not any(key in parameters for key in extra):
        return build(**parameters)
    if "options" in parameters:
        raise TypeError(
            f"`options` of the defence {name!r} contradicts `preset` and single options; "
            "give the one or the other"
        )
    preset = parameters.pop("preset", "paper")
    changes = {key: parameters.pop(key) for key in _OPTIONS if key in parameters}
    return build(options=SolverOptions.preset(preset).replace(**changes), **parameters)


def defense_from_spec(spec: str) -> Defense:
    """Return the defence that a text describes, or several as one.

    Parameters
    ----------
    spec : str
        ``name`` or ``name:key=value,key=value``, with the names and parameters of
        :func:`create_defense`; see :func:`splic_ext.specs.parse_spec` for values. ``a+b`` is
        defence b after defence a.

    Returns
    -------
    Defense

    Raises
    ------
    TypeError, ValueError, MissingExtraError
        As :func:`create_defense` and :func:`splic_ext.specs.parse_spec`.

    Examples
    --------
    >>> defense_from_spec("splic:recommended,seed=7").options.tv_weight
    0.1
    >>> defense_from_spec("bit-depth:bits=5+gaussian")
    Compose(
      gradient='parts'
      (parts): ModuleList(
        (0): BitDepth(bits=5, gradient='identity')
        (1): GaussianBlur(sigma=1.0, gradient='exact')
      )
    )
    """
    parts = []
    for part in split_spec(spec):
        name, parameters = parse_spec(part)
        parts.append(create_defense(name, **parameters))
    return parts[0] if len(parts) == 1 else Compose(*parts)
