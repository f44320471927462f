"""A network and what changes its weights: one update, shared by several processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from splic_ext.training.plan import Plan

__all__ = ["Learner"]

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Learner:
    """The network of a plan, its optimizer, and the running average of its weights."""

    def __init__(self, plan: Plan) -> None:
        options = plan.options
        self.options, self.processes, self.device = options, plan.processes, plan.device
        self._format = torch.channels_last if options.channels_last else torch.contiguous_format
        move: Any = plan.network.to
        self.network: nn.Module = move(plan.device, memory_format=self._format)
        fast: Any = torch.compile(self.network) if options.compile else self.network
        self.fast: nn.Module = fast
        self.optimizer = torch.optim.SGD(
            [part for part in self.network.parameters() if part.requires_grad],
            lr=options.learning_rate,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            nesterov=options.momentum > 0,
        )
        self.scaler = torch.amp.GradScaler(plan.device.type, enabled=options.precision == "float16")
        self.average: Any = None
        if options.ema_decay is not None:
            mean: Any = get_ema_multi_avg_fn
            self.average = AveragedModel(
                self.network, multi_avg_fn=mean(options.ema_decay), use_buffers=True
            )

    @property
    def best(self) -> nn.Module:
        """The network of the result: with averaged weights where they were asked for."""
        averaged: nn.Module = self.network if self.average is None else self.average.module
        return averaged

    @property
    def rate(self) -> float:
        """The learning rate of the last update."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def seed(self, seed: int) -> None:
        """Make dropout and the like a function of the seed, too."""
        torch.default_generator.manual_seed(seed)  # torch.manual_seed is slow without CUDA
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def autocast(self, attack: bool = False) -> Any:
        """Compute forward passes in the precision of the options."""
        dtype = _DTYPES.get(self.options.precision)
        if attack and dtype == torch.float16:  # whose gradients would underflow, unscaled
            dtype = None
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def logits(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return what a version of the network makes of images."""
        with self.autocast():
            logits: torch.Tensor = network(images.contiguous(memory_format=self._format))
        return logits

    def losses(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of each image, by the network as it is asked, not as it learns."""
        with torch.no_grad():
            logits = self.logits(self.fast.eval(), images)
        return cross_entropy(logits.float(), labels, reduction="none")

    def learn(
        self, images: torch.Tensor, labels: torch.Tensor, count: int, rate: float
    ) -> tuple[float, int]:
        """Learn this process's part of a batch of `count` images.

        Returns the sum of the loss over the whole batch, and how many images were right.
        """
        self.fast.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.logits(self.fast, images)
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
        self.processes.add([totals])
        self._share_buffers()
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

    def _share_buffers(self) -> None:
        """Average the running statistics of several processes."""
        if self.processes.count == 1:
            return
        buffers = list(self.network.buffers())
        means = [part for part in buffers if part.is_floating_point()]
        self.processes.add(means)
        for part in means:
            part /= self.processes.count
        self.processes.spread(part for part in buffers if not part.is_floating_point())
