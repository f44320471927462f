"""Attacks by foolbox: equal to foolbox's own, optimal where the optimum is known."""

from __future__ import annotations

import sys

import pytest

from splic_ext import MissingExtraError

torch = pytest.importorskip("torch", reason="torch is not installed")
foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
from helpers.attacks import (  # noqa: E402
    Affine,
    Function,
    conv_network,
    images_and_labels,
    labels_of,
)

attacks = pytest.importorskip("splic_ext.attacks")
defenses = pytest.importorskip("splic_ext.defenses")

EPSILON = 0.05


def foolbox_result(attack, network, images, labels, epsilon):
    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    return attack(model, images, labels, epsilons=epsilon)[1]


@pytest.mark.parametrize(
    ("norm", "name"), [("linf", "LinfFastGradientAttack"), ("l2", "L2FastGradientAttack")]
)
def test_fgsm_is_that_of_foolbox(norm, name):
    network, (images, labels) = conv_network(), images_and_labels()
    result = attacks.FGSM(attacks.ThreatModel(norm, EPSILON))(network, images, labels)
    own = foolbox_result(getattr(foolbox.attacks, name)(), network, images, labels, EPSILON)
    torch.testing.assert_close(result, own, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("norm", "name"), [("linf", "LinfPGD"), ("l2", "L2PGD")])
def test_pgd_is_that_of_foolbox(norm, name):
    network, (images, labels) = conv_network(), images_and_labels()
    threat = attacks.ThreatModel(norm, EPSILON, steps=5, step_size=0.02, random_start=False)
    own = getattr(foolbox.attacks, name)(abs_stepsize=0.02, steps=5, random_start=False)
    expected = foolbox_result(own, network, images, labels, EPSILON)
    torch.testing.assert_close(
        attacks.PGD(threat)(network, images, labels), expected, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("low", [0.0, 0.3], ids=["at the border", "inside"])
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_optimum_of_an_affine_network(name, low):
    network, (images, labels) = Affine(), images_and_labels(classes=2, low=low, high=1 - low)
    ascent = network.ascent(labels).reshape(images.shape)
    threat = attacks.ThreatModel(epsilon=EPSILON, steps=20, step_size=0.01)
    result = attacks.create_attack(name, threat=threat)(network, images, labels)
    expected = (images + EPSILON * ascent.sign()).clamp(0, 1)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


def test_optimum_of_an_affine_network_in_l2():
    network, (images, labels) = Affine(), images_and_labels(classes=2, low=0.3, high=0.7)
    ascent = network.ascent(labels)
    expected = images + EPSILON * (ascent / ascent.norm(dim=1, keepdim=True)).reshape(images.shape)
    result = attacks.FGSM(attacks.ThreatModel("l2", EPSILON))(network, images, labels)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    threat = attacks.ThreatModel("l2", EPSILON, steps=60, step_size=EPSILON)
    result = attacks.PGD(threat)(network, images, labels)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_restarts_keep_the_best():
    network, (images, labels) = conv_network(), images_and_labels(20)

    def margins(restarts):
        threat = attacks.ThreatModel(epsilon=0.3, steps=1, restarts=restarts)
        result = attacks.PGD(threat)(network, images, labels)
        losses = torch.nn.functional.cross_entropy(network(result), labels, reduction="none")
        return network(result).argmax(1) != labels, losses

    (wrong, loss), (more_wrong, larger) = margins(1), margins(4)
    assert torch.all(more_wrong >= wrong)
    assert torch.all((larger >= loss) | (more_wrong & ~wrong))
    assert (larger > loss).sum() > 5


def test_carlini_and_wagner_find_the_nearest_point():
    network, (images, _) = Affine(), images_and_labels(low=0.3, high=0.7)
    labels = labels_of(network, images)
    attack = attacks.CarliniWagner(
        confidence=0, binary_search_steps=9, learning_rate=0.01, iterations=200
    )
    result = attack(network, images, labels)
    ascent = network.ascent(labels)
    logits = network(images).detach()
    distance = logits.diff(dim=1).abs()[:, 0] / ascent.norm(dim=1)
    assert torch.all(labels_of(network, result) != labels)
    ratio = (result - images).flatten(1).norm(dim=1) / distance
    assert ratio.min() > 1 - 1e-4
    assert ratio.max() < 1.05


def test_carlini_and_wagner_are_confident():
    network, (images, _) = Affine(scale=20), images_and_labels(low=0.3, high=0.7)
    labels = labels_of(network, images)
    result = attacks.CarliniWagner(iterations=300)(network, images, labels)
    logits = network(result).detach()
    margins = logits.gather(1, 1 - labels[:, None]) - logits.gather(1, labels[:, None])
    assert margins.min() >= 20 - 1e-3


def test_what_cannot_be_fooled_comes_back():
    affine, (images, labels) = Affine(), images_and_labels(classes=1)
    bias = torch.tensor([1000.0, 0.0])
    network = Function(lambda x: affine(x) + bias)
    found = attacks.CarliniWagner(iterations=20)(network, images, labels)
    assert torch.equal(found, images)
    assert torch.equal(attacks.HopSkipJump(start_draws=3)(network, images, labels), images)


def test_hopskipjump_leaves_out_what_it_need_not_or_cannot_attack():
    """Bright images are of class 1; noise is never bright, and so no start for class 0."""
    network = Function(lambda x: torch.stack([0 * x.sum((1, 2, 3)), x.mean((1, 2, 3)) - 0.9], 1))
    images, _ = images_and_labels()
    images[:3] = 0.95
    labels = torch.tensor([1, 1, 0, 0, 0, 0])
    result = attacks.HopSkipJump(iterations=2, start_draws=5)(network, images, labels)
    assert torch.equal(result[2:], images[2:])
    assert torch.equal(labels_of(network, result[:2]), torch.tensor([0, 0]))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hopskipjump_finds_the_nearest_point(norm):
    """For each image of a batch; the direction is scaled for each, not for the batch."""
    network, (images, _) = Affine(), images_and_labels(12, low=0.3, high=0.7)
    labels = labels_of(network, images)
    attack = attacks.create_attack("hopskipjump", norm=norm, iterations=12)
    change = (attack(network, images, labels) - images).flatten(1)
    ascent = network.ascent(labels)
    dual = ascent.norm(dim=1) if norm == "l2" else ascent.abs().sum(dim=1)
    size = change.norm(dim=1) if norm == "l2" else change.abs().amax(dim=1)
    ratio = size / (network(images).detach().diff(dim=1).abs()[:, 0] / dual)
    assert ratio.min() > 1 - 1e-3
    assert ratio.max() < 1.12, ratio


def test_hopskipjump_sees_the_majority_of_masks():
    images, _ = images_and_labels(4)
    network = defenses.Defended(Affine(classes=2), defenses.USVT())
    labels = labels_of(network.model, images)
    attack = attacks.HopSkipJump(iterations=2, initial_queries=20, eot=5)
    result = attack(network, images, labels)
    assert (result != images).flatten(1).any(dim=1).sum() >= 3
    assert torch.equal(result, attack(network, images, labels))


def test_hopskipjump_tells_of_answers_that_change():
    images, _ = images_and_labels(4)
    affine = Affine()
    labels = labels_of(affine, images)
    network = Function(lambda x: affine(x) + 2 * torch.randn(len(x), 2))
    with pytest.raises(attacks.AttackError, match="the answers of the network changed between"):
        attacks.HopSkipJump(eot=1)(network, images, labels)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "cw", "hopskipjump"])
def test_missing_foolbox(monkeypatch, name):
    network, (images, labels) = conv_network(), images_and_labels()
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(MissingExtraError, match=r"^`\w+` needs .*'foolbox', which") as caught:
        attacks.create_attack(name)(network, images, labels)
    assert caught.value.extra == "attack"


def test_import_of_foolbox_warns_of_nothing(run_python):
    code = """
import warnings
warnings.simplefilter("error")
import sys
from splic_ext import attacks
assert "foolbox" not in sys.modules
from splic_ext.attacks.bridge import load_foolbox
print(load_foolbox('FGSM').__name__)
"""
    assert run_python(code) == "foolbox"
