"""All experiments: their names, what is refused before any work, sharing, defaults."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
from helpers.evaluation import make_network
from helpers.experiments import TINY, make_bench, make_subject

from splic_ext.errors import MissingExtraError
from splic_ext.experiments import (
    BUDGETS,
    EXPERIMENTS,
    ExperimentResult,
    reproduce,
    reproduce_all,
    runner,
)
from splic_ext.experiments.bench import Outcome
from splic_ext.experiments.tables import paper

#: As TINY, with experiments on the data of another scale.
LARGER = dataclasses.replace(TINY, scale="cpu")
TITLES = [*(f"table{i}" for i in range(1, 5)), *(f"figure{i}" for i in range(3, 13))]


def test_every_table_and_figure_is_there():
    assert list(EXPERIMENTS) == [*TITLES, "frontier", "hypotheses", "ranking"]
    assert set(paper.TABLES) == set(TITLES[:4])
    assert set(paper.FIGURES) == set(TITLES[4:])


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("table1", {"budget": "small"}, ValueError, "`budget` must be one of smoke, cpu, gpu, or"),
        ("table1", {"budget": 3}, ValueError, "`budget` must be one of smoke, cpu, gpu, or"),
        ("figure4", {"attacks": ["pgd"]}, ValueError, "`attacks` is for table1, table3, table4, "),
        ("table1", {"attacks": ["bpda"]}, ValueError, "`attacks` of table1 must be among fgsm, "),
        ("figure6", {"subjects": [("digits", None)]}, ValueError, "`training` of digits/test mus"),
        ("table1", {"subjects": [("digits", 2)]}, ValueError,
         "`training` of digits/test must have other images than the test, got 60 of its 60; give"),
        ("table3", {"subjects": []}, ValueError, "`subjects` of table3 must not be empty"),
        ("table3", {"subjects": None, "budget": "cpu"}, ValueError, "must not be empty"),
        ("table1", {"subjects": [("svhn", 1)], "budget": "smoke"}, ValueError,
         "the budget 'smoke' has no networks for svhn, only for digits, shapes; choose another"),
        ("figure5", {"draws": 0}, ValueError, "`draws` must be an integer in"),
        ("figure5", {"seed": -1}, ValueError, "`seed` must be an integer in"),
        ("figure5", {"output": __file__}, ValueError, "`output` must be a folder, got the file"),
    ],
)  # fmt: skip
def test_refused_before_any_work(monkeypatch, name, changes, error, message):
    given = {"subjects": [("digits", 1)], "budget": TINY, **changes}
    if given["subjects"]:
        given["subjects"] = [
            dataclasses.replace(
                make_subject(kind, make_network()),
                training=(None, make_subject().training, make_subject().dataset)[training or 0],
            )
            for kind, training in given["subjects"]
        ]
    untouched = dataclasses.replace(EXPERIMENTS[name], run=None)
    monkeypatch.setattr(runner, "EXPERIMENTS", {**EXPERIMENTS, name: untouched})
    with pytest.raises(error, match=message):
        reproduce(name, given.pop("subjects"), **given)


@pytest.mark.parametrize(("module", "name"), [("matplotlib", "figure4"), ("sklearn", "figure10")])
def test_missing_packages_are_told_of_before_any_work(monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "sklearn":
        monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(MissingExtraError, match="report" if module == "matplotlib" else "data"):
        make_bench(name)


def test_defaults_come_from_the_budget():
    """Tables 3 and 4 take all images and the paper's attack where no budget is named."""
    for name, budget, expected in (
        ("table3", None, (None, 500, 10, 1000)),
        ("figure4", None, (500, 50, 4, 200)),
        ("table3", BUDGETS["cpu"], (500, 50, 4, 200)),
        ("table4", TINY, (30, 2, 2, 3)),
    ):
        bench = make_bench(name, make_subject("svhn"), budget=budget)
        settings = bench.settings
        found = (settings.images, settings.slow_images, settings.draws, settings.cw_iterations)
        assert found == expected
    settings = make_bench(
        "table3", budget=BUDGETS["cpu"], limit=20, slow_limit=30, draws=7
    ).settings
    assert (settings.images, settings.slow_images, settings.draws) == (20, 20, 7)


def test_smoke_takes_shapes(tmp_path):
    result = reproduce("figure12", budget="smoke", output=tmp_path, progress=False)
    assert result.budget == "smoke"
    assert {point.dataset for point in result.points} == {"shapes"}
    assert result.datasets[0].images == BUDGETS["smoke"].images
    text = (tmp_path / "figure12.json").read_text()
    assert ExperimentResult.from_json(text) == result
    assert json.loads(text)["provenance"]["command"] is None


def run_nothing(monkeypatch, seen):
    """As if every experiment were done at once."""

    def keep(bench):
        seen.append((bench.name, [subject.kind for subject in bench.subjects], bench.networks))
        return Outcome()

    made = {name: dataclasses.replace(one, run=keep) for name, one in EXPERIMENTS.items()}
    monkeypatch.setattr(runner, "EXPERIMENTS", made)


def test_all_of_them(monkeypatch):
    seen = []
    run_nothing(monkeypatch, seen)
    subjects = [
        make_subject("cifar10", name="cifar10/test"),
        make_subject("svhn", name="svhn/test"),
    ]
    results = reproduce_all(subjects, budget=LARGER, progress=False)
    assert not seen, "an experiment is run when its result is asked for"
    assert [result.name for result in results] == list(EXPERIMENTS)
    kinds = {name: found for name, found, _ in seen}
    assert kinds["table4"] == kinds["hypotheses"] == kinds["ranking"] == ["svhn"]
    assert kinds["table1"] == ["cifar10", "svhn"]
    assert len({id(networks) for *_, networks in seen}) == 1, "networks are shared"


def test_experiments_without_images_are_left_out(monkeypatch):
    seen = []
    run_nothing(monkeypatch, seen)
    subjects = [make_subject("cifar10")]
    names = [result.name for result in reproduce_all(subjects, budget=LARGER, progress=False)]
    assert set(EXPERIMENTS) - set(names) == {"table4", "hypotheses", "ranking"}


def test_all_is_checked_before_any_work(monkeypatch):
    seen = []
    run_nothing(monkeypatch, seen)
    lacking = dataclasses.replace(make_subject(), training=None)
    for subjects, message in (
        ([lacking], "`training` of digits/test must be a data set"),
        ([], "`subjects` of table1 must not be empty"),
        (3, "`subjects` must be a list"),
        ([3], "`subjects` must hold Subject objects"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            reproduce_all(subjects, budget=TINY)
    assert not seen
