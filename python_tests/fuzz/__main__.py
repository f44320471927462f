"""Mutate files for each reader: ``PYTHONPATH=python_tests python -m fuzz [READER ...]``.

SPLIC_FUZZ_SECONDS are those of all readers together, by default 600, and SPLIC_FUZZ_SEED is the
seed. The files that a reader failed on are kept in the folder SPLIC_FUZZ_FOLDER, by default
``fuzz-failures``. The exit code is 1 if there is one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from fuzz.readers import READERS
from fuzz.run import fuzz

if __name__ == "__main__":
    names = sys.argv[1:] or list(READERS)
    seconds = float(os.environ.get("SPLIC_FUZZ_SECONDS", "600"))
    seed = int(os.environ.get("SPLIC_FUZZ_SEED", "0"))
    kept = Path(os.environ.get("SPLIC_FUZZ_FOLDER", "fuzz-failures"))
    faults = 0
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            result = fuzz(name, seconds / len(names), seed, Path(scratch), kept)
        print(result, flush=True)
        faults += len(result.faults)
    sys.exit(1 if faults else 0)
