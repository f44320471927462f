"""SPLIC as well as it can be set on training images, beside its peers, all trained the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from splic_ext.data import Dataset
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.results.keys import CLEAN, PGD_BLACK, WORST, attack_key
from splic_ext.experiments.results.rows import Row
from splic_ext.experiments.subjects import Subject
from splic_ext.experiments.tables.boxes import black_box_records, white_box_records
from splic_ext.experiments.tables.trained import MENET

__all__ = ["RANKED", "ranking"]

#: SPLIC's candidates, by the scale of the budget as all values here. One mask each: a mean of
#: several takes so many times as long, in each step of an attack.
_CANDIDATES = (
    "splic",
    "splic:tv_weight=0.1",
    "splic:anchor_fraction=0.7",
    "splic:anchor_fraction=0.7,tv_weight=0.1",
    "splic+tv:weight=0.03",
    "splic:tv_weight=0.05+tv:weight=0.05",
)
CANDIDATES: Mapping[str, tuple[str, ...]] = {
    "smoke": ("splic", "splic:anchor_fraction=0.7"),
    "cpu": _CANDIDATES,
    "gpu": (*_CANDIDATES, "splic:recommended", "splic:n_masks=4+tv:weight=0.03"),
}
#: Of total variation.
STRENGTHS = {
    "smoke": (0.05, 0.1),
    "cpu": (0.03, 0.05, 0.1, 0.15),
    "gpu": (0.02, 0.03, 0.05, 0.1, 0.15, 0.2),
}
_DENOISER = ("tv:weight={:g}", "total variation, {:g}")
_ESTIMATIONS = ("usvt", "soft-impute", "nuclear-norm")
#: ME-Net's.
ESTIMATIONS = {"smoke": ("usvt",), "cpu": _ESTIMATIONS, "gpu": _ESTIMATIONS}
#: Whether the rivals are trained adversarially as well.
HARDENED = {"smoke": True, "cpu": False, "gpu": True}
TITLES = {
    "identity": "no defence",
    "usvt": "ME-Net (USVT)",
    "soft-impute": "ME-Net (Soft-Impute)",
    "nuclear-norm": "ME-Net (nuclear norm)",
}
#: Texts and titles of the methods, at any scale.
RANKED = frozenset(
    [
        *(spec for specs in CANDIDATES.values() for spec in specs),
        *(text.format(w) for ws in STRENGTHS.values() for w in ws for text in _DENOISER),
        *("SPLIC, paper's constants", "menet", *TITLES, *TITLES.values()),
    ]
)
#: Of the training images, the last part, on which SPLIC is chosen.
HELD_OUT = 5


def ranking(bench: Bench) -> Outcome:
    """Choose SPLIC on training images; rank it and its peers by clean accuracy, and attack them."""
    outcome = Outcome()
    budget = bench.settings.budget
    spec, title = _DENOISER
    denoisers = {spec.format(w): title.format(w) for w in budget.pick(STRENGTHS)}
    given = {name: name for name in bench.own}
    for subject in bench.subjects:
        name = subject.name
        held_out, chosen, rival = _choose(bench, subject, denoisers)
        own = {chosen: f"SPLIC as chosen, {chosen}"}
        own |= {} if chosen == "splic" else {"splic": "SPLIC, paper's constants"}
        peers = {s: TITLES.get(s, s) for s in ("identity", *budget.pick(ESTIMATIONS))}
        peers |= given
        tested = _rows(bench, subject, own | denoisers | peers, f"{name}, trained")
        before, after = _scores(held_out), _scores(tested)
        outcome.rows += held_out
        outcome.rows += sorted(tested, key=lambda row: after[row.method][0], reverse=True)
        if budget.pick(HARDENED):
            menet = budget.pick(MENET)
            rivals = {
                chosen: own[chosen],
                **{spec: title for spec, title in denoisers.items() if title == rival},
                menet: TITLES.get(menet, menet),
                "identity": TITLES["identity"],
                **given,
            }
            section = f"{name}, trained adversarially"
            outcome.rows += _rows(bench, subject, rivals, section, adversarial=True)
        outcome.notes += [
            f"{name}: {chosen} is chosen, with the highest accuracy on attacked held-out images",
            f"{name}: {rival} is its rival, {_told(*before[rival])} where {chosen} has "
            f"{_told(*before[chosen])}, on held-out images",
            f"{name}: on test images {own[chosen]} has {_told(*after[own[chosen]])}, {rival} "
            f"{_told(*after[rival])}",
        ]
    outcome.notes += [
        "candidates are trained on four fifths of the training images and tested on the rest; the "
        "others are trained on all of them and tested on test images",
        "the surrogate is the same for all; one that was given may have learnt held-out images",
        "the list of candidates was made with test images in sight",
        "rival: the strength of total variation that is best under attack, among those that are no "
        "less accurate on clean held-out images; if there is none, the most accurate",
        "trained: in the order of clean accuracy; a method earns its cost if nothing of equal "
        "clean accuracy is better under attack; no difference has been tested",
    ]
    if budget.pick(HARDENED):
        outcome.notes.append(
            f"trained adversarially: total variation has the strength of the rival; {WORST} is "
            "the result, see table2"
        )
    return outcome


def _choose(
    bench: Bench, subject: Subject, denoisers: dict[str, str]
) -> tuple[list[Row], str, str]:
    """Return the rows on held-out images, the text of the best SPLIC, the title of its rival."""
    candidates = bench.settings.budget.pick(CANDIDATES)
    methods = {spec: spec for spec in candidates} | denoisers
    section = f"{subject.name}, candidates, on held-out training images"
    rows = _rows(bench, _held_out(bench, subject), methods, section)
    scores = _scores(rows)
    chosen = max(candidates, key=lambda spec: scores[spec][1])  # of equals, the first
    return rows, chosen, _rival(scores, chosen, list(denoisers.values()))


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
    return replace(subject, dataset=rest, training=training.first(kept))


def _rows(
    bench: Bench,
    subject: Subject,
    methods: Mapping[str, str],
    section: str,
    *,
    adversarial: bool = False,
) -> list[Row]:
    """Train a network for each method, and attack it: white box where adversarially trained."""
    rows: list[Row] = []
    surrogate = None if adversarial else bench.surrogate(subject)
    for spec, title in methods.items():
        network = bench.trained(subject, defense=spec, adversarial=adversarial)
        if surrogate is None:
            records = white_box_records(bench, subject, network, spec)
        else:
            records = black_box_records(bench, subject, network, spec, surrogate)
        rows += [Row.from_record(r, section, title, attack_key(r.attack)) for r in records]
    return rows


def _scores(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """Return the accuracy of each method, clean and attacked."""
    clean, attacked = (
        {row.method: row.mean.value for row in rows if row.attack == attack}
        for attack in (CLEAN, PGD_BLACK)
    )
    return {method: (clean[method], attacked[method]) for method in clean}


def _rival(scores: Mapping[str, tuple[float, float]], method: str, denoisers: Sequence[str]) -> str:
    """Return the plain denoising that `method` has to beat."""
    able = [name for name in denoisers if scores[name][0] >= scores[method][0]]
    if able:
        return max(able, key=lambda name: scores[name][1])
    return max(denoisers, key=lambda name: scores[name][0])


def _told(clean: float, attacked: float) -> str:
    return f"{100 * clean:.1f} % clean, {100 * attacked:.1f} % under {PGD_BLACK}"
