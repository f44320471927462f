"""Attacks that climb along gradients and know the defence: BPDA, EOT-PGD, Auto-PGD."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch

from splic_ext.attacks.base import Attack
from splic_ext.attacks.losses import (
    LOSSES,
    Best,
    Loss,
    check_loss,
    cross_entropy,
    measure,
    measure_gradient,
)
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target
from splic_ext.attacks.threat import ThreatModel
from splic_ext.common.checks import check_integer
from splic_ext.defenses import Defense, gradient_mode, seeded_masks

__all__ = ["APGD", "BPDA", "EOTPGD"]

#: What the library's defences call their gradients; others may have others.
_GRADIENTS = ("identity", "exact", "surrogate")

#: Weight of the new step of Auto-PGD beside that of the last one (alpha of the paper).
MOMENTUM = 0.75
#: Share of the steps since the last checkpoint that must have raised the loss (rho).
RAISED = 0.75
#: Fewest draws by which the best of a few points is chosen on a random network.
JUDGES = 20


class Steps:
    """Steps of one run: projected, and of the size that the threat model says."""

    def __init__(self, threat: ThreatModel, images: torch.Tensor) -> None:
        self.threat, self.images = threat, images

    def take(
        self, point: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor
    ) -> torch.Tensor:
        """Return the next point, of a point with its losses and its gradient."""
        ahead = point + self.threat.step_size * self.threat.direction(gradient)
        return self.threat.project(ahead, self.images)


def climb(
    target: Target,
    images: torch.Tensor,
    streams: Streams,
    threat: ThreatModel,
    steps: type[Steps],
    *,
    loss: Loss,
    draws: int,
    last: bool = False,
    judges: int = 0,
) -> torch.Tensor:
    """Take steps in each run; return the best of all points, or of the `last` ones alone.

    With `judges`, the best and the last point of each run are compared on so many fresh draws.
    """
    best = Best(images)
    for restart in range(threat.restarts):
        kept = Best(images) if judges else best
        point, own = threat.start(images, streams, restart), steps(threat, images)
        for _ in range(threat.steps):
            value, wrong, gradient = measure_gradient(target, point, loss, draws)
            if not last:
                kept.offer(point, value, wrong == draws)
            point = own.take(point, value, gradient)
        if last and threat.restarts == 1:
            return point  # there is nothing to compare it with
        if judges:
            for candidate in (kept.images, point):
                with seeded_masks(streams.derive("judge")):  # the same for all
                    best.offer(candidate, *measure(target, candidate, loss, judges))
            continue
        value, wrong = measure(target, point, loss, draws)
        best.offer(point, value, wrong == draws)
    return best.images


class AutoSteps(Steps):
    """Steps of Auto-PGD: with momentum, of sizes that each image chooses for itself."""

    def __init__(self, threat: ThreatModel, images: torch.Tensor) -> None:
        super().__init__(threat, images)
        self.size = images.new_full((len(images), 1, 1, 1), 2 * threat.epsilon)
        self.marks, self.marked, self.taken = checkpoints(threat.steps), 0, 0
        self.was_halved = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        self.previous = images

    def take(
        self, point: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor
    ) -> torch.Tensor:
        """Return the next point, after the checkpoint that is due."""
        if self.taken == 0:
            self.top, self.top_value, self.top_gradient = point, value, gradient
            self.marked_value, self.raised = value, torch.zeros_like(value)
        else:
            self._note(point, value, gradient)
        if self.taken in self.marks:
            halve = self._halve()
            point = _where(halve, self.top, point)
            gradient = _where(halve, self.top_gradient, gradient)
            value = torch.where(halve, self.top_value, value)
        threat, images = self.threat, self.images
        ahead = threat.project(point + self.size * threat.direction(gradient), images)
        if self.taken > 0:
            ahead = point + MOMENTUM * (ahead - point) + (1 - MOMENTUM) * (point - self.previous)
            ahead = threat.project(ahead, images)
        self.previous, self.value = point, value
        self.taken += 1
        return ahead

    def _note(self, point: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Count the images whose loss the last step has raised, and keep the best points."""
        self.raised = self.raised + (value > self.value)
        higher = value > self.top_value
        self.top = _where(higher, point, self.top)
        self.top_gradient = _where(higher, gradient, self.top_gradient)
        self.top_value = torch.where(higher, value, self.top_value)

    def _halve(self) -> torch.Tensor:
        """Halve the steps of the images that need it, and say which."""
        few = self.raised < RAISED * (self.taken - self.marked)
        halve = few | (~self.was_halved & (self.top_value == self.marked_value))
        self.size = _where(halve, self.size / 2, self.size)
        self.marked, self.marked_value, self.was_halved = self.taken, self.top_value, halve
        self.raised = torch.zeros_like(self.raised)
        return halve


class NoisySteps(AutoSteps):
    """Steps of Auto-PGD on a random network, where no loss of few draws decides anything.

    At each checkpoint every image halves its step, and goes on from where it is. The rules of the
    paper halve nearly as often, since chance alone raises the loss in half of the steps, and go
    back to a point that had lucky draws.
    """

    def _note(self, point: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Keep no point to go back to."""

    def _halve(self) -> torch.Tensor:
        self.size = self.size / 2
        return torch.zeros_like(self.was_halved)


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which Auto-PGD looks at its sizes, rising, in [1, steps].

    They are at 22 % of all, then at distances of 19, 16, ... %, at least 6 %, rounded up.

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    percent, distance, marks = 22, 22, []
    while percent <= 100:
        marks.append(-(-percent * steps // 100))
        distance = max(distance - 3, 6)
        percent += distance
    return sorted(set(marks))


@dataclass(frozen=True, repr=False)
class BPDA(Attack):
    """The paper's white box: PGD with the gradient mode "identity" of the defences [1]_.

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
        with gradients_as(target, "identity"):
            return climb(
                target, images, streams, self.threat, Steps, loss=cross_entropy, draws=1, last=True
            )


@dataclass(frozen=True, repr=False)
class _MeanGradient(Attack):
    """What EOT-PGD and Auto-PGD share: their parameters."""

    eot: int = 10
    gradient: str | None = None
    loss: str = "ce"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("eot", check_integer("eot", self.eot, 1))
        if self.gradient is not None and not isinstance(self.gradient, str):
            raise TypeError(
                f"`gradient` must be a string or None, got {self.gradient!r}; use 'identity' or "
                "'exact'"
            )
        check_loss(self.loss)


@dataclass(frozen=True, repr=False)
class EOTPGD(_MeanGradient):
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
    gradient : str or None, default None
        Gradient mode of the defences meanwhile, as in :class:`splic_ext.defenses.Defense`:
        ``"identity"``, ``"exact"`` and others that they accept. None leaves each as it is set:
        SPLIC and ME-Net's three are set to the identity unless you say otherwise.
    loss : {"ce", "dlr"}, default "ce"
        Cross-entropy, or difference-of-logits ratio (`dlr` of ``splic_ext.attacks.losses``).

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

    name: ClassVar[str] = "eot-pgd"

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Climb, with all draws for each gradient."""
        draws, loss = target.draws(self.eot, images), LOSSES[self.loss]
        with gradients_as(target, self.gradient):
            return climb(target, images, streams, self.threat, Steps, loss=loss, draws=draws)


@dataclass(frozen=True, repr=False)
class APGD(_MeanGradient):
    """Auto-PGD of Croce and Hein [1]_, with the loss averaged over draws.

    Steps begin with 2 epsilon. At checkpoints, which follow each other ever faster, an image
    halves its step and goes back to its best point if too few steps have raised its loss, or if
    neither step nor best loss have changed since the last checkpoint. Of all points of all runs
    the one with the largest loss is returned; one that was misclassified comes first. All images
    are attacked to the end.

    On a random network the losses of single points say little, and these rules would go back to
    points that had lucky draws. There every image halves its step at each checkpoint, and goes on
    from where it is. The best point of a run by its own draws and the last one are compared on
    at least 20 fresh draws, the same for all: the one misclassified in most of them is returned,
    of equal ones that with the largest mean loss.

    Parameters
    ----------
    threat : ThreatModel
        By default 100 steps in the L-inf ball of 8/255. Its step size is not used.
    eot : int, default 10
        Draws for each loss and gradient, at least 1; a network without randomness is asked once.
    gradient : str or None, default None
        As in :class:`EOTPGD`.
    loss : {"ce", "dlr"}, default "ce"
        As in :class:`EOTPGD`.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range; in `run`: a defence that does not
        accept `gradient`.

    References
    ----------
    .. [1] F. Croce, M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of
       diverse parameter-free attacks", ICML 2020, Algorithm 1.

    Examples
    --------
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> APGD(ThreatModel(steps=20), loss="dlr")(network, images, labels).shape
    torch.Size([4, 3, 2, 2])
    """

    threat: ThreatModel = ThreatModel(steps=100)

    name: ClassVar[str] = "apgd"
    uses: ClassVar[tuple[str, ...]] = (
        "norm",
        "epsilon",
        "steps",
        "restarts",
        "random_start",
        "seed",
    )

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Climb, by rules that fit the network."""
        threat, loss = self.threat, LOSSES[self.loss]
        noisy = target.is_random(images if self.eot > 1 else None)  # which saves forward passes
        draws = self.eot if noisy else 1
        steps, judges = (NoisySteps, max(draws, JUDGES)) if noisy else (AutoSteps, 0)
        with gradients_as(target, self.gradient):
            return climb(
                target, images, streams, threat, steps, loss=loss, draws=draws, judges=judges
            )


def _where(condition: torch.Tensor, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    return torch.where(condition[:, None, None, None], images, others)


@contextmanager
def gradients_as(target: Target, mode: str | None) -> Iterator[None]:
    """Differentiate the defences of a target in one way, for a while; None: as they are set."""
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
