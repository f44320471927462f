"""Drawn shapes: the same bits everywhere, and no class in colour, ground or texture."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from splic_ext.data import DATASETS, load_dataset
from splic_ext.data.shapes import BLOCK, SHAPES, SHAPES_SPLITS, _distance


@pytest.fixture(scope="module")
def train():
    return load_dataset("shapes", "train", limit=3000)


@pytest.fixture(scope="module")
def test():
    return load_dataset("shapes", limit=1000)


def test_what_it_is(test):
    assert repr(test) == "Dataset('shapes/test': 1000 images of 3 x 32 x 32, 10 classes)"
    assert test.classes == SHAPES
    assert DATASETS["shapes"] == ("train", "test")
    assert len(load_dataset("shapes")) == SHAPES_SPLITS["test"][0] == 2000
    assert np.array_equal(np.bincount(test.labels), [100] * 10)


def test_bits():
    """They are part of results: whoever changes them makes another data set."""
    found = {
        split: hashlib.sha256(load_dataset("shapes", split, limit=600).images.tobytes()).hexdigest()
        for split in DATASETS["shapes"]
    }
    assert found == {
        "train": "86b0c9e00e10dfbd49ea418d9a929673137d008119c4db2ab73afa5b8ce836e0",
        "test": "9994c529f33d74ff7b55dbf107533ba7d5e58cb4f055a8304ce051b2acfc0edc",
    }


@pytest.mark.parametrize("limit", [1, 9, BLOCK, BLOCK + 1, 777])
def test_an_image_depends_on_its_split_and_place_alone(train, limit):
    few = load_dataset("shapes", "train", limit=limit)
    assert len(few) == limit
    assert np.array_equal(few.images, train.images[:limit])
    assert np.array_equal(few.labels, train.labels[:limit])


def test_splits_share_no_image(train, test):
    def known(data):
        return {image.tobytes() for image in data.images}

    assert len(known(train)) == len(train)
    assert not known(train) & known(test)


def test_split_is_checked():
    with pytest.raises(ValueError, match="`split` must be one of train, test, got 'extra'"):
        load_dataset("shapes", "extra")


def test_numpy_is_enough():
    code = (
        "import sys; from splic_ext.data import load_dataset; load_dataset('shapes', limit=3); "
        "print(sorted({'torch', 'PIL', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_figures_cover_the_same_area():
    line = np.linspace(-2, 2, 401, dtype=np.float32)
    u, v = np.meshgrid(line, line)
    areas = {name: 16 * (_distance(name, u[None], v[None]) < 0).mean() for name in SHAPES}
    assert all(1.85 < area < 2.1 for area in areas.values()), areas


def test_figures_stand_out(train):
    """The middle of a disc and the corners of its image are apart, darker as often as lighter."""
    discs = train.images[train.labels == 0].astype(np.float64).mean(axis=1)
    corners = discs[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=1)
    difference = discs[:, 14:18, 14:18].mean(axis=(1, 2)) - corners
    assert np.median(np.abs(difference)) > 60
    assert 0.4 < (difference > 0).mean() < 0.6


# What a classifier can know without the structure. Chance is 10 %.


def accuracy(learn, labels, tried, truth):
    """Of the linear classifier that fits best, in the least squares."""
    middle, spread = learn.mean(axis=0), learn.std(axis=0) + 1e-9
    learn, tried = (np.c_[(x - middle) / spread, np.ones(len(x))] for x in (learn, tried))
    square = learn.T @ learn + 30 * np.eye(learn.shape[1])
    weights = np.linalg.solve(square, learn.T @ np.eye(10)[labels])
    return (np.argmax(tried @ weights, axis=1) == truth).mean()


def colours(images):
    """Mean, deviation and co-deviations of the channels, and ten percentiles of the lightness."""
    flat = images.reshape(len(images), 3, -1) / 255
    centred = flat - flat.mean(axis=2, keepdims=True)
    products = (centred[:, [0, 0, 1]] * centred[:, [1, 2, 2]]).mean(axis=2)
    shares = np.percentile(flat.mean(axis=1), np.arange(5, 100, 10), axis=1).T
    return np.c_[flat.mean(axis=2), flat.std(axis=2), products, shares]


def patterns(images):
    """Histogram of local binary patterns (Ojala et al. 1996): 8 neighbours, darker or lighter."""
    gray = images.astype(np.float64).sum(axis=1)
    middle = gray[:, 1:-1, 1:-1]
    codes = np.zeros(middle.shape, np.int64)
    neighbours = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    for bit, (i, j) in enumerate(neighbours):
        codes |= (gray[:, i : i + 30, j : j + 30] > middle).astype(np.int64) << bit
    return np.stack([np.bincount(code.ravel(), minlength=256) for code in codes]) / middle[0].size


def ground(images):
    """The pixels near the edge of the image, where there is no figure, or hardly."""
    outside = np.ones((32, 32), bool)
    outside[3:-3, 3:-3] = False
    return images[:, :, outside].reshape(len(images), -1) / 255


@pytest.mark.parametrize("seen", [colours, patterns, ground])
def test_colour_texture_and_ground_tell_nothing(train, test, seen):
    """In 1,000 images chance has a deviation of 1 point; the length of outlines tells a little."""
    found = accuracy(seen(train.images), train.labels, seen(test.images), test.labels)
    assert found < 0.17, f"{seen.__name__}: {found:.1%}"


def test_the_same_measure_finds_a_texture_that_tells(train, test):
    """A stripe pattern added to a single class is seen by it."""

    def marked(data):
        images = data.images.astype(np.float64)
        images[data.labels == 3, :, ::2] += 40
        return images

    found = accuracy(patterns(marked(train)), train.labels, patterns(marked(test)), test.labels)
    assert found > 0.19
