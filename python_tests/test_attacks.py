"""What all attacks keep: ball and range, repeatability, independence, checks, dead gradients."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, dataclass, replace

import numpy as np
import pytest

from splic_ext import ShapeError, SolverOptions

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")
from attack_tools import (  # noqa: E402
    Affine,
    Function,
    conv_network,
    images_and_labels,
    labels_of,
)
from torch import nn  # noqa: E402

attacks = pytest.importorskip("splic_ext.attacks")
defenses = pytest.importorskip("splic_ext.defenses")

THREAT = attacks.ThreatModel(steps=4)
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
    "worst-case": attacks.WorstCase(
        attacks=(attacks.EOTPGD(THREAT, eot=2), attacks.EOTPGD(THREAT, eot=2, loss="dlr")), draws=4
    ),
}
BOUNDED = [name for name, attack in QUICK.items() if attack.bounded]
GRADIENTS = [name for name in QUICK if name not in ("hopskipjump", "square")]
TWO_NORMS = [name for name in BOUNDED if name not in ("square", "worst-case")]


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


@pytest.mark.parametrize("name", BOUNDED)
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


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"norm": "l1"}, ValueError, "`norm` must be one of 'linf', 'l2', got 'l1'"),
        ({"epsilon": 8}, ValueError, r"`epsilon` must be finite and in \[0, 1\], got 8"),
        ({"epsilon": "8/255"}, TypeError, "`epsilon` must be a number"),
        ({"step_size": -1}, ValueError, "`step_size`"),
        ({"steps": 0}, ValueError, "`steps`"),
        ({"steps": 2.0}, TypeError, "`steps`"),
        ({"restarts": 0}, ValueError, "`restarts`"),
        ({"random_start": 1}, TypeError, "`random_start` must be True or False, got 1 of int"),
        ({"seed": -1}, ValueError, "`seed`"),
        ({"restarts": 2, "random_start": False}, ValueError, "`restarts` must be 1 without a ran"),
    ],
)
def test_threat_model_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        attacks.ThreatModel(**arguments)


def test_threat_model_from_dict_refuses():
    with pytest.raises(TypeError, match="unknown field 'eps' of a threat model; known are norm,"):
        attacks.ThreatModel.from_dict({"eps": 1})
    with pytest.raises(TypeError, match=r"a threat model must be a mapping .*, got list"):
        attacks.ThreatModel.from_dict([1])


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("pgdd", {}, ValueError, "attack name must be one of fgsm, .*, got 'pgdd'"),
        (3, {}, TypeError, "attack name must be a string, got 3"),
        ("fgsm", {"steps": 3}, TypeError, "`steps` is no parameter of the attack 'fgsm'; known"),
        ("pgd", {"eot": 3}, TypeError, "`eot` is no parameter of the attack 'pgd'"),
        ("pgd", {"threat": {"steps": 3}}, TypeError, "`threat` must be a ThreatModel, got dict"),
        ("pgd", {"threat": {}, "steps": 3}, TypeError, "`threat` must be a ThreatModel, got dict"),
        ("cw", {"confidence": -1}, ValueError, "`confidence`"),
        ("cw", {"learning_rate": 0}, ValueError, "`learning_rate` must be finite and > 0"),
        ("cw", {"initial_const": 0}, ValueError, "`initial_const` must be finite and > 0"),
        ("cw", {"iterations": 0}, ValueError, "`iterations`"),
        ("cw", {"binary_search_steps": 0}, ValueError, "`binary_search_steps`"),
        ("cw", {"abort_early": 0}, TypeError, "`abort_early` must be True or False, got 0 of int"),
        ("hopskipjump", {"iterations": 0}, ValueError, "`iterations`"),
        ("hopskipjump", {"max_queries": 99}, ValueError, r"`max_queries` .* in \[100, "),
        ("hopskipjump", {"eot": 0}, ValueError, "`eot`"),
        ("eot-pgd", {"eot": 0}, ValueError, "`eot`"),
        ("eot-pgd", {"loss": "mse"}, ValueError, "`loss` must be one of 'ce', 'dlr', got 'mse'"),
        ("eot-pgd", {"gradient": 1}, TypeError, "`gradient` must be a string or None, got 1"),
        ("apgd", {"eot": 1.5}, TypeError, "`eot`"),
        ("apgd", {"loss": None}, ValueError, "`loss`"),
        ("apgd", {"gradient": True}, TypeError, "`gradient`"),
        ("apgd", {"step_size": 0.1}, TypeError, "`step_size` is no parameter"),
        ("square", {"norm": "l2"}, ValueError, "`norm` must be 'linf' for the attack 'square'"),
        ("square", {"queries": 0}, ValueError, "`queries`"),
        ("square", {"area": 0}, ValueError, "`area`"),
        ("worst-case", {}, ValueError, "`attacks` must hold at least one attack, got none"),
        ("worst-case", {"attacks": "fgsm"}, TypeError, "`attacks` must be a list or tuple of att"),
        ("worst-case", {"attacks": ["fgsm"]}, TypeError, "`attacks` must hold attacks, got str"),
        ("worst-case", {"attacks": [QUICK["cw"]]}, ValueError, "`attacks` must all be bounded"),
        ("worst-case", {"attacks": [QUICK["fgsm"]], "draws": 0}, ValueError, "`draws`"),
    ],
)
def test_parameters_are_refused(name, arguments, error, message):
    with pytest.raises(error, match=message):
        attacks.create_attack(name, **arguments)


def test_worst_case_of_different_balls_is_refused():
    other = attacks.FGSM(attacks.ThreatModel(epsilon=4 / 255))
    with pytest.raises(ValueError, match=r"one epsilon, got FGSM\(.*=8/255.* and FGSM\(.*=4/255"):
        attacks.WorstCase(attacks=[attacks.FGSM(), other])


def test_dictionaries_are_refused():
    with pytest.raises(TypeError, match=r"an attack must be a mapping .*, got str"):
        attacks.attack_from_dict("pgd")
    with pytest.raises(ValueError, match=r"an attack must have a 'name', got \['steps'\]"):
        attacks.attack_from_dict({"steps": 3})


NETWORK = conv_network()
IMAGES, LABELS = images_and_labels(2)


@pytest.mark.parametrize(
    ("model", "images", "labels", "error", "message"),
    [
        (len, IMAGES, LABELS, TypeError, r"`model` must be a torch.nn.Module, got builtin"),
        (nn.Sequential(NETWORK), IMAGES, LABELS, ValueError, r"eval mode: .*call `.eval\(\)`"),
        (NETWORK, IMAGES.numpy(), LABELS, TypeError, "`images` must be a torch tensor"),
        (NETWORK, IMAGES[0], LABELS, ShapeError, r"`images` must have shape \(N, C, H, W\)"),
        (NETWORK, IMAGES + 1, LABELS, ValueError, r"`images` must be finite and lie in \[0, 1\]"),
        (NETWORK, IMAGES.half(), LABELS, TypeError, "of float32 or float64, got torch.float16"),
        (NETWORK, IMAGES, LABELS.int(), TypeError, "`labels` must be a tensor of int64, got torc"),
        (NETWORK, IMAGES, [0, 1], TypeError, "`labels` must be a tensor of int64, got list"),
        (NETWORK, IMAGES, LABELS[:1], ShapeError, r"`labels` must have shape \(N,\) = \(2,\), g"),
        (NETWORK, IMAGES, LABELS - 9, ValueError, "`labels` must not be negative, got -"),
        (NETWORK, IMAGES, LABELS + 5, ValueError, "`labels` must be below the .* classes, 5, got"),
        (nn.Flatten().eval(), IMAGES, LABELS + 48, ValueError, "classes, 48, got"),
        (nn.Identity().eval(), IMAGES, LABELS, ShapeError, r"logits of shape \(N, K\) = \(2, at"),
        (Function(lambda x: (x, x)), IMAGES, LABELS, TypeError, "floating-point tensor, got tuple"),
        (Function(lambda x: x.flatten(1) > 0), IMAGES, LABELS, TypeError, "got torch.bool"),
        (Function(lambda x: x.sum((1, 2, 3))[:, None]), IMAGES, LABELS, ShapeError, r"\(2, 1\)"),
    ],
)
def test_arguments_are_refused(model, images, labels, error, message):
    for name in ("fgsm", "apgd", "square"):
        with pytest.raises(error, match=message):
            QUICK[name](model, images, labels)


def test_keywords_are_refused():
    with pytest.raises(ValueError, match="`seed`"):
        QUICK["pgd"](NETWORK, IMAGES, LABELS, seed=-1)
    with pytest.raises(ShapeError, match="`index` must have shape"):
        QUICK["pgd"](NETWORK, IMAGES, LABELS, index=torch.arange(3))


def test_network_on_another_device():
    network = copy.deepcopy(NETWORK).to("meta")
    with pytest.raises(ValueError, match="on the device of the network, meta, got cpu"):
        QUICK["fgsm"](network, IMAGES, LABELS)


def test_network_in_train_mode_behind_a_defence():
    """The defence itself may be in any mode."""
    network = defenses.Defended(conv_network(), defenses.Identity())
    assert network.training
    QUICK["fgsm"](network, IMAGES, LABELS)
    network.model.train()
    with pytest.raises(ValueError, match="`model` must be in eval mode"):
        QUICK["fgsm"](network, IMAGES, LABELS)


@pytest.mark.parametrize("name", GRADIENTS)
def test_dead_gradients_raise(name):
    affine = Affine(classes=3)
    network = Function(lambda images: affine((8 * images).round() / 8))
    images, _ = images_and_labels()
    labels = labels_of(network, images)
    with pytest.raises(attacks.AttackError, match="the network, which has no defence, was 0") as e:
        QUICK[name](network, images, labels)
    assert e.value.gradient is None
    with torch.no_grad():
        wrong = network(images).argmin(dim=1)  # misclassified already: there is nothing to attack
    assert QUICK[name](network, images, wrong).shape == images.shape


def test_a_dead_gradient_of_some_images_is_none_of_the_attack():
    """A batch with one image that has a gradient is attacked."""
    affine = Affine(classes=3)
    network = Function(lambda x: torch.cat([affine((8 * x[:1]).round() / 8), affine(x[1:])]))
    images, _ = images_and_labels()
    labels = labels_of(network, images)
    change = QUICK["fgsm"](network, images, labels) - images
    assert change[0].abs().max() == 0
    assert change[1:].abs().amax(dim=(1, 2, 3)).min() > 0.03


class Broken(defenses.Defense):
    """A defence without a gradient worth the name."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def defend(self, images, index):
        if self.how == "detached":
            return images.detach()
        if self.how == "zero":
            return images * 0 + images.detach()
        return (images - images).sqrt() + images  # the root of 0 has no finite derivative


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("detached", "no gradient reaches the images through Broken with the gradient 'exact'"),
        ("zero", "gradient through Broken with the gradient 'exact' was 0 for all images"),
        ("nan", "the gradient held NaN or infinity, through Broken with the gradient 'exact'"),
    ],
)
@pytest.mark.parametrize("name", GRADIENTS)
def test_broken_defences_raise(name, how, message):
    network = defenses.Defended(Affine(classes=3), Broken(how)).eval()
    images, _ = images_and_labels()
    attack = QUICK[name]
    if name == "bpda":
        return  # its gradient passes by the defence
    if name == "worst-case":
        parts = [replace(part, gradient="exact") for part in attack.attacks]
        attack = replace(attack, attacks=parts)
    elif hasattr(attack, "gradient"):
        attack = replace(attack, gradient=None)
    with pytest.raises(attacks.AttackError, match=message) as caught:
        attack(network, images, labels_of(network, images))
    assert caught.value.gradient == "exact"
    assert caught.value.defense.startswith("Broken")
    if how != "detached":
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), vars(again)) == (str(caught.value), vars(caught.value))


def test_logits_that_are_not_finite_raise(attack):
    affine = Affine(classes=3)
    network = Function(lambda images: affine(images) / (images.mean((1, 2, 3)) < 0)[:, None])
    images, labels = images_and_labels(classes=3)
    with pytest.raises(attacks.AttackError, match="the logits held NaN or infinity"):
        attack(network, images, labels)


def test_gradient_mode_that_a_defence_refuses():
    images, labels = images_and_labels()
    network = defenses.Defended(conv_network(), defenses.BitDepth(3))
    with pytest.raises(ValueError, match="`gradient` must be 'identity' for BitDepth, got 'exact'"):
        attacks.EOTPGD(THREAT, gradient="exact")(network, images, labels)


def test_splic_is_attacked(attack):
    images, labels = images_and_labels(2, shape=(3, 8, 8))
    splic = defenses.SPLIC(SolverOptions(max_iterations=7))
    network = defenses.Defended(conv_network(side=8), splic)
    result = attack(network, images, labels, index=torch.tensor([5, 2]))
    assert result.shape == images.shape
