"""Figures 6, 9 and 11: accuracy against rank, lambda and the share of anchors."""

from __future__ import annotations

from collections.abc import Sequence

from splic_ext.evaluation import Record
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.results.keys import BPDA_WHITE, CLEAN, PGD_GRAY, attack_key
from splic_ext.experiments.results.rows import Point, Row
from splic_ext.experiments.subjects import Subject
from splic_ext.experiments.tables.boxes import white_box_records

__all__ = ["figure6", "figure9", "figure11", "scaled_ranks"]

#: Side of the images that these ranks are for; the paper's: all, a half, three eighths, ...
SIDE = 32
_RANKS = (32, 16, 12, 8, 4)
#: By the scale of the budget, as all values here.
RANKS = {"smoke": (32, 8), "cpu": _RANKS, "gpu": _RANKS}
#: Without training, and with a network for each.
LAMBDAS = {
    "smoke": (0.0, 0.02),
    "cpu": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
    "gpu": (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
}
TRAINED_LAMBDAS = {
    "smoke": (0.0, 0.02),
    "cpu": (0.0, 0.02, 0.05, 0.1),
    "gpu": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
}
#: Of anchors.
SHARES = {
    "smoke": (0.3, 0.7),
    "cpu": (0.1, 0.3, 0.5, 0.7, 0.9),
    "gpu": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}
#: Defence, with a place for the share of anchors -> its name.
ESTIMATORS = {
    "splic:anchor_fraction={}": "SPLIC",
    "usvt:anchor_fraction={}": "USVT",
    "soft-impute:anchor_fraction={}": "Soft-Impute",
    "nuclear-norm:anchor_fraction={}": "nuclear norm",
}
READINGS = (
    "without training: one network that never saw a completed image; PGD of 7 steps of 2/255 "
    "is made on it without the defence (gray box)",
    "trained: a network for each value, trained on completed images but not adversarially; BPDA "
    "of 7 steps of 2/255 (white box)",
)


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
        side = min(subject.dataset.images.shape[2:])
        ranks = scaled_ranks(bench.settings.budget.pick(RANKS), side)
        _sweep(bench, subject, outcome, "rank", "splic:rank={}", ranks, ranks)
    outcome.notes += [
        *READINGS,
        "the paper's axis goes from 62 to 68 %, and its text does not say under which attack",
    ]
    return outcome


def figure9(bench: Bench) -> Outcome:
    """Accuracy against lambda."""
    outcome = Outcome()
    budget = bench.settings.budget
    values, trained = budget.pick(LAMBDAS), budget.pick(TRAINED_LAMBDAS)
    for subject in bench.subjects:
        _sweep(bench, subject, outcome, "lambda", "splic:tv_weight={}", values, trained)
    outcome.notes += [*READINGS, "the paper: white box, BPDA; it prints no numbers"]
    return outcome


def figure11(bench: Bench) -> Outcome:
    """Clean accuracy against the share of anchors, without training."""
    outcome = Outcome()
    settings = bench.settings
    for subject in bench.subjects:
        network = bench.undefended(subject)
        for spec, title in ESTIMATORS.items():
            for share in settings.budget.pick(SHARES):
                defense = spec.format(share)
                (record,) = bench.evaluate(
                    subject, network, [defense], limit=settings.images
                ).records
                row = Row.from_record(record, record.dataset.name, title, CLEAN)
                outcome.rows.append(row)
                outcome.points.append(Point.from_row(row, "share of anchors", share))
    outcome.notes += [
        "clean images, a network without training on completed ones",
        "SPLIC has two passes: with a share of 0.9 in the first, the second has 0.1",
    ]
    return outcome


def _sweep(
    bench: Bench,
    subject: Subject,
    outcome: Outcome,
    name: str,
    spec: str,
    values: Sequence[float],
    trained: Sequence[float],
) -> None:
    """Add both readings of a parameter: its name, a defence with a place for it, its values."""
    stock = bench.undefended(subject)
    for value in values:
        defense, limit = spec.format(value), bench.settings.images
        report = bench.evaluate(subject, stock, [defense], {PGD_GRAY: "pgd"}, limit=limit)
        _add(outcome, f"{subject.name}, without training", name, value, report.records)
    epochs = bench.recipe(subject).sweep_epochs
    for value in trained:
        defense = spec.format(value)
        network = bench.trained(subject, defense=defense, epochs=epochs)
        records = white_box_records(bench, subject, network, defense, adaptive=False)
        _add(outcome, f"{subject.name}, trained", name, value, records)


def _add(
    outcome: Outcome, section: str, name: str, value: float, records: Sequence[Record]
) -> None:
    for record in records:
        attack = BPDA_WHITE if record.attack == "bpda" else attack_key(record.attack)
        row = Row.from_record(record, section, f"{name} {value:g}", attack)
        outcome.rows.append(row)
        outcome.points.append(Point.from_row(row, name, value, series=attack))
