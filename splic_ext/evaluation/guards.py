"""Nothing is scored silently: what attacks, networks and folders are checked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from splic_ext.attacks import Attack
from splic_ext.evaluation.reports import EvaluationReport

__all__ = ["REPORT", "asked_for", "check_adversarial", "check_logits", "check_output"]

#: Name of the report in the folder of an evaluation.
REPORT = "report.json"

#: Adversarial images may leave [0, 1] and their ball by this much, as rounding makes them.
ROUNDING = 1e-5


def check_adversarial(name: str, attack: Attack, adversarial: Any, images: torch.Tensor) -> None:
    """Raise unless an attack returned images of the right kind, in [0, 1] and in its ball.

    Parameters
    ----------
    name : str
        Of the attack.
    attack : Attack
    adversarial : object
        What it returned.
    images : tensor of shape (N, C, H, W)
        What it was given.

    Raises
    ------
    ValueError
        As said.

    Examples
    --------
    >>> from splic_ext.attacks import create_attack
    >>> check_adversarial("fgsm", create_attack("fgsm"), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    """  # noqa: E501
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
            f"the attack {name!r} must return finite images in [0, 1], got minimum {low:.6g} and "
            f"maximum {high:.6g}; clip them in its `run`"
        )
    if attack.bounded:
        change = (adversarial - images).flatten(1)
        order = torch.inf if attack.threat.norm == "linf" else 2
        size = torch.linalg.vector_norm(change, ord=order, dim=1).max().item()
        if size > attack.threat.epsilon + ROUNDING:
            raise ValueError(
                f"the attack {name!r} must stay within {attack.threat.epsilon:.6g} in "
                f"{attack.threat.norm}, got a change of {size:.6g}; project it in its `run`"
            )


def check_logits(name: str, logits: torch.Tensor, start: int) -> None:
    """Raise unless all logits are finite.

    Parameters
    ----------
    name : str
        Of the defence.
    logits : tensor of shape (N, K)
    start : int
        Position of the first image.

    Raises
    ------
    ValueError
        NaN or infinity.

    Examples
    --------
    >>> check_logits("identity", torch.zeros(2, 10), 0)
    """
    finite = logits.isfinite().all(dim=1)
    if not bool(finite.all()):
        first = start + int((~finite).nonzero()[0])
        raise ValueError(
            f"`model` returned NaN or infinity for image {first} behind the defence {name!r}; "
            "check its weights"
        )


def check_output(
    folder: Path | None, key: str, overwrite: bool, asked: Mapping[str, Any] | None = None
) -> None:
    """Raise if the report of another evaluation would be lost.

    Parameters
    ----------
    folder : Path or None
        Of the evaluation.
    key : str
        Of the evaluation; see :class:`EvaluationReport`.
    overwrite : bool
        Whether another's may be replaced.
    asked : mapping, optional
        What determines it, as :func:`asked_for` has it of a report: to tell what differs.

    Raises
    ------
    ValueError
        A file of that name, a report that cannot be read, or that of another evaluation.

    Examples
    --------
    >>> check_output(None, "", False)
    """
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
        raise ValueError(
            f"'{path}' is no report that can be read: {str(error).partition(';')[0]}; name another "
            "`output`, or give `overwrite=True` (--overwrite) to replace it: finished parts are "
            "kept"
        ) from error
    if report.key != key:
        raise ValueError(
            f"'{path}' is the report of another evaluation: {_differences(report, asked)}; name "
            "another `output`, or give `overwrite=True` (--overwrite) to replace it: finished "
            "parts are kept"
        )


def asked_for(report: EvaluationReport) -> dict[str, Any]:
    """Return what determines an evaluation, as far as its report tells.

    Parameters
    ----------
    report : EvaluationReport
        With a record at least.
    """
    first = report.records[0]
    return {
        "scenario": first.scenario,
        "seed": first.seed,
        "draws": max(record.draws for record in report.records),
        "data set": first.dataset.sha256,
        "network": first.model.sha256,
        "surrogate": None if first.surrogate is None else first.surrogate.sha256,
        "defences": {record.defense: record.defense_repr for record in report.records},
        "attacks": {record.attack: record.parameters for record in report.records if record.attack},
        "versions of packages": first.provenance.versions,
        "code": first.provenance.code,
        "device": first.provenance.machine.device.partition(":")[0],
    }


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)  # where tuples and lists are the same


#: Fields whose values say something to a reader.
_SHOWN = ("scenario", "seed", "draws")


def _differences(report: EvaluationReport, here: Mapping[str, Any] | None) -> str:
    """Say what an evaluation differs in from that of a report."""
    if not report.records or here is None:
        return "it has another key"
    there = asked_for(report)
    changed = [name for name in there if _plain(there[name]) != _plain(here[name])]
    found = [
        f"`{name}` is {there[name]!r} there and {here[name]!r} here"
        for name in changed
        if name in _SHOWN
    ]
    found += [f"other {name}" for name in changed if name not in _SHOWN]
    return ", ".join(found) or "other `batch_size`, or something else that it does not tell"
