"""Defended networks in what torch wraps around them: two processes of DDP, copies in threads."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from helpers.transforms import QUICK  # noqa: E402

import splic_ext  # noqa: E402
from splic_ext.defenses import SPLIC, Defended  # noqa: E402

SCRIPT = """
import torch, torch.distributed as dist
from helpers.transforms import QUICK, OneImage
from splic_ext.defenses import SPLIC, Defended
from splic_ext.transforms import Complete, CompletedDataset
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(216, 3))
torch.manual_seed(rank)
model = torch.nn.parallel.DistributedDataParallel(Defended(network, SPLIC(QUICK)))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
dataset = CompletedDataset(OneImage(8), Complete(QUICK, seed=3))
sampler = torch.utils.data.DistributedSampler(dataset)
drawn = Defended(torch.nn.Flatten(), SPLIC(QUICK))(dataset[0][0][None]).sum().item()
for epoch in range(2):
    sampler.set_epoch(epoch)
    dataset.set_epoch(epoch)
    for images, numbers in torch.utils.data.DataLoader(dataset, 2, sampler=sampler):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), numbers % 3).backward()
        optimizer.step()
        for image, number in zip(images, numbers.tolist()):
            print("sample", epoch, number, image.double().sum().item())
print("weights", sum(weight.double().sum().item() for weight in network.parameters()))
print("drawn", drawn)
dist.destroy_process_group()
"""


def test_two_processes(tmp_path):
    distributed = pytest.importorskip("torch.distributed")
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("torch was built without gloo")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    tests = Path(__file__).resolve().parent.parent
    place = Path(splic_ext.__file__).resolve().parent.parent
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "PYTHONPATH": os.pathsep.join([str(tests), str(place)]),
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            cwd=tmp_path,
            env=environment | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    lines = [output.splitlines() for output, _ in ended]
    samples = [line.split()[1:] for part in lines for line in part if line.startswith("sample")]
    assert {(int(e), int(i)) for e, i, _ in samples} == {(e, i) for e in (0, 1) for i in range(8)}
    assert len({value for *_, value in samples}) == 16  # one image, behind 16 masks
    first, second = ([x for x in part if not x.startswith("sample")] for part in lines)
    assert first[0] == second[0]  # the weights
    assert first[1] != second[1]  # the masks that each rank draws


def test_copies_of_data_parallel():
    """Those that torch makes for each GPU, here in two threads of the CPU."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(216, 3))
    model = Defended(network, SPLIC(QUICK, seed=3)).eval()
    images, index, found = torch.rand(4, 3, 9, 8), torch.arange(4), {}

    def work(part):
        copy = model._replicate_for_data_parallel()
        defense = model.defense._replicate_for_data_parallel()
        assert copy is not model
        found[part.start] = defense(images[part], index=index[part])

    threads = [Thread(target=work, args=(slice(i, i + 2),)) for i in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.cat([found[0], found[2]]), model.defense(images))


@pytest.mark.parametrize("gradient", ["identity", "exact"])
def test_autocast_and_memory_format(gradient):
    defense = SPLIC(QUICK, seed=3, gradient=gradient)
    images = torch.rand(2, 3, 9, 8)
    expected = defense(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(defense(images), expected)
    wide = defense(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(wide, expected)
    assert wide.is_contiguous(memory_format=torch.channels_last) or gradient == "exact"
