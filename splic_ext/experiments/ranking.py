"""SPLIC as well as it can be set on training images, beside its peers, all trained the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from splic_ext.attacks import PGD
from splic_ext.data import Dataset
from splic_ext.evaluation import Record
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.networks import Network
from splic_ext.experiments.rows import Row
from splic_ext.experiments.subjects import Subject
from splic_ext.experiments.trained_tables import white_box_records

__all__ = ["ranking"]

PGD_BLACK = "PGD, black box"
TITLES = {
    "identity": "no defence",
    "usvt": "ME-Net (USVT)",
    "soft-impute": "ME-Net (Soft-Impute)",
    "nuclear-norm": "ME-Net (nuclear norm)",
}
#: Of the training images, the last part, on which SPLIC is chosen.
HELD_OUT = 5


def ranking(bench: Bench) -> Outcome:
    """Choose SPLIC on training images; rank it and its peers by clean accuracy, and attack them."""
    outcome = Outcome()
    for subject in bench.subjects:
        name = subject.dataset.name.partition("/")[0]
        section = f"{name}, candidates, on held-out training images"
        candidates = _black_box(
            bench, _held_out(bench, subject), {s: s for s in bench.budget.candidates}, section
        )
        # Of equals, the first.
        chosen = max(_attacked(candidates), key=lambda row: row.mean.value).method
        titles = {chosen: f"SPLIC as chosen, {chosen}"}
        titles |= {} if chosen == "splic" else {"splic": "SPLIC, paper's constants"}
        denoisers = {
            f"tv:weight={weight:g}": f"total variation, {weight:g}"
            for weight in bench.budget.strengths
        }
        estimations = {s: TITLES.get(s, s) for s in ("identity", *bench.budget.estimations)}
        plain = _black_box(bench, subject, titles | denoisers | estimations, f"{name}, trained")
        ranked = sorted(plain, key=lambda row: _clean(plain, row.method), reverse=True)
        outcome.rows += [*candidates, *ranked]
        if bench.budget.hardened:
            nearest = min(
                denoisers,
                key=lambda s: abs(_clean(plain, denoisers[s]) - _clean(plain, titles[chosen])),
            )
            rivals = {
                chosen: titles[chosen],
                nearest: denoisers[nearest],
                bench.budget.menet: TITLES.get(bench.budget.menet, bench.budget.menet),
                "identity": TITLES["identity"],
            }
            section = f"{name}, trained adversarially"
            outcome.rows += _white_box(bench, subject, rivals, section)
        outcome.notes += [
            f"{name}: {chosen} is chosen, with the highest accuracy on attacked held-out images",
            f"{name}: {_at_equal_accuracy(plain, titles[chosen], list(denoisers.values()))}",
        ]
    outcome.notes += [
        "candidates: trained on four fifths of the training images, PGD on a surrogate that was "
        "trained on the same; the others: trained on all of them, tested on test images; which "
        "settings are candidates was decided with test images in sight",
        "trained: in the order of clean accuracy; a method earns its cost if nothing of equal "
        "clean accuracy stands higher under attack; differences have not been tested",
    ]
    if bench.budget.hardened:
        outcome.notes.append(
            "trained adversarially: total variation whose clean accuracy on test images is nearest "
            "to SPLIC's; worst of them: the result, see table2"
        )
    return outcome


def _held_out(bench: Bench, subject: Subject) -> Subject:
    """Return training images alone: the last fifth of them to test on, and the others."""
    training = subject.training
    assert training is not None  # check_subjects has seen to it
    training = training.first(bench.recipe(subject).images)
    kept = len(training) - len(training) // HELD_OUT
    rest = Dataset(
        f"{training.name}, held out",
        training.images[kept:],
        training.labels[kept:],
        training.classes,
    )
    return replace(subject, dataset=rest, training=training.first(kept), model=None)


def _black_box(bench: Bench, subject: Subject, methods: dict[str, str], section: str) -> list[Row]:
    """Train a network for each method, and transfer attacked images of a surrogate."""
    rows: list[Row] = []
    surrogate = bench.surrogate(subject)
    for spec, title in methods.items():
        report = bench.evaluate(
            subject,
            bench.trained(subject, defense=spec),
            [spec],
            {PGD_BLACK: PGD()},
            scenario="black",
            surrogate=surrogate,
            limit=bench.images,
        )
        rows += _rows(report.records, section, title)
    return rows


def _white_box(bench: Bench, subject: Subject, methods: dict[str, str], section: str) -> list[Row]:
    rows: list[Row] = []
    for spec, title in methods.items():
        network: Network = bench.trained(subject, defense=spec, adversarial=True)
        records = white_box_records(bench, subject, network, spec)
        rows += _rows(records, section, title)
    return rows


def _rows(records: Sequence[Record], section: str, method: str) -> list[Row]:
    titles = {None: "clean", "bpda": "BPDA"}
    return [
        Row.from_record(r, section, method, titles.get(r.attack, r.attack or "clean"))
        for r in records
    ]


def _attacked(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.attack == PGD_BLACK]


def _clean(rows: Sequence[Row], method: str) -> float:
    return next(r.mean.value for r in rows if (r.method, r.attack) == (method, "clean"))


def _at_equal_accuracy(rows: Sequence[Row], method: str, denoisers: Sequence[str]) -> str:
    """Say what plain denoising has that is no less accurate on clean images."""
    place = _clean(rows, method)
    attacked = {row.method: row.mean.value for row in _attacked(rows)}
    text = (
        f"{method} has {100 * place:.1f} % clean and {100 * attacked[method]:.1f} % under "
        f"{PGD_BLACK}"
    )
    able = [name for name in denoisers if _clean(rows, name) >= place]
    if not able:
        return f"{text}; no strength of total variation is as accurate on clean images"
    best = max(able, key=attacked.__getitem__)
    return (
        f"{text}; {best}, the best of those that are no less accurate on clean images, has "
        f"{100 * _clean(rows, best):.1f} and {100 * attacked[best]:.1f} %"
    )
