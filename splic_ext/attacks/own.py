"""Attacks of others: any function of a network, images and labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from splic_ext.attacks.base import Attack
from splic_ext.attacks.streams import Streams
from splic_ext.attacks.target import Target
from splic_ext.attacks.threat import ThreatModel
from splic_ext.common.checks import reason_of
from splic_ext.defenses.own import kept_generators, seed_generators
from splic_ext.errors import AttackError

__all__ = ["FunctionAttack"]


class Shielded(nn.Module):
    """A network whose mode nobody changes: libraries put it into eval mode, or into train mode.

    >>> Shielded(nn.Dropout().eval()).train().model.training
    False
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, images: torch.Tensor, *others: Any, **named: Any) -> Any:
        """Return what the network returns."""
        return self.model(images, *others, **named)

    def train(self, mode: bool = True) -> Shielded:
        """Change nothing, neither by `train` nor by `eval`."""
        return self


def _none(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Change nothing."""
    return images


@dataclass(frozen=True, repr=False)
class FunctionAttack(Attack):
    """A function of one's own, or of another library, as an attack.

    It gets the network in eval mode, which stays as it is, behind its defence in a white box, and
    images and labels on its device. The generators of torch, NumPy and Python are seeded by the
    seed of the attack while it runs, and put back. No radius is known of it, so that the size of
    the change is recorded and judges it; unless `radius` says what it must keep to.

    Parameters
    ----------
    threat : ThreatModel
        Its seed alone counts.
    function : callable
        ``function(model, images, labels)`` returns images of the same shape and dtype, in [0, 1].
    radius : ThreatModel, optional
        Its norm and epsilon, in which the result must be: then it is an attack with a bound.

    Raises
    ------
    TypeError
        `function` cannot be called, or is a class or a module; `radius` is no threat model.
    ValueError
        In `run`: the function raised an error, which is the cause.

    Examples
    --------
    >>> def darken(model, images, labels):
    ...     return (images - 0.02).clamp(0, 1)
    >>> attack = FunctionAttack(function=darken, radius=ThreatModel(epsilon=0.02))
    >>> attack
    FunctionAttack(function='darken', norm='linf', epsilon=0.02)
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    >>> attack(network, torch.full((1, 1, 2, 2), 0.5), [2]).unique()
    tensor([0.4800])
    """

    function: Callable[..., Any] = _none
    radius: ThreatModel | None = None

    name: ClassVar[str] = "function"
    uses: ClassVar[tuple[str, ...]] = ("seed",)
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function) or isinstance(self.function, (type, nn.Module)):
            got = "a class" if isinstance(self.function, type) else type(self.function).__name__
            raise TypeError(
                f"`function` must be a function of model, images and labels, got {got}; wrap what "
                "you have in one"
            )
        if self.radius is None:
            return
        if not isinstance(self.radius, ThreatModel):
            raise TypeError(
                f"`radius` must be a ThreatModel, got {type(self.radius).__name__}; give "
                "ThreatModel(norm, epsilon)"
            )
        whole = ThreatModel(self.radius.norm, self.radius.epsilon, seed=self.threat.seed)
        self._set("threat", whole)
        self._set("bounded", True)

    def perturb(self, target: Target, images: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Call the function."""
        with kept_generators(images.device):
            seed_generators(images.device, streams.derive("function"), int(streams.indices[0]))
            try:
                made = self.function(Shielded(target.model), images.clone(), target.labels.clone())
            except (AttackError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # of any type: it is the code of others
                raise ValueError(
                    f"the attack `{self.title}` fails: {type(error).__name__}: {reason_of(error)}; "
                    "mend it: it is called with model, images and labels"
                ) from error
        if not isinstance(made, torch.Tensor):
            raise TypeError(
                f"the attack `{self.title}` must return a tensor, got {type(made).__name__}; "
                "return the adversarial images alone"
            )
        return made.to(images.device)

    @property
    def title(self) -> str:
        """Name of the function."""
        function = self.function.func if isinstance(self.function, partial) else self.function
        name: str = getattr(function, "__qualname__", type(function).__qualname__)
        return name

    def _parameters(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"function": self.title}
        if isinstance(self.function, partial):
            shown |= {key: _plain(value) for key, value in self.function.keywords.items()}
        if self.bounded:
            shown |= {"norm": self.threat.norm, "epsilon": self.threat.epsilon}
        return shown


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)
