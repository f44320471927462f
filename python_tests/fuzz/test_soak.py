"""The soak in its short form, in a process of its own, and that it finds what it looks for."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import pytest

pytest.importorskip("PIL", reason="the extra 'cli' is not installed")
pytest.importorskip("foolbox", reason="the extra 'attack' is not installed")
if not Path("/proc/self/fd").is_dir():
    pytest.skip("this system does not tell open files and memory", allow_module_level=True)

SECONDS = os.environ.get("SPLIC_SOAK_SECONDS", "8")
CODE = """
import runpy, sys
sys.argv[1:] = [{!r}]
runpy.run_module("fuzz.soak", run_name="__main__")
"""


def test_nothing_grows(run_python, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]), prepend=os.pathsep)
    said = run_python(CODE.format(SECONDS), timeout=float(SECONDS) + 120, OMP_NUM_THREADS=1)
    print(said)
    assert "; 0 faults" in said


def test_what_grows_is_found(monkeypatch, tmp_path):
    from fuzz import soak

    kept, end = [], threading.Event()

    def leak(rng):
        kept.append((tmp_path / str(len(kept))).open("w"))
        kept.append(threading.Thread(target=end.wait))
        kept[-1].start()
        # Pages of its own: memory that other tests of this process gave back is not used again.
        kept.append(mmap.mmap(-1, 2**24))
        kept[-1].write(b"x" * 2**24)
        return str(len(kept)).encode()

    monkeypatch.setattr(soak, "STEPS", {"leak": leak})
    try:
        _, faults = soak.soak(0.0)
    finally:
        end.set()
        for thing in kept:
            getattr(thing, "close", getattr(thing, "join", None))()
    words = " ".join(faults)
    for what in ("bits of a fixed problem", "memory grew", "open files grew", "threads grew"):
        assert what in words
