"""Figures 6, 9 and 11: accuracy against rank, lambda and the share of anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splic_ext.evaluation import Record
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.networks import Network
from splic_ext.experiments.results.rows import Point, Row
from splic_ext.experiments.subjects import Subject
from splic_ext.experiments.tables.trained import white_box_records

__all__ = ["figure6", "figure9", "figure11", "scaled_ranks"]

#: Side of the images that the ranks of a budget are for.
SIDE = 32
#: Defence, with a place for the share of anchors -> its name.
ESTIMATORS = {
    "splic:anchor_fraction={}": "SPLIC",
    "usvt:anchor_fraction={}": "USVT",
    "soft-impute:anchor_fraction={}": "Soft-Impute",
    "nuclear-norm:anchor_fraction={}": "nuclear norm",
}


@dataclass(frozen=True)
class _Sweep:
    """A parameter that is varied.

    Attributes
    ----------
    name : str
        On the axis.
    spec : str
        Defence, with a place for the value.
    values : sequence of (int or float)
        Without training.
    trained : sequence of (int or float)
        With a network for each.
    """

    name: str
    spec: str
    values: Sequence[float]
    trained: Sequence[float]


def scaled_ranks(ranks: Sequence[int], side: int) -> list[int]:
    """Return ranks of images of side 32 as the same shares of another side, each once.

    Examples
    --------
    >>> scaled_ranks((32, 16, 12, 8, 4), 8)
    [8, 4, 3, 2, 1]
    """
    return list(dict.fromkeys(max(1, round(rank * side / SIDE)) for rank in ranks))


def figure6(bench: Bench) -> Outcome:
    """Accuracy against rank."""
    outcome = Outcome()
    for subject in bench.subjects:
        ranks = scaled_ranks(bench.budget.ranks, min(subject.dataset.images.shape[2:]))
        _sweep(bench, subject, _Sweep("rank", "splic:rank={}", ranks, ranks), outcome)
    outcome.notes += [
        *_readings(bench),
        "the paper's axis goes from 62 to 68 %, and its text does not say under which attack",
    ]
    return outcome


def figure9(bench: Bench) -> Outcome:
    """Accuracy against lambda."""
    outcome = Outcome()
    budget = bench.budget
    for subject in bench.subjects:
        sweep = _Sweep("lambda", "splic:tv_weight={}", budget.lambdas, budget.trained_lambdas)
        _sweep(bench, subject, sweep, outcome)
    outcome.notes += [*_readings(bench), "the paper: white box, BPDA; it prints no numbers"]
    return outcome


def figure11(bench: Bench) -> Outcome:
    """Clean accuracy against the share of anchors, without training."""
    outcome = Outcome()
    for subject in bench.subjects:
        network = bench.undefended(subject)
        for spec, title in ESTIMATORS.items():
            for share in bench.budget.shares:
                report = bench.evaluate(subject, network, [spec.format(share)], limit=bench.images)
                row = Row.from_record(
                    report.records[0], report.records[0].dataset.name, title, "clean"
                )
                outcome.rows.append(row)
                outcome.points.append(Point.from_row(row, "share of anchors", share))
    outcome.notes += [
        "clean images, a network without training on completed ones",
        "SPLIC has two passes: with a share of 0.9 in the first, the second has 0.1",
    ]
    return outcome


def _readings(bench: Bench) -> list[str]:
    return [
        "without training: one network that never saw a completed image; PGD of 7 steps of 2/255 "
        "is made on it without the defence (gray box)",
        "trained: a network for each value, trained on completed images, not adversarially; BPDA "
        "of 7 steps of 2/255 (white box)",
    ]


def _sweep(bench: Bench, subject: Subject, sweep: _Sweep, outcome: Outcome) -> None:
    """Add both readings of a parameter."""
    stock = bench.undefended(subject)
    name = subject.dataset.name.partition("/")[0]
    for value in sweep.values:
        spec = sweep.spec.format(value)
        report = bench.evaluate(
            subject, stock, [spec], {"PGD, gray box": "pgd"}, limit=bench.images
        )
        _add(outcome, f"{name}, without training", sweep, value, report.records)
    recipe = bench.recipe(subject)
    for value in sweep.trained:
        spec = sweep.spec.format(value)
        network: Network = bench.trained(subject, defense=spec, epochs=recipe.sweep_epochs)
        records = white_box_records(bench, subject, network, spec, adaptive=False)
        _add(outcome, f"{name}, trained", sweep, value, records)


def _add(
    outcome: Outcome, section: str, sweep: _Sweep, value: float, records: Sequence[Record]
) -> None:
    names = {None: "clean", "bpda": "BPDA, white box"}
    for record in records:
        attack = names.get(record.attack, record.attack or "clean")
        row = Row.from_record(record, section, f"{sweep.name} {value:g}", attack)
        outcome.rows.append(row)
        outcome.points.append(Point.from_row(row, sweep.name, value, series=attack))
