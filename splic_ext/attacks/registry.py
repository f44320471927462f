"""Attacks by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from splic_ext.attacks.base import Attack
from splic_ext.attacks.fixed import FGSM, PGD, CarliniWagner
from splic_ext.attacks.gradient import APGD, BPDA, EOTPGD
from splic_ext.attacks.hardlabel import HopSkipJump
from splic_ext.attacks.square import Square
from splic_ext.attacks.threat import ThreatModel
from splic_ext.attacks.within import Within
from splic_ext.attacks.worst import WorstCase
from splic_ext.checks import check_mapping
from splic_ext.specs import parse_spec

__all__ = ["ATTACKS", "attack_from_dict", "attack_from_spec", "create_attack"]

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
        raise ValueError(f"attack name must be one of {', '.join(known)}, got {name!r}; choose one")


def _names() -> str:
    return ", ".join(ATTACKS)
