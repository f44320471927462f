"""How a network is trained: frozen and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from splic_ext.attacks import Attack, attack_from_spec
from splic_ext.checks import MOST, check_bool, check_fields, check_integer, check_number, shortened
from splic_ext.defenses import Defense, defense_from_spec

__all__ = ["PRECISIONS", "SCHEDULES", "TrainingOptions"]

#: How the learning rate falls.
SCHEDULES = ("cosine", "step")

#: What forward and backward passes are computed in.
PRECISIONS = ("float32", "bfloat16", "float16")

#: Fields that records and checkpoints of the first versions lack -> what they stand for there.
LATER: Mapping[str, Any] = MappingProxyType({"adversarial_warmup_epochs": 0.0})


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained: stochastic gradient descent with momentum on defended images.

    The defaults are those of He et al. [1]_ for CIFAR-10, with a cosine schedule and fewer epochs.

    Parameters
    ----------
    epochs : int, default 30
        Passes over the images, at least 1.
    batch_size : int, default 128
        Most images of an update, of all processes together. Batches of an epoch differ by one
        image at most.
    learning_rate : float, default 0.1
        Above 0; its largest value.
    momentum : float, default 0.9
        In [0, 1), Nesterov's.
    weight_decay : float, default 5e-4
        At least 0; on all weights.
    schedule : {"cosine", "step"}, default "cosine"
        ``"cosine"``: falls along half a cosine to 0. ``"step"``: by a factor of 10 at 50 % and at
        75 % of the epochs.
    warmup_epochs : float, default 0.0
        The learning rate first rises linearly, for that many epochs; fewer than `epochs`.
    label_smoothing : float, default 0.0
        In [0, 1): share of the target that goes to all classes evenly.
    crop : int, default 4
        Images are shifted by up to that many pixels in each direction, with zeros moving in. 0:
        never.
    flip : bool, default True
        Mirror half of the images; not for digits.
    ema_decay : float, optional
        In (0, 1): the network that is returned has the running average of the weights, of about
        1 / (1 - ema_decay) updates. None: the last ones.
    precision : {"float32", "bfloat16", "float16"}, default "float32"
        Below float32: autocast, for float16 with a scaled loss. Weights stay float32.
    channels_last : bool, default False
        Memory format of images and weights; faster on many devices.
    compile : bool, default False
        Let ``torch.compile`` compile the network.
    defense : str, default "identity"
        A text for :func:`splic_ext.defenses.defense_from_spec`: the network learns the defended
        images.
    copies : int, default 0
        0: fresh masks in each epoch. K: the data set is defended K times beforehand, and epoch e
        learns copy e mod K; images are then shifted and mirrored after the defence. A defence
        without randomness has one copy, whatever K.
    adversarial : str, optional
        A text for :func:`splic_ext.attacks.attack_from_spec`, such as ``"bpda"``: the images of
        each batch are attacked through the defence, and the network learns what the defence makes
        of the adversarial ones. Not together with `copies`.
    adversarial_warmup_epochs : float, default 0.0
        The attack's radius and steps first grow linearly from 0, for that many epochs; fewer than
        `epochs`. Small networks may otherwise learn nothing but the most frequent class [2]_.
    seed : int, default 0
        In [0, 2**64): decides first weights, order, shifts, masks and attacks.

    Raises
    ------
    TypeError, ValueError, MissingExtraError
        A value of the wrong kind or out of its range, or one that contradicts another.

    References
    ----------
    .. [1] K. He et al., "Deep residual learning for image recognition", CVPR 2016.
    .. [2] M. Andriushchenko, N. Flammarion, "Understanding and improving fast adversarial
       training", NeurIPS 2020, appendix A: for SVHN, the radius grows over the first epochs.

    Examples
    --------
    >>> options = TrainingOptions(epochs=200, schedule="step", defense="splic", adversarial="bpda")
    >>> TrainingOptions.from_dict(options.to_dict()) == options
    True
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    crop: int = 4
    flip: bool = True
    ema_decay: float | None = None
    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False
    defense: str = "identity"
    copies: int = 0
    adversarial: str | None = None
    adversarial_warmup_epochs: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, MOST),
            ("batch_size", 1, MOST),
            ("crop", 0, 512),
            ("copies", 0, 2**20),
            ("seed", 0, 2**64 - 1),
        ):
            self._set(name, check_integer(name, getattr(self, name), low, high))
        self._set("learning_rate", check_number("learning_rate", self.learning_rate, 0, above=True))
        self._set("weight_decay", check_number("weight_decay", self.weight_decay, 0))
        for name in ("momentum", "label_smoothing"):
            self._set(name, _check_share(name, getattr(self, name)))
        if self.ema_decay is not None:
            self._set("ema_decay", _check_share("ema_decay", self.ema_decay))
        for name in ("warmup_epochs", "adversarial_warmup_epochs"):
            value = check_number(name, getattr(self, name), 0)
            self._set(name, value)
            if value >= self.epochs:
                raise ValueError(
                    f"`{name}` must be fewer than the {self.epochs} `epochs`, got {value:g}; "
                    "choose less"
                )
        for name in ("flip", "channels_last", "compile"):
            check_bool(name, getattr(self, name))
        for name, known in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                expected = ", ".join(map(repr, known))
                raise ValueError(
                    f"`{name}` must be one of {expected}, got {shortened(repr(value))}; choose one"
                )
        self.build_defense()
        attack = self.build_attack()
        if self.adversarial_warmup_epochs and (attack is None or "epsilon" not in attack.uses):
            raise ValueError(
                "`adversarial_warmup_epochs` needs `adversarial`, an attack that has a radius, "
                f"got {shortened(repr(self.adversarial))}; use 'bpda', or leave it out"
            )
        if self.copies and self.adversarial is not None:
            raise ValueError(
                "`copies` and `adversarial` contradict each other: adversarial images are new in "
                "each epoch; use `copies=0`"
            )

    def build_defense(self) -> Defense:
        """Return the defence that `defense` describes."""
        return defense_from_spec(self.defense)

    def build_attack(self) -> Attack | None:
        """Return the attack that `adversarial` describes, if there is one."""
        return None if self.adversarial is None else attack_from_spec(self.adversarial)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, of types that JSON knows."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """Return what tells trainings apart: without later fields that change nothing."""
        values = self.to_dict()
        return {k: v for k, v in values.items() if k not in LATER or v != LATER[k]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingOptions:
        """Return the options of these fields; the others have their defaults.

        Parameters
        ----------
        values : mapping of str to value
            As :meth:`to_dict` returns it.

        Raises
        ------
        TypeError, ValueError
            No mapping, an unknown field, or a value that the constructor refuses.
        """
        check_fields("training options", values, [field.name for field in fields(cls)])
        return cls(**values)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def _check_share(name: str, value: Any) -> float:
    share = check_number(name, value, 0.0, 1.0)
    if share == 1:
        raise ValueError(f"`{name}` must be below 1, got {share}; choose less")
    return share
