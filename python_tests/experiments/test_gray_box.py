"""The paper's tables made anew: what they are, rows, limits, files, refusals."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise

import pytest
from helpers.evaluation import fit_digits, make_network, no_work, numbers, part_times

pytest.importorskip("foolbox", reason="foolbox is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from splic_ext.data import load_dataset
from splic_ext.defenses import defense_from_spec
from splic_ext.evaluation import evaluate
from splic_ext.experiments import (
    TABLES,
    ExperimentResult,
    Subject,
    bench,
    reproduce,
)
from splic_ext.experiments.tables import gray_box, paper
from splic_ext.models import build_model

DIGITS = load_dataset("digits", limit=8)
#: arXiv:2103.02781, in the order FGSM, PGD of CIFAR-10, FGSM, PGD of SVHN.
TABLE3 = {
    "usvt": (12.1, 12.1, 36.7, 34.2),
    "soft-impute": (30.1, 27.3, 56.1, 55.6),
    "nuclear-norm": (31.2, 31.3, 55.4, 54.5),
    "splic": (40.9, 43.6, 59.8, 63.6),
}
#: In the order clean, FGSM, PGD, CW.
TABLE4 = {"srf": (89.6, 57.0, 54.6, 83.5), "splic": (95.9, 59.8, 63.6, 86.0)}


@pytest.fixture(scope="module")
def network():
    return fit_digits()


# What the tables are


@pytest.mark.parametrize("name", TABLES)
def test_every_method_is_a_defence(name):
    table = TABLES[name]
    for spec in table.methods:
        defense_from_spec(spec)
    titles = list(table.methods.values())
    assert len(set(titles)) == len(titles)
    assert titles[0] == "no defence"
    assert {gray_box.SAME.get(method, method) for method in table.methods} >= {
        method for _, method, _ in table.printed
    }
    assert {kind for kind, _, _ in table.printed} <= set(table.kinds)
    assert {attack for _, _, attack in table.printed} <= {"clean", *table.attacks}


def test_numbers_of_the_paper():
    places = [("cifar10", "fgsm"), ("cifar10", "pgd"), ("svhn", "fgsm"), ("svhn", "pgd")]
    assert dict(paper.TABLE3) == {
        (kind, method, attack): value
        for method, values in TABLE3.items()
        for (kind, attack), value in zip(places, values, strict=True)
    }
    assert dict(paper.TABLE4) == {
        ("svhn", method, attack): value
        for method, values in TABLE4.items()
        for attack, value in zip(("clean", "fgsm", "pgd", "cw"), values, strict=True)
    }
    assert TABLES["table3"].printed is paper.TABLE3
    assert TABLES["table4"].printed is paper.TABLE4
    assert not TABLES["frontier"].printed


def test_the_frontier_has_strengths_in_order():
    """SPLIC and two plain filters, each from weak to strong."""
    specs = list(TABLES["frontier"].methods)
    for start in ("tv:weight=", "gaussian:sigma=", "splic:recommended,tv_weight="):
        alone = [spec for spec in specs if spec.startswith(start) and spec.count("=") == 1]
        strengths = [float(spec.rpartition("=")[2]) for spec in alone]
        assert len(strengths) >= 4
        assert all(a < b for a, b in pairwise(strengths))
    both = defense_from_spec(
        next(spec for spec in specs if spec.startswith("splic") and "+" in spec)
    )
    assert [type(part).__name__ for part in both.parts] == ["SPLIC", "TotalVariation"]


# Gray box


@pytest.fixture(scope="module")
def table4(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table4")
    return folder, reproduce("table4", [Subject("svhn", DIGITS, network)], **options(folder))


def options(folder=None):
    return {
        "draws": 3,
        "limit": 5,
        "slow_limit": 2,
        "batch_size": 3,
        "output": folder,
        "progress": False,
        "command": "splic-ext reproduce",
    }


def test_rows_of_a_table(table4):
    _, result = table4
    attacks = ["clean", "FGSM", "PGD", "CW"]
    found = {(row.attack, row.method) for row in result.rows}
    assert found == {(a, m) for a in attacks for m in TABLES["table4"].methods.values()}
    assert len(result.rows) == len(found), "clean images of the slow attacks are left out"
    assert {row.mean.n for row in result.rows if row.attack != "CW"} == {5}
    assert {row.mean.n for row in result.rows if row.attack == "CW"} == {2}
    assert {row.section for row in result.rows} == {"digits"}
    assert {row.scenario for row in result.rows} == {"gray"}
    assert {row.draws for row in result.select(method="total variation, 0.1")} == {1}
    assert {row.draws for row in result.select(method="SRF (lambda 0)")} == {3}
    assert result.provenance.command == "splic-ext reproduce"
    assert result.notes == ("seed 0",)
    assert json.loads(result.select(attack="CW")[0].parameters)["confidence"] == 20
    assert "digits, Sequential; CW: the first 2." in result.to_markdown()


def test_the_paper_beside_our_rows(table4):
    _, result = table4
    for method, printed in {
        "no defence": (None,) * 4,
        "SRF (lambda 0)": TABLE4["srf"],
        "SPLIC, paper's constants": TABLE4["splic"],
        "SPLIC, recommended": TABLE4["splic"],
        "total variation, 0.1": (None,) * 4,
    }.items():
        assert tuple(row.paper for row in result.select(method=method)) == printed


def test_rows_are_those_of_an_evaluation(table4, network):
    _, result = table4
    report = evaluate(
        network, DIGITS, defenses=["identity", "splic"], attacks=["fgsm", "pgd"], draws=3,
        limit=5, batch_size=3, progress=False,
    )  # fmt: skip
    for spec, method in (("identity", "no defence"), ("splic", "SPLIC, paper's constants")):
        rows = result.select(method=method)[:3]
        assert numbers(rows) == numbers(report.select(defense=spec))
        assert [row.defense for row in rows] == [report.select(defense=spec)[0].defense_repr] * 3
    assert any(row.mean != row.all_draws for row in rows), "so that they tell the columns apart"
    clean, fgsm, pgd = result.select(method="no defence")[:3]
    assert clean.mean.value > 0.5
    assert clean.parameters == ""
    assert json.loads(fgsm.parameters)["epsilon"] == 8 / 255
    assert json.loads(pgd.parameters)["steps"] == 7


def test_files_of_a_table(table4):
    folder, result = table4
    assert ExperimentResult.from_json((folder / "table4.json").read_text()) == result
    assert (folder / "table4.md").read_text() == result.to_markdown()
    assert (folder / "table4.csv").read_text() == result.to_csv()
    assert {path.name for path in folder.iterdir()} == {
        "table4.json", "table4.csv", "table4.md", "work",
    }  # fmt: skip


def test_a_table_is_taken_up_again(table4, network):
    folder, result = table4
    before = part_times(folder)
    again = reproduce("table4", [Subject("svhn", DIGITS, network)], **options(folder))
    assert numbers(again.rows) == numbers(result.rows)
    assert no_work(folder)
    assert part_times(folder) == before


def test_sections_and_some_of_the_attacks(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subjects = [
        Subject("svhn", DIGITS, network, "mine"),
        Subject("cifar10", dataclasses.replace(DIGITS, name="other/train"), network),
    ]
    result = reproduce("table3", subjects, draws=2, limit=2, attacks=["fgsm"], progress=False)
    assert [row.attack for row in result.select(section="other", method="USVT")] == [
        "clean", "FGSM",
    ]  # fmt: skip
    usvt = {
        s: result.select(section=s, method="USVT", attack="FGSM")[0] for s in ("digits", "other")
    }
    assert [row.paper for row in usvt.values()] == [36.7, 12.1]
    assert [row.model.name for row in usvt.values()] == ["mine", "Sequential"]
    assert [row.dataset.split for row in usvt.values()] == ["test", "train"]
    assert {(row.draws, row.mean.n) for row in usvt.values()} == {(2, 2)}
    assert not list(tmp_path.iterdir()), "nothing is written without an output"


@pytest.mark.parametrize(
    ("attacks", "limit", "slow_limit", "expected"),
    [
        (["pgd"], None, 1, {"clean": 1, "PGD": 1}),
        (["pgd", "fgsm"], 2, 5, {"clean": 2, "FGSM": 2, "PGD": 2}),
        (["pgd", "fgsm"], 5, 2, {"clean": 5, "FGSM": 5, "PGD": 2}),
        (["pgd", "fgsm"], 2, None, {"clean": 2, "FGSM": 2, "PGD": 2}),
        ([], None, 1, {"clean": 8}),
        ([], 100, 1, {"clean": 8}),
    ],
)
def test_limits(monkeypatch, network, attacks, limit, slow_limit, expected):
    """As if PGD took as long as CW; the images are too few for a limit of 100."""
    monkeypatch.setattr(bench, "SLOW", ("pgd",))
    result = reproduce(
        "table4", [Subject("svhn", DIGITS, network)], draws=1, limit=limit,
        slow_limit=slow_limit, attacks=attacks, progress=False,
    )  # fmt: skip
    rows = result.select(method="no defence")
    assert {row.attack: row.mean.n for row in rows} == expected
    assert len(rows) == len(expected)


@pytest.mark.parametrize(
    ("name", "subjects", "changes", "error", "message"),
    [
        ("table5", None, {}, ValueError, "`name` must be one of table1, .*, got 'table5'"),
        (["table3"], None, {}, ValueError, "`name` must be one of table1, .*, got"),
        ("table3", [], {}, ValueError, "`subjects` of table3 must not be empty; .* cifar10 or sv"),
        ("table3", [Subject("svhn", DIGITS)], {}, ValueError, "`training` of digits/test must"),
        ("table3", 1, {}, TypeError, "`subjects` must be a list, got int; put a single one into"),
        ("table3", [1], {}, TypeError, "`subjects` must hold Subject objects, got int; make one"),
        ("table3", ["svhn", "svhn"], {}, ValueError, "got 'digits' twice; rename one"),
        ("table4", ["cifar10"], {}, ValueError, "`subjects` of table4 must be of svhn or digits"),
        ("table3", ["mnist"], {}, ValueError, "svhn or digits or shapes, got 'mn"),
        ("table3", None, {"attacks": ["cw"]}, ValueError, "`attacks` of table3 must be among fgsm"),
        ("table3", None, {"attacks": "fgsm"}, ValueError, "`attacks` of table3 must be among fgsm"),
        ("table3", None, {"limit": 0}, ValueError, "`limit` must be an integer in"),
        ("table3", None, {"limit": 2.5}, TypeError, "`limit` must be an integer, got 2.5"),
        ("table3", None, {"slow_limit": 0}, ValueError, "`slow_limit` must be an integer in"),
        ("table3", None, {"slow_limit": "2"}, TypeError, "`slow_limit` must be an integer, got"),
        ("table3", None, {"draws": 0}, ValueError, "`draws` must be an integer in"),
        ("table3", None, {"output": __file__}, ValueError, "`output` must be a folder, got the fi"),
    ],
)  # fmt: skip
def test_refused_tables(name, subjects, changes, error, message):
    model = make_network()
    if subjects is None or isinstance(subjects, list):
        subjects = [
            Subject(kind, DIGITS, model) if isinstance(kind, str) else kind
            for kind in (["svhn"] if subjects is None else subjects)
        ]
    with pytest.raises(error, match=message):
        reproduce(name, subjects, progress=False, **changes)


def test_refused_images_and_networks(network):
    empty = dataclasses.replace(DIGITS, images=DIGITS.images[:0], labels=DIGITS.labels[:0])
    with pytest.raises(ValueError, match="`dataset` must hold an image at least"):
        reproduce("table3", [Subject("svhn", empty, network)])
    with pytest.raises(TypeError, match="`dataset` must be a Dataset, got ndarray"):
        reproduce("table3", [Subject("svhn", DIGITS.images, network)])
    with pytest.raises(ValueError, match="`model` is in train mode"):
        reproduce("table3", [Subject("svhn", DIGITS, build_model("digits_cnn"))])
