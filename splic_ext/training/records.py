"""What a training came to, as typed records: JSON with a version, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from splic_ext.runs.clock import Spent
from splic_ext.runs.plain import Versioned, decode, encode
from splic_ext.runs.records import DatasetInfo, NetworkInfo, Provenance
from splic_ext.training.options import LATER, TrainingOptions

__all__ = [
    "SCHEMA_VERSION",
    "EpochRecord",
    "EpochSeconds",
    "TrainingRecord",
    "TrainingResult",
]

#: Of the JSON form and of checkpoints; raised when a reader of the former would misread it.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class EpochSeconds(Spent):
    """Where the time of an epoch went.

    Attributes
    ----------
    defense : float
        Defending images, those of the attack included, and filling what is hidden: the solver,
        where the defence or the fill is SPLIC.
    attack : float
        Making adversarial images, apart from defending them.
    network : float
        Forward and backward passes on what is learnt, and the updates.
    test : float
        Defending and classifying the test images, and ablating them.
    rest : float
        Batches, checkpoints and all else.
    """

    defense: float = 0.0
    attack: float = 0.0
    network: float = 0.0
    test: float = 0.0
    rest: float = 0.0


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes
    ----------
    epoch : int
        From 1 on.
    loss : float
        Mean over the images, as they were learnt.
    train_accuracy : float
        In [0, 1], of the images as they were learnt: shifted, hidden, defended, adversarial.
    test_accuracy : float or None
        In [0, 1], of the test images behind the defence, one draw; ablated where the training
        images are, otherwise whole; with averaged weights where the result has them. None
        without test images.
    learning_rate : float
        Of the last update.
    seconds : EpochSeconds
    """

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    learning_rate: float
    seconds: EpochSeconds

    def line(self, epochs: int) -> str:
        """Return the epoch as a line of a log.

        >>> EpochRecord(3, 30, 0.5, 0.25, 0.1, EpochSeconds(network=2.0)).line(30)
        'epoch 3 of 30: loss 30, right 50.0 % in training, 25.0 % in test, 2.0 s'
        """
        test = "" if self.test_accuracy is None else f", {100 * self.test_accuracy:.1f} % in test"
        return (
            f"epoch {self.epoch} of {epochs}: loss {self.loss:.3g}, "
            f"right {100 * self.train_accuracy:.1f} % in training{test}, "
            f"{self.seconds.total:.1f} s"
        )


@dataclass(frozen=True)
class TrainingRecord(Versioned):
    """How a network was trained, and how that went.

    Attributes
    ----------
    key : str
        SHA-256 of all that was asked for.
    options : TrainingOptions
    defense_repr : str
        The defence with all of its parameters.
    attack : dict or None
        The attack with all of its parameters.
    fill_repr : str or None
        What hidden pixels are filled with, or how ablated images are encoded, with all parameters.
    model : NetworkInfo
        The network, and the SHA-256 of its final weights.
    channels : int
        Of the network's input: with them :func:`splic_ext.models.build_model` builds the network
        that the weights are of.
    dataset : DatasetInfo
    test : DatasetInfo or None
    history : tuple of EpochRecord
    processes : int
        That shared each batch.
    provenance : Provenance
    notes : tuple of str
        What was warned of.
    """

    key: str
    options: TrainingOptions
    defense_repr: str
    attack: dict[str, Any] | None
    fill_repr: str | None
    model: NetworkInfo
    channels: int
    dataset: DatasetInfo
    test: DatasetInfo | None
    history: tuple[EpochRecord, ...]
    processes: int
    provenance: Provenance
    notes: tuple[str, ...] = field(default=())

    schema: ClassVar[tuple[int, str, str]] = (SCHEMA_VERSION, "a training record", "training")

    def to_json(self) -> str:
        """Return the record as JSON, which :meth:`from_json` reads."""
        values = {"schema_version": SCHEMA_VERSION, **encode(self)}
        return json.dumps(values, indent=2, allow_nan=False) + "\n"

    @classmethod
    def _from_values(cls, values: dict[str, Any], where: str) -> TrainingRecord:
        if isinstance(values.get("options"), dict):
            values["options"] = {**LATER, **values["options"]}
        shape = values["dataset"].get("shape") if isinstance(values.get("dataset"), dict) else None
        if "fill_repr" not in values and isinstance(shape, list) and shape:
            # Of the first versions, where nothing was hidden.
            values = {"fill_repr": None, "channels": shape[0], **values}
        return decode(cls, values, where)


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained network.

    Attributes
    ----------
    network : nn.Module
        In eval mode; with averaged weights where `ema_decay` was given.
    record : TrainingRecord
    """

    network: nn.Module
    record: TrainingRecord

    @property
    def options(self) -> TrainingOptions:
        """Those of the training."""
        return self.record.options

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """One record for each epoch."""
        return self.record.history

    @property
    def provenance(self) -> Provenance:
        """How the result came about."""
        return self.record.provenance

    @property
    def seconds(self) -> EpochSeconds:
        """Where the time of all epochs went."""
        return sum((epoch.seconds for epoch in self.history), EpochSeconds())
