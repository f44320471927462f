"""What all attacks keep: ball and range, repeatability, independence, checks, dead gradients."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, dataclass, replace

import numpy as np
import pytest

from splic_ext import SolverOptions

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")
from helpers.attacks import (  # noqa: E402
    QUICK,
    THREAT,
    conv_network,
    images_and_labels,
    labels_of,
)

attacks = pytest.importorskip("splic_ext.attacks")
defenses = pytest.importorskip("splic_ext.defenses")

BOUNDED = [name for name, attack in QUICK.items() if attack.bounded]
#: Those that go to the border of the ball whatever they meet.
GREEDY = [name for name in BOUNDED if name != "within"]
TWO_NORMS = [name for name in GREEDY if name not in ("square", "worst-case")]


@pytest.fixture(params=QUICK)
def attack(request):
    return QUICK[request.param]


def defended(seed=None):
    return defenses.Defended(conv_network(), defenses.USVT(seed=seed))


def test_all_are_tested():
    assert set(QUICK) == set(attacks.ATTACKS)
    assert all(kind.name == name for name, kind in attacks.ATTACKS.items())


def test_shape_dtype_range(attack):
    images, labels = images_and_labels()
    before = images.clone()
    for dtype in (torch.float32, torch.float64):
        network = conv_network(dtype=dtype)
        result = attack(network, images.to(dtype), labels)
        assert (result.shape, result.dtype) == (images.shape, dtype)
        assert not result.requires_grad
        assert result.min() >= 0
        assert result.max() <= 1
    assert torch.equal(images, before), "the input was changed"
    assert attack(network, images[:0].double(), labels[:0]).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("name", GREEDY)
def test_result_is_in_the_ball(name):
    images, labels = images_and_labels()
    change = QUICK[name](defended(), images, labels) - images
    assert change.abs().max() <= THREAT.epsilon + 1e-6
    assert change.abs().max() > 0.9 * THREAT.epsilon, "the ball is hardly used"


@pytest.mark.parametrize("name", TWO_NORMS)
def test_result_is_in_the_ball_of_l2(name):
    images, labels = images_and_labels()
    threat = attacks.ThreatModel("l2", epsilon=0.25, steps=4, step_size=0.1)
    change = replace(QUICK[name], threat=threat)(defended(), images, labels) - images
    lengths = change.flatten(1).norm(dim=1)
    assert lengths.max() <= 0.25 + 1e-6
    assert lengths.max() > 0.2, "the ball is hardly used"


@pytest.mark.parametrize("name", BOUNDED)
def test_epsilon_zero_changes_nothing(name):
    images, labels = images_and_labels()
    threat = attacks.ThreatModel(epsilon=0, steps=2)
    attack = QUICK[name]
    if name == "worst-case":
        attack = replace(attack, attacks=[replace(part, threat=threat) for part in attack.attacks])
    else:
        attack = replace(attack, threat=threat)
    assert torch.equal(attack(defended(), images, labels), images)


def test_same_seed_same_result(attack):
    """Whatever the generators of torch and NumPy, and the masks of the defence, stand at."""
    network = defended()
    images, _ = images_and_labels()
    labels = labels_of(network.model, images)
    results = []
    for number in (1, 2):
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002
        states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        results.append(attack(network, images, labels))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
        network(images)
    assert torch.equal(*results)
    assert not torch.equal(attack.run(network, images, labels, seed=1), results[0])


def test_seed_is_that_of_the_threat_model():
    images, labels = images_and_labels()
    network = conv_network()
    seeded = attacks.PGD(attacks.ThreatModel(seed=5))
    assert torch.equal(
        seeded(network, images, labels), attacks.PGD().run(network, images, labels, seed=5)
    )


@pytest.mark.parametrize("name", [*BOUNDED, "cw"])
def test_independent_of_the_batch(name):
    """In double precision, where the order of sums decides nothing."""
    images, labels = images_and_labels()
    images, attack = images.double(), QUICK[name]
    network = defenses.Defended(conv_network(dtype=torch.float64), defenses.USVT())
    whole = attack(network, images, labels, index=10)
    parts = [
        attack(network, images[:2], labels[:2], index=10),
        attack(network, images[2:], labels[2:], index=torch.arange(12, 16)),
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-9)
    order = torch.tensor([3, 0, 5])
    mixed = attack(network, images[order], labels[order], index=order + 10)
    torch.testing.assert_close(mixed, whole[order], rtol=0, atol=1e-9)


def test_network_is_left_as_it_was(attack):
    images, labels = images_and_labels()
    network = defended()
    network.model[0].bias.requires_grad_(False)
    network.defense.gradient = "exact"
    before = copy.deepcopy(network.state_dict())
    attack(network, images, labels)
    assert all(part.grad is None for part in network.parameters())
    assert [part.requires_grad for part in network.parameters()] == [True, False, *[True] * 4]
    assert network.defense.gradient == "exact"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_around_it(attack, mode):
    images, labels = images_and_labels()
    network = conv_network()
    expected = attack(network, images, labels)
    with mode():
        assert torch.equal(attack(network, images.clone(), labels.clone()), expected)


def test_masks_of_an_attack_are_not_those_of_a_score():
    """Both may be seeded alike; an attack that knew the masks to come would be no attack."""

    class Spy(defenses.USVT):
        def draw(self):
            seeds.append(super().draw())
            return seeds[-1]

    seeds: list[int] = []
    network = defenses.Defended(conv_network(), Spy())
    images, labels = images_and_labels()
    for attack in QUICK.values():
        attack.run(network, images, labels, seed=3)
    seen = set(seeds)
    seeds.clear()
    with defenses.seeded_masks(3):
        for _ in range(50):
            network(images)
    assert len(set(seeds)) == 50
    assert not seen & set(seeds)


def test_frozen_masks_stay_frozen(attack):
    images, labels = images_and_labels()
    network = defended()
    with defenses.frozen_masks():
        before = network(images)
        attack(network, images, labels)
        assert torch.equal(network(images), before)


def test_slight_excess_is_clipped(attack):
    images, labels = images_and_labels()
    images[0], images[1] = -5e-5, 1 + 5e-5
    network = conv_network()
    clipped = attack(network, images.clamp(0, 1), labels)
    assert torch.equal(attack(network, images, labels), clipped)


def test_dictionary_and_back(attack):
    values = json.loads(json.dumps(attack.to_dict()))
    again = attacks.attack_from_dict(values)
    assert again == attack
    assert hash(again) == hash(attack)
    assert repr(again) == repr(attack)
    assert pickle.loads(pickle.dumps(attack)) == attack
    assert values["name"] == attack.name
    assert set(attack.uses) <= set(values)


def test_frozen(attack):
    with pytest.raises(FrozenInstanceError):
        attack.threat = attacks.ThreatModel()


def test_fields_that_are_not_used_do_not_tell_attacks_apart():
    assert attacks.FGSM(attacks.ThreatModel(steps=40)) == attacks.FGSM()
    assert "steps" not in attacks.FGSM().to_dict()
    assert "epsilon" not in repr(attacks.CarliniWagner())


def test_repr_shows_fractions():
    assert repr(attacks.FGSM(attacks.ThreatModel(epsilon=3 / 255, seed=2))) == (
        "FGSM(norm='linf', epsilon=3/255, seed=2)"
    )
    threat = attacks.ThreatModel("l2", 0.5, step_size=0.1234567)
    assert repr(threat).startswith(
        "ThreatModel(norm='l2', epsilon=0.5, steps=7, step_size=0.1234567"
    )
    assert eval(repr(threat), {"ThreatModel": attacks.ThreatModel}) == threat


def test_create_attack_takes_fields_of_the_threat_model():
    expected = attacks.PGD(attacks.ThreatModel(steps=40, step_size=1 / 255))
    assert attacks.create_attack("pgd", steps=40, step_size=1 / 255) == expected
    threat = attacks.ThreatModel(epsilon=0.1, steps=3)
    assert attacks.create_attack("apgd", threat=threat, steps=9, loss="dlr") == attacks.APGD(
        replace(threat, steps=9), loss="dlr"
    )
    assert attacks.create_attack("eot-pgd", seed=4).threat.steps == 200


def test_an_attack_of_ones_own():
    @dataclass(frozen=True, repr=False)
    class Brighten(attacks.Attack):
        name = "brighten"
        uses = ("epsilon",)
        amount: float = 0.5

        def perturb(self, target, images, streams):
            assert target(images).shape == (6, 5)
            return (images + self.amount * self.threat.epsilon).clamp(0, 1)

    images, labels = images_and_labels(high=0.5)
    result = Brighten()(conv_network(), images, labels)
    torch.testing.assert_close(result - images, torch.full_like(images, 4 / 255))
    with pytest.raises(NotImplementedError, match="Attack must implement the method `perturb`"):
        attacks.Attack()(conv_network(), images, labels)


def test_splic_is_attacked(attack):
    images, labels = images_and_labels(2, shape=(3, 8, 8))
    splic = defenses.SPLIC(SolverOptions(max_iterations=7))
    network = defenses.Defended(conv_network(side=8), splic)
    result = attack(network, images, labels, index=torch.tensor([5, 2]))
    assert result.shape == images.shape


def test_sizes_in_l2_are_not_those_of_linf():
    assert attacks.ThreatModel("l2", 0.5, steps=10).step_size == 2.5 * 0.5 / 10
    for norm in ({}, {"norm": "linf"}):
        attack = attacks.create_attack("pgd", **norm)
        assert (attack.threat.epsilon, attack.threat.step_size) == (8 / 255, 2 / 255)
    attack = attacks.attack_from_spec("eot-pgd:norm=l2,epsilon=0.5")
    assert attack.threat == attacks.ThreatModel("l2", 0.5, steps=200)
    assert attacks.attack_from_dict(attack.to_dict()) == attack
    given = attacks.ThreatModel(epsilon=0.3, steps=5, restarts=2)
    changed = attacks.create_attack("pgd", threat=given, norm="l2", epsilon=1).threat
    assert changed == attacks.ThreatModel("l2", 1, steps=5, restarts=2)
    for refused in ({}, {"threat": given}):
        with pytest.raises(ValueError, match="`epsilon` must be given for the norm 'l2'"):
            attacks.create_attack("pgd", norm="l2", **refused)


def test_an_attack_without_epsilon_needs_none_in_l2():
    walk = attacks.create_attack("hopskipjump", norm="l2")
    assert walk == attacks.HopSkipJump()
    assert attacks.create_attack("hopskipjump", threat=attacks.ThreatModel(), norm="l2") == walk


def test_texts_name_attacks_that_a_text_can_give():
    with pytest.raises(ValueError, match=r"attack name must be one of .*, square, got 'magic'"):
        attacks.attack_from_spec("magic")
    for name in ("within:attack=cw", "worst-case"):
        with pytest.raises(ValueError, match="is made of other attacks, which no text can give"):
            attacks.attack_from_spec(name)
