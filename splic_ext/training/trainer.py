"""The training itself: batches, attacks, defences, updates, epoch after epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.data import Dataset
from splic_ext.defenses import Defended, Defense, RandomDefense, seeded_masks
from splic_ext.runs.clock import Clock
from splic_ext.runs.fingerprints import derive_seed
from splic_ext.runs.progress import Progress
from splic_ext.training.batches import EpochPlan, batch_bounds, shift_and_mirror
from splic_ext.training.learner import Learner
from splic_ext.training.plan import Plan
from splic_ext.training.records import EpochRecord, EpochSeconds
from splic_ext.training.schedule import attack_at, learning_rate_at

__all__ = ["Position", "Trainer"]


@dataclass(frozen=True)
class Position:
    """How far a training is: finished epochs, and the finished batches of the next one.

    `loss`, `right` and `images` are sums over the images of these batches.
    """

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    right: int = 0
    images: int = 0
    seconds: EpochSeconds = field(default_factory=EpochSeconds)
    history: tuple[EpochRecord, ...] = ()


class Trainer:
    """A training under way: its network, and how far it is.

    `copies` are defended copies of the images; without any, they are defended batch by batch.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.options = plan, plan.options
        self.position = Position()
        self.progress = Progress({})
        self.copies: Sequence[npt.NDArray[np.uint8]] = ()
        #: What was warned of at the beginning.
        self.notes: tuple[str, ...] = ()
        self.learner = Learner(plan)
        self.defense: Defense = plan.defense
        self.hiding = self.options.build_hiding()
        self._attack = self.options.build_attack()
        self._defended = Defended(self.learner.fast, self.defense)
        self._bounds = batch_bounds(len(plan.data), self.options.batch_size)
        self._by_image = any(
            isinstance(part, RandomDefense) and part.seed is not None
            for part in self.defense.modules()
        )

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.position.epoch == self.options.epochs

    def work(self) -> dict[str, int]:
        """Return kind of work -> number of images, for a progress bar."""
        counts = {"training": len(self.plan.data)}
        if self.plan.test is not None:
            counts["testing"] = len(self.plan.test)
        return {kind: count * self.options.epochs for kind, count in counts.items()}

    def updates(self) -> Iterator[bool]:
        """Train on; yield after each update, and say whether an epoch has ended with it."""
        while not self.finished:
            clock, before = Clock(self.plan.device), self.position.seconds
            epoch = self._epoch_plan()
            with self._timed_defense(clock):
                while self.position.batch < len(self._bounds) - 1:
                    self._update(epoch, clock)
                    self.position = replace(self.position, seconds=before + EpochSeconds.of(clock))
                    if self.position.batch < len(self._bounds) - 1:
                        yield False
                test = self.plan.test
                accuracy = None if test is None else self._score(test, clock)
            self._end_epoch(accuracy, before + EpochSeconds.of(clock))
            yield True

    def _epoch_plan(self) -> EpochPlan:
        options, count = self.options, len(self.plan.data)
        return EpochPlan(options.seed, self.position.epoch, count, options.crop, options.flip)

    def _end_epoch(self, accuracy: float | None, seconds: EpochSeconds) -> None:
        done = self.position
        record = EpochRecord(
            epoch=done.epoch + 1,
            loss=done.loss / done.images,
            train_accuracy=done.right / done.images,
            test_accuracy=accuracy,
            learning_rate=self.learner.rate,
            seconds=seconds,
        )
        self.position = Position(epoch=done.epoch + 1, history=(*done.history, record))

    def _update(self, epoch: EpochPlan, clock: Clock) -> None:
        """Take a batch, hide parts of it or attack it, defend it, and learn it."""
        options, position, processes = self.options, self.position, self.plan.processes
        start, stop = self._bounds[position.batch : position.batch + 2]
        began = clock.total
        done = epoch.number + (position.batch + 0.5) / (len(self._bounds) - 1)
        self.learner.seed(derive_seed(options.seed, "network", epoch.number, start, processes.rank))
        part = processes.part(start, stop)
        images, labels, index = self._batch(epoch, part)
        if self.hiding.fill is not None:

            def losses(hidden: torch.Tensor) -> torch.Tensor:
                defended = self._defend(epoch, hidden, index)
                with clock.phase("network"):
                    return self.learner.losses(defended, labels)

            with clock.phase("defense"), torch.no_grad():
                images = self.hiding.learnt(images, epoch.number, part, losses)
        if not self.copies:
            images = self._attacked(epoch, images, labels, index, done, clock)
            images = self._defend(epoch, images, index)
        with clock.phase("network"):
            rate = learning_rate_at(options, done)
            loss, right = self.learner.learn(images, labels, stop - start, rate)
        self.position = replace(
            position,
            batch=position.batch + 1,
            loss=position.loss + loss,
            right=position.right + right,
            images=position.images + stop - start,
        )
        if not math.isfinite(loss):
            raise self.diverged()
        self.progress.advance("training", stop - start, clock.total - began)

    def diverged(self) -> FloatingPointError:
        """Return the error that tells of a loss or of weights that are not finite."""
        epoch = self.position.epoch + (self.position.batch > 0)
        return FloatingPointError(
            f"the loss or a weight became infinite or NaN in epoch {epoch}, at the learning rate "
            f"{self.learner.rate:g}; use a smaller `learning_rate`, or "
            "`warmup_epochs`: the last checkpoint is kept"
        )

    def _batch(
        self, epoch: EpochPlan, part: slice
    ) -> tuple[torch.Tensor, torch.Tensor, int | torch.Tensor]:
        """Return images in [0, 1], labels and mask indices of positions of an epoch."""
        rows, data, device = epoch.order[part], self.plan.data, self.plan.device
        source = self.copies[epoch.number % len(self.copies)] if self.copies else data.images
        images = torch.from_numpy(source[rows]).to(device)
        images = shift_and_mirror(images, epoch.offsets[part], epoch.mirrored[part], epoch.crop)
        labels = torch.from_numpy(data.labels[rows]).to(device)
        # The masks of consecutive indices are drawn, and completed, together.
        index = torch.from_numpy(rows) if self._by_image else part.start
        return images.float() / 255, labels, index

    def _attacked(
        self,
        epoch: EpochPlan,
        images: torch.Tensor,
        labels: torch.Tensor,
        index: int | torch.Tensor,
        done: float,
        clock: Clock,
    ) -> torch.Tensor:
        """Return adversarial images, if they are asked for, when so many epochs are done."""
        if self._attack is None:
            return images
        seed = derive_seed(self.options.seed, "attack", self._attack.threat.seed, epoch.number)
        attack = attack_at(self.options, self._attack, done)
        self._defended.model.eval()
        with clock.phase("attack"), self.learner.autocast(attack=True):
            return attack.run(self._defended, images, labels, index=index, seed=seed)

    def _defend(
        self, epoch: EpochPlan, images: torch.Tensor, index: int | torch.Tensor
    ) -> torch.Tensor:
        masks = seeded_masks(derive_seed(self.options.seed, "masks", epoch.number))
        with torch.no_grad(), masks:
            defended: torch.Tensor = self.defense(images, index=index)
        return defended

    def _score(self, test: Dataset, clock: Clock) -> float:
        """Return the accuracy on test images behind the defence, ablated if that is asked for."""
        network, device, right = self.learner.best.eval(), self.plan.device, torch.zeros(1)
        bounds = batch_bounds(len(test), self.options.batch_size)
        seed = derive_seed(self.options.seed, "test", self.position.epoch)
        with clock.phase("test"), torch.no_grad():
            for start, stop in pairwise(bounds):
                began = clock.total
                part = self.plan.processes.part(start, stop)
                images = torch.from_numpy(test.images[part].copy()).to(device).float() / 255
                images = self.hiding.scored(images, part)
                with seeded_masks(seed):
                    images = self.defense(images, index=part.start)
                logits = self.learner.logits(network, images)
                labels = torch.from_numpy(test.labels[part].copy())
                right += (logits.argmax(dim=1).cpu() == labels).sum()
                self.progress.advance("testing", stop - start, clock.total - began)
        total = right.to(device)
        self.plan.processes.add([total])
        return float(total) / len(test)

    @contextmanager
    def _timed_defense(self, clock: Clock) -> Iterator[None]:
        """Count what the defence computes as its own, wherever it is called; tests are apart."""
        opened = ExitStack()

        def begin(*_: Any) -> None:
            if "test" not in clock.open:
                opened.enter_context(clock.phase("defense"))

        def end(*_: Any) -> None:
            opened.close()

        hooks = [
            self.defense.register_forward_pre_hook(begin),
            self.defense.register_forward_hook(end, always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
