"""docs/reproduction.md is what its maker makes of the results, and leaves no number out."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")

from helpers.results import CURVE, make_result, make_row

from splic_ext.evaluation import Accuracy, DatasetInfo
from splic_ext.experiments.tables import paper

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "make_reproduction.py"
if not SCRIPT.is_file():
    pytest.skip("the tests run without the scripts beside them", allow_module_level=True)


def load_script():
    spec = importlib.util.spec_from_file_location("make_reproduction", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # where dataclasses look
    spec.loader.exec_module(script)
    return script


script = load_script()
Source, find_results, reproduction_page = (
    script.Source,
    script.find_results,
    script.reproduction_page,
)
CIFAR10 = DatasetInfo("cifar10_test", "test", 4, (3, 8, 8), "da7a")


def made_table(value=0.31, **changes):
    row = make_row(
        "USVT", "PGD", dataset=CIFAR10, mean=Accuracy(value, value - 0.02, value + 0.02, 4),
        paper=12.1,
    )  # fmt: skip
    return make_result(row, **{"name": "table3", **changes})


def lines_of(page, *words):
    return [line for line in page.splitlines() if all(f"| {word} |" in line for word in words)]


@pytest.mark.skipif(
    not (ROOT / "results").is_dir() or not (ROOT / "docs").is_dir(),
    reason="the tests run without results and documentation beside them",
)
def test_the_page_is_up_to_date():
    page = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert page == reproduction_page(find_results(ROOT / "results")), (
        "make it anew: python benchmarks/make_reproduction.py results docs/reproduction.md"
    )


def test_every_number_of_the_paper_has_a_row():
    page = reproduction_page([])
    tables = page.partition("## Figures")[0]
    rows = [line for line in tables.splitlines() if line.startswith(("| CIFAR-10", "| SVHN"))]
    assert len(rows) == sum(len(numbers) for numbers in paper.TABLES.values()) == 71
    assert sum("not implemented" in row for row in rows) == 8 + 3
    assert sum("not run" in row for row in rows) == 71 - 11
    assert page.count("| not run |") == 71 - 11 + len(paper.FIGURES)
    assert page.endswith("## Hypotheses\n\nNot run.\n\n## Runs\n\nNone.\n")


def test_a_number_that_was_run():
    page = reproduction_page([Source("a/table3.json", made_table())])
    assert lines_of(page, "CIFAR-10", "USVT", "PGD") == [
        "| CIFAR-10 | USVT | PGD | 12.1 | 31.0 [29.0, 33.0] | 4 of cifar10_test, a network | 1 | "
        "another network |"
    ]
    assert "not run" in lines_of(page, "CIFAR-10", "USVT", "FGSM")[0]
    assert "not run" in lines_of(page, "SVHN", "USVT", "PGD")[0]
    assert (
        "1. [a/table3.json](../results/a/table3.json), 2026-01-02, a processor, 2 cores: "
        "`splic-ext reproduce table4`" in page
    )


@pytest.mark.parametrize(
    ("value", "within"), [(0.121, True), (0.1405, True), (0.1425, False), (0.1012, True)]
)
def test_what_agrees_is_told(value, within):
    page = reproduction_page([Source("table3.json", made_table(value))])
    assert ("within the interval" in lines_of(page, "CIFAR-10", "USVT", "PGD")[0]) == within


def test_why_a_number_may_differ():
    full = Accuracy(0.31, 0.3, 0.32, 10_000)
    packed = dataclasses.replace(CIFAR10, name="cifar10_jpeg_test", images=10_000)
    row = dataclasses.replace(made_table().rows[0], mean=full, dataset=packed)
    page = reproduction_page([Source("table3.json", make_result(row, name="table3"))])
    (line,) = lines_of(page, "CIFAR-10", "USVT", "PGD")
    assert line.endswith("| another network; images were compressed |")


@pytest.mark.parametrize(
    ("name", "method", "attack", "changes", "why"),
    [
        ("table1", "SPLIC", "CW", {"parameters": '{"name": "cw", "iterations": 200}'},
         "another network, training and surrogate; 200 iterations; choices that the paper leaves"),
        ("table1", "no defence", "CW", {"parameters": '{"name": "cw", "iterations": 1000}'},
         "another network, training and surrogate |"),
        ("table2", "total variation, 0.1", "BPDA", {},
         "another network and training; plain denoising, without random pixels |"),
        ("table2", "ME-Net, adversarial training", "BPDA", {"defense": "USVT(seed=None)"},
         "another network and training; its cheapest estimation, USVT |"),
        ("table2", "ME-Net, adversarial training", "BPDA", {"defense": "NuclearNorm(weight=1.0)"},
         "another network and training |"),
    ],
)  # fmt: skip
def test_what_is_not_as_in_the_paper_is_a_reason(name, method, attack, changes, why):
    row = dataclasses.replace(
        made_table().rows[0], method=method, attack=attack, mean=Accuracy(0.31, 0.3, 0.32, 4),
        **changes,
    )  # fmt: skip
    page = reproduction_page([Source("a.json", make_result(row, name=name))])
    (line,) = (line for line in lines_of(page, "CIFAR-10", method, attack) if "31.0" in line)
    assert f"| {why}" in line


def test_whose_column_a_row_belongs_to():
    """As the result says; where it does not, by the name of the data set."""
    other = dataclasses.replace(CIFAR10, name="svhn_like")
    row = dataclasses.replace(made_table().rows[0], dataset=other)
    for kinds, column in (({}, "SVHN"), ({"svhn_like": "cifar10"}, "CIFAR-10")):
        result = make_result(row, name="table3", kinds=kinds)
        page = reproduction_page([Source("table3.json", result)])
        for title in ("SVHN", "CIFAR-10"):
            (line,) = lines_of(page, title, "USVT", "PGD")
            assert ("not run" in line) == (title != column)


def test_one_row_for_each_run():
    sources = [Source("a/table3.json", made_table()), Source("b/table3.json", made_table(0.5))]
    found = lines_of(reproduction_page(sources), "CIFAR-10", "USVT", "PGD")
    assert [line.split("|")[7].strip() for line in found] == ["1", "2"]


def test_figures_and_hypotheses():
    figure = make_result(name="figure6", points=CURVE[2:])
    page = reproduction_page([Source("figure6.json", figure)])
    assert "| made, PGD: highest for rank 8, 40.5; lowest 40.5 | 1 |" in page
    tried = make_result(make_row("60 % anchors"), make_row("base"), name="hypotheses")
    page = reproduction_page([Source("hypotheses.json", tried)])
    assert "Run 1, made:" in page
    assert "| 60 % anchors | 25.0 [12.5, 87.5] |" in page


def test_which_files_are_read(tmp_path):
    made_table().save(tmp_path / "b")
    made_table(0.5, budget="cpu").save(tmp_path / "a")
    made_table(budget="smoke").save(tmp_path / "c")
    made_table().save(tmp_path / "a" / "work")
    (tmp_path / "other.json").write_text("{}")
    assert [source.path for source in find_results(tmp_path)] == ["a/table3.json", "b/table3.json"]
    (tmp_path / "b" / "table3.json").write_text("{}")
    with pytest.raises(ValueError, match=r"'.*table3.json' is no result of an experiment: .* vers"):
        find_results(tmp_path)


def test_the_command(tmp_path, monkeypatch, capsys):
    made_table().save(tmp_path / "results")
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["make_reproduction", str(tmp_path / "results"), str(page)])
    script.main()
    assert page.read_text(encoding="utf-8") == reproduction_page(find_results(tmp_path / "results"))
    (tmp_path / "results" / "table3.json").write_text("{}")
    with pytest.raises(SystemExit, match="1"):
        script.main()
    assert "table3.json' is no result of an experiment" in capsys.readouterr().err
