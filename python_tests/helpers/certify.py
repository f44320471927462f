"""What the tests of certificates share: a command that is killed, and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from helpers.cli import command


def kill_and_take_up(given, folder):
    """Run a command whole, and killed after two parts and again; return where its files are.

    The parts that were finished are not written again.
    """
    whole, out = folder / "whole", folder / "out"
    subprocess.run(command(*given, "-o", str(whole)), check=True, timeout=300)
    process = subprocess.Popen(command(*given, "-o", str(out)))
    parts = out / "parts"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if parts.exists() and len(list(parts.glob("*.npz"))) >= 2:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
    process.wait(timeout=60)
    assert process.returncode != 0
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("*.npz")}
    assert len(kept) >= 2
    subprocess.run(command(*given, "-o", str(out)), check=True, timeout=300)
    assert all(path.stat().st_mtime_ns == kept[path] for path in kept)
    return whole, out
