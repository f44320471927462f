"""The ranking: SPLIC chosen on training images, its peers, all trained the same way."""

from __future__ import annotations

import dataclasses

import pytest
from helpers.evaluation import numbers
from helpers.experiments import TINY, make_bench, make_subject

from splic_ext.attacks import PGD
from splic_ext.evaluation import Accuracy, evaluate
from splic_ext.experiments.results.keys import GRADIENTS, PGD_BLACK, WORST
from splic_ext.experiments.tables.ranking import (
    CANDIDATES,
    STRENGTHS,
    _held_out,
    _rival,
    _scores,
    ranking,
)

BUDGET = dataclasses.replace(TINY, images=20, attacked=4, draws=2, steps=1, eot=1)


@pytest.fixture(scope="module")
def ranked():
    bench = make_bench("ranking", make_subject("svhn"), budget=BUDGET)
    return bench, ranking(bench)


def sections(outcome):
    found = {}
    for row in outcome.rows:
        found.setdefault(row.section, {})[row.method, row.attack] = row
    return found


def test_what_is_chosen_is_the_best_on_held_out_images(ranked):
    _, outcome = ranked
    candidates = sections(outcome)["digits, candidates, on held-out training images"]
    own = CANDIDATES[BUDGET.scale]
    denoisers = {f"total variation, {weight:g}" for weight in STRENGTHS[BUDGET.scale]}
    assert {method for method, _ in candidates} == {*own, *denoisers}
    assert {row.dataset.split for row in candidates.values()} == {"train, held out"}
    best = max(own, key=lambda spec: candidates[spec, PGD_BLACK].mean.value)
    assert outcome.notes[0].startswith(f"digits: {best} is chosen, ")
    assert (f"SPLIC as chosen, {best}", "clean") in sections(outcome)["digits, trained"]
    held_out = [row for row in outcome.rows if "held-out" in row.section]
    rival = _rival(_scores(held_out), best, sorted(denoisers))
    assert outcome.notes[1].startswith(f"digits: {rival} is its rival, ")
    assert f"on test images SPLIC as chosen, {best} has " in outcome.notes[2]


def test_held_out_images_are_not_learnt():
    subject = make_subject("svhn")
    part = _held_out(make_bench("ranking", subject), subject)
    most = TINY.recipes["svhn"].images
    assert len(part.training) + len(part.dataset) == min(most, len(subject.training)) == 400
    assert len(part.dataset) == 80
    assert (part.training.images == subject.training.images[:320]).all()
    assert (part.dataset.images == subject.training.images[320:]).all()


def test_all_are_trained_alike_and_in_the_order_of_clean_accuracy(ranked):
    bench, outcome = ranked
    rows = sections(outcome)["digits, trained"]
    clean = [row.mean.value for (_, attack), row in rows.items() if attack == "clean"]
    assert clean == sorted(clean, reverse=True)
    assert len(clean) == len({row.model.sha256 for row in rows.values()})
    subject = bench.subjects[0]
    black = evaluate(
        bench.trained(subject, defense="tv:weight=0.1").model, subject.dataset,
        defenses=["tv:weight=0.1"], attacks={"x": PGD()}, limit=20, scenario="black",
        surrogate=bench.surrogate(subject).model, draws=2, progress=False,
    ).records  # fmt: skip
    found = [rows["total variation, 0.1", attack] for attack in ("clean", PGD_BLACK)]
    assert numbers(found) == numbers(black)


def test_the_rivals_are_trained_adversarially(ranked):
    bench, outcome = ranked
    rows = sections(outcome)["digits, trained adversarially"]
    methods = list(dict.fromkeys(method for method, _ in rows))
    assert len(methods) == 4
    assert methods[0].startswith("SPLIC as chosen")
    assert outcome.notes[1].startswith(f"digits: {methods[1]} is its rival")
    assert methods[2:] == ["ME-Net (USVT)", "no defence"]
    for method in methods:
        assert {attack for name, attack in rows if name == method} >= {
            "clean", "BPDA", WORST, GRADIENTS["identity"],
        }  # fmt: skip
    network = bench.trained(bench.subjects[0], adversarial=True)
    assert network.note in bench.notes
    assert rows["no defence", "clean"].model.sha256 not in {
        row.model.sha256 for row in sections(outcome)["digits, trained"].values()
    }


def make_rows(ranked, accuracies):
    """Rows of these methods: clean, attacked."""
    like = ranked[1].rows[0]
    return [
        dataclasses.replace(
            like, method=method, attack=attack, mean=Accuracy(value, value, value, 20)
        )
        for method, pair in accuracies.items()
        for attack, value in zip(("clean", PGD_BLACK), pair, strict=True)
    ]


@pytest.mark.parametrize(
    ("mine", "rival"),
    [((0.8, 0.5), "b"), ((0.7, 0.5), "c"), ((0.6, 0.5), "a"), ((0.95, 0.9), "b")],
)
def test_the_rival_is_no_less_accurate_on_clean_images(ranked, mine, rival):
    rows = make_rows(ranked, {"x": mine, "a": (0.6, 0.6), "c": (0.7, 0.5), "b": (0.9, 0.3)})
    assert _rival(_scores(rows), "x", ["b", "a", "c"]) == rival
