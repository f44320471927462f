"""Defences by name, and from the texts of a command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib import metadata
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from torch import nn

from splic_ext.common.checks import reason_of, shortened
from splic_ext.common.outside import import_object, split_place
from splic_ext.defenses.base import Defense
from splic_ext.defenses.filters import Bilateral, GaussianBlur, GuidedFilter, TotalVariation
from splic_ext.defenses.menet import USVT, NuclearNorm, SoftImpute
from splic_ext.defenses.own import ModuleDefense
from splic_ext.defenses.simple import JPEG, BitDepth, Compose, Identity
from splic_ext.defenses.splic import SPLIC, SRF
from splic_ext.options import SolverOptions
from splic_ext.specs import parse_parameters, parse_spec, split_spec

__all__ = [
    "DEFENSES",
    "ENTRY_POINTS",
    "as_defense",
    "create_defense",
    "defense_from_spec",
    "names_own_code",
    "register_defense",
]

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

#: Group of the entry points by which installed packages name defences.
ENTRY_POINTS = "splic_ext.defenses"

#: What :func:`register_defense` was given.
_REGISTERED: dict[str, Callable[..., nn.Module]] = {}

_FORM = "'package.module:Class' or 'folder/file.py:Class'"

_OPTIONS = tuple(field.name for field in fields(SolverOptions))


def register_defense(name: str, kind: Callable[..., nn.Module]) -> None:
    """Give a defence of one's own a name, for texts and command lines of this process.

    An installed package does so for all processes, by an entry point of the group
    ``splic_ext.defenses``: its name is that of the defence, its object the class.

    Parameters
    ----------
    name : str
        Letters, digits and hyphens, in lower case. Not that of another defence; the same class may
        be registered again.
    kind : class or function
        What returns the defence, a :class:`Defense` or a plain ``torch.nn.Module``; its parameters
        are those of the texts.

    Raises
    ------
    TypeError
        `kind` cannot be called.
    ValueError
        `name` is not of this form, or taken.

    Examples
    --------
    >>> register_defense("mean", nn.AvgPool2d)
    >>> defense_from_spec("mean:kernel_size=3,stride=1,padding=1")
    ModuleDefense(AvgPool2d(kernel_size=3, stride=1, padding=1), seed=None, gradient='exact')
    """
    if not isinstance(name, str) or _name_of(name) != name:
        raise ValueError(
            f"`name` of a defence must have letters, digits and hyphens, in lower case, got "
            f"{shortened(repr(name))}; write it like 'my-filter'"
        )
    if not callable(kind) or isinstance(kind, nn.Module):
        raise TypeError(
            f"`kind` must be a class or a function that returns a defence, got "
            f"{type(kind).__name__}; pass the class itself"
        )
    there = DEFENSES.get(name) or _REGISTERED.get(name)
    if there is not None and _place_of(there) != _place_of(kind):
        raise ValueError(
            f"`name` of a defence must not be taken, got {name!r}, which is {_place_of(there)}; "
            "choose another"
        )
    if name not in DEFENSES:
        _REGISTERED[name] = kind


def create_defense(name: str, **parameters: Any) -> Defense:
    """Return the defence of that name.

    Parameters
    ----------
    name : str
        One of :data:`DEFENSES`, of those of :func:`register_defense`, or of the entry points of
        installed packages, in this order.
    **parameters
        As the class takes them. SPLIC and SRF take the fields of
        :class:`splic_ext.SolverOptions` as well, and `preset`, the name of the preset whose
        fields these change: ``"paper"`` by default.

    Returns
    -------
    Defense
        A plain module is one of :class:`ModuleDefense`.

    Raises
    ------
    ValueError
        No defence of this name, or a parameter out of its range; a package that cannot be loaded.
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
    if not isinstance(name, str) or name not in _names():
        raise ValueError(
            f"defence name must be one of {', '.join(_names())}, got {name!r}; choose one, or "
            f"give one of your own as {_FORM}"
        )
    if name in DEFENSES:
        return _of_the_library(name, parameters)
    kind = _REGISTERED[name] if name in _REGISTERED else _entry(name)
    return _make(kind, name, parameters)


def _of_the_library(name: str, parameters: dict[str, Any]) -> Defense:
    kind = DEFENSES[name]
    known = list(inspect.signature(kind).parameters)
    extra = ("preset", *_OPTIONS) if issubclass(kind, SPLIC) else ()
    _check_known(parameters, (*known, *extra), name)
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
    return build(options=SolverOptions.preset(preset, **changes), **parameters)


def defense_from_spec(spec: str) -> Defense:
    """Return the defence that a text describes, or several as one.

    Parameters
    ----------
    spec : str
        ``name`` or ``name:key=value,key=value``, with the names and parameters of
        :func:`create_defense`, its default preset too; see :func:`splic_ext.specs.parse_spec` for
        values. A class of one's own by its place: ``package.module:Class`` or
        ``folder/file.py:Class``, with parameters after a second colon; its code is run. A name that
        is known wins over a module of that name. ``a+b`` is defence b after defence a.

    Returns
    -------
    Defense

    Raises
    ------
    TypeError, ValueError, MissingExtraError
        As :func:`create_defense`, :func:`splic_ext.specs.parse_spec` and
        ``splic_ext.common.outside.import_object``.

    Examples
    --------
    >>> defense_from_spec("splic:recommended,seed=7").options.tv_weight
    0.1
    >>> defense_from_spec("torch.nn:AvgPool2d:kernel_size=3,stride=1,padding=1")
    ModuleDefense(AvgPool2d(kernel_size=3, stride=1, padding=1), seed=None, gradient='exact')
    >>> defense_from_spec("bit-depth:bits=5+gaussian")
    Compose(
      gradient='parts'
      (parts): ModuleList(
        (0): BitDepth(bits=5, gradient='identity')
        (1): GaussianBlur(sigma=1.0, gradient='exact')
      )
    )
    """
    parts = [_part(part) for part in split_spec(spec)]
    return parts[0] if len(parts) == 1 else Compose(*parts)


def names_own_code(spec: str) -> bool:
    """Say whether a text names a defence whose code is not of this library, without running any.

    >>> [names_own_code(text) for text in ("tv+splic:recommended", "tv+mine.py:Median")]
    [False, True]
    """
    heads = (_name_of(part.partition(":")[0]) for part in split_spec(spec))
    places = map(split_place, split_spec(spec))
    return any(
        head not in DEFENSES and (place is not None or head in _names())
        for head, place in zip(heads, places, strict=True)
    )


def as_defense(defense: Any, parameter: str = "defense") -> Defense:
    """Return a defence: a :class:`Defense` itself, one by its text, or a plain module as one.

    Parameters
    ----------
    defense : Defense, nn.Module or str
        For texts see :func:`defense_from_spec`.
    parameter : str
        What it is called in errors.

    Returns
    -------
    Defense

    Raises
    ------
    TypeError
        Something else, such as a class.
    ValueError, MissingExtraError
        As :func:`defense_from_spec`.

    Examples
    --------
    >>> as_defense("tv:weight=0.2")
    TotalVariation(weight=0.2, iterations=50, gradient='exact')
    >>> as_defense(nn.Identity())
    ModuleDefense(Identity(), seed=None, gradient='exact')
    """
    if isinstance(defense, Defense):
        return defense
    if isinstance(defense, str):
        return defense_from_spec(defense)
    if isinstance(defense, nn.Module):
        return ModuleDefense(defense)
    got = defense.__name__ if isinstance(defense, type) else type(defense).__name__
    fix = "wrap a function in a module, and use Compose(...) for several"
    raise TypeError(
        f"`{parameter}` must be a Defense, a torch.nn.Module or a text, got "
        f"{f'the class {got}; call it' if isinstance(defense, type) else f'{got}; {fix}'}"
    )


def _part(text: str) -> Defense:
    """Return the defence of a text without plus signs."""
    place = split_place(text)
    if place is None or _name_of(place[0]) in _names():
        name, parameters = parse_spec(text)
        return create_defense(name, **parameters)
    home, name, rest = place
    if home.isidentifier() and find_spec(home) is None:
        try:  # it may be a file of the working folder
            return _make_at(home, name, rest, text)
        except ValueError as error:
            if "there is no module" not in str(error):
                raise
            return create_defense(_name_of(home) or home)  # which lists the names
    return _make_at(home, name, rest, text)


def _make_at(home: str, name: str, rest: str, text: str) -> Defense:
    """Return the defence of a class, function or object by its place."""
    place = f"{home}:{name}"
    found = import_object(place, "defence")
    parameters: dict[str, Any] = parse_parameters(rest, text, place) if rest else {}
    if isinstance(found, nn.Module) and not parameters:
        return as_defense(found)
    if isinstance(found, nn.Module) or not callable(found):
        raise TypeError(
            f"the defence {place!r} must be a class or a function that returns a defence, got "
            f"{type(found).__name__}{' with parameters' if parameters else ''}; name such a one"
        )
    return _make(found, place, parameters)


def _make(kind: Callable[..., Any], name: str, parameters: dict[str, Any]) -> Defense:
    """Call what makes a defence of others."""
    try:
        signature = inspect.signature(kind)
    except (TypeError, ValueError):  # one in C
        signature = inspect.Signature([inspect.Parameter("x", inspect.Parameter.VAR_KEYWORD)])
    known = signature.parameters.values()
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in known):
        _check_known(parameters, tuple(signature.parameters), name)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    lacking = [
        parameter.name
        for parameter in known
        if parameter.kind in named
        and parameter.default is parameter.empty
        and parameter.name not in parameters
    ]
    if lacking:
        raise TypeError(
            f"the defence {name!r} must be given `{lacking[0]}`; add it, such as "
            f"'{name}:{lacking[0]}=3'"
        )
    try:
        made = kind(**parameters)
    except (TypeError, ValueError, ImportError):
        raise
    except Exception as error:  # of any type: it is the code of others
        raise ValueError(
            f"the defence {name!r} cannot be made: {type(error).__name__}: {reason_of(error)}; "
            "give other parameters, or mend its class"
        ) from error
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"the defence {name!r} must be a Defense or a torch.nn.Module, got "
            f"{type(made).__name__}; derive its class from one of these"
        )
    return as_defense(made)


def _check_known(parameters: dict[str, Any], known: tuple[str, ...], name: str) -> None:
    unknown = [key for key in parameters if key not in known]
    if unknown:
        raise TypeError(
            f"unknown parameter `{unknown[0]}` of the defence {name!r}; "
            f"known are {', '.join(known) or 'none'}"
        )


def _names() -> tuple[str, ...]:
    """Return all names: of the library, of this process, of installed packages."""
    found = metadata.entry_points(group=ENTRY_POINTS)
    return tuple(dict.fromkeys((*DEFENSES, *_REGISTERED, *sorted(found.names))))


def _entry(name: str) -> Callable[..., Any]:
    """Load the defence of an installed package."""
    entry = next(iter(metadata.entry_points(group=ENTRY_POINTS, name=name)))
    try:
        loaded: Any = entry.load()
    except Exception as error:  # of any type: it is the code of others
        raise ValueError(
            f"the defence {name!r} of the entry point '{entry.value}' cannot be loaded: "
            f"{type(error).__name__}: {reason_of(error)}; mend or remove the package"
        ) from error
    if not callable(loaded) or isinstance(loaded, nn.Module):
        raise TypeError(
            f"the defence {name!r} of the entry point '{entry.value}' must be a class or a "
            f"function, got {type(loaded).__name__}; mend or remove the package"
        )
    kind: Callable[..., Any] = loaded
    return kind


def _name_of(text: str) -> str:
    """Return the name in the form of the registry; an empty text if it is none."""
    try:
        return parse_spec(text.strip())[0]
    except ValueError:
        return ""


def _place_of(kind: Any) -> str:
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', repr(kind))}"
