"""Attacks by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from splic_ext.attacks.base import Attack
from splic_ext.attacks.fixed import FGSM, PGD, CarliniWagner
from splic_ext.attacks.gradient import APGD, BPDA, EOTPGD
from splic_ext.attacks.hardlabel import HopSkipJump
from splic_ext.attacks.own import FunctionAttack
from splic_ext.attacks.square import Square
from splic_ext.attacks.threat import ThreatModel
from splic_ext.attacks.within import Within
from splic_ext.attacks.worst import WorstCase
from splic_ext.common.checks import check_mapping, reason_of
from splic_ext.common.outside import import_object, split_place
from splic_ext.specs import parse_parameters, parse_spec

__all__ = ["ATTACKS", "as_attack", "attack_from_dict", "attack_from_spec", "create_attack"]

_CLASSES: tuple[type[Attack], ...] = (
    FGSM,
    PGD,
    CarliniWagner,
    HopSkipJump,
    BPDA,
    EOTPGD,
    APGD,
    Square,
    Within,
    WorstCase,
)

#: Name -> class.
ATTACKS: Mapping[str, type[Attack]] = MappingProxyType({kind.name: kind for kind in _CLASSES})

_MADE_OF_OTHERS = (Within.name, WorstCase.name)


def create_attack(name: str, **parameters: Any) -> Attack:
    """Return the attack of that name.

    Parameters
    ----------
    name : str
        One of :data:`ATTACKS`.
    **parameters
        Those of the class; and the fields of its threat model that it uses, which change
        `threat`, or that of the class if it is not given. With another `norm`, `epsilon` and
        `step_size` are those that :class:`ThreatModel` has for it.

    Returns
    -------
    Attack

    Raises
    ------
    TypeError, ValueError
        No attack of this name, a parameter that it does not have, or a value out of range.

    Examples
    --------
    >>> ", ".join(sorted(ATTACKS))
    'apgd, bpda, cw, eot-pgd, fgsm, hopskipjump, pgd, square, within, worst-case'
    >>> create_attack("fgsm", epsilon=4 / 255)
    FGSM(norm='linf', epsilon=4/255, seed=0)
    """
    if not isinstance(name, str):
        raise TypeError(f"attack name must be a string, got {name!r}; it is one of {_names()}")
    _check_name(name, tuple(ATTACKS))
    kind = ATTACKS[name]
    own = {field.name: field for field in fields(kind)}
    for key in parameters:
        if key not in own and key not in kind.uses:
            known = ", ".join([*kind.uses, *own])
            raise TypeError(f"`{key}` is no parameter of the attack {name!r}; known are {known}")
    flat = {key: value for key, value in parameters.items() if key not in own}
    given = {key: value for key, value in parameters.items() if key in own}
    if flat:
        default: Any = own["threat"].default
        threat = kind(**given).threat if "threat" in given else default
        given["threat"] = _changed(kind, threat, flat)
    return kind(**given)


def _changed(kind: type[Attack], threat: ThreatModel, changes: dict[str, Any]) -> ThreatModel:
    """Return the threat model with other values; sizes in another norm do not carry over."""
    norm = changes.get("norm", threat.norm)
    if norm == threat.norm or norm not in kind.norms:  # which is refused for its name
        return replace(threat, **changes)
    sizes = {"epsilon", "step_size"}.intersection(kind.uses)
    kept = {key: value for key, value in threat.to_dict().items() if key not in sizes}
    return ThreatModel(**{**kept, **changes})


def attack_from_spec(spec: str) -> Attack:
    """Return the attack that a text describes.

    Parameters
    ----------
    spec : str
        ``name`` or ``name:key=value,key=value``, with the names and parameters of
        :func:`create_attack`; see :func:`splic_ext.specs.parse_spec` for values.

    Returns
    -------
    Attack

    Raises
    ------
    TypeError, ValueError
        As :func:`create_attack` and :func:`splic_ext.specs.parse_spec`; an attack that is made of
        others.

    Examples
    --------
    >>> attack_from_spec("bpda:steps=20,step_size=1/255").threat.steps
    20
    """
    name, parameters = parse_spec(spec)
    if name in _MADE_OF_OTHERS:
        raise ValueError(
            f"the attack {name!r} is made of other attacks, which no text can give; "
            "use create_attack() in Python"
        )
    _check_name(name, tuple(known for known in ATTACKS if known not in _MADE_OF_OTHERS))
    return create_attack(name, **parameters)


def as_attack(attack: Any, parameter: str = "attack") -> Attack:
    """Return an attack: an :class:`Attack` itself, one by its text, or a function as one.

    Parameters
    ----------
    attack : Attack, str or callable
        A text as for :func:`attack_from_spec`, or the place of an attack of others,
        ``package.module:name`` or ``folder/file.py:name``, whose code is run. Parameters after a
        second colon are those of the function or class; ``norm`` and ``epsilon`` among them are
        the ball, too, in which its results must be. A function is called with model, images and
        labels; see :class:`FunctionAttack`.
    parameter : str
        What it is called in errors.

    Returns
    -------
    Attack

    Raises
    ------
    TypeError
        Something else, such as a class or a module.
    ValueError
        As :func:`attack_from_spec` and ``splic_ext.common.outside.import_object``.

    Examples
    --------
    >>> as_attack("pgd:steps=3") == create_attack("pgd", steps=3)
    True
    >>> as_attack(lambda model, images, labels: images)
    FunctionAttack(function='<lambda>')
    """
    if isinstance(attack, Attack):
        return attack
    if isinstance(attack, str):
        place = split_place(attack)
        known = place is None or place[0].lower().replace("_", "-") in ATTACKS
        return attack_from_spec(attack) if known else _attack_at(attack)
    if callable(attack) and not isinstance(attack, (type, nn.Module)):
        return FunctionAttack(function=attack)
    got = f"the class {attack.__name__}" if isinstance(attack, type) else type(attack).__name__
    raise TypeError(
        f"`{parameter}` must be an Attack, a text or a function of model, images and labels, got "
        f"{got}; build it first, or wrap it in a function"
    )


def _attack_at(text: str) -> Attack:
    """Return the attack that stands at a place."""
    home, name, rest = split_place(text) or ("", "", "")
    place = f"{home}:{name}"
    if home.isidentifier() and find_spec(home) is None and not Path(f"{home}.py").is_file():
        _check_name(home, tuple(known for known in ATTACKS if known not in _MADE_OF_OTHERS))
    found = import_object(place, "attack")
    parameters: dict[str, Any] = parse_parameters(rest, text, place) if rest else {}
    if isinstance(found, Attack) and not parameters:
        return found
    if isinstance(found, type):
        made = _called(found, place, parameters)
        if isinstance(made, Attack):
            return made
        found, parameters = made, {}
    if not callable(found) or isinstance(found, (nn.Module, Attack)):
        raise TypeError(
            f"the attack {place!r} must be a function of model, images and labels, or a class of "
            f"such, got {type(found).__name__}; name such a one"
        )
    ball = {key: parameters[key] for key in ("norm", "epsilon") if key in parameters}
    takes = inspect.signature(found).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    passed = {k: v for k, v in parameters.items() if k in takes or (free and k not in ball)}
    unknown = [key for key in parameters if key not in passed and key not in ball]
    if unknown:
        raise TypeError(
            f"`{unknown[0]}` is no parameter of the attack {place!r}; known are "
            f"{', '.join([*list(takes)[3:], 'norm', 'epsilon'])}"
        )
    radius = ThreatModel(**ball) if "epsilon" in ball else None
    return FunctionAttack(function=partial(found, **passed) if passed else found, radius=radius)


def _called(kind: type, place: str, parameters: dict[str, Any]) -> Any:
    try:
        return kind(**parameters)
    except Exception as error:  # of any type: it is the code of others
        raise ValueError(
            f"the attack {place!r} cannot be made: {type(error).__name__}: {reason_of(error)}; "
            "give other parameters, or mend its class"
        ) from error


def attack_from_dict(values: Mapping[str, Any]) -> Attack:
    """Return the attack that a dict describes.

    Parameters
    ----------
    values : mapping
        As :meth:`Attack.to_dict` returns it: the name under "name", and the parameters.

    Returns
    -------
    Attack

    Raises
    ------
    TypeError, ValueError
        No mapping, no name, or as for :func:`create_attack`.

    Examples
    --------
    >>> attack = create_attack("eot-pgd", steps=20, loss="dlr")
    >>> attack_from_dict(attack.to_dict()) == attack
    True
    """
    check_mapping("an attack", values)
    parameters = dict(values)
    if "name" not in parameters:
        raise ValueError(f"an attack must have a 'name', got {sorted(parameters)}; add it")
    if isinstance(parameters.get("attacks"), list):
        parameters["attacks"] = [attack_from_dict(part) for part in parameters["attacks"]]
    if isinstance(parameters.get("attack"), Mapping):
        parameters["attack"] = attack_from_dict(parameters["attack"])
    return create_attack(parameters.pop("name"), **parameters)


def _check_name(name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ValueError(
            f"attack name must be one of {', '.join(known)}, got {name!r}; choose one, or "
            "give one of others as 'package.module:name' or 'folder/file.py:name'"
        )


def _names() -> str:
    return ", ".join(ATTACKS)
