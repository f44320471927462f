"""Attacks of the literature as they are, by foolbox: FGSM, PGD, Carlini and Wagner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from splic_ext.attacks.base import Attack
from splic_ext.attacks.bridge import load_foolbox, run_foolbox
from splic_ext.attacks.losses import Best, cross_entropy, measure
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target
from splic_ext.common.checks import check_bool, check_integer, check_number

__all__ = ["FGSM", "PGD", "CarliniWagner"]


@dataclass(frozen=True, repr=False)
class FGSM(Attack):
    """Fast gradient sign method [1]_: one step of `epsilon` from the image.

    Parameters
    ----------
    threat : ThreatModel
        Norm and epsilon. In ``"l2"`` the step is along the gradient itself.

    Raises
    ------
    TypeError
        `threat` is no :class:`ThreatModel`.
    MissingExtraError
        In `run`: foolbox is not installed.

    References
    ----------
    .. [1] I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and harnessing adversarial examples",
       ICLR 2015.

    Examples
    --------
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> from splic_ext.attacks import ThreatModel
    >>> FGSM(ThreatModel(epsilon=4 / 255))(network, images, labels).shape
    torch.Size([4, 3, 2, 2])
    """

    name: ClassVar[str] = "fgsm"
    uses: ClassVar[tuple[str, ...]] = ("norm", "epsilon", "seed")

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Take the step."""
        attacks = load_foolbox(type(self).__name__).attacks
        kinds = {"linf": attacks.LinfFastGradientAttack, "l2": attacks.L2FastGradientAttack}
        attack = kinds[self.threat.norm](random_start=False)
        return run_foolbox(attack, target, images, target.labels, epsilon=self.threat.epsilon)


@dataclass(frozen=True, repr=False)
class PGD(Attack):
    """Projected gradient descent [1]_ on the cross-entropy, as the defences are set.

    Returns the last point of a run; of several runs the one that is misclassified, or has the
    largest cross-entropy.

    Parameters
    ----------
    threat : ThreatModel
        By default the paper's: 7 steps of 2/255 in the L-inf ball of 8/255.

    Raises
    ------
    TypeError
        `threat` is no :class:`ThreatModel`.
    MissingExtraError
        In `run`: foolbox is not installed.

    References
    ----------
    .. [1] A. Madry, A. Makelov, L. Schmidt, D. Tsipras, A. Vladu, "Towards deep learning models
       resistant to adversarial attacks", ICLR 2018.

    Examples
    --------
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> from splic_ext.attacks import ThreatModel
    >>> attack = PGD(ThreatModel(steps=20, restarts=2))
    >>> torch.equal(attack(network, images, labels), attack(network, images, labels))
    True
    """

    name: ClassVar[str] = "pgd"

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Run once, or several times and keep the best."""
        threat = self.threat
        attacks = load_foolbox(type(self).__name__).attacks
        kinds = {
            "linf": attacks.LinfProjectedGradientDescentAttack,
            "l2": attacks.L2ProjectedGradientDescentAttack,
        }
        attack = kinds[threat.norm](
            abs_stepsize=threat.step_size, steps=threat.steps, random_start=threat.random_start
        )
        best = Best(images)
        for restart in range(threat.restarts):
            # Starts of each image's own, where foolbox would draw them from torch's generator.
            start = threat.start(images, streams, restart)
            attack.get_random_start = lambda x0, epsilon, start=start: type(x0)(start)
            result = run_foolbox(attack, target, images, target.labels, epsilon=threat.epsilon)
            if threat.restarts == 1:
                return result
            best.offer(result, *measure(target, result, cross_entropy, draws=1))
        return best.images


@dataclass(frozen=True, repr=False)
class CarliniWagner(Attack):
    """The L2 attack of Carlini and Wagner [1]_: the smallest change that fools with confidence.

    An image of which no adversarial version was found is returned as it was.

    Parameters
    ----------
    threat : ThreatModel
        Its seed alone.
    confidence : float, default 20
        Another class must win by this much (>= 0), in units of the logits.
    binary_search_steps : int, default 5
        Steps of the search for the weight of the loss, at least 1.
    learning_rate : float, default 0.005
        Of Adam, above 0.
    iterations : int, default 1000
        Most iterations of each search step, at least 1.
    initial_const : float, default 1e-3
        Weight to begin with, above 0.
    abort_early : bool, default True
        End a search step when the loss of the batch no longer falls, which is looked at ten
        times: the result then depends on the batch.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    MissingExtraError
        In `run`: foolbox is not installed.

    References
    ----------
    .. [1] N. Carlini, D. Wagner, "Towards evaluating the robustness of neural networks", IEEE
       S&P 2017.

    Examples
    --------
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images = torch.rand(4, 3, 2, 2)
    >>> labels = network(images).argmax(1)
    >>> found = CarliniWagner(confidence=0, learning_rate=0.1, iterations=100)
    >>> bool((network(found(network, images, labels)).argmax(1) != labels).any())
    True
    """

    confidence: float = 20.0
    binary_search_steps: int = 5
    learning_rate: float = 0.005
    iterations: int = 1000
    initial_const: float = 1e-3
    abort_early: bool = True

    name: ClassVar[str] = "cw"
    uses: ClassVar[tuple[str, ...]] = ("seed",)
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("confidence", check_number("confidence", self.confidence, 0.0))
        for name in ("learning_rate", "initial_const"):
            self._set(name, check_number(name, getattr(self, name), 0.0, above=True))
        for name in ("binary_search_steps", "iterations"):
            self._set(name, check_integer(name, getattr(self, name), 1))
        check_bool("abort_early", self.abort_early)

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Search."""
        attack = load_foolbox(type(self).__name__).attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.binary_search_steps,
            steps=self.iterations,
            stepsize=self.learning_rate,
            confidence=self.confidence,
            initial_const=self.initial_const,
            abort_early=self.abort_early,
        )
        result = run_foolbox(attack, target, images, target.labels)
        found = (result != 0).flatten(1).any(dim=1)  # foolbox leaves the others black
        return torch.where(found[:, None, None, None], result, images).clamp(0.0, 1.0)
