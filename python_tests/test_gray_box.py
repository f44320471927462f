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

COUNT = 200
EPSILON = 8 / 255
SEEDS = (0, 1)

UNDEFENDED = {"clean": 91.6, "FGSM": 15.5, "PGD": 0.0}
DEFENDED = {"clean": 48.7, "FGSM": 31.2, "PGD": 32.8}

# In percentage points. The standard error of 40 % on 200 images is 3.5.
BOUND = 5.0


def shortcut(x, planes):
    """Option A of He et al.: every other pixel, and zeros for the new channels."""
    new = (planes - x.shape[1]) // 2
    return torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, new, new))


class Block(torch.nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(planes)
        self.conv2 = torch.nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(planes)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        planes = y.shape[1]
        return torch.relu(y + (x if planes == x.shape[1] else shortcut(x, planes)))


class ResNet20(torch.nn.Module):
    """He et al.'s network for CIFAR-10, on images in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        inputs = 16
        for k, planes in enumerate((16, 32, 64)):
            blocks = []
            for i in range(3):
                blocks.append(Block(inputs, planes, 2 if i == 0 and k > 0 else 1))
                inputs = planes
            setattr(self, f"layer{k + 1}", torch.nn.Sequential(*blocks))
        self.linear = torch.nn.Linear(64, 10)

    def forward(self, x):
        mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
        y = torch.relu(self.bn1(self.conv1((x - mean) / std)))
        y = self.layer3(self.layer2(self.layer1(y)))
        return self.linear(y.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def network(shared_folder):
    path = shared_folder / "weights" / "cifar10_resnet20.th"
    if not path.is_file():
        pytest.skip(f"no network: {path} does not exist")
    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    model = ResNet20()
    model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    return model.eval().requires_grad_(False)


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
