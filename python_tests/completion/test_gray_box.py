"""The paper's gray-box setting: attacks on a stock network, defended without training.

Stock ResNet-20, L-inf 8/255, FGSM and PGD (7 steps of 2/255, random start) made against the
network alone. Accuracies come from 1,017 CIFAR-10 test images: 91.6 / 15.5 / 0.0 % without
defence, 48.7 / 31.2 / 32.8 % behind SPLIC with the paper's constants, stacked.
"""

from __future__ import annotations

import numpy as np
import pytest

from splic_ext import SolverOptions, complete

torch = pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.models import cifar_resnet20, load_weights  # noqa: E402

COUNT = 200
EPSILON = 8 / 255
SEEDS = (0, 1)

UNDEFENDED = {"clean": 91.6, "FGSM": 15.5, "PGD": 0.0}
DEFENDED = {"clean": 48.7, "FGSM": 31.2, "PGD": 32.8}

# In percentage points. The standard error of 40 % on 200 images is 3.5.
BOUND = 5.0


@pytest.fixture(scope="module")
def network(shared_folder):
    path = shared_folder / "weights" / "cifar10_resnet20.th"
    if not path.is_file():
        pytest.skip(f"no network: {path} does not exist")
    return load_weights(cifar_resnet20(), path).eval().requires_grad_(False)


def gradient(network, images, labels):
    images = images.detach().requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(images), labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def attack(network, images, labels, *, start, step, steps):
    """Steps along the sign of the gradient, kept in the ball around the images and in [0, 1]."""
    attacked = (images + start).clamp(0, 1)
    for _ in range(steps):
        attacked = attacked + step * gradient(network, attacked, labels).sign()
        attacked = images + (attacked - images).clamp(-EPSILON, EPSILON)
        attacked = attacked.clamp(0, 1)
    return attacked


@pytest.fixture(scope="module")
def problem(network, cifar10):
    """Labels, and the clean and attacked images."""
    x, y = cifar10
    images = torch.from_numpy(x[:COUNT]).float() / 255
    labels = torch.from_numpy(y[:COUNT]).long()
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    start = EPSILON * (2 * noise - 1)
    sets = {
        "clean": images,
        "FGSM": attack(network, images, labels, start=0, step=EPSILON, steps=1),
        "PGD": attack(network, images, labels, start=start, step=2 / 255, steps=7),
    }
    for attacked in sets.values():
        assert (attacked - images).abs().max() <= EPSILON + 1e-6
    return sets, labels


def accuracy(network, images, labels):
    return 100 * (network(images).argmax(dim=1) == labels).double().mean().item()


@pytest.mark.parametrize("name", UNDEFENDED)
def test_attacks_work_on_the_undefended_network(network, problem, name):
    sets, labels = problem
    assert abs(accuracy(network, sets[name], labels) - UNDEFENDED[name]) <= BOUND


@pytest.mark.parametrize("name", DEFENDED)
def test_defence_gives_the_measured_accuracy(network, problem, name):
    sets, labels = problem
    options = SolverOptions(channels="stacked", tv_weight=0.02, max_iterations=70)
    results = []
    for seed in SEEDS:
        completed = complete(sets[name], options=options, seed=seed)
        results.append(accuracy(network, completed, labels))
    assert abs(np.mean(results) - DEFENDED[name]) <= BOUND, results
