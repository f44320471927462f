"""Runs the workers: starts one anew after each crash, and keeps the files that failed."""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.readers import FAULTY, READERS
from fuzz.worker import HANG, make_case

__all__ = ["Result", "fuzz"]

#: So many different faults of a reader are kept, and so many seconds a worker may take to begin.
MOST, START = 20, 120.0


@dataclass
class Result:
    """What became of the cases of a reader."""

    name: str
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: dict[str, str] = field(default_factory=dict)  # file that was kept -> what it did
    cases: int = 0
    missing: str = ""

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {found}" for found, count in self.counts.most_common())
        lines = [f"{self.name:16} {self.cases:7} cases: {self.missing or counts}"]
        lines += [f"  {path}: {fault.strip()}" for path, fault in self.faults.items()]
        return "\n".join(lines)


def fuzz(name: str, seconds: float, seed: int, scratch: Path, kept: Path) -> Result:
    """Try mutated files on a reader for some seconds, those to start with not counted."""
    result, end, first = Result(name), time.monotonic() + seconds, 0
    seen: set[str] = set()
    while (left := end - time.monotonic()) > 0 and len(result.faults) < MOST:
        (scratch / "index").unlink(missing_ok=True)
        begun = time.monotonic()
        process = start(name, seed, first, left, scratch)
        lines = [json.loads(line) for line in process.stdout.splitlines() if line[:1] == "{"]
        if not (scratch / "index").exists():
            last = (process.stderr.strip().splitlines() or ["?"])[-1]
            if re.match(r"(\w+\.)*(ModuleNotFoundError|MissingExtraError|Skipped)\b", last):
                result.missing = f"left out: {last}"
            else:
                result.faults["(start)"] = process.stderr[-2000:]
            break
        at = int((scratch / "index").read_text())
        faults = [(line["index"], line["fault"]) for line in lines if "fault" in line]
        if process.returncode != 0:
            faults.append((at, f"exit code {process.returncode}: {process.stderr[-2000:]}"))
        for index, fault in faults:
            kind = re.sub(r"[\d.]+|0x\w+", "#", fault.strip().splitlines()[-1])[:150]
            if kind not in seen and len(result.faults) < MOST:
                seen.add(kind)
                result.faults[keep(name, seed, index, scratch, kept)] = fault
        if process.returncode == 0:
            result.counts.update(lines[-1]["counts"])
        result.cases += at + 1 - first
        first = at + 1
        end += max(0.0, time.monotonic() - begun - left)
        if process.returncode == 0:
            break
    return result


def start(
    name: str, seed: int, first: int, seconds: float, scratch: Path
) -> subprocess.CompletedProcess[str]:
    path = [str(Path(__file__).resolve().parents[1]), *filter(None, sys.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
    environment |= {"MALLOC_ARENA_MAX": "2", "PYTHONFAULTHANDLER": "1"}
    arguments = [name, str(seed), str(first), f"{seconds:.3f}", str(scratch)]
    return subprocess.run(
        [sys.executable, "-m", "fuzz.worker", *arguments],
        env=environment,
        cwd=scratch,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + START + HANG,
        check=False,
    )


def keep(name: str, seed: int, index: int, scratch: Path, kept: Path) -> str:
    """Make a case once more, and keep its file; return where."""
    reader = (READERS | FAULTY)[name]()
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / f"{name.replace(' ', '-')}-{seed}-{index}-{reader.file}"
    path.write_bytes(make_case(reader, name, seed, index))
    return str(path)
