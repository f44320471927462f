"""The two kinds of work of an evaluation: making adversarial images, and scoring images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.attacks import Attack
from splic_ext.defenses import Defended, Defense, seeded_masks
from splic_ext.evaluation.guards import check_adversarial, check_logits
from splic_ext.evaluation.records import Seconds
from splic_ext.runs.clock import Clock
from splic_ext.runs.fingerprints import (
    code_fingerprint,
    derive_seed,
    fingerprint_arrays,
    fingerprint_module,
    package_versions,
)
from splic_ext.runs.store import Part, PartStore

__all__ = ["Batch", "Worker", "describe_attack"]


@dataclass
class Batch:
    """Images of consecutive positions in a data set, clean or adversarial.

    Attributes
    ----------
    start : int
        Position of the first.
    images : tensor of shape (N, C, H, W), float32
    labels : tensor of shape (N,), int64
    sha256 : str
        Of the images.
    """

    start: int
    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        self.sha256 = fingerprint_arrays(self.images.cpu().numpy())

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class Worker:
    """Attacks and scores batches, and takes up what an earlier run has done.

    Parameters
    ----------
    model : nn.Module
        The network that is defended.
    device : torch.device
        Of all modules.
    seed : int
        Of the evaluation.
    store : PartStore
        Finished parts.

    Attributes
    ----------
    environment : dict
        What determines every part: code, versions, kind of device.
    spent : Seconds
        Of the parts that were made now.
    """

    model: nn.Module
    device: torch.device
    seed: int
    store: PartStore
    spent: Seconds = field(default_factory=Seconds)

    def __post_init__(self) -> None:
        self.environment: dict[str, Any] = {
            "code": code_fingerprint(),
            "device": self.device.type,
            "versions": package_versions(),
        }
        self._fingerprints: dict[int, str] = {}

    def mask_seeds(self, draws: int) -> tuple[int, ...]:
        """Return the seed of each draw of the masks.

        Parameters
        ----------
        draws : int
        """
        return tuple(derive_seed(self.seed, "draw", draw) for draw in range(draws))

    def attack(
        self, name: str, attack: Attack, target: nn.Module, clean: Batch
    ) -> tuple[Batch, Seconds]:
        """Return adversarial images, and where the time of making them went.

        Parameters
        ----------
        name : str
            Of the attack, for messages.
        attack : Attack
        target : nn.Module
            A network or a :class:`Defended` one.
        clean : Batch

        Returns
        -------
        Batch
        Seconds
            `rest` is of this run, `attack` of the one that made them.

        Raises
        ------
        ValueError
            The attack returned what it must not.
        AttackError
            From the attack.
        OSError
            The part cannot be written.
        """
        clock = Clock(self.device)
        seed = derive_seed(self.seed, "attack", attack.threat.seed)
        description = {
            "kind": "attack",
            "environment": self.environment,
            "target": [self.fingerprint(part) for part in target.children()]
            if isinstance(target, Defended)
            else self.fingerprint(target),
            "attack": describe_attack(attack),
            "seed": seed,
            "index": clean.start,
            "images": clean.sha256,
            "labels": fingerprint_arrays(clean.labels.cpu().numpy()),
        }
        shape = tuple(clean.images.shape)
        part = self.store.get(description, {"images": (np.dtype(np.float32), shape)})
        if part is not None:
            images = torch.from_numpy(part.arrays["images"]).to(self.device)
            finished = Batch(clean.start, images, clean.labels)
            return finished, Seconds(rest=clock.rest, **part.seconds)
        with clock.phase("attack"):
            images = attack.run(target, clean.images, clean.labels, index=clean.start, seed=seed)
        check_adversarial(name, attack, images, clean.images)
        self.store.put(description, Part({"images": images.cpu().numpy()}, clock.phases))
        finished = Batch(clean.start, images, clean.labels)
        return finished, self._spend(clock)

    def score(
        self, name: str, defense: Defense, mask_seeds: tuple[int, ...], batch: Batch
    ) -> tuple[npt.NDArray[np.int32], Seconds]:
        """Return the predictions of all draws, and where the time of making them went.

        Parameters
        ----------
        name : str
            Of the defence, for messages.
        defense : Defense
        mask_seeds : tuple of int
            K of them.
        batch : Batch

        Returns
        -------
        ndarray of shape (N, K), int32
        Seconds
            `rest` is of this run, the others of the one that made them.

        Raises
        ------
        ValueError
            The network returned NaN or infinity.
        OSError
            The part cannot be written.
        """
        clock = Clock(self.device)
        description = {
            "kind": "score",
            "environment": self.environment,
            "model": self.fingerprint(self.model),
            "defense": self.fingerprint(defense),
            "mask_seeds": list(mask_seeds),
            "index": batch.start,
            "images": batch.sha256,
        }
        shape = (len(batch), len(mask_seeds))
        part = self.store.get(description, {"predictions": (np.dtype(np.int32), shape)})
        if part is not None:
            return part.arrays["predictions"], Seconds(rest=clock.rest, **part.seconds)
        predictions = np.empty(shape, dtype=np.int32)
        with torch.no_grad():
            for draw, seed in enumerate(mask_seeds):
                with clock.phase("defense"), seeded_masks(seed):
                    defended = defense(batch.images, index=batch.start)
                with clock.phase("network"):
                    logits = self.model(defended)
                check_logits(name, logits, batch.start)
                predictions[:, draw] = logits.argmax(dim=1).cpu().numpy()
        self.store.put(description, Part({"predictions": predictions}, clock.phases))
        return predictions, self._spend(clock)

    def fingerprint(self, module: nn.Module) -> str:
        """Return the SHA-256 of a module, computed once: it must not change meanwhile."""
        if id(module) not in self._fingerprints:
            self._fingerprints[id(module)] = fingerprint_module(module)
        return self._fingerprints[id(module)]

    def _spend(self, clock: Clock) -> Seconds:
        seconds = Seconds.of(clock)
        self.spent += seconds
        return seconds


def describe_attack(attack: Attack) -> dict[str, Any]:
    """Return the class and all parameters of an attack.

    Parameters
    ----------
    attack : Attack
    """
    kind = type(attack)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", **attack.to_dict()}
