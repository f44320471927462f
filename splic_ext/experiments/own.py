"""Defences that stand beside those of an experiment: tried before any work, and noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from splic_ext.defenses import Defense
from splic_ext.defenses.trial import title_of
from splic_ext.experiments.subjects import Subject
from splic_ext.experiments.tables.boxes import gradient_modes
from splic_ext.runs.fingerprints import fingerprint_own
from splic_ext.runs.inputs import is_random, resolve_device

__all__ = ["own_notes", "try_own"]


def try_own(
    name: str,
    defenses: Mapping[str, Defense],
    subjects: Sequence[Subject],
    *,
    white: bool,
    device: str | None,
) -> None:
    """Raise unless the defences take the images, and have the gradients that are attacked by."""
    for subject in subjects if defenses else ():
        place = resolve_device(device, "" if subject.model is None else subject.model)
        few = torch.from_numpy(subject.dataset.first(4).to_float()).to(place)
        for title, defense in defenses.items():
            is_random(title, defense.to(place), few)
            if white and "identity" not in gradient_modes(defense):
                raise ValueError(
                    f"the defence `{title_of(defense)}` must have the gradient 'identity' in "
                    f"{name}, which attacks by BPDA, got {', '.join(defense.gradients)}; add it to "
                    "its `gradients`"
                )


def own_notes(defenses: Mapping[str, Defense]) -> list[str]:
    """Name the defences that stand beside those of the paper, and what they are."""
    return [
        f"{title}: a defence that was given, code and parameters of SHA-256 "
        f"{fingerprint_own(defense)}"
        for title, defense in defenses.items()
    ]
