"""Several processes that share each batch: two and three of gloo, on the CPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.training import fit, make_data, make_network, torch

import splic_ext
from splic_ext.completion import default_threads
from splic_ext.models import load_weights
from splic_ext.training import TrainingRecord
from splic_ext.training.folder import CHECKPOINT, LOCK, RECORD, WEIGHTS
from splic_ext.training.processes import Processes, limited_threads, local_device

distributed = pytest.importorskip("torch.distributed")
if not (distributed.is_available() and distributed.is_gloo_available()):
    pytest.skip("torch was built without gloo", allow_module_level=True)

OPTIONS = {
    "epochs": 2,
    "batch_size": 24,
    "defense": "splic",
    "adversarial": "bpda:steps=1",
    "ema_decay": 0.8,
}

SCRIPT = """
import json, os, signal, sys
import test_processes as networks
from helpers.training import fit, make_data
from splic_ext.runs.fingerprints import fingerprint_weights
from splic_ext.training.folder import TrainingFolder
folder, options, kill, *makers = sys.argv[1:]
options, kill = json.loads(options), int(kill)
save = TrainingFolder.save
def last(self, checkpoint):
    save(self, checkpoint)
    os.kill(os.getpid(), signal.SIGKILL)
if kill:
    TrainingFolder.save = last
for name in makers:
    network = getattr(networks, name)(seed=int(os.environ["RANK"]))
    result = fit(network, make_data(49), test=make_data(11, seed=1), output=f"{folder}/{name}",
                 **options)
    print(fingerprint_weights(result.network), result.record.processes)
"""


class Branched(torch.nn.Module):
    """Has no batch statistics, weights for bright images alone, and others that nothing needs."""

    def __init__(self):
        super().__init__()
        self.all, self.bright, self.none = (torch.nn.Linear(192, 4) for _ in range(3))

    def forward(self, images):
        flat = images.flatten(1)
        logits, bright = self.all(flat), flat.mean(1) > 0.345
        if bright.any():
            logits = logits.index_add(0, bright.nonzero()[:, 0], self.bright(flat[bright]))
        return logits


def make_branched(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Branched()


def make_large(seed=0):
    """More than a megabyte of weights: not all of their gradients are there at the same time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 3, padding=1),
            torch.nn.BatchNorm2d(32),
            torch.nn.ReLU(),
            torch.nn.Conv2d(32, 64, 3, padding=1),
            torch.nn.AdaptiveAvgPool2d(4),
            torch.nn.Flatten(),
            torch.nn.Linear(1024, 256),
            torch.nn.ReLU(),
            torch.nn.Linear(256, 4),
        )


def start(folder, *makers, count=2, kill=False, options=OPTIONS):
    """Run trainings in processes as torchrun starts them; return what each printed.

    Only the first process has the weights that all are to begin with.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = str(Path(splic_ext.__file__).parent.parent)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([place, *map(str, Path(__file__).parents[:2])]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), json.dumps(options), str(int(kill)),
             *makers],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    results = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, results, strict=True):
        assert (process.returncode != 0) == kill, errors
    return [output.splitlines() for output, _ in results]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A folder with both trainings by two processes, and what these printed."""
    folder = tmp_path_factory.mktemp("together")
    return folder, start(folder, "make_network", "make_branched")


def check_near(folder, network, fresh, weights, options=OPTIONS, **bounds):
    """Compare with what one process alone comes to."""
    alone = fit(network, make_data(49), test=make_data(11, seed=1), **options)
    record = TrainingRecord.load(folder / RECORD)
    assert record.processes == 2
    found = load_weights(fresh, folder / WEIGHTS).state_dict()
    for name, value in alone.network.state_dict().items():
        assert torch.allclose(value.float(), found[name].float(), atol=weights), name
    for mine, theirs in zip(alone.history, record.history, strict=True):
        assert theirs.loss == pytest.approx(mine.loss, **bounds)
        assert theirs.learning_rate == mine.learning_rate
    return alone, record


def test_processes_come_to_the_same_weights(together):
    folder, (one, other) = together
    assert one == other
    for name, line in zip(("make_network", "make_branched"), one, strict=True):
        record = TrainingRecord.load(folder / name / RECORD)
        assert line == f"{record.model.sha256} 2"


def test_the_network_is_near_that_of_one_process(together):
    """Batch statistics are those of half a batch each."""
    check_near(together[0] / "make_network", make_network(), make_network(), 0.1, rel=0.05)


def test_without_batch_statistics_only_rounding_differs(together):
    folder = together[0] / "make_branched"
    alone, record = check_near(folder, make_branched(), make_branched(), 1e-5, rel=1e-4)
    for part, moves in (("all", True), ("bright", True), ("none", False)):
        before, after = (getattr(net, part).weight for net in (make_branched(), alone.network))
        assert torch.equal(before, after) != moves, part
    for mine, theirs in zip(alone.history, record.history, strict=True):
        assert theirs.train_accuracy == mine.train_accuracy
        assert theirs.test_accuracy == mine.test_accuracy


@pytest.mark.parametrize(
    "hidden", [{"cutout": "2x3", "fill": "splic"}, {"ablate": 0.4, "encoding": "mean"}], ids=str
)
def test_what_is_hidden_does_not_depend_on_the_processes(tmp_path, hidden):
    options = {"epochs": 2, "batch_size": 24, **hidden}
    one, other = start(tmp_path, "make_branched", options=options)
    assert one == other
    folder = tmp_path / "make_branched"
    alone, record = check_near(folder, make_branched(), make_branched(), 1e-5, options, rel=1e-4)
    for mine, theirs in zip(alone.history, record.history, strict=True):
        assert theirs.train_accuracy == mine.train_accuracy
        assert theirs.test_accuracy == mine.test_accuracy


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
@pytest.mark.parametrize(
    ("count", "makers"), [(2, ["make_network", "make_branched"]), (3, ["make_large"])]
)
def test_killed_and_resumed(together, tmp_path, count, makers):
    expected = together[1] if count == 2 else start(tmp_path / "whole", *makers, count=count)
    start(tmp_path, *makers, count=count, kill=True)
    names = sorted(path.name for path in (tmp_path / makers[0]).glob("*.*"))
    assert names == [LOCK, CHECKPOINT], "which locks nothing any more"
    assert start(tmp_path, *makers, count=count) == expected


# In one process


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_all_of_a_range(count):
    parts = [Processes(rank, count).part(5, 28) for rank in range(count)]
    rows = np.concatenate([np.arange(part.start, part.stop) for part in parts])
    assert rows.tolist() == list(range(5, 28))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_each_process_needs_an_image(monkeypatch):
    from splic_ext.training import run

    monkeypatch.setattr(run, "join_processes", lambda device: Processes(0, 3))
    with pytest.raises(ValueError, match="`batch_size` must give each of the 3 processes an image"):
        fit(batch_size=2)


def test_the_gpu_of_the_local_rank(monkeypatch):
    assert local_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == "cuda:3"
    assert local_device("cuda:1") == "cuda:1"
    assert local_device(None) is None


def test_threads_are_put_back(monkeypatch):
    monkeypatch.setenv("SPLIC_NUM_THREADS", "5")
    before = torch.get_num_threads()
    with limited_threads(2):
        assert (torch.get_num_threads(), default_threads()) == (2, 2)
    assert (torch.get_num_threads(), default_threads()) == (before, 5)
    monkeypatch.delenv("SPLIC_NUM_THREADS")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    with limited_threads(None):
        assert default_threads() == 1
    assert "SPLIC_NUM_THREADS" not in os.environ
