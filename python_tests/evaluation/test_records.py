"""Records and reports: JSON and back, tables, progress."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from helpers.evaluation import Step, make_dataset, run

from splic_ext.evaluation import SCHEMA_VERSION, EvaluationReport, Record, Seconds, to_markdown
from splic_ext.evaluation.tables import HEADER, summary, table_rows
from splic_ext.runs.plain import decode, encode
from splic_ext.runs.progress import Progress


@pytest.fixture(scope="module")
def report():
    return run(dataset=make_dataset(9), surrogate=None, scenario="white")


@pytest.fixture
def plain(report):
    return json.loads(report.to_json())


def test_round_trip(report):
    text = report.to_json()
    again = EvaluationReport.from_json(text)
    assert again == report
    assert again.to_json() == text
    assert all(isinstance(record, Record) for record in again.records)
    assert isinstance(again.records[0].right, tuple)


def test_json_is_plain_and_readable(report, plain):
    assert plain["schema_version"] == SCHEMA_VERSION == 1
    record = plain["records"][-1]
    assert record["accuracy"]["mean"] == dataclasses.asdict(report.records[-1].mean)
    assert record["right"] == list(report.records[-1].right)
    assert record["surrogate"] is None
    assert record["parameters"] == Step().to_dict()
    lines = report.to_json().splitlines()
    assert len([line for line in lines if '"right": [' in line and line.endswith("],")]) == 4
    assert max(map(len, lines)) < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema_version=2), "must have the schema version 1, got 2; read it"),
        (lambda d: d.update(schema_version=True), "must have the schema version 1, got True"),
        (lambda d: d.pop("schema_version"), "must have the schema version 1, got None"),
        (lambda d: d.update(records={}), "`records` of an evaluation report must be a list"),
        (lambda d: d.pop("key"), "`report` must have the keys .* missing key, unknown none"),
        (lambda d: d.update(more=1), "missing none, unknown more"),
        (lambda d: d["records"].append(3), r"`records\[4\]` must be an object, got 3"),
        (lambda d: d["records"][1].pop("seed"), r"`records\[1\]` must have the keys .* seed, unkn"),
        (lambda d: d["records"][0].update(seed="0"), r"`records\[0\].seed` must be of type int"),
        (lambda d: d["records"][0].update(draws=True), r"`records\[0\].draws` must be of type int"),
        (lambda d: d["records"][0].update(draws=0), "a draw at least and a mask seed .* 0 and 1;"),
        (lambda d: d["records"][0].update(draws=0, mask_seeds=[]), "a draw at least .* 0 and 0;"),
        (lambda d: d["records"][1]["mask_seeds"].pop(), "a mask seed for each, got 3 and 2; take"),
        (
            lambda d: (
                d["records"][0].update(right=[], voted=[]),
                d["records"][0]["dataset"].update(images=0),
            ),
            "a data set of a result must have images of a pixel at least, got 0 of shape",
        ),
        (
            lambda d: d["records"][0]["dataset"].update(shape=[]),
            r"images of a pixel at least, got 9 of shape \(\)",
        ),
        (lambda d: d["records"][0]["right"].append("1"), r"right\[9\]` must be of type int, got"),
        (lambda d: d["records"][0].update(right=3), r"`records\[0\].right` must be a list, got 3"),
        (lambda d: d["records"][0]["right"].append(1), "a record must have a count in .0, 1. and"),
        (lambda d: d["records"][0]["voted"].pop(), "9 images, got 9 and 8, the counts in"),
        (lambda d: d["records"][0]["right"].__setitem__(0, 2), r"the counts in \[0, 2\]"),
        (
            lambda d: d["records"][1]["right"].__setitem__(0, 3 - d["records"][1]["right"][0]),
            r"`records\[1\].accuracy` must be what its counts say",
        ),
        (lambda d: d["records"][0].pop("accuracy"), r"`records\[0\].accuracy` must be what"),
        (
            lambda d: d["records"][0]["provenance"]["machine"].update(cores="two"),
            r"machine.cores` must be of type int, got 'two'",
        ),
        (
            lambda d: d["records"][0]["provenance"].update(versions=[]),
            r"provenance.versions` must be an object, got \[\]",
        ),
        (lambda d: d["records"][-1]["perturbation"].update(linf_max=-0.1), "no negative pertur"),
        (lambda d: d["records"][0]["seconds"].update(attack=-1e9), "no negative perturbation or s"),
    ],
)  # fmt: skip
def test_what_is_no_report(plain, change, message):
    changed = copy.deepcopy(plain)
    change(changed)
    with pytest.raises(ValueError, match=message):
        EvaluationReport.from_json(json.dumps(changed))


@pytest.mark.parametrize("text", ["", "nothing", "{"])
def test_what_is_no_json(text):
    with pytest.raises(ValueError, match="an evaluation report must be a text in JSON: "):
        EvaluationReport.from_json(text)


@pytest.mark.parametrize("depth", [400, 900, 100_000])
def test_json_that_is_nested_deeply(plain, depth, tmp_path):
    """Told of, or read: whichever of the two, no other error comes out."""
    text = json.dumps(plain).replace('"parameters": null', '"parameters": {"x": @}', 1)
    assert "@" in text
    text = text.replace("@", "[" * depth + "]" * depth)
    (tmp_path / "report.json").write_text(text)
    try:
        EvaluationReport.load(tmp_path / "report.json")
    except ValueError as error:
        assert "must be a text in JSON: it is nested too deeply" in str(error)  # noqa: PT017
    else:
        assert depth < 100_000


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[]", b'{"schema_version": 1}'])
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"the file '.*report.json' (is no text|cannot be used: )"):
        EvaluationReport.load(tmp_path / "report.json")


def test_json_of_another_kind():
    with pytest.raises(ValueError, match="schema version 1, got None"):
        EvaluationReport.from_json("[]")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        EvaluationReport.load(tmp_path / "report.json")


def test_plain_values():
    seconds = Seconds(1.0, 2.0, 3.0, 4.0)
    assert encode({"a": (seconds, [None])}) == {"a": [dataclasses.asdict(seconds), [None]]}
    assert decode(Seconds, {"attack": 1, "defense": 2, "network": 3, "rest": 4}, "x") == seconds
    assert seconds.total == 10
    assert (seconds + seconds).network == 6
    with pytest.raises(ValueError, match=r"`x.rest` must be of type float, got 'a{56}\.\.\.;"):
        decode(Seconds, {**encode(seconds), "rest": "a" * 100}, "x")


def test_select(report):
    assert len(report.select()) == 4
    assert [r.defense for r in report.select(attack=None)] == ["identity", "usvt"]
    assert [r.attack for r in report.select(defense="usvt")] == [None, "step"]
    (one,) = report.select(defense="usvt", attack="step")
    assert one is report.records[3]
    assert report.select(defense="tv") == ()


def test_tables(report):
    rows = table_rows(report)
    assert [row[:3] for row in rows] == [
        ("clean", "identity", "1"), ("clean", "usvt", "3"),
        ("step", "identity", "1"), ("step", "usvt", "3"),
    ]  # fmt: skip
    mean = report.records[1].mean
    assert rows[1][3] == f"{100 * mean.value:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"
    assert table_rows(report, short=True)[1][4] == f"{100 * report.records[1].all_draws.value:.1f}"
    assert rows[0][6:8] == ("", "")
    assert rows[2][6] == "8.00"
    noted = dataclasses.replace(report, notes=("something was damaged",))
    text = to_markdown(noted)
    first, empty, header, rule, *body = text.splitlines()
    assert first == summary(report)
    assert first.startswith("white box, 9 images of made (test), Sequential, seed 0; ")
    assert (empty, header) == ("", "| " + " | ".join(HEADER) + " |")
    assert rule.count("---") == len(HEADER)
    assert len(body) == 4 + 2
    assert body[-1] == "- something was damaged"


def test_bars_in_names_do_not_break_the_table():
    report = run(defenses={"a|b": "identity"}, attacks=(), dataset=make_dataset(3))
    assert "| clean | a\\|b | 1 |" in to_markdown(report)


def test_line_breaks_in_names_do_not_break_the_table():
    report = run(defenses={"a\r\n  b\n": "identity"}, attacks=(), dataset=make_dataset(3))
    assert "| clean | a b | 1 |" in to_markdown(report)


# Progress


def test_time_left_knows_each_kind_of_work():
    progress = Progress({"attack": 100, "score": 200, "slow": 10})
    assert progress.total == 310
    assert progress.time_left is None
    progress.advance("attack", 50, 10.0)
    progress.advance("score", 50, 1.0)
    assert progress.done == 100
    # 50 at 0.2 s, 150 at 0.02 s, and 10 of an unknown kind at 11 s / 100
    assert progress.time_left == pytest.approx(10 + 3 + 1.1)
    progress.advance("slow", 10, 50.0)
    progress.advance("score", 150, 3.0)
    progress.advance("attack", 50, 10.0)
    assert progress.time_left == 0


@pytest.mark.parametrize(
    ("scenario", "attacking"),
    [
        ("gray", {"attack a", "attack usvt"}),
        ("white", {"a on tv", "a on usvt", "usvt on tv", "usvt on usvt"}),
    ],
)
def test_the_plan_is_what_is_done(monkeypatch, scenario, attacking):
    """Also where an attack has the name of a defence."""
    seen = []
    monkeypatch.setattr(Progress, "__exit__", lambda self, *_: seen.append(self))
    run(scenario=scenario, attacks={"a": Step(), "usvt": Step()}, defenses=["tv", "usvt"])
    (progress,) = seen
    assert progress.counts == progress.plan
    assert progress.time_left == 0
    assert set(progress.plan) == {"scoring tv", "scoring usvt"} | attacking


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    pytest.importorskip("rich", reason="Rich is not installed")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    run(progress=True, defenses={"[odd] name": "usvt"})
    captured = capsys.readouterr()
    assert "100%" in captured.err
    assert "0:00:00 left" in captured.err
    assert "[odd] name" in captured.err
    assert captured.out == ""


def test_a_minute_without_a_line_elsewhere(monkeypatch, capsys):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    run(progress=True)
    assert capsys.readouterr().err == ""
