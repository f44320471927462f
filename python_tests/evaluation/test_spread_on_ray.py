"""Evaluations on two nodes of Ray on this machine: the records of a local run, whatever dies."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.evaluation import make_dataset, make_network, timeless, torch

from splic_ext.evaluation import evaluate
from splic_ext.runs.store import PartStore

pytest.importorskip("ray.cluster_utils", reason="the extra 'ray' is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")

if os.name == "nt":
    pytest.skip("no clusters there", allow_module_level=True)

#: Ray leaves files open, and warns of its own modules.
pytestmark = pytest.mark.filterwarnings("ignore")


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


@pytest.fixture(autouse=True)
def one_thread(nodes, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("SPLIC_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    yield
    torch.set_num_threads(threads)


OWN = """
import torch

def noise(model, images, labels):
    return (images + 0.01 * torch.sign(images - 0.5)).clamp(0, 1)
"""


def run(tmp_path, engine, **changes):
    """Evaluate 24 images in six batches."""
    place = tmp_path / "own_noise.py"
    place.write_text(OWN)
    arguments = {
        "defenses": ["identity", "splic:max_iterations=9"],
        "attacks": {"pgd": "eot-pgd:steps=4,eot=2", "square": "square:queries=20"},
        "draws": 2,
        "batch_size": 4,
        "progress": False,
        "scenario": "white",
        **changes,
    }
    arguments["attacks"] = {**arguments["attacks"], "own": f"{place}:noise"}
    return evaluate(make_network(), make_dataset(24), engine=engine, **arguments)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, nodes):
    """Records of a local run."""
    threads, before = torch.get_num_threads(), os.environ.get("SPLIC_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["SPLIC_NUM_THREADS"] = "1"
    report = run(tmp_path_factory.mktemp("local"), "local")
    torch.set_num_threads(threads)
    os.environ.pop("SPLIC_NUM_THREADS")
    if before is not None:
        os.environ["SPLIC_NUM_THREADS"] = before
    return timeless(report)


def at_the_first_part(monkeypatch, action):
    """Call an action whenever a part comes back, until it returns something."""
    put, done = PartStore.put, []

    def watched(self, description, part):
        put(self, description, part)
        if not done:
            done.extend(filter(None, [action()]))

    monkeypatch.setattr(PartStore, "put", watched)
    return done


def kill_a_worker():
    """Kill a process of Ray that evaluates a batch; return its number, if there is one."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (place / "cmdline").read_bytes()
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if words.startswith(b"ray::answer") and is_ours(parent):
                os.kill(int(place.name), signal.SIGKILL)
                return int(place.name)
    return None


def is_ours(number):
    while number > 1 and number != os.getpid():
        number = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    return number == os.getpid()


def test_the_records_are_those_of_a_local_run(tmp_path, expected):
    report = run(tmp_path, "ray", output=tmp_path / "out")
    assert timeless(report) == expected
    again = run(tmp_path, "local", output=tmp_path / "out")
    assert timeless(again) == expected
    assert again.seconds.attack == again.seconds.defense == again.seconds.network == 0


def test_the_protocol(tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from splic_ext.experiments import SIZES, evaluate_adaptively

    size = replace(SIZES["smoke"], images=8)
    arguments = {
        "defense": "usvt", "size": size, "sections": ["gradients", "losses"], "score_draws": 2,
        "batch_size": 4, "progress": False,
    }  # fmt: skip
    local, spread = (
        evaluate_adaptively(make_network(), make_dataset(24), engine=engine, **arguments)
        for engine in ("local", "ray")
    )
    # A worker has one thread, and so has this process: nothing but the time may differ.
    assert [replace(row, seconds=0.0) for row in spread.rows] == [
        replace(row, seconds=0.0) for row in local.rows
    ]
    assert spread.notes == local.notes


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no list of processes")
def test_a_worker_that_is_killed(tmp_path, expected, monkeypatch):
    killed = at_the_first_part(monkeypatch, kill_a_worker)
    report = run(tmp_path, "ray", output=tmp_path / "out")
    assert killed
    assert timeless(report) == expected


def test_a_node_that_is_lost(tmp_path, expected, nodes, monkeypatch):
    node = next(iter(nodes.worker_nodes))

    def remove():
        nodes.remove_node(node, allow_graceful=False)
        return "removed"

    removed = at_the_first_part(monkeypatch, remove)
    report = run(tmp_path, "ray", output=tmp_path / "out")
    assert removed
    assert timeless(report) == expected
