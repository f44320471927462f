"""Certificates against changes of a few pixels: of a data set, with finished parts kept."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.ablation import check_power, count_votes, image_groups, pixel_records
from splic_ext.certify.ablation_bounds import check_alpha
from splic_ext.certify.ablation_draws import Draws, check_draws, check_trial
from splic_ext.certify.ablation_masks import SEEDS, Kept
from splic_ext.certify.ablation_records import PixelReport, PixelSeconds
from splic_ext.certify.pixel_records import PixelEvaluation
from splic_ext.certify.pixel_tables import pixels_to_markdown
from splic_ext.certify.requests import PART, Request, check_report, finished_part, named_encodings
from splic_ext.common.atomic import write_text
from splic_ext.common.checks import check_integer
from splic_ext.data import DatasetLike
from splic_ext.evaluation.inputs import one_line
from splic_ext.fills import Fill
from splic_ext.masks import count_up
from splic_ext.runs.clock import Clock
from splic_ext.runs.fingerprints import fingerprint_arrays
from splic_ext.runs.machine import made_now
from splic_ext.runs.progress import Progress, progress_of
from splic_ext.runs.store import PartStore

__all__ = ["evaluate_pixels"]

#: Name of the report in the folder of a certification.
REPORT = "pixels.json"


def evaluate_pixels(
    model: nn.Module,
    dataset: DatasetLike,
    *,
    kept: int | float | str | list[int | float | str] | list[Any] = 0.1,
    encodings: Mapping[str, Fill | str] | Sequence[Fill | str] = ("splic",),
    selection: int = 100,
    draws: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    batch_size: int = 256,
    limit: int | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
    model_name: str | None = None,
    command: str | None = None,
) -> PixelEvaluation:
    """Certify a data set against changes of a few pixels, with several encodings.

    Parameters
    ----------
    model : nn.Module
        As for :func:`splic_ext.certify.certify_pixels`; it must take the images of all encodings.
    dataset : Dataset
        Images and labels, as from :func:`splic_ext.data.load_dataset`; or what
        :func:`splic_ext.data.as_dataset` takes.
    kept : float, int, str or list of these, default 0.1
        What is kept: a probability such as 0.1, or a number of pixels such as 100; a list is
        certified one after the other. Texts are ``"0.1"`` or ``"100"``.
    encodings : mapping or sequence, default ("splic",)
        What the network sees of hidden pixels: fills, or texts such as ``mean``; in a mapping by
        name.
    selection, draws, alpha, seed, batch_size
        As for :func:`splic_ext.certify.certify_pixels`.
    limit : int, optional
        Certify this many images, the first ones.
    output : path, optional
        Folder for ``pixels.json``, ``pixels.md`` and, below ``parts``, what is finished: the same
        call takes it up again after a crash or Ctrl-C. None: nothing is written.
    overwrite : bool, default False
        Whether the report of another certification may be replaced in `output`.
    device : str or torch.device, optional
        The network is moved there; default: where it is.
    progress : bool, default True
        Show a progress bar; where there is no terminal, or no Rich, a line a minute.
    model_name, command : str, optional
        For the report; default: the name of the class, and nothing.

    Returns
    -------
    PixelEvaluation
        For each of `kept` one report per encoding, in this order. Their records are those of
        :func:`splic_ext.certify.certify_pixels` on the same images.

    Raises
    ------
    TypeError, ValueError
        As :func:`splic_ext.certify.certify_pixels`; nothing kept, or the same twice.
    MissingExtraError
        SciPy, or what an encoding needs, is not installed.
    OSError
        `output` cannot be written.

    Warns
    -----
    UserWarning
        A saved part is damaged, or not of this certification; it is made anew.

    Notes
    -----
    Parts are found again by the SHA-256 of all that determines them: the code of this package and
    of an encoding of one's own, versions, weights, parameters and images. They hold counts, so
    another `alpha` takes them up as they are.

    Examples
    --------
    >>> from splic_ext.data import load_dataset
    >>> from splic_ext.models import build_model
    >>> digits = load_dataset("digits", limit=3)
    >>> network = build_model("digits_cnn").eval()
    >>> found = evaluate_pixels(network, digits, kept=[0.1, 6], encodings=["mean"], draws=100)
    >>> [(name, report.plan.text) for name, report in found]
    [('mean', '0.1'), ('mean', '6')]
    """
    began = time.perf_counter()
    given = Request.of(
        model,
        dataset,
        named_encodings(encodings),
        batch_size=batch_size,
        limit=limit,
        device=device,
        model_name=model_name,
        command=command,
    )
    plan = PixelPlan.of(given, kept, selection, draws, alpha, seed)
    folder = None if output is None else Path(output)
    if folder is not None:
        check_report(
            folder / REPORT, plan.key, PixelEvaluation.load, plan.differences, overwrite=overwrite
        )
    store = PartStore(None if folder is None else folder / "parts")
    spent = PixelSeconds()
    reports = []
    with progress_of(plan.work(), shown=progress) as shown:
        for task in plan.tasks:
            report, own = _report(plan, task, store, shown)
            reports.append(report)
            spent += own
    rest = time.perf_counter() - began - (spent.total - spent.rest)
    found = PixelEvaluation(
        key=plan.key,
        dataset=given.dataset_info,
        names=tuple(task.encoding for task in plan.tasks),
        reports=tuple(reports),
        seconds=replace(spent, rest=rest),
        notes=tuple(store.notes),
    )
    if folder is not None:
        write_text(folder / REPORT, found.to_json())
        write_text(folder / "pixels.md", pixels_to_markdown(found))
    return found


@dataclass(frozen=True, eq=False)
class Task:
    """An encoding and what is kept: what one report is about."""

    encoding: str
    kept: Kept

    @property
    def kind(self) -> str:
        """What the progress bar calls it."""
        return f"{self.kept.text} kept, {self.encoding}"


@dataclass(frozen=True, eq=False)
class PixelPlan:
    """A certification that can run."""

    request: Request
    tasks: tuple[Task, ...]
    selection: int
    draws: int
    alpha: float
    seed: int

    @classmethod
    def of(
        cls, given: Request, kept: Any, selection: Any, draws: Any, alpha: Any, seed: Any
    ) -> PixelPlan:
        """Check the parameters, and the network with each encoding."""
        few, _ = given.batch(0, 1)
        plans = _named_kept(kept, *few.shape[2:])
        plan = cls(
            request=given,
            tasks=tuple(Task(name, amount) for amount in plans for name in given.fills),
            selection=check_draws("selection", selection),
            draws=check_draws("draws", draws),
            alpha=check_alpha(alpha),
            seed=check_integer("seed", seed, 0, SEEDS - 1),
        )
        for amount in plans:
            check_power(amount, plan.draws, plan.alpha)
        for task in plan.tasks:
            check_trial(plan.draws_of(task), few, given.data.labels)
        return plan

    @property
    def key(self) -> str:
        """The hash of all that determines the records."""
        return self.request.key(
            {
                "tasks": [[t.encoding, t.kept.scheme, t.kept.amount] for t in self.tasks],
                "selection": self.selection,
                "draws": self.draws,
                "alpha": self.alpha,
                "seed": self.seed,
            }
        )

    def work(self) -> dict[str, int]:
        """Return kind of work -> number of images, for a progress bar."""
        return {task.kind: len(self.request.data) for task in self.tasks}

    def draws_of(self, task: Task, clock: Clock | None = None) -> Draws:
        """Return what classifies ablated images."""
        given = self.request
        fill = given.fills[task.encoding]
        return Draws(given.model, fill, task.kept, self.seed, given.batch_size, clock)

    def differences(self, found: PixelEvaluation) -> dict[str, tuple[Any, Any]]:
        """Return what a report says of another certification beside what this is."""
        first, tasks, given = found.reports[0], self.tasks, self.request
        return {
            "images": (found.dataset.sha256, given.dataset_info.sha256),
            "network": (first.network.sha256, given.model_info.sha256),
            "encodings": (set(found.names), {t.encoding for t in tasks}),
            "pixels kept": ({r.plan for r in found.reports}, {t.kept for t in tasks}),
            "draws": ((first.selection, first.draws), (self.selection, self.draws)),
            "`alpha`": (first.alpha, self.alpha),
            "seed": (first.seed, self.seed),
            "code": (first.provenance.code, given.environment["code"]),
        }


def _named_kept(kept: Any, height: int, width: int) -> list[Kept]:
    """Return what is kept, one by one; a list has several."""
    found: list[Kept] = []
    for amount in kept if isinstance(kept, list) else [kept]:
        plan = Kept.of(Kept.parse(amount) if isinstance(amount, str) else amount, height, width)
        if plan in found:
            raise ValueError(f"`kept` has {plan.text!r} twice; leave one out")
        found.append(plan)
    if not found:
        raise ValueError("`kept` must not be empty; use 0.1")
    return found


def _report(
    plan: PixelPlan, task: Task, store: PartStore, progress: Progress
) -> tuple[PixelReport, PixelSeconds]:
    """Return the report of an encoding, and the seconds of this run."""
    given = plan.request
    total, spent = PixelSeconds(), PixelSeconds()
    chosen, counts = [], []
    for start in range(0, len(given.data), PART):
        arrays, seconds, own = _part(plan, task, store, start)
        chosen.append(arrays["classes"])
        counts.append(arrays["counts"])
        total += seconds
        spent += own
        progress.advance(task.kind, len(arrays["classes"]), seconds.total)
    records = pixel_records(
        task.kept,
        plan.draws,
        plan.alpha,
        count_up(0, len(given.data)),
        given.data.labels,
        np.concatenate(chosen),
        np.concatenate(counts),
    )
    report = PixelReport(
        network=given.model_info,
        images_sha256=given.dataset_info.sha256,
        shape=given.dataset_info.shape,
        encoding=one_line(given.fills[task.encoding]),
        scheme=task.kept.scheme,
        kept=float(task.kept.amount),
        selection=plan.selection,
        draws=plan.draws,
        alpha=plan.alpha,
        seed=plan.seed,
        records=tuple(records),
        seconds=total,
        provenance=made_now(given.environment, given.device, given.command),
    )
    return report, spent


def _part(
    plan: PixelPlan, task: Task, store: PartStore, start: int
) -> tuple[Mapping[str, npt.NDArray[Any]], PixelSeconds, PixelSeconds]:
    """Return classes and counts of some images, and seconds as of :func:`finished_part`."""
    given = plan.request
    clock = Clock(given.device)
    images, _ = given.batch(start, PART)
    index = count_up(start, len(images))
    description = {
        "kind": "pixels",
        "environment": given.environment,
        "model": given.model_sha256,
        "encoding": given.fill_sha256[task.encoding],
        "kept": [task.kept.scheme, task.kept.amount],
        "selection": plan.selection,
        "draws": plan.draws,
        "seed": plan.seed,
        "batch_size": given.batch_size,
        "index": start,
        "images": fingerprint_arrays(images.cpu().numpy()),
    }
    expected = {name: (np.dtype(np.int64), (len(images),)) for name in ("classes", "counts")}

    def make() -> dict[str, npt.NDArray[Any]]:
        work = plan.draws_of(task, clock)
        classes, counts = np.empty(len(images), np.int64), np.empty(len(images), np.int64)
        for part in image_groups(len(images), given.batch_size, plan.selection + plan.draws):
            votes = count_votes(work, images[part], index[part], plan.selection, plan.draws)
            classes[part], counts[part] = votes
        return {"classes": classes, "counts": counts}

    return finished_part(store, description, expected, clock, PixelSeconds, make)
