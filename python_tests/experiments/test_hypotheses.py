"""Hypotheses: one change at a time, each a network of its own."""

from __future__ import annotations

import dataclasses

from helpers.evaluation import numbers
from helpers.experiments import TINY, make_bench, make_subject

from splic_ext.attacks import BPDA, PGD
from splic_ext.evaluation import evaluate
from splic_ext.experiments.results.keys import BPDA_WHITE, PGD_BLACK
from splic_ext.experiments.tables.hypotheses import VARIATIONS, hypotheses


def test_hypotheses():
    """Two of the variations against evaluations of their own; all of them are there."""
    budget = dataclasses.replace(TINY, images=12, attacked=4, draws=2)
    bench = make_bench("hypotheses", make_subject("svhn"), budget=budget)
    outcome = hypotheses(bench)
    rows = {(row.section, row.method, row.attack): row for row in outcome.rows}
    titles = [v.title for v in VARIATIONS if v.plan.get("architecture") != "other"]
    assert len(titles) == len(VARIATIONS) - 1, "there is one network for digits alone"
    for title in titles:
        for attack in ("clean", PGD_BLACK, BPDA_WHITE):
            assert ("digits", title, attack) in rows
    assert ("digits", "a network of another size", "clean") not in rows
    test_alone = [v.title for v in VARIATIONS if v.test is not None or v.defense == "identity"]
    trained = [rows["digits", t, "clean"].model.sha256 for t in titles if t not in test_alone]
    assert len(trained) == len(set(trained)), "each is a network of its own"
    subject = bench.subjects[0]
    surrogate = bench.surrogate(subject)
    for title, trained, spec in (
        ("SPLIC in the test alone", "identity", "splic"),
        ("mean of 4 masks", "splic:n_masks=4", "splic:n_masks=4"),
    ):
        network = bench.trained(subject, defense=trained)
        black = evaluate(
            network.model, subject.dataset, defenses=[spec], attacks={"x": PGD()}, limit=12,
            scenario="black", surrogate=surrogate.model, draws=2, progress=False,
        ).records[1]  # fmt: skip
        white = evaluate(
            network.model, subject.dataset, defenses=[spec], attacks={"x": BPDA()}, limit=4,
            scenario="white", draws=2, progress=False,
        ).records[1]  # fmt: skip
        found = [rows["digits", title, PGD_BLACK], rows["digits", title, BPDA_WHITE]]
        assert numbers(found) == numbers([black, white])
    crossed = [r for r in outcome.rows if r.section == "digits, surrogates of the black box"]
    by_name = {(row.method, row.attack): row for row in crossed}
    near = "same architecture, another seed (digits_cnn)"
    attacks = ("clean", near, "trained on completed images, another seed (digits_cnn)")
    titles = [v.title for v in VARIATIONS if v.crossed]
    assert len(titles) == 4
    assert list(by_name) == [(title, attack) for title in titles for attack in attacks]
    assert len(crossed) == len(by_name), "clean images come once"
    for title in titles:
        networks = {by_name[title, attack].model.sha256 for attack in attacks}
        assert networks == {rows["digits", title, "clean"].model.sha256}
        # Here no network came with the images, and the surrogate of the other rows is the near one.
        assert numbers([by_name[title, near]]) == numbers([rows["digits", title, PGD_BLACK]])
    half = rows["digits", "half the full rank", "clean"]
    assert "rank=4" in half.defense, "of 8 x 8 images"
