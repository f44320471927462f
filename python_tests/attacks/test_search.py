"""Square, the worst of several attacks, and the random numbers of all of them."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

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
from splic_ext.attacks.square import side_of_square  # noqa: E402
from splic_ext.attacks.streams import Streams  # noqa: E402

EPSILON = 0.05


def streams(seed=0, count=4):
    return Streams(seed, np.arange(count, dtype=np.uint64))


@pytest.mark.parametrize("low", [0.0, 0.3], ids=["at the border", "inside"])
def test_square_finds_the_optimum_of_an_affine_network(low):
    network, (images, labels) = Affine(), images_and_labels(classes=2, low=low, high=1 - low)
    ascent = network.ascent(labels).reshape(images.shape)
    attack = attacks.Square(attacks.ThreatModel(epsilon=EPSILON), queries=1500)
    change = attack(network, images, labels) - images
    most = (images + EPSILON * ascent.sign()).clamp(0, 1) - images
    torch.testing.assert_close(change, most, rtol=0, atol=1e-6)


def test_square_beats_its_beginnings():
    network, (images, _) = conv_network(), images_and_labels(20)
    labels = labels_of(network, images)

    def margins(queries):
        attack = attacks.Square(attacks.ThreatModel(epsilon=EPSILON), queries=queries)
        logits = network(attack(network, images, labels)).detach()
        true = logits.gather(1, labels[:, None])[:, 0]
        return logits.scatter(1, labels[:, None], -9e9).amax(dim=1) - true

    some, many = margins(20), margins(300)
    assert torch.all(margins(1) >= margins_of(network, images, labels) - 1e-6)
    assert many.mean() > some.mean() + 0.01


def margins_of(network, images, labels):
    logits = network(images).detach()
    true = logits.gather(1, labels[:, None])[:, 0]
    return logits.scatter(1, labels[:, None], -9e9).amax(dim=1) - true


def test_square_tries_a_change_with_each_query():
    """Stripes first, then squares of one value for each channel, of each image's own."""
    network, tried = conv_network(side=8), []

    def spy(x):
        tried.append(x.clone())
        return network(x)

    images, labels = images_and_labels(3, shape=(3, 8, 8), low=0.2, high=0.8)
    attacks.Square(attacks.ThreatModel(epsilon=EPSILON), queries=40, eot=1)(
        Function(spy), images, labels
    )
    assert len(tried) == 1 + 40
    assert torch.equal(tried[0], images)
    stripes = tried[1] - images
    torch.testing.assert_close(stripes.abs(), torch.full_like(images, EPSILON))
    torch.testing.assert_close(stripes, stripes[:, :, :1].expand_as(stripes))
    assert not torch.equal(stripes[0], stripes[1])
    best, highest = images, margins_of(network, images, labels)
    for number, candidates in enumerate(tried[1:], 1):
        changed = candidates != best
        assert changed.flatten(1).any(dim=1).all(), "a query that asks nothing new"
        if number > 1:
            side = side_of_square(0.8, number / 40, images)
            assert changed.any(dim=1).flatten(1).sum(dim=1).max() <= side**2
            for image in range(3):
                for channel in range(3):
                    values = (candidates - images)[image, channel][changed[image, channel]].sign()
                    assert len(values.unique()) <= 1
        values = margins_of(network, candidates, labels)
        kept = values > highest
        best = torch.where(kept[:, None, None, None], candidates, best)
        highest = torch.where(kept, values, highest)


def test_square_on_tiny_images():
    network, (images, labels) = Affine(features=1), images_and_labels(classes=2, shape=(1, 1, 1))
    change = attacks.Square(queries=3)(network, images, labels) - images
    assert torch.all((change * network.ascent(labels).reshape(change.shape)) >= 0)
    network, (images, labels) = Affine(features=6), images_and_labels(classes=2, shape=(1, 2, 3))
    assert attacks.Square(queries=9, area=1.0)(network, images, labels).shape == images.shape


def test_square_measures_anew_what_it_keeps():
    """Under noise, a mark that was set by luck would hardly be beaten again."""
    images, labels = images_and_labels(8, classes=2, low=0.3, high=0.7)
    affine, passes = Affine(), []

    def noisy(x):
        passes.append(len(x))
        return affine(x) + 0.5 * torch.randn(len(x), 2)

    torch.manual_seed(0)
    attack = attacks.Square(attacks.ThreatModel(epsilon=EPSILON), queries=200, eot=3)
    attack(Function(noisy), images, labels)
    whole = sum(count == 8 for count in passes[2:])
    anew = [count for count in passes[2:] if count < 8]
    assert whole >= 3 * 201
    assert len(anew) > 30
    assert len(anew) % 3 == 0


def test_side_of_square():
    images = torch.zeros(1, 3, 32, 32)
    assert [side_of_square(1.0, step / 10_000, images) for step in (10, 11, 50, 51)] == [
        32,
        23,
        23,
        16,
    ]
    assert side_of_square(1.0, 0.0, torch.zeros(1, 1, 8, 32)) == 8
    assert side_of_square(0.001, 1.0, images) == 1


def test_within_moves_an_attack_without_a_bound_into_the_ball():
    pytest.importorskip("foolbox", reason="foolbox is not installed")
    network, (images, _) = conv_network(), images_and_labels()
    labels = labels_of(network, images)
    walk = attacks.HopSkipJump(attacks.ThreatModel(norm="linf"), iterations=1, eot=1)
    near, far = attacks.Within(attack=walk)(network, images, labels), walk(network, images, labels)
    assert (far - images).abs().max() > 9 / 255
    assert 7 / 255 < (near - images).abs().max() <= 8 / 255 + 1e-6
    assert torch.equal(near, (images + (far - images).clamp(-8 / 255, 8 / 255)).clamp(0, 1))


def test_hopskipjump_needs_no_radius():
    threat = attacks.ThreatModel("l2", seed=3)
    walk = attacks.HopSkipJump(threat)
    assert walk == attacks.HopSkipJump(attacks.ThreatModel("l2", 0.5, seed=3))
    assert attacks.attack_from_dict(walk.to_dict()) == walk
    for copied in (copy.deepcopy(threat), pickle.loads(pickle.dumps(threat))):
        assert copied == threat
    assert attacks.ThreatModel.from_dict(threat.to_dict()) == threat
    assert replace(threat, epsilon=0.7, steps=7).step_size == 0.25


def test_within_comes_back_from_json():
    walk = attacks.HopSkipJump(attacks.ThreatModel(norm="linf"), iterations=1)
    attack = attacks.create_attack("within", attack=walk, epsilon=4 / 255, seed=3)
    again = json.loads(json.dumps(attack.to_dict()))
    assert again["attack"] == walk.to_dict()
    assert attacks.attack_from_dict(again) == attack


def test_worst_case_keeps_the_worst_for_each_image():
    network, (images, _) = conv_network(), images_and_labels(20)
    labels = labels_of(network, images)
    parts = [
        attacks.BPDA(attacks.ThreatModel(epsilon=EPSILON, steps=steps, step_size=0.04))
        for steps in (2, 3, 4)
    ]
    both = attacks.WorstCase(attacks=parts)
    result = both(network, images, labels)
    seeds = [streams(both.threat.seed, 20).derive("part", number) for number in range(3)]
    singles = [
        part.run(network, images, labels, seed=seed)
        for part, seed in zip(parts, seeds, strict=True)
    ]

    def score(candidates):
        logits = network(candidates).detach()
        loss = cross_entropy(logits, labels, reduction="none")
        return loss + 1e3 * (logits.argmax(dim=1) != labels)

    scores = torch.stack([score(single) for single in singles])
    assert len(scores.argmax(dim=0).unique()) > 1, "one attack is the worst for all"
    assert torch.equal(score(result), scores.amax(dim=0))


def test_worst_case_has_the_ball_of_its_attacks():
    part = attacks.APGD(attacks.ThreatModel("l2", 0.5, steps=3, seed=9))
    both = attacks.create_attack("worst-case", attacks=[part], seed=4)
    assert (both.threat.norm, both.threat.epsilon, both.threat.seed) == ("l2", 0.5, 4)


def test_worst_case_tells_of_a_part_that_is_dead():
    """Though another part has a gradient."""
    images, _ = images_and_labels()
    network = defenses.Defended(Affine(classes=3), Rounding())
    labels = labels_of(network, images)
    threat = attacks.ThreatModel(steps=2)
    alive = attacks.EOTPGD(threat, gradient="identity")
    dead = attacks.EOTPGD(threat, gradient="exact")
    assert attacks.WorstCase(attacks=[alive])(network, images, labels).shape == images.shape
    with pytest.raises(attacks.AttackError, match="Rounding with the gradient 'exact' was 0"):
        attacks.WorstCase(attacks=[alive, dead])(network, images, labels)


class Rounding(defenses.Defense):
    """To eighths, which has the derivative 0."""

    def defend(self, images, index):
        return (8 * images).round() / 8


def test_random_starts_fill_the_ball():
    images = torch.full((400, 1, 3, 3), 0.5)
    noise = attacks.ThreatModel(epsilon=0.1).start(images, streams(count=400)) - images
    assert noise.abs().max() <= 0.1
    assert abs(noise.mean()) < 0.004
    assert abs(noise.std() - 0.1 / 3**0.5) < 0.002
    noise = attacks.ThreatModel("l2", 0.1).start(images, streams(count=400)) - images
    lengths = noise.flatten(1).norm(dim=1)
    assert lengths.max() <= 0.1 + 1e-7
    assert abs(lengths.mean() - 0.1 * 9 / 10) < 0.002, "the mean of u^(1/9) is 9/10"
    assert abs(noise.mean()) < 0.002
    threat = attacks.ThreatModel(random_start=False)
    assert torch.equal(threat.start(images, streams(count=400)), images)


def test_random_starts_differ():
    images = torch.full((2, 1, 3, 3), 0.5)
    threat = attacks.ThreatModel()
    first = threat.start(images, streams(count=2))
    others = [
        threat.start(images, streams(count=2), restart=1),
        threat.start(images, streams(seed=1, count=2)),
        first.flip(0),
    ]
    assert not any(torch.equal(first, other) for other in others)


def test_projection():
    images = torch.tensor([0.5, 0.98]).reshape(2, 1, 1, 1).expand(2, 1, 1, 2)
    far = images + torch.tensor([0.3, -0.4])
    square = attacks.ThreatModel(epsilon=0.1).project(far, images)
    torch.testing.assert_close(square[:, 0, 0], torch.tensor([[0.6, 0.4], [1.0, 0.88]]))
    disc = attacks.ThreatModel("l2", 0.1).project(far, images)
    torch.testing.assert_close(disc[:, 0, 0], torch.tensor([[0.56, 0.42], [1.0, 0.9]]))
    near = images - 1e-3
    for threat in (attacks.ThreatModel(), attacks.ThreatModel("l2", 0.5)):
        torch.testing.assert_close(threat.project(near, images), near)
        assert torch.equal(threat.direction(torch.zeros_like(near)), torch.zeros_like(near))


def test_derived_seeds_differ():
    root = streams(3)
    derived = [
        root.derive("masks"),
        root.derive("start"),
        root.derive("start", 0),
        root.derive("start", 1),
        streams(4).derive("masks"),
        3,
    ]
    assert len(set(derived)) == len(derived)
    assert root.derive("masks") == streams(3).derive("masks")
