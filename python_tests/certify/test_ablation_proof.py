"""Brute force: all masks, all changes of tiny images, many classifiers; no certificate is false.

The probabilities of the classes are known exactly here, as whole numbers.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")

from splic_ext.certify import ablation_delta, certified_radius  # noqa: E402
from splic_ext.certify.ablation_draws import as_encoding  # noqa: E402

PIXELS, CLASSES = 9, 3
#: All binary images of 3 x 3, and how many pixels differ between each two.
IMAGES = np.array(list(product((0, 1), repeat=PIXELS)), dtype=np.float32)
DISTANCE = (IMAGES[:, None] != IMAGES).sum(axis=2)
ODDS = 7  # of a pixel to be hidden, against 1: p = 1/8


def masks_and_weights(kept):
    """All masks, and their weights: whole numbers, whose sum is the certain event."""
    if kept is None:
        masks = IMAGES.astype(bool)
        return masks, ODDS ** (PIXELS - masks.sum(axis=1)).astype(np.int64)
    chosen = list(combinations(range(PIXELS), kept))
    masks = np.zeros((len(chosen), PIXELS), dtype=bool)
    for mask, pixels in zip(masks, chosen, strict=True):
        mask[list(pixels)] = True
    return masks, np.ones(len(masks), dtype=np.int64)


def shares(classes, weights):
    """Weights of each class, of shape (images, CLASSES); `classes` is (masks, images)."""
    return np.stack([weights @ (classes == each) for each in range(CLASSES)], axis=1)


def check(found, total, distance, kept):
    """Assert that nothing within a certified radius changes an answer; return the radii."""
    scheme = "bernoulli" if kept is None else "exact-k"
    amount = 1 / (1 + ODDS) if kept is None else kept
    answers = found.argmax(axis=1)
    radii = np.full(len(found), -1)
    for i, most in enumerate(found.max(axis=1)):
        # Rounded down, as a lower bound is.
        radius = certified_radius(np.nextafter(most / total, 0), PIXELS, amount, scheme)
        radii[i] = -1 if radius is None else radius
    for i in np.flatnonzero(radii >= 0):
        near = distance[i] <= radii[i]
        own = found[near, answers[i]]
        others = np.delete(found[near], answers[i], axis=1).max(axis=1)
        assert np.all(own > others)
        # And the probability itself has not fallen by more than Delta.
        delta = ablation_delta(PIXELS, amount, int(radii[i]), scheme)
        assert np.all(own / total >= found[i, answers[i]] / total - delta - 1e-12)
    return radii


def table_classifier(rng, masks):
    """A class for each mask and each sight of what it shows, without any structure but a bias."""
    code = (IMAGES[None] * masks[:, None]) @ (1 << np.arange(PIXELS))
    classes = rng.choice(CLASSES, (len(masks), 1 << PIXELS), p=rng.dirichlet((0.4,) * CLASSES))
    return np.take_along_axis(classes, code.astype(int), axis=1)


def linear_classifier(rng, masks):
    """A linear one of the null encoding, with a bias."""
    seen = np.concatenate([IMAGES[None] * masks[:, None], (1 - IMAGES)[None] * masks[:, None]], 2)
    weights, bias = rng.normal(size=(2 * PIXELS, CLASSES)), 2 * rng.normal(size=CLASSES)
    return (seen @ weights + bias).argmax(axis=2)


@pytest.mark.parametrize("kept", [1, 2, 3, 4, None])
@pytest.mark.parametrize("classifier", [table_classifier, linear_classifier])
def test_no_certificate_is_false(classifier, kept):
    masks, weights = masks_and_weights(kept)
    radii = [
        check(
            shares(classifier(np.random.default_rng(seed), masks), weights),
            weights.sum(),
            DISTANCE,
            kept,
        )
        for seed in range(25)
    ]
    assert np.mean(np.concatenate(radii) >= 1) > 0.01  # or nothing was tested


@pytest.mark.parametrize("kept", [1, 2, None])
def test_three_values(kept):
    """Images of black, gray and white: all changes within the radius of some of them."""
    masks, weights = masks_and_weights(kept)
    rng = np.random.default_rng(0)
    certified = 0
    for _ in range(10):
        table = rng.normal(size=(PIXELS, 4, CLASSES))
        bias = 2 * rng.normal(size=CLASSES)
        image = rng.integers(0, 3, PIXELS)
        near = [image]
        for size in (1, 2):
            for place in combinations(range(PIXELS), size):
                for values in product(range(3), repeat=size):
                    near.append(image.copy())
                    near[-1][list(place)] = values
        near = np.array(near)
        shown = np.where(masks[:, None], near, 3)
        classes = (table[np.arange(PIXELS), shown].sum(axis=2) + bias).argmax(axis=2)
        distance = (near[:, None] != near).sum(axis=2)
        # Radii above 2 need more changes than were made: those of the first image are complete.
        found = shares(classes, weights)
        radii = check(found, weights.sum(), np.where(distance <= 2, distance, PIXELS + 1), kept)
        certified += int(radii[0] >= 1)
    assert certified >= 2


@pytest.mark.parametrize("encoding", ["null", "mean", "gray", "splic"])
@pytest.mark.parametrize("kept", [2, None])
def test_no_certificate_through_an_encoding_is_false(encoding, kept):
    """The images pass through the real encodings: what they fill in proves nothing false."""
    masks, weights = masks_and_weights(kept)
    fill = as_encoding(encoding)
    images = torch.from_numpy(IMAGES).reshape(-1, 1, 3, 3)
    encoded = np.stack(
        [
            fill(images, torch.from_numpy(mask).reshape(3, 3)).flatten(1).double().numpy()
            for mask in masks
        ]
    )
    certified = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        inner = rng.normal(size=(encoded.shape[2], 16))
        outer = rng.normal(size=(16, CLASSES))
        classes = (np.tanh(encoded @ inner) @ outer + rng.normal(size=CLASSES)).argmax(axis=2)
        certified.append(check(shares(classes, weights), weights.sum(), DISTANCE, kept))
    assert np.mean(np.concatenate(certified) >= 1) > 0.01


@pytest.mark.parametrize("kept", [1, 2, None])
def test_the_radius_is_the_best_without_knowing_the_network(kept):
    """A network that changes its mind on every white pixel flips one pixel beyond."""
    masks, weights = masks_and_weights(kept)
    classes = np.array([(IMAGES * mask).any(axis=1) for mask in masks]).astype(int)
    found = shares(classes, weights)
    black = int(np.flatnonzero(~IMAGES.any(axis=1))[0])
    radius = check(found, weights.sum(), DISTANCE, kept)[black]
    assert radius >= 2
    beyond = found[DISTANCE[black] == radius + 1]
    assert np.all(beyond[:, 1] >= beyond[:, 0])
