"""Attacks of the literature as they are, by foolbox: FGSM, PGD, Carlini and Wagner, HopSkipJump."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from splic_ext.attacks.base import Attack
from splic_ext.attacks.losses import Best, cross_entropy, measure
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target
from splic_ext.attacks.threat import ThreatModel
from splic_ext.checks import check_integer, check_number
from splic_ext.defenses import seeded_masks
from splic_ext.errors import AttackError, MissingExtraError

__all__ = ["FGSM", "PGD", "CarliniWagner", "HopSkipJump"]

_MOST = 2**31 - 1


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
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> FGSM(ThreatModel(epsilon=4 / 255))(network, images, labels).shape
    torch.Size([4, 3, 2, 2])
    """

    name: ClassVar[str] = "fgsm"
    uses: ClassVar[tuple[str, ...]] = ("norm", "epsilon", "seed")

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Take the step."""
        attacks = _foolbox().attacks
        kinds = {"linf": attacks.LinfFastGradientAttack, "l2": attacks.L2FastGradientAttack}
        attack = kinds[self.threat.norm](random_start=False)
        return _run(attack, target, images, epsilon=self.threat.epsilon)


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
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    >>> attack = PGD(ThreatModel(steps=20, restarts=2))
    >>> torch.equal(attack(network, images, labels), attack(network, images, labels))
    True
    """

    name: ClassVar[str] = "pgd"

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Run once, or several times and keep the best."""
        threat = self.threat
        attacks = _foolbox().attacks
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
            result = _run(attack, target, images, epsilon=threat.epsilon)
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
            self._set(name, check_integer(name, getattr(self, name), 1, _MOST))
        if not isinstance(self.abort_early, bool):
            raise TypeError(
                f"`abort_early` must be True or False, got {self.abort_early!r} "
                f"of {type(self.abort_early).__name__}; convert it with bool()"
            )

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Search."""
        attack = _foolbox().attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.binary_search_steps,
            steps=self.iterations,
            stepsize=self.learning_rate,
            confidence=self.confidence,
            initial_const=self.initial_const,
            abort_early=self.abort_early,
        )
        result = _run(attack, target, images)
        found = (result != 0).flatten(1).any(dim=1)  # foolbox leaves the others black
        return torch.where(found[:, None, None, None], result, images).clamp(0.0, 1.0)


@dataclass(frozen=True, repr=False)
class HopSkipJump(Attack):
    """HopSkipJump [1]_: asks for the predicted class alone, and makes the change small.

    It walks along the border of the class, and needs answers that do not change: of a random
    defence it sees the majority of `eot` draws, whose masks are held still. Images that are
    misclassified already, or for which no start is found, are returned as they were.

    Parameters
    ----------
    threat : ThreatModel
        The norm that is made small, by default ``"l2"``, and the seed.
    iterations : int, default 64
        At least 1. Iteration t asks about ``initial_queries * sqrt(t)`` times: 64 of them are
        some 35,000 queries for each image, and 16 some 5,000.
    initial_queries : int, default 100
        Queries for the direction in the first iteration, at least 1.
    max_queries : int, default 10000
        Most queries for a direction, at least `initial_queries`. As many times the batch must fit
        into memory.
    start_draws : int, default 100
        Random images tried as a start, at least 1.
    eot : int, default 10
        Draws of which the majority is seen, at least 1; a network without randomness is asked
        once.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    MissingExtraError
        In `run`: foolbox is not installed.
    AttackError
        In `run`: the answers change from call to call.

    References
    ----------
    .. [1] J. Chen, M. Jordan, M. Wainwright, "HopSkipJumpAttack: a query-efficient decision-based
       attack", IEEE S&P 2020.

    Examples
    --------
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> images = torch.rand(4, 3, 2, 2)
    >>> labels = network(images).argmax(1)
    >>> found = HopSkipJump(iterations=4)(network, images, labels)
    >>> bool((network(found).argmax(1) != labels).any())
    True
    """

    threat: ThreatModel = ThreatModel(norm="l2")
    iterations: int = 64
    initial_queries: int = 100
    max_queries: int = 10000
    start_draws: int = 100
    eot: int = 10

    name: ClassVar[str] = "hopskipjump"
    uses: ClassVar[tuple[str, ...]] = ("norm", "seed")
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("iterations", "initial_queries", "start_draws", "eot"):
            self._set(name, check_integer(name, getattr(self, name), 1, _MOST))
        queries = check_integer("max_queries", self.max_queries, self.initial_queries, _MOST)
        self._set("max_queries", queries)

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Find a start, then walk; leave out the images that need no attack or have no start."""
        attacks = _foolbox().attacks
        starter = attacks.LinearSearchBlendedUniformNoiseAttack(
            directions=self.start_draws, steps=50
        )
        walker = attacks.HopSkipJumpAttack(
            steps=self.iterations,
            initial_gradient_eval_steps=self.initial_queries,
            max_gradient_eval_steps=self.max_queries,
            constraint=self.threat.norm,
        )
        _scale_each_image(walker)
        draws = target.draws(self.eot, images)
        seeds = [streams.derive("vote", draw) for draw in range(draws)]
        result = images.clone()
        with torch.no_grad(), _seeded_torch(streams.derive("torch"), images.device):
            voters = _Voters(target, seeds)
            rows = (voters(images).argmax(dim=1) == target.labels).nonzero()[:, 0]
            if len(rows) == 0:
                return result
            part = target.select(rows)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=r".*failed to draw sufficient random")
                start = _run(starter, part, images[rows], voters=seeds)
            fooled = (_Voters(part, seeds)(start).argmax(dim=1) != part.labels).nonzero()[:, 0]
            if len(fooled) == 0:
                return result
            rows, start = rows[fooled], start[fooled]
            try:
                found = _run(
                    walker, target.select(rows), images[rows], voters=seeds, starting_points=start
                )
            except AssertionError:
                raise AttackError(
                    "the predicted class changed between two calls with equal images and masks; "
                    "make the network deterministic, for example with "
                    "torch.use_deterministic_algorithms(True)",
                    *target.defense,
                ) from None
        result[rows] = found.clamp(0.0, 1.0)
        return result


class _Voters:
    """How many draws, of masks that are held still, vote for each class."""

    def __init__(self, target: Target, seeds: list[int]) -> None:
        self._target = target
        self._seeds = seeds

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        votes: Any = 0
        for seed in self._seeds:
            with seeded_masks(seed):
                logits = self._target(images)
            votes = votes + nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1])
        counted: torch.Tensor = votes.to(images.dtype)
        return counted


class _Module(nn.Module):
    """A function as a module; the network in it is not registered, so that nothing moves it."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.forward = function
        self.eval()


def _run(
    attack: Any,
    target: Target,
    images: torch.Tensor,
    *,
    voters: list[int] | None = None,
    **arguments: Any,
) -> torch.Tensor:
    """Run an attack of foolbox."""
    foolbox = _foolbox()
    function = target if voters is None else _Voters(target, voters)
    model = foolbox.PyTorchModel(_Module(function), bounds=(0, 1), device=images.device)
    result: torch.Tensor = attack.run(model, images, target.labels, **arguments)
    return result.detach()


def _scale_each_image(attack: Any) -> None:
    """Make foolbox's HopSkipJump normalise the direction of each image, not of the batch."""
    estimate = attack.approximate_gradients

    def scaled(*arguments: Any) -> Any:
        directions = estimate(*arguments)
        raw = directions.raw
        length = torch.linalg.vector_norm(raw, dim=(1, 2, 3), keepdim=True)
        return type(directions)(raw / torch.where(length > 0, length, 1.0))

    attack.approximate_gradients = scaled


@contextmanager
def _seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators for a library that draws from them; set them back afterwards."""
    places = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=places):
        torch.default_generator.manual_seed(seed % 2**63)
        if places:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed % 2**63)
        yield


@functools.cache
def _foolbox() -> Any:
    try:
        with warnings.catch_warnings():
            # foolbox 3.3.4 imports a filter from where SciPy once had it.
            warnings.filterwarnings(
                "ignore", message=r".*`scipy\.ndimage\.filters`", category=DeprecationWarning
            )
            import foolbox
    except ModuleNotFoundError as error:
        if error.name != "foolbox":
            raise
        raise MissingExtraError("this attack", "foolbox", "attack") from None
    return foolbox
