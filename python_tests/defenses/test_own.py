"""Defences of a user's own: the default gradient, and what has no derivative."""

from __future__ import annotations

import numpy as np
import pytest

import splic_ext

torch = pytest.importorskip("torch", reason="torch is not installed")
from helpers.attacks import Affine, images_and_labels, labels_of  # noqa: E402
from helpers.defenses import random_images  # noqa: E402

attacks = pytest.importorskip("splic_ext.attacks")
defenses = pytest.importorskip("splic_ext.defenses")
from splic_ext.defenses.menet import MatrixEstimation  # noqa: E402

THREAT = attacks.ThreatModel(epsilon=0.3, steps=10, step_size=0.1)


@pytest.fixture(name="images")
def _images():
    return random_images()


class Shift(defenses.RandomDefense):
    """Images turned round and dimmed at random: by torch, detached, by NumPy, by the solver."""

    def __init__(self, how="torch", **parameters):
        super().__init__(**parameters)
        self.how = how

    def defend(self, images, index):
        share = 0.5 + (self.draw() % 100) / 200
        if self.how == "detached":
            images = images.detach()
        elif self.how == "numpy":
            images = torch.from_numpy(images.numpy())
        elif self.how == "dlpack":
            images = torch.from_numpy(np.from_dlpack(images))
        elif self.how == "solver":
            images = splic_ext.complete(images, seed=0)
        return share * (1 - images)


def slope(defense, images):
    inputs = images.clone().requires_grad_()
    (found,) = torch.autograd.grad(defense(inputs).sum(), inputs)
    return found.unique()


def test_one_default_gradient_the_strong_one(images):
    assert Shift().gradient == Negative().gradient == MatrixEstimation().gradient == "exact"
    assert slope(Shift(), images).max() <= -0.5
    assert slope(Shift(gradient="identity"), images).tolist() == [1.0]


@pytest.mark.parametrize("how", ["detached", "numpy", "dlpack", "solver"])
def test_a_random_defence_without_a_derivative_says_so(how, images):
    defense = Shift(how)
    with pytest.warns(
        UserWarning, match=r"^Shift has no derivative, .*upper bounds; .*='identity'"
    ):
        assert slope(defense, images).tolist() == [1.0]
    assert slope(defense, images).tolist() == [1.0], "it is said once"
    assert slope(Shift(how, gradient="identity"), images).tolist() == [1.0], "it was asked for"
    assert not Shift(how)(images).requires_grad, "nothing wants a gradient"


class Negative(defenses.Defense):
    def defend(self, images, index):
        return 1 - torch.from_numpy(images.numpy())


def test_a_plain_defence_without_a_derivative_is_detached(images):
    """Which attacks refuse."""
    assert not Negative()(images.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("kind", [attacks.EOTPGD, attacks.APGD])
def test_attacks_follow_the_derivative_by_default(kind):
    """The identity leads to the worst direction: the images come out more certain than before."""
    defended = defenses.Defended(Affine(classes=3), Shift()).eval()
    images, _ = images_and_labels(low=0.3, high=0.7)
    labels = labels_of(defended, images)
    adversarial = kind(THREAT, eot=2)(defended, images, labels)
    assert (labels_of(defended, adversarial) == labels).sum() == 0
