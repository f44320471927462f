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
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from splic_ext.data import Dataset
from splic_ext.defenses import Defended, Defense, RandomDefense, seeded_masks
from splic_ext.runs.clock import Clock
from splic_ext.runs.fingerprints import derive_seed
from splic_ext.runs.progress import Progress
from splic_ext.training.batches import EpochPlan, batch_bounds, shift_and_mirror
from splic_ext.training.options import TrainingOptions
from splic_ext.training.processes import Processes
from splic_ext.training.records import EpochRecord, EpochSeconds
from splic_ext.training.schedule import attack_at, learning_rate_at

__all__ = ["Position", "Trainer"]

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Position:
    """How far a training is.

    Attributes
    ----------
    epoch : int
        Epochs that are finished.
    batch : int
        Batches of the next one that are finished.
    loss : float
        Sum over the images of these batches.
    right : int
        How many of these images were classified correctly.
    images : int
        How many there were.
    seconds : EpochSeconds
        That these batches took.
    history : tuple of EpochRecord
        Finished epochs.
    """

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    right: int = 0
    images: int = 0
    seconds: EpochSeconds = field(default_factory=EpochSeconds)
    history: tuple[EpochRecord, ...] = ()


class Trainer:
    """A network in training.

    Parameters
    ----------
    network : nn.Module
        Trained in place.
    data : Dataset
        Images to learn.
    test : Dataset or None
        Images to score after each epoch.
    options : TrainingOptions
    processes : Processes
        Share each batch.
    device : torch.device
        Of the network.

    Attributes
    ----------
    position : Position
    copies : sequence of ndarray
        Defended copies of the images; none: they are defended batch by batch.
    progress : Progress
        Counts images as "training" and "testing".
    """

    def __init__(
        self,
        network: nn.Module,
        data: Dataset,
        test: Dataset | None,
        options: TrainingOptions,
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.options, self.processes, self.device = options, processes, device
        self.position = Position()
        self.progress = Progress({})
        self.copies: Sequence[npt.NDArray[np.uint8]] = ()
        self._data, self._test = data, test
        self._bounds = batch_bounds(len(data), options.batch_size)
        self._format = torch.channels_last if options.channels_last else torch.contiguous_format
        move: Any = network.to
        self.network: nn.Module = move(device, memory_format=self._format)
        fast: Any = torch.compile(self.network) if options.compile else self.network
        self._fast: nn.Module = fast
        self.defense: Defense = options.build_defense().to(device)
        self._attack = options.build_attack()
        self._defended = Defended(self._fast, self.defense)
        self._by_image = any(
            isinstance(part, RandomDefense) and part.seed is not None
            for part in self.defense.modules()
        )
        self.optimizer = torch.optim.SGD(
            [part for part in self.network.parameters() if part.requires_grad],
            lr=options.learning_rate,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            nesterov=options.momentum > 0,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=options.precision == "float16")
        self.average: Any = None
        if options.ema_decay is not None:
            mean: Any = get_ema_multi_avg_fn
            self.average = AveragedModel(
                self.network, multi_avg_fn=mean(options.ema_decay), use_buffers=True
            )

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.position.epoch == self.options.epochs

    @property
    def best(self) -> nn.Module:
        """The network of the result: with averaged weights where they were asked for."""
        averaged: nn.Module = self.network if self.average is None else self.average.module
        return averaged

    def plan(self) -> dict[str, int]:
        """Return kind of work -> number of images."""
        counts = {"training": len(self._data)}
        if self._test is not None:
            counts["testing"] = len(self._test)
        return {kind: count * self.options.epochs for kind, count in counts.items()}

    def updates(self) -> Iterator[bool]:
        """Train on; yield after each update, and say whether an epoch has ended with it."""
        while not self.finished:
            clock, before = Clock(self.device), self.position.seconds
            plan = self._epoch_plan()
            with self._timed_defense(clock):
                while self.position.batch < len(self._bounds) - 1:
                    rate = self._update(plan, clock)
                    self.position = replace(self.position, seconds=before + EpochSeconds.of(clock))
                    if self.position.batch < len(self._bounds) - 1:
                        yield False
                accuracy = None if self._test is None else self._score(self._test, clock)
            self._end_epoch(rate, accuracy, before + EpochSeconds.of(clock))
            yield True

    def _epoch_plan(self) -> EpochPlan:
        options = self.options
        return EpochPlan(
            options.seed, self.position.epoch, len(self._data), options.crop, options.flip
        )

    def _end_epoch(self, rate: float, accuracy: float | None, seconds: EpochSeconds) -> None:
        done = self.position
        record = EpochRecord(
            epoch=done.epoch + 1,
            loss=done.loss / done.images,
            train_accuracy=done.right / done.images,
            test_accuracy=accuracy,
            learning_rate=rate,
            seconds=seconds,
        )
        self.position = Position(epoch=done.epoch + 1, history=(*done.history, record))

    def _update(self, plan: EpochPlan, clock: Clock) -> float:
        """Learn one batch; return the learning rate."""
        options, position = self.options, self.position
        start, stop = self._bounds[position.batch : position.batch + 2]
        began = clock.total
        self._seed(derive_seed(options.seed, "network", plan.number, start, self.processes.rank))
        images, labels, index = self._batch(plan, self.processes.part(start, stop))
        done = plan.number + (position.batch + 0.5) / (len(self._bounds) - 1)
        images = self._prepare(plan, images, labels, index, done, clock)
        with clock.phase("network"):
            rate = learning_rate_at(options, done)
            loss, right = self._learn(images, labels, stop - start, rate)
        position = replace(
            position,
            batch=position.batch + 1,
            loss=position.loss + loss,
            right=position.right + right,
            images=position.images + stop - start,
        )
        self.position = position
        if not math.isfinite(loss):
            raise self.diverged()
        self.progress.advance("training", stop - start, clock.total - began)
        return rate

    def _seed(self, seed: int) -> None:
        """Make dropout and the like a function of the seed, too."""
        torch.default_generator.manual_seed(seed)  # torch.manual_seed is slow without CUDA
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def diverged(self) -> FloatingPointError:
        """Return the error that tells of a loss or of weights that are not finite."""
        epoch = self.position.epoch + (self.position.batch > 0)
        return FloatingPointError(
            f"the loss or a weight became infinite or NaN in epoch {epoch}, at the learning rate "
            f"{self.optimizer.param_groups[0]['lr']:g}; use a smaller `learning_rate`, or "
            "`warmup_epochs`: the last checkpoint is kept"
        )

    def _batch(
        self, plan: EpochPlan, part: slice
    ) -> tuple[torch.Tensor, torch.Tensor, int | torch.Tensor]:
        """Return images in [0, 1], labels and mask indices of positions of an epoch."""
        rows = plan.order[part]
        source = self.copies[plan.number % len(self.copies)] if self.copies else self._data.images
        images = torch.from_numpy(source[rows]).to(self.device)
        images = shift_and_mirror(images, plan.offsets[part], plan.mirrored[part], plan.crop)
        labels = torch.from_numpy(self._data.labels[rows]).to(self.device)
        # The masks of consecutive indices are drawn, and completed, together.
        index = torch.from_numpy(rows) if self._by_image else part.start
        return images.float() / 255, labels, index

    def _prepare(
        self,
        plan: EpochPlan,
        images: torch.Tensor,
        labels: torch.Tensor,
        index: int | torch.Tensor,
        done: float,
        clock: Clock,
    ) -> torch.Tensor:
        """Attack and defend a batch, when so many epochs are done."""
        if self.copies:
            return images
        seed = self.options.seed
        if self._attack is not None:
            self._defended.model.eval()
            with clock.phase("attack"), self._autocast(attack=True):
                images = attack_at(self.options, self._attack, done).run(
                    self._defended,
                    images,
                    labels,
                    index=index,
                    seed=derive_seed(seed, "attack", self._attack.threat.seed, plan.number),
                )
        with torch.no_grad(), seeded_masks(derive_seed(seed, "masks", plan.number)):
            defended: torch.Tensor = self.defense(images, index=index)
        return defended

    def _learn(
        self, images: torch.Tensor, labels: torch.Tensor, count: int, rate: float
    ) -> tuple[float, int]:
        """Update the weights; return the sum of the loss, and how many images were right."""
        self._fast.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            logits = self._fast(images.contiguous(memory_format=self._format))
        loss = cross_entropy(
            logits.float(), labels, label_smoothing=self.options.label_smoothing, reduction="sum"
        )
        # Gradients of several processes are added: this is the mean over the whole batch.
        scaled: Any = self.scaler.scale(loss * (1 / count))
        scaled.backward()
        self._add_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        right = (logits.argmax(dim=1) == labels).sum()
        totals = torch.stack([loss.detach(), right.float()])
        self._share(totals)
        if self.average is not None:
            self.average.update_parameters(self.network)
        loss_sum, right_sum = totals.tolist()
        return loss_sum, round(right_sum)

    def _add_gradients(self) -> None:
        """Make the gradients of several processes those of the whole batch."""
        if self.processes.count == 1:
            return
        parts = [part for part in self.network.parameters() if part.requires_grad]
        used = torch.tensor([float(part.grad is not None) for part in parts], device=self.device)
        for part in parts:
            if part.grad is None:
                part.grad = torch.zeros_like(part)
        self.processes.add([used, *(part.grad for part in parts if part.grad is not None)])
        for part, count in zip(parts, used.tolist(), strict=True):
            if not count:  # of no process: the optimizer leaves it as it is
                part.grad = None

    def _share(self, totals: torch.Tensor) -> None:
        """Add up what the processes counted, and average their running statistics."""
        self.processes.add([totals])
        if self.processes.count == 1:
            return
        buffers = list(self.network.buffers())
        means = [part for part in buffers if part.is_floating_point()]
        self.processes.add(means)
        for part in means:
            part /= self.processes.count
        self.processes.spread(part for part in buffers if not part.is_floating_point())

    def _score(self, test: Dataset, clock: Clock) -> float:
        """Return the accuracy on test images behind the defence."""
        network, right = self.best.eval(), torch.zeros(1)
        bounds = batch_bounds(len(test), self.options.batch_size)
        seed = derive_seed(self.options.seed, "test", self.position.epoch)
        with clock.phase("test"), torch.no_grad():
            for start, stop in pairwise(bounds):
                began = clock.total
                part = self.processes.part(start, stop)
                images = torch.from_numpy(test.images[part].copy()).to(self.device).float() / 255
                with seeded_masks(seed):
                    images = self.defense(images, index=part.start)
                with self._autocast():
                    logits = network(images.contiguous(memory_format=self._format))
                labels = torch.from_numpy(test.labels[part].copy())
                right += (logits.argmax(dim=1).cpu() == labels).sum()
                self.progress.advance("testing", stop - start, clock.total - began)
        self._share_count(right)
        return float(right) / len(test)

    def _share_count(self, count: torch.Tensor) -> None:
        moved = count.to(self.device)
        self.processes.add([moved])
        count.copy_(moved)

    def _autocast(self, attack: bool = False) -> Any:
        dtype = _DTYPES.get(self.options.precision)
        if attack and dtype == torch.float16:  # whose gradients would underflow, unscaled
            dtype = None
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

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
