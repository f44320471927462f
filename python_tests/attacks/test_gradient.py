"""BPDA, EOT-PGD and Auto-PGD: optimal where the optimum is known, true to the published steps."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from helpers.attacks import (  # noqa: E402
    Affine,
    Function,
    conv_network,
    images_and_labels,
    labels_of,
)
from torch.nn.functional import cross_entropy  # noqa: E402

attacks = pytest.importorskip("splic_ext.attacks")
defenses = pytest.importorskip("splic_ext.defenses")
from splic_ext.attacks.gradient import checkpoints  # noqa: E402
from splic_ext.attacks.losses import LOSSES, Best, dlr, margin, measure, measure_gradient  # noqa: E402
from splic_ext.attacks.streams import Streams  # noqa: E402
from splic_ext.attacks.target import Target  # noqa: E402

EPSILON = 0.05
NAMES = ["bpda", "eot-pgd", "apgd"]


def losses(network, images, labels):
    with torch.no_grad():
        return cross_entropy(network(images), labels, reduction="none")


def target_of(network, labels):
    return Target(network, labels, np.arange(len(labels), dtype=np.uint64))


@pytest.mark.parametrize("low", [0.0, 0.3], ids=["at the border", "inside"])
@pytest.mark.parametrize("name", NAMES)
def test_optimum_of_an_affine_network(name, low):
    network, (images, labels) = Affine(), images_and_labels(classes=2, low=low, high=1 - low)
    ascent = network.ascent(labels).reshape(images.shape)
    threat = attacks.ThreatModel(epsilon=EPSILON, steps=20, step_size=0.01)
    result = attacks.create_attack(name, **threat_of(name, threat))(network, images, labels)
    expected = (images + EPSILON * ascent.sign()).clamp(0, 1)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_optimum_of_an_affine_network_in_l2(name):
    network, (images, labels) = Affine(), images_and_labels(classes=2, low=0.3, high=0.7)
    ascent = network.ascent(labels)
    expected = images + EPSILON * (ascent / ascent.norm(dim=1, keepdim=True)).reshape(images.shape)
    threat = attacks.ThreatModel("l2", EPSILON, steps=60, step_size=EPSILON)
    result = attacks.create_attack(name, **threat_of(name, threat))(network, images, labels)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)


def threat_of(name, threat):
    uses = attacks.ATTACKS[name].uses
    return {key: value for key, value in threat.to_dict().items() if key in uses}


def test_optimum_with_dlr():
    """Of three classes of which the third is far behind, so that the ratio is that of two."""
    network, (images, labels) = Affine(classes=3), images_and_labels(classes=2, low=0.3, high=0.7)
    with torch.no_grad():
        network.weight[2] = 0
    far = torch.tensor([0.0, 0.0, -1e4])
    ascent = network.ascent(labels).reshape(images.shape)
    threat = attacks.ThreatModel(epsilon=EPSILON, steps=20, step_size=0.01)
    shifted = Function(lambda x: network(x) + far)
    for attack in (attacks.EOTPGD(threat, loss="dlr"), attacks.APGD(threat, loss="dlr")):
        result = attack(shifted, images, labels)
        gain = ((result - images) * ascent).sum((1, 2, 3))
        torch.testing.assert_close(gain, EPSILON * ascent.abs().sum((1, 2, 3)), rtol=1e-4, atol=0)


def test_tiny_gradients_are_followed_in_l2():
    """1e-30 is a gradient too, though its square is none in single precision."""
    network, (images, labels) = Affine(), images_and_labels(classes=2, low=0.3, high=0.7)
    threat = attacks.ThreatModel("l2", EPSILON, steps=1, step_size=EPSILON, random_start=False)
    expected = attacks.BPDA(threat)(network, images, labels)
    faint = Function(lambda x: 1e-30 * network(x))
    result = attacks.BPDA(threat)(faint, images, labels)
    direction, other = result - images, expected - images
    cosine = torch.cosine_similarity(direction.flatten(1), other.flatten(1))
    assert cosine.min() > 0.999


def test_bpda_on_a_plain_network_is_pgd():
    pytest.importorskip("foolbox", reason="foolbox is not installed")
    network, (images, labels) = conv_network(), images_and_labels()
    for threat in (attacks.ThreatModel(restarts=3), attacks.ThreatModel("l2", 0.5, 7, 0.1)):
        expected = attacks.PGD(threat)(network, images, labels)
        result = attacks.BPDA(threat)(network, images, labels)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


def test_bpda_takes_the_gradient_behind_the_defence():
    network, (images, labels) = conv_network(), images_and_labels()
    defense = defenses.GaussianBlur(2.0)
    threat = attacks.ThreatModel(epsilon=EPSILON, steps=2, step_size=0.02, random_start=False)
    expected = images
    for _ in range(2):
        behind = defense(expected).requires_grad_()
        cross_entropy(network(behind), labels, reduction="sum").backward()
        expected = expected + 0.02 * behind.grad.sign()
        expected = (images + (expected - images).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    result = attacks.BPDA(threat)(defenses.Defended(network, defense), images, labels)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_the_mean_over_draws(loss):
    network = defenses.Defended(conv_network(dtype=torch.float64), defenses.USVT(gradient="exact"))
    images, labels = images_and_labels()
    images = images.double()
    with defenses.seeded_masks(5):
        value, wrong, gradient = measure_gradient(
            target_of(network, labels), images, LOSSES[loss], draws=4
        )
    with defenses.seeded_masks(5):
        alike = measure(target_of(network, labels), images, LOSSES[loss], draws=4)
    inputs = images.clone().requires_grad_()
    with defenses.seeded_masks(5):
        logits = [network(inputs) for _ in range(4)]
    expected = torch.stack([LOSSES[loss](z, labels) for z in logits]).mean(dim=0)
    expected.sum().backward()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, inputs.grad)
    counted = sum((z.argmax(dim=1) != labels).double() for z in logits)
    assert torch.equal(wrong, counted)
    assert torch.equal(alike[1], counted)
    torch.testing.assert_close(alike[0], value)


def test_gradient_modes_are_told_apart():
    """`gradient` is set for the time of the attack; None leaves it as it is."""
    network, (images, labels) = conv_network(), images_and_labels()
    threat = attacks.ThreatModel(epsilon=0.3, steps=2, step_size=0.2)
    results = {}
    for set_to in ("exact", "identity"):
        defended = defenses.Defended(network, defenses.GaussianBlur(2.0, gradient=set_to))
        for mode in ("exact", "identity", None):
            attack = attacks.EOTPGD(threat, gradient=mode)
            results[set_to, mode] = attack(defended, images, labels)
    exact, identity = results["exact", "exact"], results["exact", "identity"]
    assert not torch.equal(exact, identity)
    assert torch.equal(results["identity", "exact"], exact)
    assert torch.equal(results["identity", "identity"], identity)
    assert torch.equal(results["exact", None], exact)
    assert torch.equal(results["identity", None], identity)


@pytest.mark.parametrize("name", ["eot-pgd", "apgd"])
def test_best_point_is_returned(name):
    """The last of steps that are far too long is a bad one."""
    network, (images, labels) = conv_network(), images_and_labels(20)
    points = []

    def spy(x):
        points.append(x.detach().clone())
        return network(x)

    attack = attacks.create_attack(name, epsilon=0.3, steps=9, eot=1)
    if name == "eot-pgd":
        attack = attacks.create_attack(name, epsilon=0.3, steps=9, step_size=0.5, eot=1)
    result = attack(Function(spy), images, labels)
    assert len(points) == 10
    reached = torch.stack([losses(network, point, labels) for point in points])
    wrong = torch.stack([labels_of(network, point) != labels for point in points])
    eligible = torch.where(wrong.any(dim=0), wrong, True)
    expected = torch.where(eligible, reached, -math.inf).amax(dim=0)
    assert torch.equal(losses(network, result, labels), expected)
    assert (expected > reached[-1]).any()


def test_misclassified_comes_before_a_larger_loss():
    best = Best(torch.zeros(3, 1, 1, 1))
    for value, loss, wrong in (
        (1.0, [5.0, 1.0, float("nan")], [0, 1, 0]),
        (2.0, [3.0, 9.0, 1.0], [1, 0, 0]),
        (3.0, [4.0, 0.5, 2.0], [1, 1, 1]),
    ):
        best.offer(torch.full((3, 1, 1, 1), value), torch.tensor(loss), torch.tensor(wrong))
    assert best.images.flatten().tolist() == [3.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("noise", "passes"), [(0.0, 2 + 4), (1e-3, 2 + 4 * 7)], ids=["fixed", "random"]
)
def test_draws_are_made_where_they_differ(noise, passes):
    """Twice to see, then once or seven times for each of three steps and the last point."""
    network, calls = conv_network(), []

    def count(x):
        calls.append(len(x))
        return network(x) + noise * torch.rand(len(x), 5)

    images, labels = images_and_labels()
    attacks.EOTPGD(attacks.ThreatModel(steps=3), eot=7)(Function(count), images, labels)
    assert len(calls) == passes


def test_draws_of_random_defences():
    network, (images, labels) = conv_network(), images_and_labels()
    for defense, expected in ((defenses.USVT(), 7), (defenses.USVT(seed=1), 1)):
        target = target_of(defenses.Defended(network, defense), labels)
        assert target.draws(7, images) == expected
    target = target_of(defenses.Defended(network, defenses.USVT()), labels)
    assert target.draws(7, torch.zeros_like(images)) == 7, "all masks make the same of black"
    with defenses.frozen_masks():
        assert target.draws(7, images) == 1


def test_losses():
    logits = torch.tensor([[3.0, 1.0, 2.0, -1.0], [0.0, 5.0, 4.0, 1.0]])
    labels = torch.tensor([0, 2])
    assert margin(logits, labels).tolist() == [-1, 1]
    torch.testing.assert_close(dlr(logits, labels), torch.tensor([-1 / 2, 1 / 4]))
    torch.testing.assert_close(dlr(1e4 * logits + 7, labels), dlr(logits, labels))
    assert dlr(torch.zeros(1, 3), torch.tensor([1])).item() == 0
    with pytest.raises(ValueError, match=r"`loss` 'dlr' needs .* 3 classes, got 2; use 'ce'"):
        attacks.APGD(loss="dlr")(Affine(), *images_and_labels(classes=2))


def test_checkpoints():
    """Those of the paper for 100 steps; for few steps they fall together."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1000) == [220, 410, 570, 700, 800, 870, 930, 990]
    assert checkpoints(5) == [2, 3, 4, 5]
    assert checkpoints(1) == [1]


def algorithm_1(network, image, label, start, epsilon, steps):
    """Auto-PGD as printed, in float64, of one image; returns the point of the largest loss."""

    def function(x):
        inputs = torch.from_numpy(x)[None].requires_grad_()
        loss = cross_entropy(network(inputs), torch.tensor([label]))
        return loss.item(), torch.autograd.grad(loss, inputs)[0][0].numpy()

    def project(x):
        return np.clip(np.clip(x, image - epsilon, image + epsilon), 0, 1)

    marks = [0.0, 0.22]
    while marks[-1] < 1:
        marks.append(marks[-1] + max(marks[-1] - marks[-2] - 0.03, 0.06))
    marks = [math.ceil(round(p * steps, 9)) for p in marks]
    eta = 2 * epsilon
    x = [start, project(start + eta * np.sign(function(start)[1]))]
    f = [function(point)[0] for point in x]
    top = int(np.argmax(f))
    x_max, f_max = x[top], f[top]
    etas, tops = {0: eta}, {0: f[0]}
    for k in range(1, steps):
        z = project(x[k] + eta * np.sign(function(x[k])[1]))
        x.append(project(x[k] + 0.75 * (z - x[k]) + 0.25 * (x[k] - x[k - 1])))
        f.append(function(x[k + 1])[0])
        if f[k + 1] > f_max:
            x_max, f_max = x[k + 1], f[k + 1]
        if k + 1 in marks:
            before = marks[marks.index(k + 1) - 1]
            raised = sum(f[i + 1] > f[i] for i in range(before, k + 1))
            stuck = etas[before] == eta and tops[before] == f_max
            etas[k + 1], tops[k + 1] = eta, f_max
            if raised < 0.75 * (k + 1 - before) or stuck:
                eta = eta / 2
                x[k + 1], f[k + 1] = x_max, f_max
    return x_max


@pytest.mark.parametrize("steps", [16, 25])
def test_apgd_is_algorithm_1(steps):
    """On a loss with many hills, where both conditions decide; all points are misclassified."""
    hills, classes = Affine(classes=16).double(), Affine(features=16, classes=5, seed=1).double()
    offset = torch.tensor([-60.0, 0, 0, 0, 0], dtype=torch.float64)
    network = Function(lambda x: offset + classes(0.5 + torch.sin(2 * hills(x))[:, None, None]))
    images, _ = images_and_labels(30)
    images, labels = images.double(), torch.zeros(30, dtype=torch.int64)
    threat = attacks.ThreatModel(epsilon=0.3, steps=steps)
    result = attacks.APGD(threat)(network, images, labels)
    starts = threat.start(images, Streams(0, np.arange(30, dtype=np.uint64)))
    expected = [
        algorithm_1(network, image.numpy(), 0, start.numpy(), 0.3, steps)
        for image, start in zip(images, starts, strict=True)
    ]
    torch.testing.assert_close(result, torch.from_numpy(np.stack(expected)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_beats_pgd(norm):
    network, (images, labels) = conv_network(), images_and_labels(40)
    epsilon = 0.1 if norm == "linf" else 0.5
    threat = attacks.ThreatModel(norm, epsilon, steps=40, step_size=epsilon / 4)
    plain = losses(network, attacks.BPDA(threat)(network, images, labels), labels)
    auto = losses(network, attacks.APGD(threat)(network, images, labels), labels)
    assert (auto >= plain - 1e-3).float().mean() > 0.9
    assert auto.mean() >= plain.mean()


def test_apgd_is_as_good_as_that_of_art():
    pytest.importorskip("art", reason="ART is not installed")
    from art.attacks.evasion import AutoProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    network = conv_network()
    images, _ = images_and_labels(16)
    labels = labels_of(network, images)
    classifier = PyTorchClassifier(
        network,
        torch.nn.CrossEntropyLoss(),
        input_shape=(3, 4, 4),
        nb_classes=5,
        clip_values=(0, 1),
        device_type="cpu",
    )
    other = AutoProjectedGradientDescent(
        classifier,
        eps=EPSILON,
        eps_step=2 * EPSILON,
        max_iter=20,
        nb_random_init=1,
        loss_type="cross_entropy",
        verbose=False,
    )
    theirs = torch.from_numpy(other.generate(images.numpy(), labels.numpy()))
    own = attacks.APGD(attacks.ThreatModel(epsilon=EPSILON, steps=20))(network, images, labels)
    loss, reference = losses(network, own, labels), losses(network, theirs, labels)
    assert loss.mean() >= reference.mean() - 1e-3
    assert (labels_of(network, own) != labels).sum() >= (labels_of(network, theirs) != labels).sum()


def test_more_draws_find_more():
    """Each draw puts another half of the pixels first: one of them is a poor guide."""
    images, _ = images_and_labels(30, shape=(3, 8, 8))
    affine = Affine(features=192, classes=5)
    network = defenses.Defended(affine, defenses.USVT())
    labels = labels_of(affine, images)
    threat = attacks.ThreatModel(epsilon=EPSILON, steps=20, step_size=EPSILON / 4)

    def mean_loss(eot):
        result = attacks.EOTPGD(threat, eot=eot, gradient="exact")(network, images, labels)
        with defenses.seeded_masks(1):
            return torch.stack([losses(network, result, labels) for _ in range(30)]).mean().item()

    few, many = mean_loss(1), mean_loss(16)
    assert many > few + 0.05


@pytest.mark.parametrize("eot", [1, 2])
def test_apgd_on_a_noisy_network_is_as_good_as_pgd(eot):
    """A loss of few draws must not decide where to go back to, nor which point is the best."""

    class Dropped(defenses.RandomDefense):
        def defend(self, images, index):
            generator = torch.Generator().manual_seed(self.draw() % 2**63)
            return images * (torch.rand(images.shape, generator=generator) < 0.5)

    network = conv_network(side=8)
    with torch.no_grad():  # a rugged one
        for part in network.parameters():
            part.mul_(6 if part.ndim > 1 else 1)
    defended = defenses.Defended(network, Dropped()).eval()
    images, _ = images_and_labels(64, shape=(3, 8, 8), low=0.2, high=0.8)

    def answers(adversarial, draws=100):
        with torch.no_grad(), defenses.seeded_masks(99):
            return torch.stack([defended(adversarial).softmax(1) for _ in range(draws)])

    labels = answers(images).mean(0).argmax(1)
    threat = attacks.ThreatModel(epsilon=0.03, steps=60, step_size=0.03 / 8)
    pgd, apgd = (
        (answers(kind(threat, eot=eot)(defended, images, labels)).argmax(2) == labels)
        .float()
        .mean()
        .item()
        for kind in (attacks.EOTPGD, attacks.APGD)
    )
    assert apgd < pgd - 0.005
