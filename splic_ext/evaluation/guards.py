"""Nothing is scored silently: what attacks, networks and folders are checked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from splic_ext.attacks import Attack
from splic_ext.evaluation.reports import EvaluationReport

__all__ = ["REPORT", "check_adversarial", "check_logits", "check_output"]

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


def check_output(folder: Path | None, key: str, overwrite: bool) -> None:
    """Raise if the report of another evaluation would be lost.

    Parameters
    ----------
    folder : Path or None
        Of the evaluation.
    key : str
        Of the evaluation; see :class:`EvaluationReport`.
    overwrite : bool
        Whether another's may be replaced.

    Raises
    ------
    ValueError
        A file of that name, or the report of another evaluation.

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
        other: str | None = EvaluationReport.load(path).key
    except (OSError, ValueError):
        other = None
    if other != key:
        raise ValueError(
            f"'{path}' is the report of another evaluation; name another `output`, or give "
            "`overwrite=True` (--overwrite) to replace it: finished parts are kept"
        )
