"""Certificates against patches: of a few images, and of a data set, with finished parts kept."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.answers import Asker
from splic_ext.certify.examples import EXAMPLES, has_examples, make_examples
from splic_ext.certify.guards import check_classifier, images_and_labels
from splic_ext.certify.masks import Patch
from splic_ext.certify.plan import PatchPlan, Task, make_plan
from splic_ext.certify.records import (
    CertificateReport,
    FillSeconds,
    PatchCertificate,
    PatchRecord,
)
from splic_ext.certify.requests import PART, check_report, finished_part
from splic_ext.certify.tables import to_markdown
from splic_ext.certify.vote import MaskedVote, answer_images, certify_image
from splic_ext.common.atomic import write_text
from splic_ext.data import DatasetLike
from splic_ext.evaluation.inputs import one_line
from splic_ext.fills import Fill
from splic_ext.runs.clock import Clock
from splic_ext.runs.fingerprints import fingerprint_arrays
from splic_ext.runs.inputs import resolve_device
from splic_ext.runs.machine import made_now
from splic_ext.runs.progress import Progress, progress_of
from splic_ext.runs.store import PartStore

__all__ = ["certify_patches", "evaluate_patches"]

#: Name of the report in the folder of a certification.
REPORT = "certificates.json"

#: The arrays of a part, and what one row of each has.
COLUMNS: Mapping[str, tuple[Any, tuple[int, ...]]] = {
    "plain": (np.int32, ()),
    "answers": (np.int32, ()),
    "certified": (np.bool_, ()),
    "weakest": (np.int32, (2,)),
    "pairs": (np.int32, ()),
}


def certify_patches(
    model: nn.Module,
    images: Any,
    labels: Any,
    *,
    patch: Patch = 5,
    masks: int | tuple[int, int] = 6,
    fill: Fill | str | Any = "splic",
    patches: int = 1,
    batch_size: int = 128,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> tuple[PatchCertificate, ...]:
    """Say of each image whether no patch can turn the answer of :class:`MaskedVote`.

    An image is certified if the network is right under every pair of masks, surely: its largest
    logit leads by more than rounding may change ([1]_, Theorem 1). What then may stand in the
    patch, and who knows what of network, masks and fill, does not matter.

    Parameters
    ----------
    model : nn.Module
        Images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode and without randomness.
    images : tensor or array of shape (N, C, H, W)
        Floats in [0, 1].
    labels : sequence of int, shape (N,)
        The classes, in [0, K).
    patch : int, (int, int) or sequence of (int, int), default 5
        Side of a square, height and width, or several shapes of which the attacker takes one.
    masks : int or (int, int), default 6
        Masks along each axis. More are smaller, and cost more: k x k masks have about k^4 / 2
        pairs.
    fill : Fill, str or callable, default "splic"
        What hidden pixels are filled with; see :mod:`splic_ext.fills`.
    patches : {1, 2}, default 1
        How many patches the attacker may place.
    batch_size : int, default 128
        Filled images that the network takes at a time.
    device : str or torch.device, optional
        The network is moved there; default: where it is.
    progress : bool, default False
        Show a progress bar; where there is no terminal, or no Rich, a line a minute.

    Returns
    -------
    tuple of PatchCertificate
        One for each image.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range; a patch larger than the images; labels
        beyond the outputs; a network in train mode, or with randomness; a fill that sees hidden
        pixels, or is random.

    References
    ----------
    .. [1] C. Xiang, S. Mahloujifar, P. Mittal, "PatchCleanser: Certifiably Robust Defense against
       Adversarial Patches for Any Image Classifier", USENIX Security 2022.

    Examples
    --------
    >>> from splic_ext.models import build_model
    >>> network = build_model("digits_cnn").eval()
    >>> found = certify_patches(network, torch.rand(2, 1, 8, 8), [3, 5], patch=2, masks=3)
    >>> [certificate.index for certificate in found]
    [0, 1]
    """
    vote = MaskedVote(model, patch, masks, fill, patches=patches, batch_size=batch_size)
    place = resolve_device(device, model)
    vote.to(place)
    checked, known = images_and_labels(images, labels, place)
    if len(checked) == 0:
        return ()
    asker = vote.asker(checked)
    check_classifier(model, vote.fill, checked[:2], known)
    found: list[PatchCertificate] = []
    with progress_of({"certifying": len(checked)}, shown=progress) as shown:
        for start in range(0, len(checked), PART):
            clock = Clock(place)
            part = slice(start, start + PART)
            some = _certify(asker, checked[part], known[part], start)
            found += [certificate for certificate, _ in some]
            shown.advance("certifying", len(checked[part]), clock.total)
    return tuple(found)


def evaluate_patches(
    model: nn.Module,
    dataset: DatasetLike,
    *,
    fills: Mapping[str, Fill | str] | Sequence[Fill | str] = ("splic",),
    patch: int | str | tuple[int, int] | list[Any] = 5,
    masks: int | tuple[int, int] = 6,
    patches: int = 1,
    batch_size: int = 128,
    limit: int | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
    model_name: str | None = None,
    command: str | None = None,
) -> CertificateReport:
    """Measure clean and certified accuracy of a network with several fills and sizes of patches.

    Parameters
    ----------
    model : nn.Module
        As for :func:`certify_patches`.
    dataset : Dataset
        Images and labels, as from :func:`splic_ext.data.load_dataset`; or what
        :func:`splic_ext.data.as_dataset` takes.
    fills : mapping or sequence, default ("splic",)
        Fills, or texts such as ``splic:rank=12``; in a mapping by name.
    patch : int, str, (int, int) or list of these, default 5
        What the attacker may place: ``5``, ``(3, 8)`` or ``"3x8"``, or ``"3x8,8x3"`` for one of
        two shapes; a list is certified one after the other.
    masks, patches, batch_size
        As for :func:`certify_patches`.
    limit : int, optional
        Certify this many images, the first ones.
    output : path, optional
        Folder for ``certificates.json``, ``certificates.md``, ``examples.npz`` with a few images
        as they were filled, and, below ``parts``, what is finished: the same call takes it up
        again after a crash or Ctrl-C. None: nothing is written.
    overwrite : bool, default False
        Whether the report of another certification may be replaced in `output`.
    device, progress
        As for :func:`certify_patches`.
    model_name : str, optional
        For the report; default: name of the class.
    command : str, optional
        For the report: the command line.

    Returns
    -------
    CertificateReport
        For each size of patches one record per fill, in this order.

    Raises
    ------
    TypeError, ValueError
        As :func:`certify_patches`.
    OSError
        `output` cannot be written.

    Warns
    -----
    UserWarning
        A saved part is damaged, or not of this certification; it is made anew.

    Notes
    -----
    Parts are found again by the SHA-256 of all that determines them: the code of this package and
    of a fill of one's own, versions, weights, parameters, images and labels.

    Examples
    --------
    >>> from splic_ext.data import load_dataset
    >>> from splic_ext.models import build_model
    >>> digits = load_dataset("digits", limit=4)
    >>> network = build_model("digits_cnn").eval()
    >>> report = evaluate_patches(network, digits, fills=["gray", "splic"], patch=2, masks=3)
    >>> [(record.fill, record.patch, record.masks) for record in report.records]
    [('gray', '2', 9), ('splic', '2', 9)]
    """
    began = time.perf_counter()
    plan = make_plan(
        model,
        dataset,
        fills=fills,
        patch=patch,
        masks=masks,
        patches=patches,
        batch_size=batch_size,
        limit=limit,
        device=device,
        model_name=model_name,
        command=command,
    )
    folder = None if output is None else Path(output)
    if folder is not None:
        check_report(
            folder / REPORT, plan.key, CertificateReport.load, plan.differences, overwrite=overwrite
        )
    store = PartStore(None if folder is None else folder / "parts")
    spent = FillSeconds()
    records, pairs = [], []
    with progress_of(plan.work(), shown=progress) as shown:
        for task in plan.tasks:
            record, weakest, own = _record(plan, task, store, shown)
            records.append(record)
            pairs.append(weakest)
            spent += own
    rest = time.perf_counter() - began - spent.fill - spent.network
    report = CertificateReport(
        plan.key, tuple(records), replace(spent, rest=rest), tuple(store.notes)
    )
    if folder is not None:
        write_text(folder / REPORT, report.to_json())
        write_text(folder / "certificates.md", to_markdown(report))
        if not has_examples(folder / EXAMPLES, report):
            make_examples(plan, report, pairs).save(folder / EXAMPLES)
    return report


def _record(
    plan: PatchPlan, task: Task, store: PartStore, progress: Progress
) -> tuple[PatchRecord, list[list[int]], FillSeconds]:
    """Return the record of a fill and a patch, its weakest pairs, and the seconds of this run."""
    rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    total, spent = FillSeconds(), FillSeconds()
    given = plan.request
    for start in range(0, len(given.data), PART):
        arrays, seconds, own = _part(plan, task, store, start)
        for name, values in arrays.items():
            rows[name] += values.tolist()
        total += seconds
        spent += own
        progress.advance(task.kind, len(arrays["plain"]), seconds.total)
    failed = (
        () if sure else tuple(pair)
        for sure, pair in zip(rows["certified"], rows["weakest"], strict=True)
    )
    masks = task.masks
    record = PatchRecord(
        dataset=given.dataset_info,
        model=given.model_info,
        fill=task.fill,
        fill_repr=one_line(given.fills[task.fill]),
        patch=task.patch,
        area=task.area,
        patches=masks.patches,
        masks=len(masks),
        mask=task.mask,
        plain=tuple(rows["plain"]),
        answers=tuple(rows["answers"]),
        labels=tuple(given.data.labels.tolist()),
        certified=tuple(rows["certified"]),
        failed=tuple(failed),
        pairs=tuple(rows["pairs"]),
        seconds=total,
        provenance=made_now(given.environment, given.device, given.command),
    )
    return record, rows["weakest"], spent


def _part(
    plan: PatchPlan, task: Task, store: PartStore, start: int
) -> tuple[Mapping[str, npt.NDArray[Any]], FillSeconds, FillSeconds]:
    """Return the arrays of some images, and their seconds as of :func:`finished_part`."""
    given = plan.request
    clock = Clock(given.device)
    images, labels = given.batch(start, PART)
    description = {
        "kind": "patches",
        "environment": given.environment,
        "model": given.model_sha256,
        "fill": given.fill_sha256[task.fill],
        "masks": fingerprint_arrays(task.masks.visible, task.masks.pairs),
        "batch_size": given.batch_size,
        "index": start,
        "images": fingerprint_arrays(images.cpu().numpy()),
        "labels": fingerprint_arrays(labels),
    }
    expected = {
        name: (np.dtype(dtype), (len(images), *shape)) for name, (dtype, shape) in COLUMNS.items()
    }

    def make() -> dict[str, npt.NDArray[Any]]:
        asker = replace(plan.askers[task.fill, task.patch], clock=clock)
        found = _certify(asker, images, labels, start)
        return {
            "plain": np.array([c.plain for c, _ in found], np.int32),
            "answers": np.array([c.answer for c, _ in found], np.int32),
            "certified": np.array([c.certified for c, _ in found]),
            "weakest": np.array([pair for _, pair in found], np.int32),
            "pairs": np.array([c.pairs for c, _ in found], np.int32),
        }

    return finished_part(store, description, expected, clock, FillSeconds, make)


def _certify(
    asker: Asker, images: torch.Tensor, labels: npt.NDArray[np.int64], start: int
) -> list[tuple[PatchCertificate, tuple[int, int]]]:
    """Return certificates and weakest pairs of images, the first of which has the index `start`."""
    plain = asker.whole(images)
    outcome = answer_images(asker, images)
    right = outcome.first.sure(labels[:, None])
    found = []
    for i, label in enumerate(labels.tolist()):
        verdict = certify_image(asker, images[i : i + 1], label, right[i], outcome.first.leads[i])
        certificate = PatchCertificate(
            index=start + i,
            label=label,
            plain=int(plain.classes[i]),
            answer=int(outcome.classes[i]),
            certified=verdict.certified,
            failed=verdict.failed,
            pairs=verdict.pairs,
        )
        found.append((certificate, verdict.weakest))
    return found
