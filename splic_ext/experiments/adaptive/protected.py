"""The defence that the protocol attacks: tried on a few images before any work."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from splic_ext.common.checks import reason_of, shortened
from splic_ext.defenses import SPLIC, Defense, Identity, ModuleDefense, RandomDefense, as_defense
from splic_ext.defenses.trial import title_of, without_derivative
from splic_ext.evaluation.inputs import one_line
from splic_ext.experiments.tables.boxes import gradient_modes
from splic_ext.runs.inputs import is_random

__all__ = ["Protected"]


@dataclass(frozen=True, eq=False)
class Protected:
    """A defence, and what an attacker can do with it.

    `modes` are the gradients that lead anywhere, `lost` says why others do not, and `usual` is the
    one that sections take which vary something else.
    """

    name: str
    defense: Defense
    random: bool
    modes: tuple[str, ...]
    lost: Mapping[str, str]
    usual: str

    @classmethod
    def of(cls, given: Any, images: torch.Tensor) -> Protected:
        """Try a defence, a plain module or a text on some images; raise if it is none."""
        defense = as_defense(given).to(images.device)
        named = defense.module if isinstance(defense, ModuleDefense) else defense
        name = given if isinstance(given, str) else shortened(one_line(named))
        random = is_random(name, defense, images)
        known = gradient_modes(defense)
        reasons = {mode: without_derivative(defense, mode, images) for mode in known}
        lost = {mode: reason for mode, reason in reasons.items() if reason is not None}
        modes = tuple(mode for mode in known if mode not in lost)
        if not modes:
            raise ValueError(
                f"the defence `{title_of(defense)}` must have a gradient to attack by, got none: "
                f"{'; '.join(lost.values())}; add 'identity' to its `gradients`"
            )
        for mode, reason in lost.items():
            warnings.warn(
                f"the gradient {mode!r} of `{title_of(defense)}` is left out: {reason}, so that "
                "only BPDA works (the gradient 'identity'), which is a weak attack",
                stacklevel=4,
            )
        return cls(name, defense, random, modes, lost, _usual(defense, modes))

    def held_still(self) -> Defense:
        """Return the defence with masks that do not change."""
        still = self._copy()
        for part in still.modules():
            if isinstance(part, RandomDefense):
                part.seed = 1
        return still

    @property
    def has_splic(self) -> bool:
        """Whether it has parts of SPLIC that can be taken away."""
        return any(isinstance(part, SPLIC) for part in self.defense.modules())

    def changed(self, full_rank: int, changes: Mapping[str, Any]) -> Defense:
        """Return the defence with other options of SPLIC; a `rank` of None is the full one."""
        other = self._copy()
        rank = {"rank": full_rank} if "rank" in changes else {}
        for part in other.modules():
            if isinstance(part, SPLIC):
                part.options = part.options.replace(**{**changes, **rank})
        return other

    def notes(self) -> list[str]:
        """Say which gradients are left out."""
        return [
            f"the gradient {mode} is left out: {reason}; BPDA (identity) is weaker than a "
            "derivative would be"
            for mode, reason in self.lost.items()
        ]

    def _copy(self) -> Defense:
        try:
            return copy.deepcopy(self.defense)
        except Exception as error:  # of any type: it is the code of others
            raise ValueError(
                f"the defence `{title_of(self.defense)}` must be one that can be copied, got "
                f"{type(error).__name__}: {reason_of(error)}; give its class `__deepcopy__`, or "
                "leave the section 'still' out"
            ) from error


def _usual(defense: Defense, modes: tuple[str, ...]) -> str:
    """Return the identity where a part is set to it, as SPLIC is; else the derivative."""
    parts = [
        part
        for part in defense.modules()
        if isinstance(part, Defense) and not isinstance(part, Identity)
    ]
    straight = any(part.gradient == "identity" for part in parts) or not parts
    if "identity" in modes and (straight or "exact" not in modes):
        return "identity"
    return "exact" if "exact" in modes else modes[0]
