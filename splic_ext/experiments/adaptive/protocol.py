"""Runs the protocol: one evaluation for each section, rows and notes of a result."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from splic_ext.common.checks import check_integer
from splic_ext.data import Dataset, DatasetLike
from splic_ext.evaluation import EvaluationReport, evaluate, worst_case
from splic_ext.evaluation.guards import check_output
from splic_ext.evaluation.inputs import check_network, named_attacks
from splic_ext.evaluation.runner import AnyAttack
from splic_ext.evaluation.spread import held, make_spread
from splic_ext.evaluation.weak import WEAK, is_weak, not_warned
from splic_ext.experiments.adaptive.protected import Protected
from splic_ext.experiments.adaptive.sections import (
    REASONS,
    Section,
    choose_sections,
    make_sections,
)
from splic_ext.experiments.adaptive.sizes import SIZES, SMOKE, Size, resolve_size
from splic_ext.experiments.adaptive.verdict import doubts, verdict
from splic_ext.experiments.results.keys import ADAPTIVE, SECTIONS, WORST, attack_key
from splic_ext.experiments.results.result import ExperimentResult
from splic_ext.experiments.results.rows import Row
from splic_ext.experiments.tables.boxes import WORST_NOTE
from splic_ext.runs.inputs import check_dataset, resolve_device

__all__ = ["evaluate_adaptively"]


def evaluate_adaptively(
    model: nn.Module,
    dataset: DatasetLike,
    *,
    defense: str | nn.Module = "splic",
    size: str | Size = "small",
    sections: Sequence[str] | None = None,
    surrogates: Mapping[str, nn.Module] | None = None,
    attacks: Mapping[str, AnyAttack] | Sequence[AnyAttack] = (),
    score_draws: int = 10,
    seed: int = 0,
    batch_size: int = 100,
    output: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: bool = True,
    model_name: str | None = None,
    command: str | None = None,
    engine: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    gpus: float = 0.0,
) -> ExperimentResult:
    """Attack a network behind a defence, by an attacker who may know all but the masks.

    L-inf 8/255 but where a radius is varied. Sections: three gradients (identity, exact, and
    surrogate, which smooths the rank cut) and the worst of them for each image; masks that are
    held still, where the attack must succeed; draws for each gradient; other losses and step
    rules; twice the steps, other step sizes, restarts; radii; queries alone; transfer from the
    network without its defence, and from other networks; what is left of SPLIC without its parts,
    where the defence has it; and defences that are known to be broken. What a defence has no use
    for is left out, and the notes say why: masks held still of one that draws nothing, for
    example. The last note is the verdict: the gradient and the attack that fool most.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    dataset : Dataset
        Or what :func:`splic_ext.data.as_dataset` takes: a pair ``(images, labels)``, a data set
        of torch.
    defense : Defense, nn.Module or str, default "splic"
        The defence, a plain module from images to images, or a text; see
        :func:`splic_ext.defenses.as_defense`. ``"splic"`` has the preset ``"paper"``. One that is
        not of this library is tried on a few images first.
    size : {"smoke", "small", "full"} or Size, default "small"
        How many images, steps, draws and queries.
    sections : sequence of str, optional
        Some of :data:`SECTIONS`; default: all that there is something to do for.
    surrogates : mapping, optional
        Title -> network in eval mode: its adversarial images are transferred. Give one that was
        trained adversarially, for example.
    attacks : mapping or sequence, optional
        More attacks on the defended network, such as those of other libraries: functions of model,
        images and labels; see :func:`splic_ext.evaluation.named_attacks`.
    score_draws : int, default 10
        Fresh draws of the masks for each finished image.
    seed, batch_size, device, progress, model_name, command, engine, workers, threads, gpus
        As in :func:`splic_ext.evaluation.evaluate`.
    output : path, optional
        Folder for adaptive.json, adaptive.csv and adaptive.md, which are replaced, and for finished
        parts: the same call takes them up again, and sections share them.

    Returns
    -------
    ExperimentResult

    Raises
    ------
    ValueError, TypeError
        A parameter of the wrong kind, or out of its range.
        Of a defence of one's own: its result is of another shape, dtype, device or scale than the
        images, or has NaN; its draws cannot be repeated; it has no gradient at all.
    AttackError, MissingExtraError, OSError
        As :func:`splic_ext.evaluation.evaluate`.

    Warns
    -----
    UserWarning
        No section differentiates the defence, so that all accuracies are upper bounds; a gradient
        of a defence of one's own that leads nowhere, and is left out.

    References
    ----------
    .. [1] F. Tramer, N. Carlini, W. Brendel, A. Madry, "On adaptive attacks to adversarial example
       defenses", NeurIPS 2020.

    Examples
    --------
    >>> from splic_ext.data import load_dataset
    >>> from splic_ext.models import build_model
    >>> result = evaluate_adaptively(
    ...     build_model("digits_cnn").eval(),
    ...     load_dataset("digits", limit=2),
    ...     defense="splic:max_iterations=7",
    ...     size="smoke",
    ...     score_draws=2,
    ... )
    >>> [row.attack for row in result.select(section="gradients")]
    ['clean', 'identity', 'exact', 'surrogate', 'worst of them']
    """
    make_spread(engine, workers, threads, gpus)
    amount = resolve_size(size)
    limit = check_integer("images", amount.images, 1)
    dataset = check_dataset(dataset, limit)
    place = resolve_device(device, model)
    others = _check_surrogates(surrogates, dataset, place)
    few = torch.from_numpy(dataset.first(4).to_float()).to(place)
    protected = Protected.of(defense, few)
    whole = make_sections(protected, amount, dataset, others, named_attacks(attacks))
    plan = choose_sections(whole, sections)
    folder = None if output is None else Path(output)
    check_output(folder, "", overwrite=True)
    draws = check_integer("score_draws", score_draws, 1)
    with not_warned(), held(engine):
        reports = [
            evaluate(
                model, dataset, defenses=section.defenses, attacks=section.attacks,
                scenario=section.scenario, surrogate=section.surrogate,
                surrogate_name=section.surrogate_name, draws=draws, seed=seed,
                batch_size=batch_size, limit=limit, overwrite=True, device=device,
                output=None if folder is None else folder / "work", progress=progress,
                model_name=model_name, command=command, engine=engine, workers=workers,
                threads=threads, gpus=gpus,
            )
            for section in plan
        ]  # fmt: skip
    last = reports[-1].records[0]
    budget = next((name for name, known in SIZES.items() if known == amount), None)
    rows = tuple(row for pair in zip(plan, reports, strict=True) for row in _rows(*pair))
    result = ExperimentResult(
        ADAPTIVE,
        f"Adaptive attacks on {protected.name}",
        rows,
        last.provenance,
        (
            f"seed {last.seed}",
            *([SMOKE] if budget == "smoke" else doubts(rows)),
            *_weak(protected.name, plan, reports),
            *protected.notes(),
            *_notes(plan, reports, complete=sections is None),
            *verdict(rows, protected.name),
        ),
        budget=budget,
    )
    if folder is not None:
        result.save(folder)
    return result


def _weak(spec: str, plan: Sequence[Section], reports: Sequence[EvaluationReport]) -> list[str]:
    """Note the sections that never differentiate a defence; warn if there is no other."""
    pairs = list(zip(plan, reports, strict=True))
    weak = dict.fromkeys(SECTIONS[section.key] for section, r in pairs if is_weak(r.notes))
    if not weak:
        return []
    note = (
        "by the gradient identity (BPDA) or without gradients alone, so that the accuracies are "
        f"upper bounds: {', '.join(weak)}"
    )
    if not any(
        section.scenario == "white" and spec in section.defenses and not is_weak(report.notes)
        for section, report in pairs
    ):
        warnings.warn(f"{WEAK}{spec!r} is attacked {note}", stacklevel=3)
    return [note]


def _rows(section: Section, report: EvaluationReport) -> list[Row]:
    rows = []
    for method in section.defenses:
        records = list(report.select(defense=method))
        if section.worst and len(records) > 2:
            records.append(worst_case(records[1:], WORST))
        title = SECTIONS[section.key]
        rows += [Row.from_record(r, title, method, attack_key(r.attack)) for r in records]
    return rows


def _notes(
    plan: Sequence[Section], reports: Sequence[EvaluationReport], *, complete: bool
) -> list[str]:
    notes = []
    if any(section.worst for section in plan):
        notes.append(WORST_NOTE)
    done = {section.key for section in plan}
    if complete:
        notes += [
            f"left out: {title}, as {REASONS[key]}"
            for key, title in SECTIONS.items()
            if key not in done
        ]
    else:
        left = ", ".join(title for key, title in SECTIONS.items() if key not in done)
        notes.append(f"not the whole protocol, left out: {left}")
    surrogates = [report.records[0].surrogate for report in reports]
    return notes + [f"{s.name}: weights of SHA-256 {s.sha256}" for s in surrogates if s is not None]


def _check_surrogates(
    given: Mapping[str, nn.Module] | None, dataset: Dataset, device: torch.device
) -> Mapping[str, nn.Module]:
    """Raise before any work, not when the protocol comes to them."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        found = type(given).__name__
        raise TypeError(f"`surrogates` must map titles to networks, got {found}; use a dict")
    few = torch.from_numpy(dataset.first(4).to_float()).to(device)
    for title, network in given.items():
        if isinstance(network, nn.Module):
            network.to(device)
        check_network(f"surrogates[{title!r}]", network, few, dataset.labels)
    return given
