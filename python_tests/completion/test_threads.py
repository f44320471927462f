"""How many threads there are by default."""

from __future__ import annotations

import os

import pytest

from splic_ext.completion import default_threads


@pytest.mark.parametrize(
    ("openmp", "own", "count"),
    [("1", "", 1), ("3", "", 3), ("2,1", "", 2), ("9", "", 4), ("1", "2", 2), ("9", "7", 7)]
    + [(wrong, "", 4) for wrong in ("", "x", "-1", "1.5")]
    + [("0", "", 1), ("9" * 40, "", 4)],
)
def test_a_share_of_openmp_is_that_of_the_solver(monkeypatch, openmp, own, count):
    """As Ray gives it to its tasks."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    monkeypatch.setenv("SPLIC_NUM_THREADS", own)
    assert default_threads() == count
