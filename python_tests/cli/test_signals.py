"""Ctrl-C, SIGTERM, SIGHUP and SIGKILL at any time: a line, an exit code, no file that is half."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

if os.name == "nt":
    pytest.skip("no such signals there", allow_module_level=True)

from helpers.cli import FAST, RNG, command, files_below, run_command, save_png

from splic_ext.common.atomic import STALE, atomic_path, remove_stale, removed

WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
LEFT = ".splic-0123456789abcdef.tmp"
IMPORTS = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == os.environ["SPLIC_AT"]:
            os.kill(os.getpid(), int(os.environ["SPLIC_SIGNAL"]))

sys.meta_path.insert(0, Interrupt())
"""


def started(name, folder):
    """The ways to start the command: as a module, and as the script that pip installs."""
    if name == "module":
        return command()
    script = folder / "splic-ext"
    script.write_text("import sys\nfrom splic_ext.cli import main\nsys.exit(main())\n")
    return [sys.executable, str(script)]


@pytest.mark.parametrize(
    ("module", "name", "start"),
    [
        ("numpy", "SIGINT", "module"),
        ("numpy", "SIGINT", "script"),
        ("numpy", "SIGTERM", "script"),
        ("splic_ext.cli", "SIGINT", "module"),
        ("typer", "SIGINT", "script"),
        ("PIL.Image", "SIGHUP", "module"),
        ("splic_ext.files", "SIGINT", "module"),
        ("skimage.metrics", "SIGINT", "module"),
    ],
)
def test_while_modules_are_imported(module, name, start, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(IMPORTS)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    number = getattr(signal, name)
    result = subprocess.run(
        [*started(start, tmp_path), "demo", "-o", tmp_path / "d.png"],
        env={**os.environ, "PYTHONPATH": path, "SPLIC_AT": module, "SPLIC_SIGNAL": f"{number:d}"},
        capture_output=True,
        text=True,
    )
    told = "no picture was written" if module == "skimage.metrics" else "nothing was done"
    assert result.returncode == 128 + number
    assert (result.stdout, result.stderr) == ("", f"{WORDS[name]}; {told}\n")
    assert files_below(tmp_path) == sorted(
        {"sitecustomize.py", *(["splic-ext"] if start == "script" else [])}
        | {name for name in files_below(tmp_path) if "__pycache__" in name}
    )


@pytest.mark.parametrize("name", list(WORDS))
def test_one_that_is_ignored_stays_so(name):
    """As Ctrl-C for a command that a shell runs in the background, and SIGHUP below nohup."""
    code = f"""
import os, signal, sys
signal.signal(signal.{name}, signal.SIG_IGN)
sys.argv = ["splic-ext", "--version"]
from splic_ext.cli import main
os.kill(os.getpid(), signal.{name})
main()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_library_leaves_signals_alone():
    code = """
import signal
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
before = [signal.getsignal(number) for number in numbers]
import splic_ext, splic_ext.cli
assert [signal.getsignal(number) for number in numbers] == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def start(arguments, folder):
    """Start a command, and wait until it writes a file below a folder."""
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(folder.rglob(".splic-*.tmp")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def long_run(folder):
    """Arguments of a run of minutes; its array is begun before its image is done."""
    save_png(folder / "in/a.png")
    np.save(folder / "in/b.npy", RNG.random((4000, 3, 64, 64), dtype=np.float32))
    return ("complete", folder / "in", "-o", folder / "out", "--backend", "numpy")


@pytest.mark.parametrize("name", list(WORDS))
def test_complete(name, tmp_path):
    process = start(long_run(tmp_path), tmp_path / "out")
    time.sleep(0.2)
    process.send_signal(getattr(signal, name))
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    assert output == ""
    resume = "files that are there are complete; --skip-existing completes the others"
    assert errors == f"{WORDS[name]}; {resume}\n"
    assert files_below(tmp_path / "out") == []


def test_two_signals_end_at_once(tmp_path):
    process = start(long_run(tmp_path), tmp_path / "out")
    for name in ("SIGTERM", "SIGINT", "SIGTERM"):
        process.send_signal(getattr(signal, name))
    output, errors = process.communicate(timeout=60)
    assert process.returncode in (130, 143)
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert files_below(tmp_path / "out") == []


def test_what_a_killed_run_left_is_removed_and_told_of(tmp_path):
    """But not what another process writes, nor files of others with such names."""
    process = start(long_run(tmp_path), tmp_path / "out")
    try:
        (tmp_path / "in/b.npy").unlink()
        (tmp_path / "out" / LEFT).touch()
        (tmp_path / "out/.splic-notes.tmp").touch()
        arguments = ("complete", tmp_path / "in", "-o", tmp_path / "out", *FAST)
        result = run_command(*arguments, "--skip-existing")
        assert result.returncode == 0
        assert result.stderr.endswith("\nremoved 1 unfinished file of an earlier run\n")
        assert process.poll() is None
        assert len(list((tmp_path / "out").glob(".splic-*"))) == 2
    finally:
        process.kill()
        process.communicate()
    (tmp_path / "out" / LEFT).touch()
    result = run_command(*arguments, "--skip-existing")
    assert result.stderr.endswith("\nremoved 2 unfinished files of an earlier run\n")
    assert files_below(tmp_path / "out") == [".splic-notes.tmp", "a.png"]
    (tmp_path / "out" / LEFT).touch()
    assert run_command(*arguments, "--skip-existing", "--quiet").stderr == ""
    assert files_below(tmp_path / "out") == [".splic-notes.tmp", "a.png"]


def test_folders_that_are_finished_are_looked_through(tmp_path):
    """A run that was killed after the move, before it removed the other name."""
    save_png(tmp_path / "in/deep/a.png")
    arguments = ("complete", tmp_path / "in", "-o", tmp_path / "out", *FAST, "--skip-existing")
    assert run_command(*arguments).returncode == 0
    os.link(tmp_path / "out/deep/a.png", tmp_path / "out/deep" / LEFT)
    assert "removed 1 unfinished file" in run_command(*arguments).stderr
    assert files_below(tmp_path / "out") == ["deep/a.png"]


@pytest.mark.parametrize("error", [None, OSError(95, "not supported")])
def test_without_locks_the_age_counts(error, tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise error

    if error is None:
        monkeypatch.setattr("splic_ext.common.atomic._fcntl", None)
    else:
        monkeypatch.setattr(fcntl, "flock", refuse)
    old, young = (tmp_path / f".splic-{digit * 16}.tmp" for digit in "01")
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - STALE - 10,) * 2)
    removed()  # those of other tests in this process
    with atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("new")
        remove_stale(tmp_path)
    assert removed() == 1
    assert files_below(tmp_path) == [young.name, "x"]


def test_a_file_taken_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    """Another process removes it between its creation and the lock."""
    import fcntl

    flock, taken = fcntl.flock, []

    def slow(number, how):
        if not taken:
            taken.extend(tmp_path.glob(".splic-*"))
            taken[0].unlink()
        flock(number, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with atomic_path(tmp_path / "x") as temporary:
        assert temporary != taken[0]
        temporary.write_text("new")
    assert files_below(tmp_path) == ["x"]


def test_a_forked_child_ends_as_usual():
    code = """
import os, signal, sys, time
sys.argv = ["splic-ext"]
import splic_ext
child = os.fork()
while not child:
    time.sleep(0.01)
time.sleep(0.3)  # until Python is ready for signals there
os.kill(child, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
