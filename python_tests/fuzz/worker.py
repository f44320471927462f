"""One reader under mutation, in a process of its own: it may crash, hang or run out of memory."""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import json
import random
import sys
import time
import traceback
import warnings
from pathlib import Path

from fuzz.mutations import mutate
from fuzz.readers import FAULTY, READERS
from fuzz.samples import Reader

#: Most seconds of a case, and bytes of memory that all cases of a process may add.
HANG, MEMORY = 5.0, 2**29
#: What may be warned of: a reader that goes on without a file says so.
TOLD = "the file '"


def limit_memory() -> None:
    """Bound the address space, where the system can."""
    try:
        import resource

        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


def make_case(reader: Reader, name: str, seed: int, index: int) -> bytes:
    rng = random.Random(f"{seed} {name} {index}")
    which = rng.randrange(len(reader.samples))
    wrap = reader.samples[which][1]
    return wrap(mutate([content for content, _ in reader.samples], which, rng))


def outcome(reader: Reader, path: Path) -> tuple[str, str]:
    """Return what came of a case, and why it is a fault, if it is one."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            reader.read(path)
            found, fault = "read", ""
        except reader.errors as error:
            found, fault = "refused", ""
            if reader.named and path.name not in str(error):
                fault = f"{error}\nthe message does not name the file"
            if len(str(error)) > 2000:
                fault = f"{str(error)[:200]}\na message of many characters"
        except Exception as error:
            found, fault = type(error).__name__, traceback.format_exc(limit=-6)
    loud = [f"{w.category.__name__}: {w.message}" for w in told if TOLD not in str(w.message)]
    return found, fault or (f"warned: {loud[0]}" if loud else "")


def main(name: str, seed: int, first: int, seconds: float, folder: Path) -> None:
    """Try cases from the first on; the one that is tried is in the folder when the process ends."""
    reader = (READERS | FAULTY)[name]()
    place = folder / "case"
    place.mkdir(exist_ok=True)
    path = place / reader.file
    for content, wrap in reader.samples:  # which also imports all that is needed
        path.write_bytes(wrap(content))
        with contextlib.suppress(reader.errors):
            reader.read(path)
    limit_memory()
    counts: collections.Counter[str] = collections.Counter()
    end, index = time.monotonic() + seconds, first
    while time.monotonic() < end:
        path.write_bytes(make_case(reader, name, seed, index))
        (folder / "index").write_text(str(index))
        faulthandler.dump_traceback_later(HANG, exit=True)
        found, fault = outcome(reader, path)
        faulthandler.cancel_dump_traceback_later()
        counts[found] += 1
        if fault:
            print(json.dumps({"index": index, "fault": fault}), flush=True)
        index += 1
    print(json.dumps({"next": index, "counts": counts}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
