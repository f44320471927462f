"""Attacks that know the defence: BPDA, gradients averaged over masks, the worst of several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from splic_ext.attacks.base import Attack
from splic_ext.attacks.losses import (
    LOSSES,
    Best,
    check_loss,
    cross_entropy,
    measure,
    measure_gradient,
)
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target
from splic_ext.attacks.threat import ThreatModel
from splic_ext.checks import check_integer
from splic_ext.defenses import Defense, gradient_mode

__all__ = ["BPDA", "EOTPGD", "gradients_as"]

_MOST = 2**31 - 1

#: What the library's defences call their gradients; others may have others.
_GRADIENTS = ("identity", "exact", "surrogate")


@dataclass(frozen=True, repr=False)
class BPDA(Attack):
    """The paper's white box: PGD that passes the gradient by the defences unchanged [1]_.

    One mask for each step, cross-entropy; the last point of a run is returned, of several runs
    the one that is misclassified, or has the largest loss. A weak attack on a random defence:
    see :class:`EOTPGD`.

    Parameters
    ----------
    threat : ThreatModel
        By default the paper's: 7 steps of 2/255 in the L-inf ball of 8/255.

    Raises
    ------
    TypeError
        `threat` is no :class:`ThreatModel`.
    ValueError
        In `run`: a defence without the gradient mode "identity".

    References
    ----------
    .. [1] A. Athalye, N. Carlini, D. Wagner, "Obfuscated gradients give a false sense of
       security", ICML 2018.

    Examples
    --------
    >>> from torch import nn
    >>> from splic_ext.defenses import BitDepth, Defended
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> BPDA()(Defended(network, BitDepth(3)), images, labels).shape
    torch.Size([4, 3, 2, 2])
    """

    name: ClassVar[str] = "bpda"

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Step along the gradient of one draw each."""
        threat, best = self.threat, Best(images)
        with gradients_as(target, "identity"):
            for restart in range(threat.restarts):
                point = threat.start(images, streams, restart)
                for _ in range(threat.steps):
                    _, _, gradient = measure_gradient(target, point, cross_entropy, draws=1)
                    point = point + threat.step_size * threat.direction(gradient)
                    point = threat.project(point, images)
                if threat.restarts == 1:
                    return point
                best.offer(point, *measure(target, point, cross_entropy, draws=1))
        return best.images


@dataclass(frozen=True, repr=False)
class EOTPGD(Attack):
    """PGD on the expected loss of a random defence [1]_, estimated anew in each step.

    Each step follows the mean of the gradients of `eot` draws. Of all points of all runs the one
    with the largest mean loss over its draws is returned; one that was misclassified in all of
    them comes first.

    Parameters
    ----------
    threat : ThreatModel
        By default 200 steps of 1/255 in the L-inf ball of 8/255.
    eot : int, default 10
        Draws for each gradient, at least 1; a network without randomness is asked once.
    gradient : str or None, default "identity"
        Gradient mode of the defences meanwhile, as in :class:`splic_ext.defenses.Defense`:
        ``"identity"``, ``"exact"`` and others that they accept. None leaves each as it is set.
    loss : {"ce", "dlr"}, default "ce"
        Cross-entropy, or difference-of-logits ratio (see :func:`splic_ext.attacks.losses.dlr`).

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range; in `run`: a defence that does not
        accept `gradient`.

    References
    ----------
    .. [1] A. Athalye, L. Engstrom, A. Ilyas, K. Kwok, "Synthesizing robust adversarial examples",
       ICML 2018.

    Examples
    --------
    >>> from torch import nn
    >>> from splic_ext.defenses import USVT, Defended
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> attack = EOTPGD(ThreatModel(steps=5), eot=4, gradient="exact")
    >>> changed = attack(Defended(network, USVT()), images, labels)
    >>> bool((changed - images).abs().max() <= 8 / 255 + 1e-6)
    True
    """

    threat: ThreatModel = ThreatModel(steps=200, step_size=1 / 255)
    eot: int = 10
    gradient: str | None = "identity"
    loss: str = "ce"

    name: ClassVar[str] = "eot-pgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("eot", check_integer("eot", self.eot, 1, _MOST))
        check_gradient(self.gradient)
        check_loss(self.loss)

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Step along mean gradients, and remember the best point."""
        threat, loss, best = self.threat, LOSSES[self.loss], Best(images)
        draws = target.draws(self.eot, images)
        with gradients_as(target, self.gradient):
            for restart in range(threat.restarts):
                point = threat.start(images, streams, restart)
                for _ in range(threat.steps):
                    value, wrong, gradient = measure_gradient(target, point, loss, draws)
                    best.offer(point, value, wrong == draws)
                    point = point + threat.step_size * threat.direction(gradient)
                    point = threat.project(point, images)
                value, wrong = measure(target, point, loss, draws)
                best.offer(point, value, wrong == draws)
        return best.images


@contextmanager
def gradients_as(target: Target, mode: str | None) -> Iterator[None]:
    """Differentiate the defences of a target in one way, for a while.

    Parameters
    ----------
    target : Target
        The network under attack.
    mode : str or None
        None leaves each defence as it is set.

    Raises
    ------
    ValueError
        A defence does not accept the mode; or there is none, and it is none of the library's.
    """
    own = [part for part in target.model.modules() if isinstance(part, Defense)]
    undecided = all("parts" in part.gradients for part in own)
    if mode is not None and mode not in _GRADIENTS and undecided:
        raise ValueError(
            f"`gradient` must be one of {', '.join(map(repr, _GRADIENTS))}, or None, got {mode!r}; "
            "choose one"
        )
    if mode is None:
        yield
    else:
        with gradient_mode(target.model, mode):
            yield


def check_gradient(gradient: Any) -> None:
    """Raise a TypeError unless `gradient` is a string or None."""
    if gradient is not None and not isinstance(gradient, str):
        raise TypeError(
            f"`gradient` must be a string or None, got {gradient!r}; use 'identity' or 'exact'"
        )
