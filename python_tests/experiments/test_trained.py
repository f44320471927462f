"""Tables 1 and 2, figures 6, 7 and 9 to 11: networks that are trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.evaluation import numbers
from helpers.experiments import TINY, make_bench, make_subject

from splic_ext.defenses import defense_from_spec
from splic_ext.evaluation import evaluate
from splic_ext.experiments.bench import WEAK_NOTE
from splic_ext.experiments.figures.features import figure10, last_features
from splic_ext.experiments.figures.filters import FILTERS, figure7
from splic_ext.experiments.figures.sweeps import SHARES, figure6, figure9, figure11
from splic_ext.experiments.results.keys import GRADIENTS, WORST
from splic_ext.experiments.tables import paper
from splic_ext.experiments.tables.trained import (
    BLACK_BOX,
    WHITE_BOX,
    table1,
    table2,
)

torch = pytest.importorskip("torch")
FEW = dataclasses.replace(TINY, images=12, attacked=4, slow_images=1, draws=2)


@pytest.fixture(scope="module")
def networks():
    """Shared by the experiments of this module, as those of a run are."""
    return {}


def run(experiment, name, kind, networks, budget=FEW, **given):
    bench = make_bench(name, make_subject(kind), budget=budget, networks=networks, **given)
    return bench, experiment(bench)


@pytest.mark.parametrize(
    ("methods", "printed"), [(BLACK_BOX, paper.TABLE1), (WHITE_BOX, paper.TABLE2)]
)
def test_methods(methods, printed):
    titles = [method.title for method in methods]
    assert len(set(titles)) == len(titles)
    for method in methods:
        defense_from_spec("usvt" if method.defense == "menet" else method.defense)
    keys = {method.key for method in methods if method.key}
    assert keys <= {method for _, method, _ in printed}
    quoted = {"thermometer", "tla", "tla-rn", "tla-sa"}
    assert {method for _, method, _ in printed} - keys == quoted & {m for _, m, _ in printed}


def test_table1(networks):
    """Adversarial images of the surrogate; numbers are those of an evaluation of each network."""
    bench, outcome = run(table1, "table1", "cifar10", networks)
    rows = {(row.method, row.attack): row for row in outcome.rows}
    assert len(rows) == len(outcome.rows) == (len(BLACK_BOX) + 1) * 4
    assert rows["SPLIC", "PGD"].paper == 92.2
    assert rows["adversarial training", "CW"].paper == 78.7
    assert rows["total variation, 0.1", "PGD"].paper is None
    assert {n for row in outcome.rows for n in [row.mean.n] if row.attack == "CW"} == {1}
    assert {row.mean.n for row in outcome.rows if row.attack != "CW"} == {12}
    surrogate = bench.surrogate(bench.subjects[0])
    network = bench.trained(bench.subjects[0], defense="splic")
    expected = evaluate(
        network.model, bench.subjects[0].dataset, defenses=["splic"], attacks=["pgd"],
        scenario="black", surrogate=surrogate.model, draws=2, limit=12, progress=False,
    )  # fmt: skip
    found = [rows["SPLIC", "clean"], rows["SPLIC", "PGD"]]
    assert numbers(found) == numbers(expected.records)
    assert found[1].scenario == "black"
    (own,) = (row for row in outcome.rows if "surrogate" in row.method and row.attack == "PGD")
    assert own.scenario == "gray"
    assert sum("trained for" in note for note in bench.notes) == len(BLACK_BOX) + 1
    assert any("CW: 3 iterations in place of 1000" in note for note in bench.notes)


def test_some_attacks(networks):
    _, outcome = run(table1, "table1", "digits", networks, attacks=["fgsm"])
    assert {row.attack for row in outcome.rows} == {"clean", "FGSM"}
    assert all(row.paper is None for row in outcome.rows)


def test_table2(networks):
    _, outcome = run(table2, "table2", "svhn", networks)
    rows = {(row.method, row.attack): row for row in outcome.rows}
    assert list(dict.fromkeys(row.attack for row in outcome.rows)) == [
        "clean", "BPDA", WORST, *GRADIENTS.values(),
    ]  # fmt: skip
    for method in WHITE_BOX:
        attacks = [row for row in outcome.rows if row.method == method.title]
        worst = rows[method.title, WORST].mean.value
        assert worst <= min(row.mean.value for row in attacks if row.attack != "clean")
        assert {row.scenario for row in attacks} == {"white"}
        assert {row.mean.n for row in attacks} == {4}
    assert ("SPLIC", GRADIENTS["surrogate"]) in rows
    assert ("no defence", GRADIENTS["surrogate"]) not in rows
    assert rows["SPLIC, adversarial training", "BPDA"].paper == 80.8
    assert rows["SPLIC", "BPDA"].paper is None
    assert rows["adversarial training", "BPDA"].paper == 52.5
    assert rows["SPLIC", "BPDA"].parameters == rows["no defence", "BPDA"].parameters
    assert '"steps": 7' in rows["SPLIC", "BPDA"].parameters


def test_figure7(networks):
    _, outcome = run(figure7, "figure7", "digits", networks)
    assert {row.method for row in outcome.rows} == {method.title for method in FILTERS}
    assert [p.label for p in outcome.points if p.series == "SPLIC"] == [
        "clean", "FGSM", "PGD", "CW", "BPDA", WORST,
    ]  # fmt: skip
    assert {point.kind for point in outcome.points} == {"bar"}
    for row, point in zip(outcome.rows, outcome.points, strict=True):
        assert point.y == pytest.approx(100 * row.mean.value)
        assert (point.label, point.series) == (row.attack, row.method)


@pytest.mark.parametrize(
    ("experiment", "name", "x_name", "values"),
    [(figure6, "figure6", "rank", (2, 8)), (figure9, "figure9", "lambda", (0.0, 0.02))],
)
def test_sweeps_have_two_readings(networks, experiment, name, x_name, values):
    bench, outcome = run(experiment, name, "digits", networks)
    sections = {"digits, without training": "PGD, gray box", "digits, trained": "BPDA, white box"}
    assert {point.section for point in outcome.points} == set(sections)
    for section, attack in sections.items():
        points = [point for point in outcome.points if point.section == section]
        assert {point.series for point in points} == {"clean", attack}
        assert {point.x for point in points} == set(values)
        assert {point.x_name for point in points} == {x_name}
    text = {"rank": "rank=8", "lambda": "tv_weight=0.0"}[x_name]
    row = outcome.rows[0]
    assert row.scenario == "gray"
    assert text in row.defense
    trained = [note for note in bench.notes if "behind splic" in note]
    assert len(trained) == len(values), "a network for each value"
    assert WEAK_NOTE in bench.notes, "BPDA alone, as the paper has it"


def test_figure11(networks):
    _, outcome = run(figure11, "figure11", "digits", networks)
    assert {point.series for point in outcome.points} == {
        "SPLIC", "USVT", "Soft-Impute", "nuclear norm",
    }  # fmt: skip
    assert {point.x for point in outcome.points} == set(SHARES["smoke"])
    assert all("anchor_fraction=0.3" in r.defense for r in outcome.rows[::2])


def test_figure10(networks):
    budget = dataclasses.replace(FEW, images=40)
    bench, outcome = run(figure10, "figure10", "digits", networks, budget)
    clouds = [point for point in outcome.points if point.kind == "scatter"]
    assert len(clouds) == 4 * 40
    numbers_ = {(p.section, p.series, p.label): p.y for p in outcome.points if p.kind == "bar"}
    assert len(numbers_) == 8
    # By hand: the nearest images of each clean one, without a defence.
    subject = bench.subjects[0]
    data = subject.dataset.first(40)
    model = bench.trained(subject).model
    features = last_features(model, torch.from_numpy(data.to_float()))
    assert features.shape == (40, 64)
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = data.labels[np.argsort(distances, axis=1)[:, :10]]
    votes = [np.bincount(line, minlength=10).argmax() for line in nearest]
    share = 100 * np.mean(votes == data.labels)
    assert numbers_["digits, neighbours", "without defence", "clean"] == pytest.approx(share)
    assert -1 <= numbers_["digits, silhouette", "SPLIC", "PGD"] <= 1


@pytest.mark.parametrize(
    ("images", "shown", "lacking"),
    [
        (1, set(), {"plane", "neighbours", "silhouette"}),
        (3, set(), {"plane", "neighbours", "silhouette"}),
        (4, {"scatter"}, {"neighbours", "silhouette"}),
        (10, {"scatter"}, {"neighbours", "silhouette"}),
        (11, {"scatter", "neighbours", "silhouette"}, set()),
    ],
)
def test_figure10_of_few_images(networks, images, shown, lacking):
    """The first ten digits are each of a class of its own; what cannot be shown is told."""
    _, outcome = run(figure10, "figure10", "digits", networks, limit=images)
    kinds = {p.section.rpartition(", ")[2] if p.kind == "bar" else p.kind for p in outcome.points}
    assert kinds == shown
    told = [note for note in outcome.notes if ": without the " in note]
    words = ("plane", "neighbours", "silhouette")
    assert {word for note in told for word in words if word in note} == lacking
    assert len(told) == len(lacking)
    assert all(f"got {images}" in note for note in told)


def test_features_need_a_linear_layer():
    with pytest.raises(ValueError, match="`model` must have a linear layer for its features, got"):
        last_features(torch.nn.Flatten(), torch.zeros(1, 1, 2, 2))


def test_features_are_what_the_last_layer_is_given():
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    images = torch.rand(5, 1, 2, 2)
    features = torch.from_numpy(last_features(layers, images))
    assert torch.allclose(layers[2](features), layers(images))
    assert not layers[2]._forward_pre_hooks, "the hook stayed"
