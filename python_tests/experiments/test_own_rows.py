"""Defences that a user brings to the paper's tables: rows of their own, resumed by their code."""

from __future__ import annotations

import dataclasses
import json

import pytest
from helpers.evaluation import fit_digits, no_work, numbers, part_times
from helpers.experiments import TINY, make_bench, make_subject

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

from splic_ext.attacks import PGD  # noqa: E402
from splic_ext.defenses import Defense, register_defense, registry  # noqa: E402
from splic_ext.evaluation import evaluate  # noqa: E402
from splic_ext.experiments import (  # noqa: E402
    EXPERIMENTS,
    ExperimentResult,
    reproduce,
    reproduce_all,
)
from splic_ext.experiments.figures import filters  # noqa: E402
from splic_ext.experiments.results.keys import PGD_BLACK, WORST  # noqa: E402
from splic_ext.experiments.tables import ranking, trained  # noqa: E402
from splic_ext.runs.fingerprints import fingerprint_weights  # noqa: E402

#: A network learns nothing: it is which one it is that counts.
RECIPE = dataclasses.replace(
    TINY.recipes["digits"], images=64, epochs=1, adversarial_images=32, adversarial_epochs=1
)
BUDGET = dataclasses.replace(
    TINY, recipes={"digits": RECIPE}, images=6, attacked=3, slow_images=1, draws=2, steps=1, eot=1
)
FILE = """
from torch import nn

class Blur(nn.Module):
    def __init__(self, size=3):
        super().__init__()
        self.size = size

    def forward(self, images):
        return nn.functional.avg_pool2d(images, self.size, 1, self.size // 2)
"""
TAKEN = {"table1", "table2", "table3", "table4", "figure7", "frontier", "ranking"}


class Blur(Defense):
    def defend(self, images, index):
        return nn.functional.avg_pool2d(images, 3, 1, 1)


@pytest.fixture(scope="module")
def network():
    return fit_digits()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def networks():
    """Shared by the experiments of this module."""
    return {}


def run(name, networks, defenses, **given):
    bench = make_bench(name, budget=BUDGET, networks=networks, defenses=defenses, **given)
    return bench, EXPERIMENTS[name].run(bench)


def of(rows, method):
    return {row.attack: row for row in rows if row.method == method}


def test_which_experiments_take_them():
    assert {name for name, one in EXPERIMENTS.items() if one.own is not None} == TAKEN


@pytest.mark.parametrize("form", ["object", "module", "text", "registered"])
def test_a_row_beside_those_of_the_paper(network, mine, monkeypatch, form):
    """Its numbers are those of an evaluation; the others stay as they are."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    register_defense("my-blur", nn.AvgPool2d)
    given = {
        "object": {"mine": Blur()},
        "module": {"mine": nn.AvgPool2d(3, 1, 1)},
        "text": ["mine.py:Blur:size=3"],
        "registered": ["my-blur:kernel_size=3,stride=1,padding=1"],
    }[form]
    subject = make_subject("svhn", network)
    options = {"draws": 2, "limit": 6, "attacks": ["pgd"], "progress": False}
    result = reproduce("table4", [subject], defenses=given, **options)
    plain = reproduce("table4", [subject], **options)
    (name,) = given
    rows = of(result.rows, name)
    assert list(rows) == ["clean", "PGD"]
    assert numbers(row for row in result.rows if row.method != name) == numbers(plain.rows)
    assert all(row.paper is None for row in rows.values())
    expected = evaluate(
        network, subject.dataset, defenses=given, attacks=["pgd"], draws=2, limit=6, progress=False
    )
    assert numbers(rows.values()) == numbers(expected.records)
    assert rows["PGD"].defense == expected.records[0].defense_repr
    (note,) = set(result.notes) - set(plain.notes)
    assert note.startswith(f"{name}: a defence that was given, code and parameters of SHA-256 ")
    assert f"| {name} |" in result.to_markdown()


def test_other_code_makes_other_parts(network, mine):
    subject, out = make_subject("svhn", network), mine.parent / "out"

    def made():
        return reproduce(
            "table4", [subject], defenses=["mine.py:Blur"], draws=1, limit=4, attacks=["fgsm"],
            output=out, progress=False,
        )  # fmt: skip

    first, before = made(), part_times(out)
    assert ExperimentResult.from_json((out / "table4.json").read_text()) == first
    again = made()
    assert (numbers(again.rows), part_times(out)) == (numbers(first.rows), before)
    assert no_work(out)
    mine.write_text(FILE.replace("return nn.", "return 1 - nn."))
    other = made()
    assert before.items() < part_times(out).items()
    assert numbers(of(other.rows, "mine.py:Blur").values()) != numbers(
        of(first.rows, "mine.py:Blur").values()
    )
    assert numbers(of(other.rows, "no defence").values()) == numbers(
        of(first.rows, "no defence").values()
    )
    assert other.notes != first.notes, "the record tells which code it was"


def test_a_network_is_trained_for_each_code(mine, tmp_path):
    """And kept: the same code finds it again, in another run."""
    found = []
    for text in (FILE, FILE.replace("return nn.", "return 1 - nn."), FILE):
        mine.write_text(text)
        bench = make_bench("table1", budget=BUDGET, defenses=["mine.py:Blur"], output=tmp_path)
        network = bench.trained(bench.subjects[0], defense="mine.py:Blur", epochs=1)
        assert "digits/train behind mine.py:Blur, seed 0" in network.note
        found.append({path.parent.name for path in tmp_path.glob("work/networks/*/training.json")})
    assert [len(names) for names in found] == [1, 2, 2]
    record = json.loads(next(tmp_path.glob("work/networks/*/training.json")).read_text())
    assert "Blur" in record["defense_repr"]


def only_theirs(monkeypatch):
    """Leave out the rows of the paper, which other tests have."""
    for module, name in ((trained, "BLACK_BOX"), (trained, "WHITE_BOX"), (filters, "FILTERS")):
        monkeypatch.setattr(module, name, ())
    for name in ("CANDIDATES", "STRENGTHS"):
        monkeypatch.setattr(ranking, name, {"smoke": getattr(ranking, name)["smoke"][:1]})
    monkeypatch.setattr(ranking, "ESTIMATIONS", {"smoke": ()})


def test_table1(networks, monkeypatch):
    only_theirs(monkeypatch)
    bench, outcome = run("table1", networks, {"mine": Blur()}, attacks=["pgd"])
    rows, subject = of(outcome.rows, "mine"), bench.subjects[0]
    network = bench.trained(subject, defense="mine")
    expected = evaluate(
        network.model, subject.dataset, defenses={"mine": Blur()}, attacks={"PGD": PGD()},
        scenario="black", surrogate=bench.surrogate(subject).model, draws=2, limit=6,
        progress=False,
    )  # fmt: skip
    assert numbers(rows.values()) == numbers(expected.records)
    assert rows["PGD"].model.sha256 != fingerprint_weights(bench.trained(subject).model)


class Rounded(Defense):
    def defend(self, images, index):
        return (4 * images).round() / 4


def test_table2(networks, monkeypatch):
    """Trained plainly and adversarially, attacked by the gradients that lead anywhere."""
    only_theirs(monkeypatch)
    bench, outcome = run("table2", networks, {"mine": Blur(), "rounded": Rounded()})
    for method in ("mine", "mine, adversarial training"):
        assert list(of(outcome.rows, method)) == [
            "clean", "BPDA", WORST, "past it", "through it"
        ]  # fmt: skip
    for method in ("rounded", "rounded, adversarial training"):
        assert list(of(outcome.rows, method)) == ["clean", "BPDA", WORST, "past it"]
    assert "rounded: the gradient exact is left out: its derivative is 0" in bench.notes
    assert sum("attacked by" in note and "behind mine" in note for note in bench.notes) == 1


def test_figure7(networks, monkeypatch):
    only_theirs(monkeypatch)
    _, outcome = run("figure7", networks, {"mine": Blur()}, attacks=["fgsm"])
    assert list(of(outcome.rows, "mine")) == ["clean", "FGSM"]
    assert {point.label for point in outcome.points if point.series == "mine"} == {"clean", "FGSM"}


def test_ranking(networks, monkeypatch):
    """It is no candidate: it stands beside the peers, on test images."""
    only_theirs(monkeypatch)
    _, outcome = run("ranking", networks, {"mine": Blur()})
    mine = {row.section for row in outcome.rows if row.method == "mine"}
    assert mine == {"digits, trained", "digits, trained adversarially"}
    rows = [row for row in outcome.rows if row.section == "digits, trained"]
    assert list(of(rows, "mine")) == ["clean", PGD_BLACK]


def test_all_give_them_to_those_that_take_them(monkeypatch):
    prepared = {}

    def keep(name, subjects, given, *, defenses, **arguments):
        prepared[name] = list(defenses)

    monkeypatch.setattr("splic_ext.experiments.runner._prepare", keep)
    reproduce_all([make_subject()], budget=BUDGET, defenses={"mine": Blur()})
    assert {name for name, given in prepared.items() if given == ["mine"]} == TAKEN
    assert {name for name, given in prepared.items() if not given} == set(EXPERIMENTS) - TAKEN


class Shrunk(nn.Module):
    def forward(self, images):
        return images[..., 1:]


class Stubborn(Rounded):
    gradients = ("exact",)


@pytest.mark.parametrize(
    ("name", "defenses", "error", "message"),
    [
        ("figure4", [Blur()], ValueError, "`defenses` are for table1, table2, table3, table4, fi"),
        ("hypotheses", ["jpeg"], ValueError, "ranking, got them for hypotheses; leave them out"),
        ("table3", ["splic"], ValueError, "`defenses` of table3 must be others than its own, got "),
        ("table2", {"menet": Blur()}, ValueError, "than its own, got 'menet'; leave it out, or g"),
        ("table1", {"SPLIC": Blur()}, ValueError, "than its own, got 'SPLIC'; leave it out, or g"),
        ("ranking", ["tv:weight=0.1"], ValueError, "of ranking must be others than its own"),
        ("table3", [Shrunk()], ValueError, "`Shrunk` must return images of the shape that it got"),
        ("table3", ["no.py:X"], ValueError, "the file 'no.py' of a defence cannot be read"),
        ("table3", [Blur], TypeError, "`defenses` must hold texts or Defense objects, got"),
        ("table3", 3, TypeError, "`defenses` must be a list or a dict, got int"),
        ("table3", ["jpeg", "jpeg"], ValueError, "`defenses` has 'jpeg' twice"),
        ("table2", [Stubborn()], ValueError,
         "`Stubborn` must have the gradient 'identity' in table2, which attacks by BPDA, got exa"),
    ],
)  # fmt: skip
def test_refused_before_any_work(network, tmp_path, name, defenses, error, message):
    with pytest.raises(error, match=message):
        reproduce(
            name, [make_subject("digits", network)], budget=BUDGET, defenses=defenses,
            output=tmp_path / "out", progress=False,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_without_the_identity_where_nothing_is_attacked_through_it(network):
    result = reproduce(
        "table3", [make_subject("digits", network)], budget=BUDGET, attacks=["fgsm"],
        defenses={"stubborn": Stubborn()}, progress=False,
    )  # fmt: skip
    assert list(of(result.rows, "stubborn")) == ["clean", "FGSM"]
