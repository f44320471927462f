"""A cluster of Ray with two nodes on this machine: the bits of a local run, whatever dies."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.conversion import FAST, contents, convert, pixels, samples, write_tar

import splic_ext
from splic_ext.conversion.running import Silent

pytest.importorskip("ray.cluster_utils", reason="the extra 'ray' is not installed")

if os.name == "nt":
    pytest.skip("no clusters there", allow_module_level=True)

#: Ray leaves files open, and warns of its own modules.
pytestmark = pytest.mark.filterwarnings("ignore")

SHARDS = 8


@pytest.fixture(scope="module")
def nodes():
    """A head and another node, of one processor each."""
    from ray.cluster_utils import Cluster

    memory = 80 * 2**20
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": memory},
    )
    cluster.add_node(num_cpus=1, object_store_memory=memory)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def source(tmp_path, nodes, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    images = pixels(10 * SHARDS, (16, 16, 3))
    for number in range(SHARDS):
        part = slice(10 * number, 10 * number + 10)
        write_tar(tmp_path / f"in/{number:05}.tar", samples(images[part], 10 * number))
    convert(tmp_path / "in", tmp_path / "right")
    return tmp_path / "in"


class Once(Silent):
    """Does something when the first shard is finished."""

    def __init__(self, action):
        self.action = action

    def advance(self, images):
        action, self.action = self.action, None
        if action is not None:
            action()


def descendants(begin):
    """Return the processes of actors that this one has started."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            parents[int(place.name)] = int(fields[1])
    for number in parents:
        above = number
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid():
            with suppress(OSError):
                if Path(f"/proc/{number}/cmdline").read_bytes().startswith(begin):
                    yield number


def test_the_bits_are_those_of_a_local_run(source, tmp_path):
    done = splic_ext.convert(source, tmp_path / "out", options=FAST, engine="ray")
    assert (done.made, done.written) == (SHARDS, 10 * SHARDS)
    assert contents(tmp_path / "out") == contents(tmp_path / "right")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no list of processes")
def test_an_actor_that_is_killed(source, tmp_path):
    killed = []

    def kill():
        for number in descendants(b"ray::MapWorker"):
            os.kill(number, signal.SIGKILL)
            killed.append(number)
            break

    options = {"options": FAST, "engine": "ray", "reporter": Once(kill)}
    splic_ext.convert(source, tmp_path / "out", **options)
    assert killed
    assert contents(tmp_path / "out") == contents(tmp_path / "right")


def test_a_node_that_is_lost(source, tmp_path, nodes):
    node = next(iter(nodes.worker_nodes))
    options = {"options": FAST, "engine": "ray"}
    options["reporter"] = Once(lambda: nodes.remove_node(node, allow_graceful=False))
    splic_ext.convert(source, tmp_path / "out", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "right")
