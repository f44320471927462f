"""Keys of results stay in files for ever; tables have titles; committed tables are the code's."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from helpers.results import make_result, make_row

from splic_ext.experiments import EXPERIMENTS, ExperimentResult
from splic_ext.experiments.results import keys
from splic_ext.experiments.results.rows import is_worst

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_keys_in_files_are_those_of_old_results():
    assert (keys.CLEAN, keys.WORST) == ("clean", "worst of them")
    assert dict(keys.GRADIENTS) == {
        "identity": "past it", "exact": "through it", "surrogate": "smooth cut",
    }  # fmt: skip
    assert [keys.attack_key(name) for name in (None, "fgsm", "pgd", "cw", "bpda", "8/255")] == [
        "clean", "FGSM", "PGD", "CW", "BPDA", "8/255",
    ]  # fmt: skip
    assert keys.section_key("masks held still") == "still"
    assert keys.section_key("svhn") is None


@pytest.fixture
def result():
    note = "past it, through it, smooth cut: 40 steps"
    attacks = ("clean", *keys.GRADIENTS.values(), keys.WORST)
    return make_result(
        *(make_row(method, attack) for method in ("tv", "SPLIC") for attack in attacks),
        notes=(note,),
    )


def test_files_have_keys(result):
    plain = json.loads(result.to_json())
    assert [row["attack"] for row in plain["rows"][:4]] == [
        "clean", "past it", "through it", "smooth cut",
    ]  # fmt: skip
    assert plain["notes"] == ["past it, through it, smooth cut: 40 steps"]


def test_tables_have_titles(result):
    text = result.to_markdown()
    assert "| method | clean | identity | exact | surrogate | worst of them |" in text
    assert "- identity, exact, surrogate: 40 steps" in text
    lines = csv.DictReader(io.StringIO(result.to_csv()))
    assert [line["attack"] for line in lines][1:4] == ["identity", "exact", "surrogate"]
    one = make_result(make_row(), make_row(attack="past it")).to_markdown()
    assert "\n| identity | " in one
    fewer = make_result(make_row(), make_row(attack="past it", n=2)).to_markdown()
    assert "; identity: the first 2." in fewer


def test_rows_are_found_by_key_and_by_title(result):
    assert len(result.select(attack="exact")) == 2
    assert result.select(attack="exact") == result.select(attack="through it")


def test_the_worst_is_known_by_what_it_is(result):
    assert [is_worst(row) for row in result.rows[:5]] == [False] * 4 + [True]
    assert is_worst(make_row(attack="worst case", parameters='{"name": "x", "attacks": []}'))


@pytest.mark.skipif(not RESULTS.is_dir(), reason="the tests run without the results beside them")
def test_committed_tables_are_those_of_the_code():
    stale = []
    for path in sorted(RESULTS.rglob("*.json")):
        if path.stem not in (*EXPERIMENTS, keys.ADAPTIVE):
            continue
        result = ExperimentResult.from_json(path.read_text(encoding="utf-8"))
        for suffix, text in ((".md", result.to_markdown()), (".csv", result.to_csv())):
            file = path.with_suffix(suffix)
            if file.name in result.files and file.read_text(encoding="utf-8") != text:
                stale.append(file.relative_to(RESULTS).as_posix())
    assert not stale
