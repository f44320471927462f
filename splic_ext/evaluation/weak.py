"""White-box attacks that never differentiate the defence: what is said of their numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from splic_ext.attacks import BPDA, Attack, FunctionAttack, HopSkipJump, Square, Within, WorstCase
from splic_ext.defenses import Defended, Defense, Identity, gradient_mode, seeded_masks
from splic_ext.defenses.base import values_checked
from splic_ext.defenses.trial import without_derivative
from splic_ext.errors import AttackError

__all__ = ["WEAK", "check_derivatives", "is_weak", "not_warned", "weak_notes"]

#: How the notes begin.
WEAK = "weak white box: "


def is_weak(notes: Sequence[str]) -> bool:
    """Say whether the notes of a report have one of :func:`weak_notes`."""
    return any(note.startswith(WEAK) for note in notes)


@contextmanager
def not_warned() -> Iterator[None]:
    """Leave out the warnings of :func:`weak_notes` for a while: the caller says it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=WEAK)
        yield


def weak_notes(
    model: nn.Module,
    defenses: Mapping[str, Defense],
    attacks: Mapping[str, Attack],
    images: torch.Tensor,
) -> list[str]:
    """Return a note for each defence that no attack of a white box goes through.

    A network may have defences of its own, which count as well.
    """
    notes = []
    for name, defense in defenses.items():
        defended = Defended(model, defense)
        parts = _parts(defended)
        ways = {a: _ways(attack) for a, attack in attacks.items()}
        modes = dict.fromkeys(mode for found in ways.values() for mode in found)
        if not parts or not attacks or any(_derives(defended, mode, images) for mode in modes):
            continue
        by = ", ".join(
            f"{a!r} ({'the gradient identity' if found else 'no gradient'})"
            for a, found in ways.items()
        )
        able = all(
            "exact" in part.gradients or "parts" in part.gradients for part in parts
        ) and not any(part.underived for part in parts)
        fix = (
            "add an attack through its derivative, such as eot-pgd:gradient=exact"
            if able
            else "it has no derivative: add attacks of other kinds, such as square"
        )
        notes.append(
            f"{WEAK}{name!r} is attacked by {by} alone, as if the defence changed nothing or "
            f"could not be differentiated, so that its accuracy is an upper bound; {fix}"
        )
    return notes


def check_derivatives(
    defenses: Mapping[str, Defense], attacks: Mapping[str, Attack], images: torch.Tensor
) -> None:
    """Raise if an attack of a white box has nothing to follow through a defence of one's own."""
    for name, defense in defenses.items():
        if any(part.falls_back for part in _parts(defense)):
            continue  # the identity takes the place of what is not there
        for title, attack in attacks.items():
            known = type(attack).__module__.startswith("splic_ext.")  # others may need none
            for mode in _ways(attack) if known and not isinstance(attack, FunctionAttack) else ():
                reason = _dead(defense, mode, images)
                if reason is not None:
                    raise AttackError(
                        f"the attack {title!r} finds no gradient through {name!r}: {reason}, so "
                        "that only BPDA works; use `gradient=identity` or an attack without "
                        "gradients such as 'square'",
                        name,
                        defense.gradient if mode is None else mode,
                    )


def _dead(defense: Defense, mode: str | None, images: torch.Tensor) -> str | None:
    try:
        return without_derivative(defense, defense.gradient if mode is None else mode, images)
    except ValueError:  # it has no such mode, as the attack will say
        return None


def _parts(module: nn.Module) -> list[Defense]:
    return [
        part
        for part in module.modules()
        if isinstance(part, Defense) and not isinstance(part, Identity) and part.gradient != "parts"
    ]


def _ways(attack: Attack) -> tuple[str | None, ...]:
    """Return the gradient modes that an attack uses: None for as set, () for no gradients."""
    if isinstance(attack, WorstCase):
        return tuple(mode for part in attack.attacks for mode in _ways(part))
    if isinstance(attack, Within) and attack.attack is not None:
        return _ways(attack.attack)
    if isinstance(attack, (Square, HopSkipJump)):
        return ()
    if isinstance(attack, FunctionAttack):
        return (None,)
    return ("identity",) if isinstance(attack, BPDA) else (getattr(attack, "gradient", None),)


def _derives(defended: Defended, mode: str | None, images: torch.Tensor) -> bool:
    """Say whether gradients go through all of the defences; what an attack refuses counts too."""
    if mode is not None:
        try:
            with gradient_mode(defended, mode):
                return _derives(defended, None, images)
        except ValueError:
            return True
    if any(part.gradient == "identity" for part in _parts(defended)):
        return False
    with torch.enable_grad(), seeded_masks(0), values_checked():
        defended(images[:1].clone().requires_grad_(), index=0)
    return not any(part.underived for part in _parts(defended))
