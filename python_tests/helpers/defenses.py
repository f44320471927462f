"""Every defence, quick to compute, and images for it."""

from __future__ import annotations

import numpy as np
import torch

from splic_ext import SolverOptions, defenses

QUICK = SolverOptions(max_iterations=7)

MAKERS = {
    "Identity": defenses.Identity,
    "Compose": lambda **k: defenses.Compose(defenses.Identity(), defenses.USVT(), **k),
    "BitDepth": defenses.BitDepth,
    "JPEG": defenses.JPEG,
    "GaussianBlur": defenses.GaussianBlur,
    "TotalVariation": lambda **k: defenses.TotalVariation(iterations=5, **k),
    "Bilateral": defenses.Bilateral,
    "GuidedFilter": defenses.GuidedFilter,
    "USVT": defenses.USVT,
    "SoftImpute": lambda **k: defenses.SoftImpute(iterations=3, **k),
    "NuclearNorm": lambda **k: defenses.NuclearNorm(iterations=3, **k),
    "SPLIC": lambda **k: defenses.SPLIC(QUICK, **k),
    "SRF": lambda **k: defenses.SRF(QUICK, **k),
}
RANDOM = ["USVT", "SoftImpute", "NuclearNorm", "SPLIC", "SRF"]


def random_images():
    return torch.from_numpy(np.random.default_rng(0).random((3, 3, 9, 8))).float()


class DefendedSet(torch.utils.data.Dataset):
    """One image, defended again each time; at module level, so that a worker can unpickle it."""

    def __init__(self, defense, count=16):
        self.defense, self.count = defense, count

    def __len__(self):
        return self.count

    def __getitem__(self, position):
        return self.defense(random_images()[:1])[0]
