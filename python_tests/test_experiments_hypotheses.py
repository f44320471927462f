"""Hypotheses: one change at a time, each a network of its own."""

from __future__ import annotations

import dataclasses

from evaluation_tools import numbers
from experiment_tools import TINY, make_bench, make_subject

from splic_ext.attacks import BPDA, PGD
from splic_ext.evaluation import evaluate
from splic_ext.experiments.hypotheses import BPDA_WHITE, PGD_BLACK, VARIATIONS, hypotheses


def test_hypotheses():
    """Two of the variations against evaluations of their own; all of them are there."""
    budget = dataclasses.replace(TINY, images=12, attacked=4, draws=2)
    bench = make_bench("hypotheses", make_subject("svhn"), budget=budget)
    outcome = hypotheses(bench)
    rows = {(row.section, row.method, row.attack): row for row in outcome.rows}
    for variation in VARIATIONS:
        for attack in ("clean", PGD_BLACK, BPDA_WHITE):
            assert ("digits", variation.title, attack) in rows
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
    surrogates = [r for r in outcome.rows if r.section == "digits, surrogates of the black box"]
    assert len({row.method for row in surrogates}) == 3
    assert len({row.model.sha256 for row in surrogates}) == 1, "the base network is defended"
    half = rows["digits", "half the full rank", "clean"]
    assert "rank=4" in half.defense, "of 8 x 8 images"
