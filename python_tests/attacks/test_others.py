"""Attacks of others: functions of model, images and labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.evaluation import make_dataset, make_network, numbers, run, timeless

torch = pytest.importorskip("torch", reason="torch is not installed")

from splic_ext import attacks  # noqa: E402
from splic_ext.attacks import FGSM, FunctionAttack, ThreatModel, as_attack  # noqa: E402
from splic_ext.defenses import Defended  # noqa: E402
from splic_ext.evaluation import EvaluationReport, evaluate  # noqa: E402

PAGE = Path(__file__).resolve().parents[2] / "docs" / "attacks.md"
FILE = """
import torch
from splic_ext.attacks import FGSM

def step(model, images, labels, epsilon=8/255, sign=1):
    inputs = images.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(inputs), labels)
    gradient, = torch.autograd.grad(loss, inputs)
    return (images + sign * epsilon * gradient.sign()).clamp(0, 1)

class Kind:
    def __init__(self, scale=0.01):
        self.scale = scale

    def __call__(self, model, images, labels):
        return (images + self.scale).clamp(0, 1)

def fails(model, images):
    return images

ready = FGSM()
number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(FILE, encoding="utf-8")
    return path


def noise(model, images, labels):
    """Random, by all three generators."""
    assert not model.training
    assert labels.dtype == torch.int64
    shift = 0.01 * np.random.rand()  # noqa: NPY002
    return (images + 0.02 * torch.rand_like(images) - shift).clamp(0, 1)


def test_a_function_is_scored_and_its_record_looks_like_ours():
    report = run(attacks={"noise": noise}, defenses=["identity", "usvt"], scenario="white")
    for record in report.select(attack="noise"):
        assert record.parameters == {"name": "function", "function": "noise"}
        assert record.threat is None, "no radius is known of it"
        assert 0 < record.perturbation.linf_max <= 0.03
    assert EvaluationReport.from_json(report.to_json()) == report
    again = run(attacks={"noise": noise}, defenses=["identity", "usvt"], scenario="white")
    assert timeless(again) == timeless(report), "its draws follow from the seed"


def test_the_generators_are_put_back():
    network, images = make_network(), torch.rand(3, 3, 8, 8)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    as_attack(noise)(network, images, [0] * 3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


def test_it_gets_the_defended_network_in_a_white_box():
    seen = []

    def watch(model, images, labels):
        model.train()
        seen.append(type(model.model))
        return images

    run(attacks={"watch": watch}, scenario="white")
    run(attacks={"watch": watch}, scenario="gray")
    assert seen[0] is Defended
    assert seen[-1] is torch.nn.Sequential


def test_a_radius_is_kept_to(mine):
    bounded = FunctionAttack(function=noise, radius=ThreatModel(epsilon=0.5))
    assert bounded.bounded
    (record,) = run(attacks={"x": bounded}, defenses=["identity"]).select(attack="x")
    assert record.threat == {"norm": "linf", "epsilon": 0.5}
    tight = FunctionAttack(function=noise, radius=ThreatModel(epsilon=0.001))
    with pytest.raises(
        ValueError, match=r"the attack 'x' must stay within 0.001 in linf, got a cha"
    ):
        run(attacks={"x": tight})


def test_by_place(mine):
    data, network = make_dataset(), make_network()
    images, labels = torch.from_numpy(data.to_float()), data.labels
    expected = FGSM()(network, images, labels)
    attack = as_attack("mine.py:step:epsilon=8/255")
    assert torch.allclose(attack(network, images, labels), expected, atol=1e-6)
    assert attack.to_dict() == {
        "name": "function", "function": "step", "epsilon": 8 / 255, "norm": "linf",
    }  # fmt: skip
    assert not as_attack("mine.py:step:sign=-1").bounded
    assert as_attack("mine.py:ready") == FGSM()
    moved = as_attack("mine.py:Kind:scale=0.5")(network, images, labels)
    assert torch.allclose(moved, (images + 0.5).clamp(0, 1))


def test_its_code_is_part_of_the_parts(mine):
    def parts(spec="mine.py:step"):
        run(attacks={"x": spec}, defenses=["identity"], output="out", overwrite=True)
        return set(mine.parent.glob("out/parts/attack-*.npz"))

    first = parts()
    assert parts() == first
    changed = parts("mine.py:step:sign=-1")
    assert changed > first
    mine.write_text(FILE.replace("gradient.sign()", "gradient.sign().relu()"))
    assert parts() > changed


@pytest.mark.parametrize(
    ("attack", "error", "message"),
    [
        (lambda m, x, y: x[:1], ValueError, r"must return images of shape \(10, 3, 8, 8\) and"),
        (lambda m, x, y: x.double(), ValueError, "got .* and torch.float64"),
        (lambda m, x, y: x / (x - x), ValueError, "must return finite images in .0, 1., got mini"),
        (lambda m, x, y: 2 * x, ValueError, "must return finite images in .0, 1., got minimum"),
        (lambda m, x, y: (x, y), TypeError, "`.*<lambda>` must return a tensor, got tuple; return"),
        (
            lambda m, x: x,
            ValueError,
            "`.*<lambda>` fails: TypeError: .*called with model, images a",
        ),
        ("mine.py:fails", ValueError, "`fails` fails: TypeError: .*; mend it"),
        ("mine.py:number", TypeError, "must be a function of model, images and labels, or a class"),
        (
            "mine.py:step:steps=3",
            TypeError,
            "`steps` is no parameter of the attack 'mine.py:step'; ",
        ),
        ("mine.py:Kind:size=3", ValueError, "'mine.py:Kind' cannot be made: TypeError: "),
        ("mine.py:lost", ValueError, "'mine.py' has no attack 'lost'; it has "),
        (
            "pgb:steps",
            ValueError,
            "attack name must be one of fgsm, .*'pgb'; choose one, or give on",
        ),
        (torch.nn.Identity(), TypeError, "must hold texts or Attack objects, got Identity"),
    ],
)
def test_refused(mine, attack, error, message):
    with pytest.raises(error, match=message):
        run(attacks={"x": attack})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "must be an Attack, a text or a function of model, images and labels, got int; build"),
        (FGSM, "got the class FGSM; build it first"),
    ],
)
def test_what_is_no_attack(given, message):
    with pytest.raises(TypeError, match=message):
        as_attack(given)
    with pytest.raises(TypeError, match="`function` must be a function of model, images and la"):
        FunctionAttack(function=given)
    with pytest.raises(TypeError, match="`radius` must be a ThreatModel, got int; give"):
        FunctionAttack(function=noise, radius=3)


def libraries(function):
    """The record of an attack of another library, which comes out the same again."""
    radius = ThreatModel(epsilon=8 / 255)
    first, again = (
        evaluate(
            make_network(), make_dataset(12), defenses=["usvt"], scenario="white", draws=2,
            attacks={"theirs": FunctionAttack(function=function, radius=radius)}, progress=False,
        ).select(attack="theirs")[0]
        for _ in range(2)
    )  # fmt: skip
    assert numbers([first]) == numbers([again])
    assert first.perturbation == again.perturbation
    return first


@pytest.fixture
def documented():
    """The functions of the documentation."""
    if not PAGE.is_file():
        pytest.skip("the tests run without the documentation beside them")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "def rand_autoattack" in block]
    namespace = {"torch": torch, "attacks": attacks}
    exec(block, namespace)
    return namespace


def test_autoattack(documented, monkeypatch):
    """Its version for random defences, as the documentation has it, with fewer steps."""
    library = pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")

    class Short(library.AutoAttack):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            assert self.apgd.eot_iter == 20
            self.apgd.n_iter, self.apgd.eot_iter = 5, 2

    monkeypatch.setattr(library, "AutoAttack", Short)
    record = libraries(documented["rand_autoattack"])
    assert 7 / 255 < record.perturbation.linf_max <= 8 / 255 + 1e-5


def test_torchattacks(documented):
    pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    record = libraries(documented["torchattacks_pgd"])
    assert 7 / 255 < record.perturbation.linf_max <= 8 / 255 + 1e-5
