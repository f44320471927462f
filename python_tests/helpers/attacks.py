"""Networks whose worst case is known, small random ones, and quick attacks on them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from splic_ext import attacks

THREAT = attacks.ThreatModel(steps=4)

#: A quick version of every attack.
QUICK = {
    "fgsm": attacks.FGSM(THREAT),
    "pgd": attacks.PGD(replace(THREAT, restarts=2)),
    "cw": attacks.CarliniWagner(
        confidence=0, binary_search_steps=2, learning_rate=0.1, iterations=10, abort_early=False
    ),
    "hopskipjump": attacks.HopSkipJump(iterations=1, initial_queries=10, eot=2),
    "bpda": attacks.BPDA(replace(THREAT, restarts=2)),
    "eot-pgd": attacks.EOTPGD(replace(THREAT, restarts=2), eot=2),
    "apgd": attacks.APGD(replace(THREAT, restarts=2), eot=2),
    "square": attacks.Square(queries=20, eot=2),
    "within": attacks.Within(
        attack=attacks.CarliniWagner(
            confidence=0, binary_search_steps=2, learning_rate=0.1, iterations=10, abort_early=False
        )
    ),
    "worst-case": attacks.WorstCase(
        attacks=(attacks.EOTPGD(THREAT, eot=2), attacks.EOTPGD(THREAT, eot=2, loss="dlr")), draws=4
    ),
}


class Affine(nn.Module):
    """Logits that are linear in the images: the worst case has a closed form."""

    def __init__(self, features=48, classes=2, scale=1.0, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(scale * torch.randn(classes, features, generator=generator))
        self.eval()

    def forward(self, images):
        return (images - 0.5).flatten(1) @ self.weight.T

    def ascent(self, labels):
        """Gradient of the margin of two classes by the images, as vectors."""
        return (self.weight[1 - labels] - self.weight[labels]).detach()


def conv_network(seed=0, classes=5, side=4, dtype=torch.float32):
    """A network that bends, for images of 3 x `side` x `side`: random convolutions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(8 * (side // 2) ** 2, classes),
        )
    return network.to(dtype).eval()


class Function(nn.Module):
    """Any function as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, images):
        return self.function(images)


def images_and_labels(count=6, seed=1, classes=5, shape=(3, 4, 4), low=0.0, high=1.0):
    generator = torch.Generator().manual_seed(seed)
    images = low + (high - low) * torch.rand((count, *shape), generator=generator)
    return images, torch.randint(classes, (count,), generator=generator)


def labels_of(network, images):
    """The classes that the network gives: nothing is misclassified yet."""
    with torch.no_grad():
        return network(images).argmax(dim=1)
