"""Runs an experiment: checks, work, result, files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from splic_ext.common.checks import check_integer
from splic_ext.defenses import Defense
from splic_ext.evaluation.guards import check_output
from splic_ext.evaluation.inputs import named_defenses
from splic_ext.experiments.bench import PAPER_ITERATIONS, Bench, Settings
from splic_ext.experiments.budgets import BUDGETS, Budget, resolve_budget
from splic_ext.experiments.figures.features import require_sklearn
from splic_ext.experiments.networks import Network
from splic_ext.experiments.own import own_notes, try_own
from splic_ext.experiments.registry import EXPERIMENTS, Experiment
from splic_ext.experiments.results.drawing import require_matplotlib
from splic_ext.experiments.results.keys import SMOKE
from splic_ext.experiments.results.result import ExperimentResult
from splic_ext.experiments.subjects import Subject, check_subjects, shapes_subject

__all__ = ["reproduce", "reproduce_all"]

#: Of experiments without a budget.
DRAWS, SLOW_LIMIT = 10, 500


def reproduce(
    name: str,
    subjects: Sequence[Subject] | None = None,
    *,
    budget: str | Budget | None = None,
    draws: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    slow_limit: int | None = None,
    attacks: Sequence[str] | None = None,
    defenses: Mapping[str, nn.Module | str] | Sequence[nn.Module | str] = (),
    batch_size: int = 100,
    output: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: bool = True,
    command: str | None = None,
) -> ExperimentResult:
    """Make a table or a figure of the paper anew, its numbers beside the paper's.

    Parameters
    ----------
    name : str
        One of :data:`EXPERIMENTS`: "table1", ..., "figure12", "frontier", "hypotheses",
        "ranking".
    subjects : sequence of Subject, optional
        A section of the result for each, named after its data set. Default, for the budget
        "smoke" alone: drawn shapes.
    budget : {"smoke", "cpu", "gpu"} or Budget, optional
        How much is run: networks, images, steps. Default: "cpu"; "table3", "table4" and
        "frontier" then take all images and 10 draws.
    draws : int, optional
        Fresh draws of the masks for each finished image; default: as the budget says.
    seed, batch_size, device, progress, command
        As in :func:`splic_ext.evaluation.evaluate`.
    limit : int, optional
        Most images of each data set, the first ones; default: as the budget says.
    slow_limit : int, optional
        The same for attacks of thousands of steps (CW); without a budget 500.
    attacks : sequence of str, optional
        Some of the attacks of "table1", "table3", "table4", "figure7" or "frontier"; default: all.
    defenses : mapping or sequence of Defense, nn.Module or str, optional
        More defences: each becomes a row beside those of "table1" to "table4", "figure7",
        "frontier" or "ranking", with networks trained on it where the others have some. A text
        names itself, an object by its repr, and in a mapping the keys are the names; see
        :func:`splic_ext.defenses.as_defense`. Each is tried on a few images first.
    output : path, optional
        Folder for the files of the result, see :meth:`ExperimentResult.save`; those of an earlier
        run are replaced. Below ``work`` are finished parts and networks: the same call takes them
        up again, and experiments share them.

    Returns
    -------
    ExperimentResult

    Raises
    ------
    ValueError
        The name, budget or attack is unknown; there is no subject, or two have one name; a
        subject is of data that the experiment does not take, or lacks training images; a
        parameter is out of its range; `defenses` are not for this experiment, have a name of its
        own, cannot be attacked by BPDA where it does so, or do not return images as they must.
    MissingExtraError
        Matplotlib or scikit-learn is not installed, and is needed. Nothing has been computed.
    TypeError, AttackError, OSError
        As :func:`splic_ext.evaluation.evaluate`.
    FloatingPointError
        As :func:`splic_ext.training.train`.

    Notes
    -----
    The paper's attacks: L-inf 8/255; FGSM one step; PGD and BPDA 7 steps of 2/255; CW with
    confidence 20, 5 binary search steps, learning rate 0.005, 1000 iterations, which is an L2
    attack.

    Examples
    --------
    >>> result = reproduce("figure12", budget="smoke", progress=False)
    >>> [point.series for point in result.points][-1], result.points[-1].y_name
    ('SPLIC', 'PSNR (dB)')
    """
    chosen = None if budget is None else resolve_budget(budget)
    found = _default_subjects(chosen) if subjects is None else subjects
    bench = _prepare(
        name, found, chosen, attacks=attacks, draws=draws, seed=seed, limit=limit,
        slow_limit=slow_limit, batch_size=batch_size, output=output, device=device,
        progress=progress, command=command, defenses=defenses,
    )  # fmt: skip
    return _run(bench)


def reproduce_all(
    subjects: Sequence[Subject] | None = None,
    *,
    budget: str | Budget = "cpu",
    defenses: Mapping[str, nn.Module | str] | Sequence[nn.Module | str] = (),
    output: str | os.PathLike[str] | None = None,
    **given: Any,
) -> Iterator[ExperimentResult]:
    """Make all tables and figures, one after the other; they share networks and parts.

    All is checked before any work.

    Parameters
    ----------
    subjects, budget, output
        As for :func:`reproduce`. An experiment leaves out subjects that it does not take; if it
        takes none, it is left out.
    defenses
        As for :func:`reproduce`, for the experiments that take them.
    **given
        Other parameters of :func:`reproduce`, but `attacks`.

    Returns
    -------
    iterator of ExperimentResult
        In the order of :data:`EXPERIMENTS`. An experiment is run when its result is asked for.

    Raises
    ------
    Exception
        As :func:`reproduce`.
    """
    chosen = resolve_budget(budget)
    found = _default_subjects(chosen) if subjects is None else subjects
    own = _named(defenses)
    known: dict[str, Network] = {}
    plan: list[Bench] = []
    for name, experiment in EXPERIMENTS.items():
        some: Any = found
        if isinstance(found, Sequence) and all(isinstance(part, Subject) for part in found):
            tried = experiment.kinds if experiment.tried is None else chosen.pick(experiment.tried)
            some = [part for part in found if part.kind in tried]
            if found and not some:
                continue
        mine = () if experiment.own is None else own
        plan.append(
            _prepare(name, some, chosen, defenses=mine, output=output, networks=known, **given)
        )
    return map(_run, plan)


def _default_subjects(budget: Budget | None) -> list[Subject]:
    """Return drawn shapes for the budget "smoke", and nothing for others."""
    if budget is None or budget.name != SMOKE:
        return []
    return [shapes_subject(training=BUDGETS[SMOKE].recipes["shapes"].images)]


def _prepare(
    name: str,
    subjects: Sequence[Subject],
    given: Budget | None,
    *,
    attacks: Sequence[str] | None = None,
    defenses: Any = (),
    draws: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    slow_limit: int | None = None,
    batch_size: int = 100,
    output: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: bool = True,
    command: str | None = None,
    networks: dict[str, Network] | None = None,
) -> Bench:
    """Check everything, before any work."""
    if not isinstance(name, str) or name not in EXPERIMENTS:
        raise ValueError(
            f"`name` must be one of {', '.join(EXPERIMENTS)}, got {name!r}; choose one"
        )
    experiment = EXPERIMENTS[name]
    check_subjects(name, experiment.kinds, subjects, trains=experiment.trains)
    _check_attacks(name, experiment, attacks)
    if experiment.draws:
        require_matplotlib()
    if experiment.sklearn:
        require_sklearn()
    for parameter, value in (("limit", limit), ("slow_limit", slow_limit), ("draws", draws)):
        if value is not None:
            check_integer(parameter, value, 1)
    budget = BUDGETS["cpu"] if given is None else given
    own = given is not None or experiment.budgeted
    images = limit or (budget.images if own else None)
    slow = slow_limit or (budget.slow_images if own else SLOW_LIMIT)
    settings = Settings(
        budget,
        budget_name=budget.name if own else None,
        images=images,
        slow_images=slow if images is None else min(images, slow),
        draws=draws or (budget.draws if own else DRAWS),
        cw_iterations=budget.cw_iterations if own else PAPER_ITERATIONS,
        seed=check_integer("seed", seed, 0, 2**64 - 1),
        batch_size=batch_size,
        attacks=attacks,
        output=None if output is None else Path(output),
        device=device,
        progress=progress,
        command=command,
    )
    beside = _check_defenses(name, experiment, defenses)
    bench = Bench(name, subjects, settings, {} if networks is None else networks, beside)
    if experiment.trains:
        for subject in subjects:
            bench.recipe(subject)
    try_own(name, beside, subjects, white=experiment.white, device=device)
    check_output(settings.output, "", overwrite=True)
    return bench


def _named(defenses: Any) -> Mapping[str, Defense]:
    """Return defences by name, of which there may be none."""
    none = isinstance(defenses, (Mapping, Sequence)) and not defenses
    return {} if none else named_defenses(defenses)


def _check_defenses(name: str, experiment: Experiment, defenses: Any) -> Mapping[str, Defense]:
    """Return defences by name, none of which is one of a row of the experiment."""
    found = _named(defenses)
    if found and experiment.own is None:
        able = ", ".join(key for key, other in EXPERIMENTS.items() if other.own is not None)
        raise ValueError(f"`defenses` are for {able}, got them for {name}; leave them out")
    for title in found:
        if title in (experiment.own or ()):
            raise ValueError(
                f"`defenses` of {name} must be others than its own, got {title!r}; leave it "
                "out, or give yours another name"
            )
    return found


def _check_attacks(name: str, experiment: Experiment, attacks: Sequence[str] | None) -> None:
    if attacks is None:
        return
    if not experiment.attacks:
        able = ", ".join(key for key, other in EXPERIMENTS.items() if other.attacks)
        raise ValueError(f"`attacks` is for {able}, got it for {name}; leave it out")
    for attack in attacks:
        if attack not in experiment.attacks:
            raise ValueError(
                f"`attacks` of {name} must be among {', '.join(experiment.attacks)}, got "
                f"{attack!r}; leave it out"
            )


def _run(bench: Bench) -> ExperimentResult:
    experiment, settings = EXPERIMENTS[bench.name], bench.settings
    outcome = experiment.run(bench)
    notes = [f"seed {settings.seed}", *outcome.notes, *bench.notes, *own_notes(bench.own)]
    result = ExperimentResult(
        bench.name,
        experiment.title,
        tuple(outcome.rows),
        bench.provenance(),
        tuple(dict.fromkeys(notes)),
        tuple(outcome.points),
        tuple(outcome.galleries),
        tuple(outcome.datasets),
        settings.budget_name,
        {subject.name: subject.kind for subject in bench.subjects},
    )
    if settings.output is not None:
        result.save(settings.output)
    return result
