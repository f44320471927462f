"""The work of an evaluation on one batch: making adversarial images, and scoring images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.defenses import seeded_masks
from splic_ext.evaluation.guards import check_adversarial, check_finite
from splic_ext.evaluation.plan import Batch, Plan
from splic_ext.evaluation.records import Seconds
from splic_ext.evaluation.statistics import count_votes
from splic_ext.runs.clock import Clock
from splic_ext.runs.fingerprints import derive_seed, fingerprint_arrays
from splic_ext.runs.progress import Progress
from splic_ext.runs.records import Machine
from splic_ext.runs.store import Part, Store

__all__ = ["Outcome", "Share", "Worker"]


@dataclass(frozen=True)
class Share:
    """What a batch adds to the record of a defence: counts and sizes of each image, and time."""

    right: tuple[int, ...]
    voted: tuple[bool, ...]
    linf: tuple[float, ...]
    l2: tuple[float, ...]
    seconds: Seconds


@dataclass(frozen=True)
class Outcome:
    """The shares of a batch under an attack, or of clean images, by defence.

    `machine` is where they were made; None for this one.
    """

    attack: str | None
    start: int
    shares: dict[str, Share]
    spent: Seconds
    machine: Machine | None = None


@dataclass
class Worker:
    """How far an evaluation is: its finished parts, its progress, and the time of this run.

    All methods take a part up if it is there; the seconds of its phases are then those of the
    run that made it, and the rest is of this one.
    """

    plan: Plan
    store: Store
    progress: Progress
    spent: Seconds = field(default_factory=Seconds)

    def shares(self, attack: str | None, clean: Batch, defenses: Iterable[str]) -> dict[str, Share]:
        """Attack a batch and score it behind defences, which share what is attacked without one."""
        labels = clean.labels.cpu().numpy()
        finished, making = clean, Seconds()
        shares: dict[str, Share] = {}
        for defense in defenses:
            linf: list[float] = []
            l2: list[float] = []
            if attack is not None:
                if finished is clean or self.plan.scenario == "white":
                    finished, making = self.attack(attack, defense, clean)
                change = (finished.images - clean.images).flatten(1)
                linf = change.abs().amax(dim=1).tolist()
                l2 = torch.linalg.vector_norm(change, dim=1).tolist()
            predictions, scoring = self.score(defense, finished)
            right, voted = (counts.tolist() for counts in count_votes(predictions, labels))
            shares[defense] = Share(
                tuple(right), tuple(voted), tuple(linf), tuple(l2), making + scoring
            )
        return shares

    def attack(self, name: str, defense: str, clean: Batch) -> tuple[Batch, Seconds]:
        """Return the adversarial images of a batch, and the time they took."""
        plan, attack, clock = self.plan, self.plan.attacks[name], Clock(self.plan.device)
        target, sha256 = plan.target(defense)
        seed = derive_seed(plan.seed, "attack", attack.threat.seed)
        description = {
            "kind": "attack",
            "environment": plan.environment,
            "target": sha256,
            "attack": plan.attacks_told[name],
            "seed": seed,
            "index": clean.start,
            "images": clean.sha256,
            "labels": fingerprint_arrays(clean.labels.cpu().numpy()),
        }
        shape = tuple(clean.images.shape)
        part = self.store.get(description, {"images": (np.dtype(np.float32), shape)})
        if part is not None:
            images = torch.from_numpy(part.arrays["images"]).to(plan.device)
        else:
            with clock.phase("attack"):
                images = attack.run(
                    target, clean.images, clean.labels, index=clean.start, seed=seed
                )
            check_adversarial(name, attack, images, clean.images)
            self.store.put(description, Part({"images": images.cpu().numpy()}, clock.phases))
        finished = Batch(clean.start, images, clean.labels)
        return finished, self._count(plan.kind(name, defense), len(clean), clock, part)

    def score(self, name: str, batch: Batch) -> tuple[npt.NDArray[np.int32], Seconds]:
        """Return the predictions (N, K) of K draws behind a defence, and the time they took."""
        plan, defense, clock = self.plan, self.plan.defenses[name], Clock(self.plan.device)
        mask_seeds = plan.mask_seeds[name]
        description = {
            "kind": "score",
            "environment": plan.environment,
            "model": plan.model_sha256,
            "defense": plan.defense_sha256[name],
            "mask_seeds": list(mask_seeds),
            "index": batch.start,
            "images": batch.sha256,
        }
        shape = (len(batch), len(mask_seeds))
        part = self.store.get(description, {"predictions": (np.dtype(np.int32), shape)})
        if part is not None:
            predictions = part.arrays["predictions"]
        else:
            predictions = np.empty(shape, dtype=np.int32)
            with torch.no_grad():
                for draw, seed in enumerate(mask_seeds):
                    with clock.phase("defense"), seeded_masks(seed):
                        defended = defense(batch.images, index=batch.start)
                    with clock.phase("network"):
                        logits = plan.model(defended)
                    check_finite(name, logits, batch.start)
                    predictions[:, draw] = logits.argmax(dim=1).cpu().numpy()
            self.store.put(description, Part({"predictions": predictions}, clock.phases))
        return predictions, self._count(f"scoring {name}", len(batch), clock, part)

    def _count(self, kind: str, images: int, clock: Clock, part: Part | None) -> Seconds:
        if part is None:
            seconds = Seconds.of(clock)
            self.spent += seconds
        else:
            seconds = Seconds(rest=clock.rest, **part.seconds)
        self.progress.advance(kind, images, seconds.total)
        return seconds
