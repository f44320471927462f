"""Progress where there is no terminal: lines, by a clock that tests turn."""

from __future__ import annotations

import io
import re
import sys

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.runs import progress as module
from splic_ext.runs.progress import MINUTE, Progress, ProgressBar, ProgressLines, progress_of


@pytest.fixture
def clock(monkeypatch):
    """The time, as a list of one number."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def no_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_rich(monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == "rich":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich.console", None)


def test_a_line_a_minute(clock, no_terminal, capsys):
    """However many parts there are; the first one not before a minute has passed."""
    with progress_of({"attack pgd": 400, "scoring splic": 800}, shown=True) as shown:
        for _ in range(40):
            clock[0] += 10
            shown.advance("attack pgd", 10, 10.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[0] == "attack pgd: 60 of 1,200 images in all, 0:19:00 left"
    assert lines[-1] == "attack pgd: 360 of 1,200 images in all, 0:14:00 left"


def test_long_parts_have_a_line_each(clock, no_terminal, capsys):
    with progress_of({"certifying": 3}, shown=True) as shown:
        for _ in range(3):
            clock[0] += 10 * MINUTE
            shown.advance("certifying", 1, 10 * MINUTE)
    assert capsys.readouterr().err.splitlines() == [
        "certifying: 1 of 3 images in all, 0:20:00 left",
        "certifying: 2 of 3 images in all, 0:10:00 left",
        "certifying: 3 of 3 images in all, 0:00:00 left",
    ]


def test_milestones_instead_of_minutes(clock, no_terminal, capsys):
    """Of the marked kinds alone, and the minute begins anew with each."""
    plan = {"copies": 100, "training": 400}
    with progress_of(plan, shown=True, marked=("training",)) as shown:
        for _ in range(4):
            clock[0] += 0.5 * MINUTE
            shown.advance("copies", 25, 30.0)
        for epoch in (1, 2):
            for _ in range(20):
                clock[0] += 0.5 * MINUTE
                shown.advance("training", 10, 30.0)
            shown.milestone(f"epoch {epoch}")
    assert capsys.readouterr().err.splitlines() == [
        "copies: 50 of 500 images in all, 0:09:00 left",
        "copies: 100 of 500 images in all, 0:08:00 left",
        "epoch 1, 0:10:00 left",
        "epoch 2, 0:00:00 left",
    ]


def test_nothing_if_it_is_not_shown(clock, no_terminal, capsys):
    with progress_of({"score": 2}, shown=False) as shown:
        clock[0] += 5 * MINUTE
        shown.advance("score", 1, 1.0)
        shown.milestone("half")
    assert type(shown) is Progress
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(clock, monkeypatch, capsys):
    """And no lines among it."""
    pytest.importorskip("rich", reason="Rich is not installed")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_of({"score": 2}, shown=True) as shown:
        clock[0] += 2 * MINUTE
        shown.advance("score", 2, 1.0)
        shown.milestone("all of it")
    assert isinstance(shown, ProgressBar)
    written = capsys.readouterr().err
    assert "100%" in written
    assert "images in all" not in written
    assert "all of it" not in written


def test_lines_without_rich(clock, no_rich, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_of({"score": 2}, shown=True) as shown:
        clock[0] += 2 * MINUTE
        shown.advance("score", 1, 1.0)
    assert capsys.readouterr().err == "score: 1 of 2 images in all, 0:00:01 left\n"


def test_a_closed_log_ends_no_computation(clock, monkeypatch):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    shown = ProgressLines({"score": 2})
    clock[0] += 2 * MINUTE
    shown.advance("score", 1, 1.0)
    shown.milestone("half")
    assert shown.done == 1


def test_no_control_characters(clock, no_terminal, capsys):
    shown = progress_of({"a\x1b[31mb": 2}, shown=True)
    clock[0] += 2 * MINUTE
    shown.advance("a\x1b[31mb", 1, 1.0)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", capsys.readouterr().err)
