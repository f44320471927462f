"""How a network is trained: frozen and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from splic_ext.attacks import Attack, attack_from_spec
from splic_ext.common.checks import (
    MOST,
    check_bool,
    check_fields,
    check_integer,
    check_number,
    shortened,
)
from splic_ext.defenses import Defense, Identity, defense_from_spec
from splic_ext.defenses.registry import names_own_code
from splic_ext.fills import Fill, fill_from_spec
from splic_ext.training.hiding import Boxes, Hiding, check_kept

__all__ = ["PRECISIONS", "SCHEDULES", "TrainingOptions"]

#: How the learning rate falls.
SCHEDULES = ("cosine", "step")

#: What forward and backward passes are computed in.
PRECISIONS = ("float32", "bfloat16", "float16")

#: Fields that records and checkpoints of the first versions lack -> what they stand for there.
LATER: Mapping[str, Any] = MappingProxyType(
    {
        "adversarial_warmup_epochs": 0.0,
        "cutout": None,
        "cutout_tries": 1,
        "fill": None,
        "ablate": None,
        "encoding": None,
    }
)


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
        images. ``"splic"`` has the preset ``"paper"``, unless another is named. A class of one's
        own, such as ``"mine.py:Median"``, is imported when the training begins, not here. For an
        object see `defense` of :func:`splic_ext.training.train`.
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
    cutout : str, optional
        ``"2x9"`` or ``"1x5x8"``, COUNTxSIDE or COUNTxHEIGHTxWIDTH: after shift and mirror, and
        before the defence, boxes of the images are hidden and filled, for certificates against
        patches [3]_. Of each image the number of boxes is 0, ..., COUNT with equal chances: so
        the network learns whole images, too. Boxes lie anywhere inside the image, and may overlap.
        Test images stay whole. Not together with `copies`, `adversarial` or `ablate`.
    cutout_tries : int, default 1
        Boxes are drawn so often for each image, in [1, 64], and those with the largest loss of the
        network as it is are learnt: a certificate asks for the worst pair of masks. In the spirit
        of Greedy Cutout [5]_, which searches among masks that cover the image.
    fill : str, optional
        A text for :func:`splic_ext.fills.fill_from_spec`: what the boxes of `cutout` are filled
        with; ``"splic"`` if it is left out.
    ablate : int or float, optional
        Pixels of each image that the network learns from, training and test images alike: exactly
        so many, or each with that probability, in (0, 1); for certificates against changes of
        pixels [4]_. The others are hidden, before the defence. Fresh masks in each epoch; those of
        the test images are the same in all. Not together with `copies`, `adversarial` or
        `cutout`.
    encoding : str, optional
        A text for :func:`splic_ext.fills.fill_from_spec`: what becomes of an ablated image;
        `ablate` needs it. Where it has several channels for each channel of the image, so has
        the network's input, and `defense` must be ``"identity"``.
    seed : int, default 0
        In [0, 2**64): decides first weights, order, shifts, masks, boxes and attacks.

    Raises
    ------
    TypeError, ValueError, MissingExtraError
        A value of the wrong kind or out of its range, or one that contradicts another.

    References
    ----------
    .. [1] K. He et al., "Deep residual learning for image recognition", CVPR 2016.
    .. [2] M. Andriushchenko, N. Flammarion, "Understanding and improving fast adversarial
       training", NeurIPS 2020, appendix A: for SVHN, the radius grows over the first epochs.
    .. [3] C. Xiang, S. Mahloujifar, P. Mittal, "PatchCleanser: Certifiably Robust Defense against
       Adversarial Patches for Any Image Classifier", USENIX Security 2022, which trains with two
       boxes of gray (T. DeVries, G. Taylor, arXiv:1708.04552, 2017).
    .. [4] A. Levine, S. Feizi, "Robustness Certificates for Sparse Adversarial Attacks by
       Randomized Ablation", AAAI 2020.
    .. [5] A. Saha, S. Yu, M. Norouzzadeh, W.-Y. Lin, C. Mummadi, "Revisiting Image Classifier
       Training for Improved Certified Robust Defense against Adversarial Patches", TMLR 2023.

    Examples
    --------
    >>> options = TrainingOptions(epochs=200, schedule="step", defense="splic", adversarial="bpda")
    >>> TrainingOptions.from_dict(options.to_dict()) == options
    True
    >>> TrainingOptions(cutout="2x9").fill
    'splic'
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
    cutout: str | None = None
    cutout_tries: int = 1
    fill: str | None = None
    ablate: int | float | None = None
    encoding: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, MOST),
            ("batch_size", 1, MOST),
            ("crop", 0, 512),
            ("copies", 0, 2**20),
            ("cutout_tries", 1, 64),
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
        own = names_own_code(self.defense)
        if not own:  # else reading the record of a training would run code
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
        self._check_hiding()

    def _check_hiding(self) -> None:
        """Check what is hidden, against the rest too, and complete what may be left out."""
        for name, needed, example in (
            ("fill", "cutout", "'2x9'"),
            ("cutout_tries", "cutout", "'2x9'"),
            ("encoding", "ablate", "0.1"),
        ):
            if getattr(self, name) != LATER[name] and getattr(self, needed) is None:
                raise ValueError(
                    f"`{name}` needs `{needed}`, which hides what it fills; give that, such as "
                    f"{example}, or leave it out"
                )
        if self.cutout is not None:
            self._set("cutout", str(Boxes.parse(self.cutout)))
            self._set("fill", "splic" if self.fill is None else self.fill)
        if self.ablate is not None:
            self._set("ablate", check_kept(self.ablate))
            if self.encoding is None:
                raise ValueError(
                    "`ablate` needs `encoding`, what the network gets of an ablated image; give "
                    "one, such as 'mean' or 'splic'"
                )
        if self.cutout is not None and self.ablate is not None:
            raise ValueError(
                "`cutout` and `ablate` contradict each other: hidden boxes are for one certificate "
                "and hidden pixels for another; leave one of them out"
            )
        name = "cutout" if self.ablate is None else "ablate"
        if getattr(self, name) is None:
            return
        if self.copies:
            raise ValueError(
                f"`copies` and `{name}` contradict each other: what is hidden is new in each "
                "epoch, and filled before the defence; use `copies=0`"
            )
        if self.adversarial is not None:
            raise ValueError(
                f"`adversarial` and `{name}` contradict each other: the certificate is for what an "
                "attack does to hidden pixels, and the attack would change those that are seen; "
                "leave one of them out"
            )
        outputs = self.build_hiding().outputs
        if name == "cutout" and outputs > 1:
            raise ValueError(
                f"`fill` must return images with the channels that they have, got {self.fill!r}, "
                f"with {outputs} for each; use it as `encoding`, with `ablate`"
            )
        if outputs > 1 and (
            names_own_code(self.defense) or not isinstance(self.build_defense(), Identity)
        ):
            raise ValueError(
                f"`defense` must be 'identity' with the `encoding` {self.encoding!r}, whose "
                f"results are no images, got {shortened(repr(self.defense))}; leave it out, or "
                "use another encoding"
            )

    def build_hiding(self) -> Hiding:
        """Return what `cutout` and `fill`, or `ablate` and `encoding`, describe."""
        boxes = None if self.cutout is None else Boxes.parse(self.cutout)
        return Hiding(self.seed, boxes, self.ablate, self.build_fill(), self.cutout_tries)

    def build_fill(self) -> Fill | None:
        """Return the fill that `fill` or `encoding` describes, if there is one."""
        spec = self.fill if self.encoding is None else self.encoding
        return None if spec is None else fill_from_spec(spec)

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
