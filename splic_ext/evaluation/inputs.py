"""What an evaluation is given, checked before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy.typing as npt
import torch
from torch import nn

from splic_ext.attacks import Attack, as_attack
from splic_ext.attacks.target import in_train_mode
from splic_ext.defenses import Defense, RandomDefense, as_defense
from splic_ext.runs.inputs import check_logits, unfit_weights

__all__ = [
    "SCENARIOS",
    "check_network",
    "check_scenario",
    "named_attacks",
    "named_defenses",
    "one_line",
]

#: Scenario -> what is attacked.
SCENARIOS: Mapping[str, str] = {
    "gray": "the network without its defence",
    "black": "a surrogate network",
    "white": "the defended network",
}

#: Two answers of a network may differ by this share of the largest logit, as kernels of a GPU may.
ROUNDING = 1e-4

Kind = TypeVar("Kind")


def named_defenses(defenses: Any) -> dict[str, Defense]:
    """Return the defences of an evaluation by name.

    Parameters
    ----------
    defenses : mapping, sequence or str
        Defences, plain modules, or texts; see :func:`splic_ext.defenses.as_defense`. In a mapping
        the keys are the names; otherwise a text names itself, and a defence has its repr as name.

    Returns
    -------
    dict
        In the given order.

    Raises
    ------
    TypeError, ValueError
        Something else, none, or a name twice.

    Examples
    --------
    >>> list(named_defenses(["identity", "tv:weight=0.2"]))
    ['identity', 'tv:weight=0.2']
    """
    found = _named(
        "defenses", defenses, Defense, lambda item: isinstance(item, nn.Module), as_defense
    )
    if not found:
        raise ValueError("`defenses` must not be empty; use ['identity'] to go without defence")
    return found


def named_attacks(attacks: Any) -> dict[str, Attack]:
    """Return the attacks of an evaluation by name.

    Parameters
    ----------
    attacks : mapping, sequence or str
        Attacks, functions of model, images and labels, or texts such as ``pgd:steps=40``; see
        :func:`splic_ext.attacks.as_attack`. Names as in :func:`named_defenses`.

    Returns
    -------
    dict
        In the given order.

    Raises
    ------
    TypeError, ValueError
        Something else, or a name twice.

    Examples
    --------
    >>> list(named_attacks({"one step": "fgsm"}))
    ['one step']
    """
    return _named("attacks", attacks, Attack, _is_attack, as_attack)


def _is_attack(item: Any) -> bool:
    return isinstance(item, Attack) or (
        callable(item) and not isinstance(item, (type, nn.Module, Mapping, Sequence))
    )


def _named(
    parameter: str,
    given: Any,
    kind: type[Kind],
    taken: Callable[[Any], bool],
    build: Callable[[Any], Kind],
) -> dict[str, Kind]:
    """Return what `build` makes of texts and of what is `taken`, by name."""
    if isinstance(given, str) or taken(given):
        given = [given]
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, Sequence):
        pairs = [(item if isinstance(item, str) else None, item) for item in given]
    else:
        raise TypeError(
            f"`{parameter}` must be a list or a dict, got {type(given).__name__}; "
            "put single ones into a list"
        )
    found: dict[str, Kind] = {}
    for name, item in pairs:
        if not isinstance(item, str) and not taken(item):
            raise TypeError(
                f"`{parameter}` must hold texts or {kind.__name__} objects, got "
                f"{type(item).__name__} as {one_line(item) if name is None else name!r}; build it "
                "first"
            )
        made = build(item)
        name = one_line(made) if name is None else name
        if not isinstance(name, str) or not name:
            raise TypeError(f"`{parameter}` must have names as keys, got {name!r}; use strings")
        if name in found:
            raise ValueError(
                f"`{parameter}` has {name!r} twice; leave one out, or give each a name of its own, "
                "in a dict"
            )
        found[name] = made
    return found


def one_line(item: Any) -> str:
    """Return the repr, without line breaks."""
    return " ".join(repr(item).split())


def check_scenario(scenario: str, surrogate: nn.Module | None) -> None:
    """Raise unless the scenario is known, and has a surrogate if and only if it needs one."""
    if not isinstance(scenario, str) or scenario not in SCENARIOS:
        raise ValueError(
            f"`scenario` must be one of {', '.join(SCENARIOS)}, got {scenario!r}; choose one"
        )
    if scenario == "black" and surrogate is None:
        raise ValueError(
            "the black box needs a `surrogate`, the network that is attacked in place of `model`; "
            "give one of another architecture or seed"
        )
    if scenario != "black" and surrogate is not None:
        raise ValueError(
            f"a `surrogate` is for the black box, got one in the {scenario} box, which attacks "
            f"{SCENARIOS[scenario]}; leave it out"
        )


def check_network(
    parameter: str, network: Any, images: torch.Tensor, labels: npt.NDArray[Any]
) -> None:
    """Raise unless a network is ready to classify these images, some of those with the labels."""
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"`{parameter}` must be a torch.nn.Module, got {type(network).__name__}; wrap it in one"
        )
    if in_train_mode(network):
        raise ValueError(
            f"`{parameter}` is in train mode, with dropout and batch statistics at work; "
            f"call `{parameter}.eval()` first"
        )
    try:
        with torch.no_grad():
            logits, again = network(images), network(images)
    except RuntimeError as error:
        told = unfit_weights(parameter, network, images, error)
        if told is None:
            raise
        raise told from error
    check_logits(parameter, logits, len(images), int(labels.max()))
    held = any(isinstance(part, RandomDefense) for part in network.modules())
    slack = ROUNDING * float(logits.abs().nan_to_num(0.0, 0.0, 0.0).max())
    if held or not torch.allclose(logits, again, rtol=0.0, atol=slack, equal_nan=True):
        raise ValueError(
            f"`{parameter}` must be a network without randomness, got one that "
            f"{'holds a random defence' if held else 'returns other logits in each call'}; "
            "pass defences as `defenses`, and switch off dropout and the like"
        )
