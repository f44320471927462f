"""Runs that end early, workers that crash, two runs at once: the same bits in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from helpers.cli import command
from helpers.conversion import FAST, contents, convert, pixels, png, samples, write_tar

import splic_ext
from splic_ext.common.atomic import held
from splic_ext.conversion import verify

OPTIONS = ("--preset", "paper", "--max-iterations", "2")


@pytest.fixture
def source(tmp_path):
    images = pixels(24)
    for number in range(6):
        part = slice(4 * number, 4 * number + 4)
        write_tar(tmp_path / f"in/{number:05}.tar", samples(images[part], 4 * number))
    return tmp_path / "in"


def test_workers_change_no_bit(source, tmp_path, monkeypatch):
    """They look through the source, too."""
    convert(source, tmp_path / "right")
    monkeypatch.setattr("splic_ext.conversion.running.SCANNED_HERE", 0)
    done = splic_ext.convert(source, tmp_path / "out", options=FAST, workers=2)
    assert (done.made, done.written) == (6, 24)
    assert contents(tmp_path / "out") == contents(tmp_path / "right")


def test_workers_import_what_this_process_has(source, tmp_path, monkeypatch):
    """Not what lies in the folder that it is in, such as a checkout without the compiled part."""
    other = tmp_path / "here" / "splic_ext"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('another package')")
    monkeypatch.chdir(other.parent)
    done = splic_ext.convert(source, tmp_path / "out", options=FAST, workers=2)
    assert (done.made, done.written) == (6, 24)


def test_a_run_that_ends_goes_on(source, tmp_path, monkeypatch):
    """Ended after each shard in turn; finished shards are not made again."""
    from splic_ext.conversion import worker

    convert(source, tmp_path / "right")
    make = worker.make_shard
    made = []

    def once(*arguments):
        if made and made[-1] == "end":
            made.pop()
            raise KeyboardInterrupt
        made.extend((make(*arguments), "end"))
        return made[-2]

    monkeypatch.setattr(worker, "make_shard", once)
    for _ in range(6):
        try:
            convert(source, tmp_path / "out")
        except KeyboardInterrupt:
            assert not list((tmp_path / "out").glob("manifest.json"))
            assert not [problem for problem in verify(tmp_path / "out") if "changed" in problem]
    assert [record.number for record in made if record != "end"] == list(range(6))
    assert contents(tmp_path / "out") == contents(tmp_path / "right")


def test_killed_runs_go_on_to_the_same_bits(source, tmp_path):
    """With kill -9 at the first shard, and once in the midst of it."""
    if os.name == "nt":
        pytest.skip("no such signal there")
    convert(source, tmp_path / "right")
    out = tmp_path / "out"
    arguments = command("convert", source, out, *OPTIONS, "--workers", 1, "-q")
    process = subprocess.Popen(arguments)
    while not list(out.glob("*.tar")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert contents(out) == contents(tmp_path / "right")
    assert not list(out.rglob(".splic-*.tmp"))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("os.abort()", "ended by signal 6, 2 times"),
        ("raise MemoryError", "had too little memory, 2 times"),
        ("os.kill(os.getpid(), 9)", "was killed, as where there is too little memory, 2 times"),
        ("os._exit(3)", "ended with code 3, 2 times"),
    ],
)
def test_an_image_that_ends_its_worker(tmp_path, monkeypatch, fault, told):
    """The worker runs what a module in its path does to the reader."""
    images = pixels(6)
    images[3] = 77
    write_tar(tmp_path / "in/a.tar", samples(images))
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'splic_ext.conversion.worker' in sys.orig_argv:\n"
        "    from splic_ext.conversion import shards\n"
        "    right = shards.decode\n"
        "    def decode(item, settings):\n"
        "        picture = right(item, settings)\n"
        "        if (picture.pixels == 77).all():\n"
        f"            {fault}\n"
        "        return picture\n"
        "    shards.decode = decode\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    done = splic_ext.convert(tmp_path / "in", tmp_path / "out", options=FAST, workers=1)
    assert (done.written, done.rejected) == (5, 1)
    (line,) = (tmp_path / "out/rejects.jsonl").read_text().splitlines()
    reject = json.loads(line)
    assert (reject["index"], reject["key"]) == (3, "0003")
    assert told in reject["reason"]


def test_a_worker_that_is_killed_once_loses_nothing(source, tmp_path, monkeypatch):
    from splic_ext.conversion.crew import Outside

    convert(source, tmp_path / "right")
    ask, kills = Outside._ask, []

    def killed(self, job):
        if self._process is not None and not kills:
            kills.append(self._process.pid)
            os.kill(self._process.pid, signal.SIGKILL)
        return ask(self, job)

    monkeypatch.setattr(Outside, "_ask", killed)
    splic_ext.convert(source, tmp_path / "out", options=FAST, workers=1)
    assert kills
    assert contents(tmp_path / "out") == contents(tmp_path / "right")


def test_one_run_at_a_time(source, tmp_path):
    (tmp_path / "out").mkdir()
    with held(tmp_path / "out/.splic-convert.lock") as free:
        assert free
        with pytest.raises(BlockingIOError, match="another conversion writes to"):
            convert(source, tmp_path / "out")
    assert convert(source, tmp_path / "out").made == 6


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_destination_that_is_read_only(source, tmp_path):
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(OSError, match="cannot be written"):
        convert(source, tmp_path / "out")


def test_a_full_disk_ends_the_run(source, tmp_path, monkeypatch):
    from splic_ext.conversion.writers.files import TarWriter

    write = TarWriter._write

    def full(self, content):
        if self.shard.number == 2:
            raise OSError(28, "No space left on device")
        write(self, content)

    monkeypatch.setattr(TarWriter, "_write", full)
    with pytest.raises(OSError, match="No space left on device; make room"):
        convert(source, tmp_path / "out")
    monkeypatch.undo()
    assert convert(source, tmp_path / "out").made == 4
    assert len(np.unique([len(c) for c in contents(tmp_path / "out").values()])) >= 1


@pytest.fixture
def disk(tmp_path):
    """Give a small disk, and what mounts it anew with other options."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True
        ).returncode

    if not os.path.exists("/proc/mounts") or mount("size=48k"):  # noqa: PTH110
        pytest.skip("no disk can be mounted here")
    yield path, mount
    subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_is_full_and_one_that_is_read_only(source, tmp_path, disk):
    path, mount = disk
    convert(source, tmp_path / "right")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device; make room"):
            convert(source, path / "out")
        assert not list((path / "out").rglob(".splic-*.tmp"))
    kept = len(list((path / "out/.splic-convert").glob("0*.json")))  # those with a record
    assert 0 < kept < 6
    assert mount("remount,size=10m") == 0
    assert convert(source, path / "out").made == 6 - kept
    assert contents(path / "out") == contents(tmp_path / "right")
    assert mount("remount,ro") == 0
    with pytest.raises(OSError, match="Read-only file system; name another"):
        convert(source, path / "other")
    assert verify(path / "out") == []
    assert convert(source, path / "out").made == 0


def test_the_command(source, tmp_path):
    from helpers.cli import invoke

    (source / "00002.tar").unlink()
    write_tar(source / "00002.tar", [("0008.png", png(pixels(1)[0])[:50]), *samples(pixels(3), 9)])
    out = tmp_path / "out"
    arguments = ("convert", source, out, *OPTIONS, "--workers", 0, "--verify")
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "image 8 is left out: cannot be decoded" in result.output
    assert "converted 23 of 24 images in 6 shards" in result.output
    assert "all files are as the manifest says" in result.output
    again = invoke(*arguments)
    assert "6 of them before" in again.output
    other = invoke(*arguments, "--seed", 1)
    assert other.exit_code == 2
    assert "give --overwrite" in other.output
    strict = invoke("convert", source, tmp_path / "s", *OPTIONS, "--workers", 0, "--strict")
    assert strict.exit_code == 1
    assert "leave --strict out" in strict.output
    (out / "00001.tar").write_bytes(b"x" * (out / "00001.tar").stat().st_size)
    assert invoke(*arguments).exit_code == 1
    both = invoke(*arguments, "--defense", "tv")
    assert both.exit_code == 2


def test_a_first_image_that_ends_its_worker(tmp_path, monkeypatch):
    """Whoever looks for the shape of an array is a worker, too."""
    images = pixels(4)
    images[0] = 77
    write_tar(tmp_path / "in/a.tar", samples(images))
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'splic_ext.conversion.worker' in sys.orig_argv:\n"
        "    from splic_ext.conversion import planning, shards\n"
        "    right = shards.decode\n"
        "    def decode(item, settings):\n"
        "        picture = right(item, settings)\n"
        "        if (picture.pixels == 77).all():\n"
        "            os.abort()\n"
        "        return picture\n"
        "    shards.decode = planning.decode = decode\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    done = splic_ext.convert(tmp_path / "in", tmp_path / "out", to="npy", options=FAST, workers=1)
    assert (done.written, done.rejected) == (3, 1)


def test_a_finished_destination_is_verified_where_nothing_can_be_written(
    source, tmp_path, monkeypatch
):
    from helpers.cli import invoke

    from splic_ext.conversion.places import Place

    out = tmp_path / "out"
    arguments = ("convert", source, out, *OPTIONS, "--workers", 0)
    assert invoke(*arguments).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    for name in ("writing", "remove", "append"):
        monkeypatch.setattr(Place, name, refuse)
    monkeypatch.setattr("splic_ext.conversion.running.only_one", refuse)
    result = invoke(*arguments, "--verify")
    assert result.exit_code == 0, result.output
    assert "6 of them before" in result.output
    assert "all files are as the manifest says" in result.output
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize("kind", ["tar", "folder", "npy"])
def test_what_an_ended_run_has_begun_is_removed_with_it(source, tmp_path, monkeypatch, kind):
    """Of a shard without a record, too, if another conversion overwrites it; others' files stay."""
    pytest.importorskip("pyarrow")
    from splic_ext.conversion import worker

    out = tmp_path / "out"
    (out / "1").mkdir(parents=True)
    (out / "1/mine.txt").write_text("keep")
    keep, kept = worker.keep_record, []

    def once(*arguments):
        if kept:
            raise KeyboardInterrupt
        kept.append(keep(*arguments))

    monkeypatch.setattr(worker, "keep_record", once)
    with pytest.raises(KeyboardInterrupt):
        convert(source, out, to=kind, overwrite=True)
    monkeypatch.undo()
    begun = [name for name in contents(out) if name != "1/mine.txt"]
    assert len(begun) >= 2
    (out / ".splic-0123456789abcdef.tmp").write_bytes(b"half")
    convert(source, out, to="parquet", overwrite=True)
    convert(source, tmp_path / "right", to="parquet")
    assert contents(out) == {**contents(tmp_path / "right"), "1/mine.txt": b"keep"}
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"1"}
    assert not list(out.rglob(".splic-*.tmp"))


def test_a_run_whose_plan_was_damaged_is_removed_with_it(source, tmp_path, monkeypatch):
    from splic_ext.conversion import worker

    def ends(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "keep_record", ends)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", to="folder")
    monkeypatch.undo()
    (tmp_path / "out/.splic-convert/plan.json").write_text("{")
    with (tmp_path / "out/.splic-convert/0000000.begun").open("a") as file:
        file.write('"../precious"\n"cut sho')
    (tmp_path / "precious").write_text("keep")
    convert(source, tmp_path / "out", overwrite=True)
    convert(source, tmp_path / "right")
    assert contents(tmp_path / "out") == contents(tmp_path / "right")
    assert (tmp_path / "precious").read_text() == "keep"


@pytest.mark.parametrize(
    ("workers", "threads", "jobs", "shares"),
    [
        (None, None, 100, (4, 1)),
        (None, None, 3, (3, 1)),
        (None, None, 1, (1, 4)),
        (None, 2, 100, (2, 2)),
        (None, 99, 100, (1, 4)),
        (2, None, 100, (2, 2)),
        (2, 99, 100, (2, 2)),
        (2, 1, 100, (2, 1)),
        (9, 3, 100, (9, 1)),
        (0, None, 100, (0, 4)),
        (0, 99, 100, (0, 4)),
    ],
)
def test_workers_share_the_processors(monkeypatch, workers, threads, jobs, shares):
    from splic_ext.conversion.engines import LocalEngine

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of each of them
    monkeypatch.delenv("SPLIC_NUM_THREADS", raising=False)
    assert LocalEngine(workers, threads).shares(jobs) == shares


def test_a_worker_takes_no_more_threads_than_its_share(source, tmp_path, monkeypatch):
    """Of the solver, OpenMP and torch, whatever the one who starts it has."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'splic_ext.conversion.worker' in sys.orig_argv:\n"
        "    from splic_ext.conversion import shards\n"
        "    from splic_ext.completion import default_threads\n"
        "    right = shards.decode\n"
        "    def decode(item, settings):\n"
        "        told = default_threads(), settings.threads, os.environ['OMP_NUM_THREADS']\n"
        f"        open({str(tmp_path / 'told')!r}, 'a').write(f'{{told}}\\n')\n"
        "        return right(item, settings)\n"
        "    shards.decode = decode\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("SPLIC_NUM_THREADS", "4")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    splic_ext.convert(source, tmp_path / "out", options=FAST, workers=2)
    assert set((tmp_path / "told").read_text().splitlines()) == {"(2, 2, '2')"}


YEARS = 3e9  # seconds; about the year 2065, or before 1970 from it


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_a_clock_that_jumps_changes_nothing(source, tmp_path, monkeypatch, jump):
    """Neither times of the source and of what there is, nor the time it is, in the midst of a run.

    What a killed run has left is removed, and what one that lives is writing stays.
    """
    from splic_ext.conversion import worker

    convert(source, tmp_path / "right")
    out, now = tmp_path / "out", time.time
    make, made = worker.make_shard, []

    def once(*arguments):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(make(*arguments))
        return made[-1]

    with monkeypatch.context() as patched:
        patched.setattr(worker, "make_shard", once)
        with pytest.raises(KeyboardInterrupt):
            convert(source, out)
    left, writing = (out / f".splic-{digit * 16}.tmp" for digit in "0a")
    left.write_bytes(b"half")
    with held(writing) as free:
        assert free
        for path in out.rglob("*"):
            os.utime(path, (max(0, now() + jump),) * 2)
        monkeypatch.setattr(time, "time", lambda: max(1.0, now() + jump))
        assert convert(source, out).made == 3
        assert (left.exists(), writing.exists()) == (False, True)
    assert contents(out) == contents(tmp_path / "right")


def test_a_source_from_the_future_is_one_as_long_as_it_keeps_its_times(source, tmp_path):
    convert(source, tmp_path / "right")
    for number, path in enumerate(sorted(source.iterdir())):
        os.utime(path, (4e9, 4e9) if number % 2 else (0, 0))
    convert(source, tmp_path / "out")
    assert convert(source, tmp_path / "out").made == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "right")
    os.utime(next(source.iterdir()), (1, 1))
    with pytest.raises(ValueError, match="is not what it was when this conversion began"):
        convert(source, tmp_path / "out")


def test_two_commands_into_one_destination(source, tmp_path):
    """One of them ends at once with code 1; the other is not hindered."""
    convert(source, tmp_path / "right")
    out = tmp_path / "out"
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import sys, time\n"
        "if 'splic_ext.conversion.worker' in sys.orig_argv:\n"
        "    from pathlib import Path\n"
        f"    while not Path({str(tmp_path / 'go')!r}).exists():\n"
        "        time.sleep(0.05)\n"
    )
    path = os.pathsep.join((str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")))
    arguments = command("convert", source, out, *OPTIONS, "--workers", 1, "-q")
    first = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": path})
    try:
        while not (out / ".splic-convert/plan.json").exists() and first.poll() is None:
            time.sleep(0.02)
        second = subprocess.run(arguments, capture_output=True, text=True)
        assert second.returncode == 1
        assert "another conversion writes to" in " ".join(second.stderr.split())
    finally:
        (tmp_path / "go").touch()
        assert first.wait(timeout=300) == 0
    assert contents(out) == contents(tmp_path / "right")
