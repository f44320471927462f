"""What attacks, networks and folders are checked for, so that nothing wrong is scored."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch

from splic_ext.attacks import Attack
from splic_ext.common.checks import told_apart
from splic_ext.evaluation.reports import EvaluationReport

__all__ = ["REPORT", "Asked", "check_adversarial", "check_finite", "check_output"]

#: Name of the report in the folder of an evaluation.
REPORT = "report.json"

#: Adversarial images may leave [0, 1] and their ball by this much, as rounding makes them.
ROUNDING = 1e-5


def check_adversarial(name: str, attack: Attack, adversarial: Any, images: torch.Tensor) -> None:
    """Raise unless an attack returned images of the right kind, in [0, 1] and in its ball."""
    if (
        not isinstance(adversarial, torch.Tensor)
        or adversarial.shape != images.shape
        or adversarial.dtype != images.dtype
    ):
        got = (
            f"{tuple(adversarial.shape)} and {adversarial.dtype}"
            if isinstance(adversarial, torch.Tensor)
            else type(adversarial).__name__
        )
        raise ValueError(
            f"the attack {name!r} must return images of shape {tuple(images.shape)} and "
            f"{images.dtype}, got {got}; mend its `run`"
        )
    low, high = (bound.item() for bound in adversarial.aminmax())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ValueError(
            f"the attack {name!r} must return finite images in [0, 1], got minimum "
            f"{told_apart(low, 0.0)} and maximum {told_apart(high, 1.0)}; clip them in its `run`"
        )
    if attack.bounded:
        change = (adversarial - images).flatten(1)
        order = torch.inf if attack.threat.norm == "linf" else 2
        size = torch.linalg.vector_norm(change, ord=order, dim=1).max().item()
        if size > attack.threat.epsilon + ROUNDING:
            shown = told_apart(size, attack.threat.epsilon)
            raise ValueError(
                f"the attack {name!r} must stay within {attack.threat.epsilon:.6g} in "
                f"{attack.threat.norm}, got a change of {shown}; project it in its `run`"
            )


def check_finite(name: str, logits: torch.Tensor, start: int) -> None:
    """Raise unless all logits behind the defence `name` are finite; `start` counts the images."""
    finite = logits.isfinite().all(dim=1)
    if not bool(finite.all()):
        first = start + int((~finite).nonzero()[0])
        raise ValueError(
            f"`model` returned NaN or infinity for image {first} behind the defence {name!r}; "
            "check its weights"
        )


@dataclass(frozen=True)
class Asked:
    """What determines an evaluation, as far as its report tells; the words of messages."""

    scenario: str
    seed: int
    draws: int
    dataset: str = field(metadata={"words": "data set"})
    network: str
    surrogate: str | None
    defenses: dict[str, str] = field(metadata={"words": "defences"})
    attacks: dict[str, dict[str, Any] | None]
    versions: dict[str, str | None] = field(metadata={"words": "versions of packages"})
    code: str
    device: str

    #: Fields whose values say something to a reader.
    SHOWN: ClassVar[tuple[str, ...]] = ("scenario", "seed", "draws")

    @classmethod
    def of(cls, report: EvaluationReport) -> Asked:
        """Return what a report with a record at least tells."""
        first = report.records[0]
        return cls(
            scenario=first.scenario,
            seed=first.seed,
            draws=max(record.draws for record in report.records),
            dataset=first.dataset.sha256,
            network=first.model.sha256,
            surrogate=None if first.surrogate is None else first.surrogate.sha256,
            defenses={r.defense: r.defense_repr for r in report.records},
            attacks={r.attack: r.parameters for r in report.records if r.attack is not None},
            versions=first.provenance.versions,
            code=first.provenance.code,
            device=first.provenance.machine.device.partition(":")[0],
        )

    def differences(self, here: Asked) -> str:
        """Say what another evaluation, here, is asked for instead."""
        shown, others = [], []
        for part in fields(self):
            old, new = getattr(self, part.name), getattr(here, part.name)
            if _plain(old) == _plain(new):
                continue
            if part.name in self.SHOWN:
                shown.append(f"`{part.name}` is {old!r} there and {new!r} here")
            else:
                others.append(f"other {part.metadata.get('words', part.name)}")
        return ", ".join(shown + others)


def check_output(
    folder: Path | None, key: str, overwrite: bool, asked: Asked | None = None
) -> None:
    """Raise if the report of an evaluation with another key would be lost; `asked` says why."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`output` must be a folder, got the file '{folder}'; name another")
    path = folder / REPORT
    if overwrite or not path.exists():
        return
    try:
        report = EvaluationReport.load(path)
    except (OSError, ValueError) as error:
        reason = str(error.__cause__ or error)
        raise ValueError(
            f"'{path}' is no report that can be read: {reason.partition(';')[0]}; name another "
            "`output`, or give `overwrite=True` to replace it: finished parts are kept"
        ) from error
    if report.key != key:
        other = "it has another key"
        if asked is not None and report.records:
            other = Asked.of(report).differences(asked)
        unknown = "other `batch_size`, code of your own, or something else that it does not tell"
        raise ValueError(
            f"'{path}' is the report of another evaluation: {other or unknown}; name another "
            "`output`, or give `overwrite=True` to replace it: finished parts are kept"
        )


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)  # where tuples and lists are the same
