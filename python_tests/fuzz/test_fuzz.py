"""No mutated file crashes a reader, hangs it, takes the memory or raises what is not documented.

SPLIC_FUZZ_SECONDS are those of all readers together, beside their start. ``python -m fuzz`` is the
long form.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("PIL", reason="the extra 'cli' is not installed")

from fuzz.readers import READERS
from fuzz.run import fuzz

SECONDS = float(os.environ.get("SPLIC_FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("SPLIC_FUZZ_SEED", "0"))


@pytest.mark.parametrize("name", READERS)
def test_mutated_files(name, tmp_path):
    result = fuzz(name, SECONDS / len(READERS), SEED, tmp_path, tmp_path / "kept")
    print(result)
    if result.missing:
        pytest.skip(result.missing)
    assert not result.faults, str(result)
    assert result.cases > 0


@pytest.mark.parametrize(
    ("name", "said"),
    [("crash", "Aborted"), ("hang", "Timeout"), ("grow", "MemoryError"), ("raise", "KeyError")],
)
def test_what_is_a_fault(name, said, tmp_path):
    """The fault is found, the worker is started anew, and the file is kept."""
    if name == "grow" and not Path("/proc/self/statm").exists():
        pytest.skip("the memory is bounded on Linux alone")
    result = fuzz(name, 1.0, SEED, tmp_path, tmp_path / "kept")
    assert result.cases > (name != "hang")
    ((path, fault),) = result.faults.items()
    assert said in fault
    assert Path(path).read_bytes() != b"valid"
