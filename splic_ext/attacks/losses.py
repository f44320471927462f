"""What an attack maximises, averaged over the draws of a random defence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from splic_ext.attacks.target import Target

__all__ = [
    "LOSSES",
    "Best",
    "check_loss",
    "cross_entropy",
    "dlr",
    "margin",
    "measure",
    "measure_gradient",
]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each image."""
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the largest logit of another class minus that of the true one: above 0 is wrong.

    >>> margin(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([1]))
    tensor([-2.])
    """
    true = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return others.amax(dim=1) - true


def dlr(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the difference-of-logits ratio [1]_ of each image, of K classes, at least 3.

    The :func:`margin`, divided by the largest minus the third largest logit: neither the scale
    of the logits nor a constant added to them changes it, so that it does not saturate.

    References
    ----------
    .. [1] F. Croce, M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of
       diverse parameter-free attacks", ICML 2020, eq. (6).

    Examples
    --------
    >>> dlr(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([1]))
    tensor([-0.6667])
    """
    if logits.shape[1] < 3:
        raise ValueError(
            f"`loss` 'dlr' needs a network of at least 3 classes, got {logits.shape[1]}; use 'ce'"
        )
    largest = logits.topk(3, dim=1).values
    return margin(logits, labels) / (largest[:, 0] - largest[:, 2] + 1e-12)


#: Losses by name.
LOSSES: Mapping[str, Loss] = MappingProxyType({"ce": cross_entropy, "dlr": dlr})


def check_loss(loss: Any) -> None:
    """Raise a ValueError unless `loss` is a name in :data:`LOSSES`."""
    if not isinstance(loss, str) or loss not in LOSSES:
        expected = ", ".join(map(repr, LOSSES))
        raise ValueError(f"`loss` must be one of {expected}, got {loss!r}; choose one")


def measure(
    target: Target, images: torch.Tensor, loss: Loss, draws: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss of each image over draws, and in how many it was misclassified."""
    with torch.no_grad():
        total, wrong = torch.zeros(2, len(images), dtype=images.dtype, device=images.device)
        for _ in range(draws):
            logits = target(images)
            total += loss(logits, target.labels)
            wrong += logits.argmax(dim=1) != target.labels
        return total / draws, wrong


def measure_gradient(
    target: Target, images: torch.Tensor, loss: Loss, draws: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what :func:`measure` does, and the gradient of the mean loss.

    The draws are computed one after the other: the memory needed is that of one.
    """
    images = images.detach().requires_grad_()
    total, wrong = torch.zeros(2, len(images), dtype=images.dtype, device=images.device)
    gradient = torch.zeros_like(images)
    for _ in range(draws):
        logits = target(images)
        values = loss(logits, target.labels)
        (found,) = torch.autograd.grad(values.sum(), images, allow_unused=True)
        if found is None:
            raise target.detached()
        gradient += found
        total += values.detach()
        wrong += logits.detach().argmax(dim=1) != target.labels
    return total / draws, wrong, gradient / draws


class Best:
    """The best version so far of each image of a batch; the image itself if there was no offer.

    >>> best = Best(torch.zeros(2, 1, 1, 1))
    >>> best.offer(torch.full((2, 1, 1, 1), 0.1), torch.tensor([1.0, 1.0]), torch.tensor([0, 1]))
    >>> best.offer(torch.full((2, 1, 1, 1), 0.2), torch.tensor([2.0, 2.0]), torch.tensor([0, 0]))
    >>> best.images.flatten()
    tensor([0.2000, 0.1000])
    """

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images
        self._loss = images.new_full((len(images),), float("-inf"))
        self._wrong = images.new_full((len(images),), -1.0)

    def offer(self, images: torch.Tensor, loss: torch.Tensor, wrong: torch.Tensor) -> None:
        """Keep those that are better: with a larger `wrong`, or the same and a larger `loss`."""
        wrong = wrong.to(self._wrong)
        better = (wrong > self._wrong) | ((wrong == self._wrong) & (loss > self._loss))
        self.images = torch.where(better[:, None, None, None], images, self.images)
        self._loss = torch.where(better, loss, self._loss)
        self._wrong = torch.where(better, wrong, self._wrong)
