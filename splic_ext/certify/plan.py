"""What a certification is asked for, checked: nothing here changes while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.answers import Asker
from splic_ext.certify.guards import check_classifier
from splic_ext.certify.masks import MaskSet, Patch, parse_patch
from splic_ext.certify.records import CertificateReport
from splic_ext.certify.vote import MaskedVote
from splic_ext.checks import check_integer
from splic_ext.data import Dataset
from splic_ext.evaluation.inputs import one_line
from splic_ext.fills import Fill, as_fill
from splic_ext.runs.fingerprints import (
    CERTIFY_CODE,
    code_fingerprint,
    fingerprint,
    fingerprint_module,
    fingerprint_source,
    fingerprint_weights,
    package_versions,
)
from splic_ext.runs.inputs import check_dataset, describe_dataset, resolve_device
from splic_ext.runs.records import DatasetInfo, NetworkInfo

__all__ = ["REPORT", "PatchPlan", "Task", "check_report", "make_plan", "named_fills"]

#: Name of the report in the folder of a certification.
REPORT = "certificates.json"


@dataclass(frozen=True, eq=False)
class Task:
    """A fill and a patch: what one record is about."""

    fill: str
    patch: str
    masks: MaskSet

    @property
    def kind(self) -> str:
        """What the progress bar calls it."""
        return f"patch {self.patch}, {self.fill}"

    @property
    def area(self) -> float:
        """Largest share of the image that the patches cover."""
        largest = max(high * wide for high, wide in self.masks.shapes)
        return self.masks.patches * largest / (self.masks.height * self.masks.width)

    @property
    def mask(self) -> str:
        """Height and width of what a mask hides for each patch."""
        sizes = dict.fromkeys(f"{high}x{wide}" for _, _, high, wide in self.masks.boxes)
        return ",".join(sizes)


@dataclass(frozen=True, eq=False)
class PatchPlan:
    """A certification that can run. Network and fills are on the device, and must not change."""

    model: nn.Module
    data: Dataset
    fills: dict[str, Fill]
    tasks: tuple[Task, ...]
    #: What asks the network, by fill and patch.
    askers: dict[tuple[str, str], Asker]
    batch_size: int
    device: torch.device
    command: str | None
    dataset_info: DatasetInfo
    model_info: NetworkInfo
    #: What determines every part: code, versions, kind of device.
    environment: dict[str, Any]
    model_sha256: str
    fill_sha256: dict[str, str]

    @property
    def key(self) -> str:
        """The hash of all that determines the records."""
        return fingerprint(
            {
                "environment": self.environment,
                "dataset": self.dataset_info.sha256,
                "model": self.model_sha256,
                "fills": self.fill_sha256,
                "tasks": [
                    [t.fill, t.patch, t.masks.patches, list(t.masks.boxes)] for t in self.tasks
                ],
                "batch_size": self.batch_size,
            }
        )

    def work(self) -> dict[str, int]:
        """Return kind of work -> number of images, for a progress bar."""
        return {task.kind: len(self.data) for task in self.tasks}

    def batch(self, start: int, count: int) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
        """Return some images on the device, and their labels."""
        part = slice(start, start + count)
        whole = Dataset(
            self.data.name, self.data.images[part], self.data.labels[part], self.data.classes
        )
        return torch.from_numpy(whole.to_float()).to(self.device), whole.labels


def make_plan(
    model: nn.Module,
    dataset: Dataset,
    *,
    fills: Any,
    patch: Any,
    masks: Any,
    patches: int,
    batch_size: int,
    limit: int | None,
    device: str | torch.device | None,
    model_name: str | None,
    command: str | None,
) -> PatchPlan:
    """Check what :func:`splic_ext.certify.evaluate_patches` is given; move it to the device."""
    check_dataset(dataset)
    data = dataset if limit is None else dataset.first(check_integer("limit", limit, 1))
    chosen = named_fills(fills)
    sizes = _named_patches(patch)
    place = resolve_device(device, model)
    few = torch.from_numpy(data.first(2).to_float()).to(place)
    tasks, askers = [], {}
    for text, size in sizes.items():
        for name, fill in chosen.items():
            vote = MaskedVote(model, size, masks, fill, patches=patches, batch_size=batch_size)
            asker = vote.to(place).asker(few)
            tasks.append(Task(name, text, asker.masks))
            askers[name, text] = asker
    for fill in chosen.values():
        check_classifier(model, fill, few, data.labels)
    return PatchPlan(
        model=model,
        data=data,
        fills=chosen,
        tasks=tuple(tasks),
        askers=askers,
        batch_size=batch_size,
        device=place,
        command=command,
        dataset_info=describe_dataset(data),
        model_info=NetworkInfo(model_name or type(model).__name__, fingerprint_weights(model)),
        environment={
            "code": code_fingerprint(CERTIFY_CODE),
            "device": place.type,
            "versions": package_versions(),
        },
        model_sha256=fingerprint_module(model),
        fill_sha256={
            name: fingerprint({"fill": fingerprint_module(f), "source": fingerprint_source(f)})
            for name, f in chosen.items()
        },
    )


def named_fills(fills: Any) -> dict[str, Fill]:
    """Return fills by name: a text names itself, others are named by their repr.

    Raises
    ------
    TypeError, ValueError
        Something else, none, or a name twice.

    Examples
    --------
    >>> list(named_fills(["gray", "splic:rank=12"]))
    ['gray', 'splic:rank=12']
    """
    given = fills if isinstance(fills, (Mapping, list, tuple)) else [fills]
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        pairs = [(f if isinstance(f, str) else one_line(as_fill(f)), f) for f in given]
    found: dict[str, Fill] = {}
    for name, fill in pairs:
        if not isinstance(name, str) or not name or name in found:
            raise ValueError(
                f"`fills` must have names that differ, got {name!r} twice or no name; give each a "
                "name of its own, in a dict"
            )
        found[name] = as_fill(fill)
    if not found:
        raise ValueError("`fills` must not be empty; use ['splic']")
    return found


def _named_patches(patch: Any) -> dict[str, Patch]:
    """Return patches by their text; a list has several."""
    found: dict[str, Patch] = {}
    for size in patch if isinstance(patch, list) else [patch]:
        value = parse_patch(size) if isinstance(size, str) else size
        text = _text(value)
        if text in found:
            raise ValueError(f"`patch` has {text!r} twice; leave one out")
        found[text] = value
    if not found:
        raise ValueError("`patch` must not be empty; use 5")
    return found


def _text(patch: Any) -> str:
    """Return a patch as the command line has it."""
    if not isinstance(patch, (tuple, list)):
        return str(patch)
    if any(isinstance(part, (tuple, list)) for part in patch):
        return ",".join(_text(part) for part in patch)
    return "x".join(map(str, patch))


def check_report(folder: Path | None, plan: PatchPlan, overwrite: bool) -> None:
    """Raise if the report of another certification would be lost."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`output` must be a folder, got the file '{folder}'; name another")
    path = folder / REPORT
    if overwrite or not path.exists():
        return
    fix = "name another `output`, or give `overwrite=True` to replace it: finished parts are kept"
    try:
        report = CertificateReport.load(path)
    except (OSError, ValueError) as error:
        reason = str(error.__cause__ or error).partition(";")[0]
        raise ValueError(f"'{path}' is no report that can be read: {reason}; {fix}") from error
    if report.key != plan.key:
        raise ValueError(
            f"'{path}' is the report of another certification: {_differences(report, plan)}; {fix}"
        )


def _differences(report: CertificateReport, plan: PatchPlan) -> str:
    """Say what differs, as far as a report tells."""
    found = []
    first, tasks = report.records[0], plan.tasks
    for what, there, here in (
        ("images", [first.dataset.sha256], [plan.dataset_info.sha256]),
        ("network", [first.model.sha256], [plan.model_info.sha256]),
        ("patches", [r.patch for r in report.records], [t.patch for t in tasks]),
        ("fills", [r.fill for r in report.records], [t.fill for t in tasks]),
        ("masks", [r.masks for r in report.records], [len(t.masks) for t in tasks]),
        ("code", [first.provenance.code], [plan.environment["code"]]),
    ):
        if dict.fromkeys(there) != dict.fromkeys(here):
            found.append(f"other {what}")
    return ", ".join(found) or "other `batch_size`, or something else that it does not tell"
