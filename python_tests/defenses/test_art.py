"""Defences as preprocessors of ART: the same images, and gradients that ART's attacks use."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from splic_ext import MissingExtraError, SolverOptions

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("art", reason="ART is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402
from helpers.attacks import conv_network, images_and_labels, labels_of  # noqa: E402

attacks = pytest.importorskip("splic_ext.attacks")
defenses = pytest.importorskip("splic_ext.defenses")
art = pytest.importorskip("splic_ext.defenses.art")

QUICK = SolverOptions(max_iterations=7)
THREAT = attacks.ThreatModel(epsilon=0.1, steps=5, step_size=0.03, random_start=False)


def classifier_of(network, *preprocessors):
    return PyTorchClassifier(
        network,
        torch.nn.CrossEntropyLoss(reduction="sum"),
        input_shape=(3, 8, 8),
        nb_classes=5,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        clip_values=(0, 1),
        preprocessing_defences=list(preprocessors),
        device_type="cpu",
    )


@pytest.fixture
def images():
    return images_and_labels(6, shape=(3, 8, 8))[0]


def test_prediction_is_that_of_the_defended_network(images):
    network = conv_network(side=8)
    preprocessor = art.SPLICPreprocessor(QUICK, seed=7)
    expected = defenses.Defended(network, defenses.SPLIC(QUICK, seed=7))(images).detach()
    predicted = classifier_of(network, preprocessor).predict(images.numpy())
    np.testing.assert_allclose(predicted, expected.numpy(), atol=1e-5)
    completed, labels = preprocessor(images.numpy(), np.arange(6))
    assert np.array_equal(completed, defenses.SPLIC(QUICK, seed=7)(images).numpy())
    assert np.array_equal(labels, np.arange(6))


@pytest.mark.parametrize(
    "defense",
    [
        defenses.SPLIC(QUICK, seed=3),
        defenses.USVT(seed=3),
        defenses.USVT(seed=3, gradient="exact"),
        defenses.GaussianBlur(1.5),
        defenses.Compose(defenses.BitDepth(4), defenses.GaussianBlur(1.5)),
    ],
    ids=["SPLIC", "USVT", "USVT-exact", "GaussianBlur", "Compose"],
)
def test_pgd_of_art_is_ours(defense, images):
    """All of a batch at once, so that an image has the same index here and there."""
    network = conv_network(side=8)
    labels = labels_of(network, images)
    theirs = ProjectedGradientDescentPyTorch(
        classifier_of(network, art.DefensePreprocessor(defense)),
        eps=0.1,
        eps_step=0.03,
        max_iter=5,
        num_random_init=0,
        verbose=False,
    ).generate(images.numpy(), labels.numpy())
    own = attacks.PGD(THREAT)(defenses.Defended(network, defense), images, labels)
    assert (own - images).abs().amax() > 0.09
    np.testing.assert_allclose(theirs, own.numpy(), atol=1e-6)


def test_fgsm_of_art_sees_the_gradient_mode(images):
    network = conv_network(side=8)
    labels = labels_of(network, images)
    results = {}
    for mode in ("exact", "identity"):
        defense = defenses.GaussianBlur(1.5, gradient=mode)
        classifier = classifier_of(network, art.DefensePreprocessor(defense))
        results[mode] = FastGradientMethod(classifier, eps=0.1).generate(
            images.numpy(), labels.numpy()
        )
        threat = attacks.ThreatModel(epsilon=0.1, steps=1, step_size=0.1, random_start=False)
        own = attacks.BPDA(threat) if mode == "identity" else attacks.FGSM(threat)
        expected = own(defenses.Defended(network, defense), images, labels)
        same = np.isclose(results[mode], expected.numpy(), atol=1e-6)
        assert same.mean() > 0.99
    assert not np.allclose(results["exact"], results["identity"])


def test_gradient_by_numpy(images):
    """The way of ART for a chain in which not all is torch."""
    gradient = np.random.default_rng(0).random(images.shape, dtype=np.float32)
    assert np.array_equal(
        art.SPLICPreprocessor(QUICK).estimate_gradient(images.numpy(), gradient), gradient
    )
    blur = defenses.GaussianBlur(1.5)
    inputs = images.clone().requires_grad_()
    blur(inputs).backward(torch.from_numpy(gradient))
    result = art.DefensePreprocessor(blur).estimate_gradient(images.numpy(), gradient)
    np.testing.assert_allclose(result, inputs.grad.numpy(), atol=1e-6)


def test_fit_and_predict_can_be_left_out(images):
    network = conv_network(side=8)
    plain = network(images).detach().numpy()
    left_out = art.DefensePreprocessor(defenses.GaussianBlur(3.0), apply_predict=False)
    np.testing.assert_allclose(
        classifier_of(network, left_out).predict(images.numpy()), plain, atol=1e-6
    )
    seen = []

    class Spy(defenses.Identity):
        def defend(self, images, index):
            seen.append(len(images))
            return images

    classifier = classifier_of(network, art.DefensePreprocessor(Spy(), apply_fit=False))
    classifier.fit(images.numpy(), np.zeros(6, np.int64), batch_size=6, nb_epochs=1)
    assert not seen
    classifier = classifier_of(network, art.DefensePreprocessor(Spy()))
    classifier.fit(images.numpy(), np.zeros(6, np.int64), batch_size=6, nb_epochs=1)
    assert seen == [6]


def test_parameters():
    preprocessor = art.SPLICPreprocessor("recommended", seed=2, apply_fit=False)
    assert preprocessor.defense.options == SolverOptions.preset("recommended")
    assert (preprocessor.apply_fit, preprocessor.apply_predict) == (False, True)
    assert repr(preprocessor).startswith("SPLICPreprocessor(SPLIC(options=")
    with pytest.raises(TypeError, match="`defense` must be a Defense, got str"):
        art.DefensePreprocessor("splic")


def test_missing_art(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "art"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "splic_ext.defenses.art")
    with pytest.raises(MissingExtraError, match="'adversarial-robustness-toolbox'") as caught:
        __import__("splic_ext.defenses.art")
    assert caught.value.extra == "attack"
