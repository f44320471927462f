"""What a certification is asked for, checked: nothing here changes while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from splic_ext.certify.answers import Asker
from splic_ext.certify.guards import check_classifier
from splic_ext.certify.masks import MaskSet, Patch, parse_patch
from splic_ext.certify.records import CertificateReport
from splic_ext.certify.requests import Request, named_fills
from splic_ext.certify.vote import MaskedVote
from splic_ext.data import DatasetLike

__all__ = ["PatchPlan", "Task", "make_plan"]


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
    """A certification that can run."""

    request: Request
    tasks: tuple[Task, ...]
    #: What asks the network, by fill and patch.
    askers: dict[tuple[str, str], Asker]

    @property
    def key(self) -> str:
        """The hash of all that determines the records."""
        tasks = [[t.fill, t.patch, t.masks.patches, list(t.masks.boxes)] for t in self.tasks]
        return self.request.key({"tasks": tasks})

    def work(self) -> dict[str, int]:
        """Return kind of work -> number of images, for a progress bar."""
        return {task.kind: len(self.request.data) for task in self.tasks}

    def differences(self, report: CertificateReport) -> dict[str, tuple[Any, Any]]:
        """Return what a report says of another certification beside what this is."""
        first, records, tasks, given = report.records[0], report.records, self.tasks, self.request
        return {
            "images": (first.dataset.sha256, given.dataset_info.sha256),
            "network": (first.model.sha256, given.model_info.sha256),
            "patches": ({r.patch for r in records}, {t.patch for t in tasks}),
            "fills": ({r.fill for r in records}, {t.fill for t in tasks}),
            "masks": ({r.masks for r in records}, {len(t.masks) for t in tasks}),
            "code": (first.provenance.code, given.environment["code"]),
        }


def make_plan(
    model: nn.Module,
    dataset: DatasetLike,
    *,
    fills: Any,
    patch: Any,
    masks: Any,
    patches: int,
    **run: Any,
) -> PatchPlan:
    """Check what :func:`splic_ext.certify.evaluate_patches` is given; move it to the device.

    `run` are the parameters of :meth:`splic_ext.certify.requests.Request.of`.
    """
    given = Request.of(model, dataset, named_fills(fills), **run)
    few, _ = given.batch(0, 2)
    tasks, askers = [], {}
    for text, size in _named_patches(patch).items():
        for name, fill in given.fills.items():
            vote = MaskedVote(
                model, size, masks, fill, patches=patches, batch_size=given.batch_size
            )
            asker = vote.to(given.device).asker(few)
            tasks.append(Task(name, text, asker.masks))
            askers[name, text] = asker
    for fill in given.fills.values():
        check_classifier(model, fill, few, given.data.labels)
    return PatchPlan(given, tuple(tasks), askers)


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
