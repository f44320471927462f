"""What attacks refuse: parameters, arguments, networks, and gradients that say nothing."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from splic_ext import ShapeError

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")
from helpers.attacks import (  # noqa: E402
    QUICK,
    THREAT,
    Affine,
    Function,
    conv_network,
    images_and_labels,
    labels_of,
)
from torch import nn  # noqa: E402

attacks = pytest.importorskip("splic_ext.attacks")
defenses = pytest.importorskip("splic_ext.defenses")

GRADIENTS = [name for name in QUICK if name not in ("hopskipjump", "square")]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"norm": "l1"}, ValueError, "`norm` must be one of 'linf', 'l2', got 'l1'"),
        ({"epsilon": None}, TypeError, "`epsilon` must be a number"),
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


def test_attacks_with_a_radius_refuse_a_threat_model_without():
    threat = attacks.ThreatModel("l2")
    message = "`epsilon` must be given for the norm 'l2', got none; give"
    for kind in (attacks.FGSM, attacks.PGD, attacks.APGD, attacks.Within):
        with pytest.raises(ValueError, match=message):
            kind(threat)
    images = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=message):
        threat.project(images, images)


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
        ("within", {}, TypeError, "`attack` must be an attack, got NoneType; make one with create"),
        ("within", {"attack": "cw"}, TypeError, "`attack` must be an attack, got str"),
        ("within", {"attack": QUICK["pgd"]}, ValueError, "`attack` must have no bound of its own"),
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
        (
            NETWORK,
            IMAGES.double(),
            LABELS,
            TypeError,
            r"network, .*32, got .*64; .*\(torch.float32",
        ),
        (NETWORK, IMAGES, LABELS[:1], ShapeError, r"`labels` must have shape \(N,\) = \(2,\), g"),
        (NETWORK, IMAGES, LABELS - 9, ValueError, "`labels` must not be negative, got -"),
        (
            NETWORK,
            IMAGES,
            LABELS + 5,
            ValueError,
            "`model` has 5 outputs, but there is the lab",
        ),
        (nn.Flatten().eval(), IMAGES, LABELS + 48, ValueError, "has 48 outputs, but"),
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


NETWORKS = {
    "plain": lambda **dtype: conv_network(**dtype),
    "defended": lambda **dtype: defenses.Defended(conv_network(**dtype), defenses.USVT()).eval(),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", QUICK)
def test_labels_that_are_clear_are_taken(name, kind):
    network, numbers = NETWORKS[kind](), LABELS.numpy()
    expected = QUICK[name](network, IMAGES, LABELS)
    small = (numbers.astype(dtype) for dtype in ("uint8", "int32", ">i8", "uint16"))
    others = (LABELS.int(), LABELS.to(torch.uint8), LABELS.tolist(), tuple(LABELS), numbers[::-1])
    for labels in (*small, *others[:-1], others[-1][::-1]):
        assert torch.equal(QUICK[name](network, IMAGES, labels), expected)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (["0", "1"], TypeError, r"integers, .* got list of str; .*classes.index\(name\)"),
        ("01", TypeError, "integers, .* got str; "),
        (None, TypeError, "integers, .* got NoneType; "),
        ({0, 1}, TypeError, "integers, .* got set; "),
        ([0, None], TypeError, "integers, .* got list of NoneType, int; "),
        ([[0], [1, 2]], TypeError, "integers, .* got list of list; "),
        (np.array(["a", "b"]), TypeError, "integers, .* got <U1; "),
        (LABELS.float(), TypeError, "integers, .* got torch.float32 on the device cpu; "),
        (LABELS.bfloat16(), TypeError, "integers, .* got torch.bfloat16 on the device cpu; "),
        ([0.0, 1.0], TypeError, "integers, .* got list of float; "),
        (LABELS > 1, TypeError, "integers, .* got torch.bool on the device cpu; "),
        ([True, False], TypeError, "integers, .* got list of bool; "),
        (LABELS.to("meta"), TypeError, "integers, .* got torch.int64 on the device meta; "),
        (LABELS[0], ShapeError, r"shape \(N,\) = \(2,\), got \(\); pass the class of each image$"),
        (0, ShapeError, r"shape \(N,\) = \(2,\), got \(\); pass"),
        (LABELS[:, None], ShapeError, r"got \(2, 1\); .*, as `labels.flatten\(\)` has it"),
        (torch.eye(5)[LABELS], ShapeError, r"got \(2, 5\); .*is `labels.argmax\(1\)` if"),
        (torch.eye(5).long()[LABELS], ShapeError, r"got \(2, 5\); .*is `labels.argmax\(1\)`"),
        (LABELS.tolist() * 2, ShapeError, r"got \(4,\); pass the class of each image$"),
    ],
)
def test_labels_that_are_not_clear_are_refused(labels, error, message):
    for attack in QUICK.values():
        for network in NETWORKS.values():
            with pytest.raises(error, match=f"^`labels` must .*{message}"):
                attack(network(), IMAGES, labels)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_networks_of_half_precision(name, kind, dtype):
    """The caller is told, in our words; one that converts for itself works."""
    network = NETWORKS[kind](dtype=dtype)
    with pytest.raises(TypeError, match=r"`model` must take images of float32, got .*16; convert"):
        QUICK[name](network, IMAGES, LABELS)
    with pytest.raises(TypeError, match=r"images of float64, got .*16; convert .*model.double"):
        QUICK[name](network, IMAGES.double(), LABELS)
    with pytest.raises(TypeError, match="`images` of an attack must be of float32 or float64"):
        QUICK[name](network, IMAGES.to(dtype), LABELS)
    inner = conv_network(dtype=dtype)
    able = nn.Sequential(Function(lambda images: inner(images.to(dtype)))).eval()
    assert QUICK[name](able, IMAGES, LABELS).dtype == torch.float32


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", QUICK)
def test_weights_made_in_inference_mode(name, kind):
    """As others, and left as they were."""
    with torch.inference_mode():
        network, images = NETWORKS[kind](), IMAGES.clone()
        inside = QUICK[name](network, images, LABELS.clone())
    before = list(network.parameters())
    expected = QUICK[name](NETWORKS[kind](), IMAGES, LABELS)
    assert torch.equal(QUICK[name](network, images, LABELS), expected)
    assert torch.equal(inside, expected)
    assert all(old is new for old, new in zip(before, network.parameters(), strict=True))
    assert all(part.is_inference() and part.requires_grad for part in before)


def test_hidden_tensors_made_in_inference_mode():
    with torch.inference_mode():
        weights = torch.ones(48, 3)
    with pytest.raises(ValueError, match=r"tensors made in `torch.inference_mode\(\)`, which have"):
        QUICK["fgsm"](Function(lambda images: images.flatten(1) @ weights), IMAGES, LABELS % 3)


def test_other_errors_of_a_network_of_half_precision_pass():
    network = nn.Sequential(Function(lambda images: images.view(3, -1)), nn.Linear(1, 1).half())
    with pytest.raises(RuntimeError, match=r"shape '.3, -1.' is invalid"):
        QUICK["fgsm"](network.eval(), IMAGES[:, :1], LABELS)


def test_keywords_are_refused():
    with pytest.raises(ValueError, match="`seed`"):
        QUICK["pgd"](NETWORK, IMAGES, LABELS, seed=-1)
    with pytest.raises(ShapeError, match="`index` must have shape"):
        QUICK["pgd"](NETWORK, IMAGES, LABELS, index=torch.arange(3))
    for name in ("pgd", "square"):
        with pytest.raises(ValueError, match=r"below 2\*\*63, got 9223372036854775808; count"):
            QUICK[name](NETWORK, IMAGES, LABELS, index=2**63 - 1)
    assert QUICK["square"](NETWORK, IMAGES, LABELS, index=2**63 - 2).shape == IMAGES.shape


def test_a_random_defence_that_no_index_reaches():
    """Its masks would be those of other images in another batch."""
    for usvt in (defenses.USVT(), defenses.USVT(seed=3)):
        inner = defenses.Defended(NETWORK, defenses.Compose(defenses.BitDepth(3), usvt)).eval()
        QUICK["fgsm"](inner, IMAGES, LABELS)
        for model in (nn.Sequential(inner).eval(), defenses.Defended(inner, defenses.Identity())):
            with pytest.raises(
                ValueError, match=r"random defence USVT where the index .* outermost"
            ):
                QUICK["fgsm"](model, IMAGES, LABELS)
    plain = defenses.Defended(NETWORK, defenses.BitDepth(3))
    QUICK["fgsm"](nn.Sequential(plain).eval(), IMAGES, LABELS)


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


def test_a_part_in_train_mode():
    """Dropout at work below a network in eval mode."""
    network = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Dropout()), nn.Linear(48, 5)).eval()
    QUICK["fgsm"](network, IMAGES, LABELS)
    network[0][1].train()
    for model in (network, defenses.Defended(network, defenses.Identity())):
        with pytest.raises(ValueError, match="`model` must be in eval mode"):
            QUICK["fgsm"](model, IMAGES, LABELS)


@pytest.mark.parametrize("name", GRADIENTS)
def test_dead_gradients_raise(name):
    affine = Affine(classes=3)
    network = Function(lambda images: affine((8 * images).round() / 8))
    images, _ = images_and_labels()
    labels = labels_of(network, images)
    with pytest.raises(
        attacks.AttackError, match=r"the undefended network was 0 .* use another loss"
    ) as e:
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
        return  # its gradient mode is "identity"
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


def test_errors_name_the_gradient_of_the_attack():
    """Not that which the defence is set to before and after."""
    network = defenses.Defended(Affine(classes=3), Broken("zero")).eval()
    network.defense.gradient = "identity"
    images, _ = images_and_labels()
    with pytest.raises(attacks.AttackError, match="Broken with the gradient 'exact' was 0") as e:
        attacks.EOTPGD(THREAT, gradient="exact")(network, images, labels_of(network, images))
    assert e.value.gradient == "exact"
    assert network.defense.gradient == "identity"


@pytest.mark.parametrize("name", QUICK)
def test_logits_that_are_not_finite_raise(name):
    affine = Affine(classes=3)
    network = Function(lambda images: affine(images) / (images.mean((1, 2, 3)) < 0)[:, None])
    images, labels = images_and_labels(classes=3)
    with pytest.raises(attacks.AttackError, match="the logits held NaN or infinity"):
        QUICK[name](network, images, labels)


@pytest.mark.parametrize("name", GRADIENTS)
def test_logits_that_do_not_depend_on_the_images_raise(name):
    """They want a gradient by weights that are held back from the network's parameters."""
    affine = Affine(classes=3)
    network = Function(lambda images: affine(images.detach()))
    assert not list(network.parameters())
    images, labels = images_and_labels(classes=3)
    with pytest.raises(attacks.AttackError, match=r"through the undefended network: .* mend the"):
        QUICK[name](network, images, labels)


@pytest.mark.parametrize("name", ["fgsm", "apgd"])
def test_messages_on_a_plain_network_speak_of_no_defence(name):
    affine = Affine(classes=3)
    network = Function(lambda images: affine(images) / 0)
    images, labels = images_and_labels(classes=3)
    with pytest.raises(attacks.AttackError, match=r"undefended network; check the network$"):
        QUICK[name](network, images, labels)


def test_gradient_mode_that_a_defence_refuses():
    images, labels = images_and_labels()
    network = defenses.Defended(conv_network(), defenses.BitDepth(3))
    with pytest.raises(ValueError, match="`gradient` must be 'identity' for BitDepth, got 'exact'"):
        attacks.EOTPGD(THREAT, gradient="exact")(network, images, labels)


@pytest.mark.parametrize("kind", [attacks.EOTPGD, attacks.APGD])
def test_gradient_mode_that_nobody_knows(kind):
    nothing = defenses.Defended(NETWORK, defenses.Compose(defenses.Compose()))
    some = defenses.Defended(NETWORK, defenses.Compose(defenses.Identity()))
    for network in (NETWORK, nothing):
        with pytest.raises(ValueError, match=r"one of 'identity', .*, or None, got 'bogus'; ch"):
            kind(THREAT, gradient="bogus")(network, IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"`gradient` must be 'exact' or .*, got 'bogus'"):
        kind(THREAT, gradient="bogus")(some, IMAGES, LABELS)
    for network in (NETWORK, nothing, some):
        for gradient in ("identity", "exact", "surrogate", None):
            kind(THREAT, gradient=gradient)(network, IMAGES, LABELS)
