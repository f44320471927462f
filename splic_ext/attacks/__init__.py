"""Attacks on networks and on defended networks: those of the literature, and adaptive ones.

Each is a frozen set of parameters that makes adversarial images of a batch, always the same ones
from the same seed. None of them scores.

>>> import torch
>>> from splic_ext.defenses import USVT, Defended
>>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)).eval()
>>> images, labels = torch.rand(2, 3, 8, 8), torch.tensor([3, 7])
>>> attack = create_attack("eot-pgd", steps=10, eot=4, epsilon=4 / 255)
>>> adversarial = attack.run(Defended(network, USVT()), images, labels)
>>> bool((adversarial - images).abs().max() <= 4 / 255 + 1e-6)
True
"""

from __future__ import annotations

from splic_ext.common.optional import optional
from splic_ext.errors import AttackError

with optional("`splic_ext.attacks`", "attack", "torch"):
    import torch as _torch  # noqa: F401

from splic_ext.attacks.base import Attack
from splic_ext.attacks.fixed import FGSM, PGD, CarliniWagner
from splic_ext.attacks.gradient import APGD, BPDA, EOTPGD
from splic_ext.attacks.hardlabel import HopSkipJump
from splic_ext.attacks.own import FunctionAttack
from splic_ext.attacks.registry import (
    ATTACKS,
    as_attack,
    attack_from_dict,
    attack_from_spec,
    create_attack,
)
from splic_ext.attacks.square import Square
from splic_ext.attacks.threat import ThreatModel
from splic_ext.attacks.within import Within
from splic_ext.attacks.worst import WorstCase

__all__ = [
    "APGD",
    "ATTACKS",
    "BPDA",
    "EOTPGD",
    "FGSM",
    "PGD",
    "Attack",
    "AttackError",
    "CarliniWagner",
    "FunctionAttack",
    "HopSkipJump",
    "Square",
    "ThreatModel",
    "Within",
    "WorstCase",
    "as_attack",
    "attack_from_dict",
    "attack_from_spec",
    "create_attack",
]
