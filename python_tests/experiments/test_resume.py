"""A run that was killed goes on where it was: the same numbers, nothing trained twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.evaluation import numbers
from helpers.experiments import TINY, make_subject

import splic_ext
from splic_ext.experiments import reproduce

CODE = """
import sys
sys.path.insert(0, {tools!r})
from helpers.experiments import TINY, make_subject
from splic_ext.experiments import reproduce
reproduce("figure9", [make_subject()], budget=TINY, output="out", progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_kill(tmp_path):
    tools = str(Path(__file__).parents[1])
    place = str(Path(splic_ext.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([place, tools])}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE.format(tools=tools)], cwd=tmp_path, env=environment
    )
    networks = tmp_path / "out" / "work" / "networks"
    done = "training.json"  # the last file of a training
    deadline = time.monotonic() + 300
    while len(list(networks.glob(f"*/{done}"))) < 1:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "out" / "figure9.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in networks.glob(f"*/{done}")}
    assert kept
    found = reproduce(
        "figure9", [make_subject()], budget=TINY, output=tmp_path / "out", progress=False
    )
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a network was made twice"
    fresh = reproduce(
        "figure9", [make_subject()], budget=TINY, output=tmp_path / "fresh", progress=False
    )
    assert numbers(found.rows) == numbers(fresh.rows)
    assert [row.model for row in found.rows] == [row.model for row in fresh.rows]
