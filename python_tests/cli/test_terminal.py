"""What reaches the terminal: no control characters of a name, no traceback of a full disk."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("typer", reason="Typer is not installed")

from helpers.cli import FAST, command, run_command, save_png
from PIL import Image

from splic_ext.cli import console
from splic_ext.cli.console import (
    ConsoleReporter,
    demo_tables,
    installation_tables,
    print_markdown,
    print_tables,
    printable,
)
from splic_ext.cli.demo import DemoResult, DemoRow, Score
from splic_ext.cli.layout import tables
from splic_ext.diagnostics import describe_installation

EVIL = "a\x1b[2J\x07\r\n\x9b\u202eb"
SHOWN = r"a\x1b[2J\x07\r\n\x9b\u202eb"
posix = pytest.mark.skipif(os.name == "nt", reason="no such names and signals there")
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")


def clean(text):
    return not any(mark in text for mark in "\x1b\x07\r\x9b\u202e")


def test_printable():
    assert printable(EVIL) == SHOWN
    assert (
        printable("é \u65e5\u672c C:\\new [bold] \udcff") == "é \u65e5\u672c C:\\new [bold] \\udcff"
    )


@posix
def test_names_of_files(tmp_path):
    """In errors and notes of a file, in errors before, and in the sums."""
    save_png(tmp_path / "in" / "good.png")
    (tmp_path / "in" / f"{EVIL}.png").write_text("text")
    failed = run_command("complete", tmp_path / "in", "-o", tmp_path / "out", *FAST)
    assert failed.returncode == 1
    assert f"{SHOWN}.png: not a PNG" in failed.stderr
    assert len(failed.stderr.splitlines()) == 2
    refused = run_command("complete", tmp_path / EVIL, "-o", tmp_path / "out", *FAST)
    assert refused.returncode == 2
    assert SHOWN in refused.stderr
    assert clean(failed.stderr + refused.stderr)


@posix
def test_names_of_files_above_a_progress_bar(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{EVIL}.png").write_text("text")
    leader, follower = os.openpty()
    try:
        arguments = command("complete", tmp_path / "in", "-o", tmp_path / "out", *FAST)
        environment = {**os.environ, "TERM": "xterm"}
        code = subprocess.run(arguments, stderr=follower, env=environment).returncode
        text = os.read(leader, 1 << 16).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert code == 1
    assert f"{SHOWN}.png: not a PNG" in text


@posix
def test_names_of_files_of_a_report(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    (tmp_path / f"{EVIL}.json").write_text("[1]")
    result = run_command("report", tmp_path, "-o", tmp_path / "page.html")
    assert result.returncode == 1
    assert f"{SHOWN}.json: it holds no result" in result.stderr
    assert clean(result.stderr)
    record = next((Path(__file__).parents[2] / "results").rglob("figure12.json"), None)
    if record is None:
        pytest.skip("a source distribution is without the results")
    (tmp_path / f"{EVIL}.json").write_bytes(record.read_bytes())
    result = run_command("report", tmp_path, "-o", tmp_path / "page.html", "--title", EVIL)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "page.html").read_bytes().decode()
    assert SHOWN.replace("\\n", "\n") + ".json" in page
    assert clean(page)


@full
@pytest.mark.parametrize(
    "arguments", [("info",), ("info", "--json"), ("--version",), ("--help",), ("info", "--help")]
)
def test_a_full_disk_is_told_in_a_line(arguments):
    with Path("/dev/full").open("w") as target:
        result = subprocess.run(
            command(*arguments), stdout=target, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 1
    assert result.stderr == "error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_tables_break_no_word(width, monkeypatch, capsys):
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from helpers.evaluation import Step, fit_digits

    from splic_ext.cli.results import evaluation_table
    from splic_ext.data import load_dataset
    from splic_ext.defenses import Identity
    from splic_ext.evaluation import evaluate

    monkeypatch.setenv("COLUMNS", str(width))
    digits = load_dataset("digits", limit=10)
    report = evaluate(
        fit_digits(),
        digits,
        defenses={n: Identity() for n in ("identity", "splic:recommended", "tv:weight=0.1+splic")},
        attacks={n: Step() for n in ("fgsm", "pgd:steps=40,step_size=1/255,random_start=no")},
        draws=1,
        progress=False,
    )
    print_tables(evaluation_table(report))
    text = capsys.readouterr().out
    assert all(len(line) <= width for line in text.splitlines())
    words = set(text.split())
    assert {"attack", "defence", "identity", "clean", "fgsm", "mean"} <= words
    assert "recommended" in words or "splic:recommended" in words or width < 60
    assert ("not shown in so narrow a terminal:" in " ".join(text.split())) == (width < 120)
    assert {"L2", "vote"} <= words or width < 80


def words_of(text):
    """The words of a printed table, without its borders."""
    return set(re.sub("[\u2500-\u257f]", " ", text).split())


@pytest.mark.parametrize("width", [120, 80, 60])
def test_other_tables_break_no_word(width, monkeypatch, capsys):
    """Every piece between two separators stands in the text; nothing is cut off."""
    monkeypatch.setenv("COLUMNS", str(width))
    info = describe_installation("0.1.0")
    info["backends"]["cpu"]["details"]["simd_available"] = ["baseline", "avx2", "avx512"]
    info["platform"] = "Linux-6.18.44-some-x86_64-with-glibc2.36-and-very-much-more-of-this"
    print_tables(*installation_tables(info))
    score = Score(20.6789, 0.50612)
    rows = tuple(DemoRow(name, (score,) * 3) for name in ("astronaut", "rocket"))
    print_tables(*demo_tables(DemoResult(rows, Image.new("L", (1, 1)), 0.1, 200.0, 256)))
    cells = "| 94.7 [90.1, 97.2] " * 9
    names = "| method | defence |" + " accuracy of the network |" * 9
    row = f"| total variation | splic:tv_weight=0.05+tv:weight=0.05 {cells}|"
    print_markdown(f"# Title\n\n{names}\n| --- | ---{'| ---: ' * 9}|\n{row}\n\nEnd.\n")
    output = capsys.readouterr().out
    assert all(len(line) <= width for line in output.splitlines())
    assert "\u2026" not in output
    assert {"glibc2.36-", "avx512"} <= words_of(output) or "glibc2.36-and" in output
    for word in ("available", "astronaut", "noisy", "method", "defence", "variation", "network"):
        assert word in words_of(output)
    assert output.count("97.2]") == 9
    assert output.count("20.68 /") == 9


def test_cells_that_fit_nowhere_are_folded_whole(capsys):
    print_tables(*tables(["key", "value"], [["a", "b" * 90]], 40))
    output = capsys.readouterr().out
    assert output.count("b") == 90


def test_help_flows(monkeypatch):
    result = run_command("complete", "--help", env={**os.environ, "COLUMNS": "100"})
    assert "optional" not in result.stderr
    lines = [line.strip() for line in result.stdout.split("Arguments")[0].splitlines()]
    first = next(line for line in lines if line.startswith("An image keeps"))
    assert len(first) > 80


def test_complete_tells_a_line_a_minute_where_there_is_no_terminal(monkeypatch, capsys):
    now = [0.0]
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    for quiet in (False, True):
        with ConsoleReporter(1200, quiet=quiet) as reporter:
            for _ in range(4):
                now[0] += 45.0
                reporter.advance(100)
    assert capsys.readouterr().err.splitlines() == [
        "completing: 200 of 1,200 images, 0:07:30 left",
        "completing: 400 of 1,200 images, 0:06:00 left",
    ]
