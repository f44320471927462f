"""Images through a defence of :mod:`splic_ext.defenses`, with masks by the index of the image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.conversion.completing import Defend
from splic_ext.conversion.settings import Settings
from splic_ext.defenses import SPLIC, RandomDefense, defense_from_spec
from splic_ext.runs.fingerprints import derive_seed
from splic_ext.runs.inputs import is_random

__all__ = ["defender"]

Pixels = npt.NDArray[Any]


@lru_cache(maxsize=1)
def defender(settings: Settings) -> tuple[Settings, Defend | None]:
    """Return what a completer needs to put images through the defence of these settings.

    Random parts without a seed get one each, so that an index always draws the same mask. SPLIC
    itself is completed as without a defence, with its options.
    """
    assert settings.defense is not None
    defense = defense_from_spec(settings.defense)
    random = [part for part in defense.modules() if isinstance(part, RandomDefense)]
    for number, part in enumerate(part for part in random if part.seed is None):
        part.seed = settings.seed if number == 0 else derive_seed(settings.seed, "convert", number)
    if isinstance(defense, SPLIC):
        assert defense.seed is not None
        values = {**settings.to_dict(), "defense": None, "seed": defense.seed}
        values |= {"options": defense.options.to_dict(), "backend": defense.backend}
        return Settings.from_dict(values), None
    torch.set_num_threads(1)  # more may change the order of a sum
    is_random(
        settings.defense, defense, torch.full((1, 3, 32, 32), 0.5)
    )  # raises if no seed holds it

    def defend(batch: Pixels, indices: Sequence[int], data_range: float | None) -> Pixels:
        """Return defended images."""
        whole = 255.0 if batch.dtype == np.uint8 else (data_range or 1.0)
        images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(batch, -1, 1))).float() / whole
        with torch.no_grad():
            made = defense(images, index=torch.tensor(indices, dtype=torch.int64)).double() * whole
        values = made.numpy()
        if not np.isfinite(values).all():
            raise ValueError("the defence returned NaN or infinity")
        rounded = np.rint(values) if batch.dtype == np.uint8 else values
        return np.moveaxis(rounded.astype(batch.dtype), 1, -1)

    return settings, defend
