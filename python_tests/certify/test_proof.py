"""No certificate is false: patches with all contents, and random answers by the ten thousand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.certify import MaskedVote, MaskSet, certify_patches  # noqa: E402
from splic_ext.certify.answers import Answers  # noqa: E402
from splic_ext.certify.vote import answer_images, certify_image  # noqa: E402

CLASSES = 3


class Toy(torch.nn.Module):
    """A random network of one hidden layer; `push` makes a class likely, so that proofs exist."""

    def __init__(self, seed, shape, push):
        super().__init__()
        rng = np.random.default_rng(seed)
        size = int(np.prod(shape))
        self.first = torch.nn.Parameter(torch.from_numpy(rng.normal(size=(size, 8))).float())
        self.second = torch.nn.Parameter(torch.from_numpy(rng.normal(size=(8, CLASSES))).float())
        self.bias = torch.nn.Parameter(torch.from_numpy(push * rng.normal(size=CLASSES)).float())

    def forward(self, images):
        hidden = torch.tanh(2 * (images.flatten(1) - 0.5) @ self.first)
        return hidden @ self.second + self.bias


def patched(image, patch, values):
    """The image with every content of `values` at every place of a patch."""
    _, height, width = image.shape
    high, wide = patch
    contents = torch.tensor(list(product(values, repeat=image.shape[0] * high * wide)))
    contents = contents.reshape(-1, image.shape[0], high, wide)
    for top, left in product(range(height - high + 1), range(width - wide + 1)):
        attacked = image.expand(len(contents), *image.shape).clone()
        attacked[:, :, top : top + high, left : left + wide] = contents
        yield attacked


@pytest.mark.parametrize(
    ("fill", "shape", "patch", "masks", "networks"),
    [
        ("gray", (1, 4, 4), (2, 2), 2, 40),
        ("mean", (1, 3, 5), (1, 3), (2, 3), 40),
        ("splic:rank=1", (1, 4, 4), (2, 2), 3, 10),
        ("gray", (2, 3, 3), (1, 2), 2, 20),
    ],
)
def test_all_patches_with_all_contents(fill, shape, patch, masks, networks):
    certified = broken = 0
    for seed in range(networks):
        network = Toy(seed, shape, push=4.0 * (seed % 3) / 2).eval()
        images = torch.from_numpy(np.random.default_rng(seed).random((3, *shape))).float()
        vote = MaskedVote(network, patch, masks, fill, batch_size=512)
        labels = vote(images).tolist()
        found = certify_patches(network, images, labels, patch=patch, masks=masks, fill=fill)
        for image, label, certificate in zip(images, labels, found, strict=True):
            assert certificate.answer == label
            turned = any(
                bool((vote(attacked) != label).any())
                for attacked in patched(image, patch, (0.0, 1.0))
            )
            assert not (certificate.certified and turned), (seed, certificate)
            certified += certificate.certified
            broken += turned
    assert certified > networks / 4
    assert broken > 0  # the test can fail


class Table:
    """Stands for a network and a fill: answers to pairs of masks from a table."""

    batch_size = 1000

    def __init__(self, masks, table):
        self.masks, self.table = masks, table

    def ask(self, images, which, first, second):
        return Answers(self.table[first, second], np.ones(len(first), np.float32))


class Masks:
    def __init__(self, count):
        self.count = count
        self.pairs = np.array([(i, j) for i in range(count) for j in range(i, count)])

    def __len__(self):
        return self.count


MASKS = [Masks(count) for count in range(8)]
IMAGE = np.zeros((1, 1, 1, 1))


def symmetric(table):
    return np.triu(table) + np.triu(table, 1).T


def test_a_hundred_thousand_random_answers():
    """An attacker decides all answers but those under the mask that hides the patch."""
    rng = np.random.default_rng(0)
    turned = 0
    for case in range(100_000):
        count, classes = int(rng.integers(2, 7)), int(rng.integers(2, 5))
        label, hiding = int(rng.integers(classes)), int(rng.integers(count))
        if case % 2:  # few answers differ, so that votes are close to unanimous
            wrong = int(rng.integers(classes))
            table = np.where(rng.random((count, count)) < 0.9, wrong, label)
        else:
            table = rng.integers(classes, size=(count, count))
        table = symmetric(table)
        table[hiding, :] = table[:, hiding] = label
        answer = answer_images(Table(MASKS[count], table), IMAGE).classes[0]
        assert answer == label, (case, hiding, label, table)
        if case % 20 < 2:  # were one pair wrong, the answer might be: the test can fail
            other = (hiding + 1) % count
            table[hiding, other] = table[other, hiding] = classes
            turned += answer_images(Table(MASKS[count], table), IMAGE).classes[0] != label
    assert turned > 1000


def test_an_image_is_certified_if_all_pairs_are_right_and_no_other():
    rng = np.random.default_rng(1)
    certified = 0
    for _ in range(2000):
        count = int(rng.integers(2, 7))
        table = symmetric((rng.random((count, count)) < 0.03).astype(int))
        asker = Table(MASKS[count], table)
        outcome = answer_images(asker, IMAGE)
        right = outcome.first.sure(0)[0]
        verdict = certify_image(asker, IMAGE, 0, right, outcome.first.leads[0])
        assert verdict.certified == (table == 0).all()
        if verdict.failed is not None:
            assert table[verdict.failed] == 1
        certified += verdict.certified
    assert 200 < certified < 1900


@pytest.mark.parametrize("lead", [0.0, 1e-4])
def test_a_lead_that_rounding_may_turn_certifies_nothing(lead):
    class Close(torch.nn.Module):
        def forward(self, images):
            zeros = images.flatten(1).sum(1) * 0
            return torch.stack([zeros + 1 + lead, zeros + 1, zeros - 1], dim=1)

    images = torch.rand(2, 1, 6, 6)
    found = certify_patches(Close().eval(), images, [0, 0], patch=2, masks=2, fill="gray")
    assert [c.certified for c in found] == [False, False]
    assert [c.failed for c in found] == [(0, 0), (0, 0)]


def test_two_patches_of_all_contents():
    """Both patches at all places, with all contents of two values."""
    shape, certified = (1, 3, 4), 0
    for seed in range(12):
        network = Toy(seed, shape, push=6.0).eval()
        image = torch.from_numpy(np.random.default_rng(seed).random(shape)).float()
        options = {"patch": 1, "masks": 2, "fill": "gray", "patches": 2}
        vote = MaskedVote(network, **options)
        label = int(vote(image[None]))
        (certificate,) = certify_patches(network, image[None], [label], **options)
        if certificate.certified:
            certified += 1
            cases = list(product(range(12), range(12), (0.0, 1.0), (0.0, 1.0)))
            attacked = image.reshape(1, -1).repeat(len(cases), 1)
            for row, (first, second, one, other) in zip(attacked, cases, strict=True):
                row[first], row[second] = one, other
            assert bool((vote(attacked.reshape(-1, *shape)) == label).all())
    assert certified >= 3
    assert len(MaskSet(3, 4, 1, 2, 2)) > len(MaskSet(3, 4, 1, 2))
