"""Images of a computation that are those of another data set too."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.training import fit, make_data

from splic_ext.data import Dataset
from splic_ext.runs.inputs import count_shared_images


def first_of(data, count, others):
    """So many images, and others."""
    fresh = make_data(others, seed=5)
    images = np.concatenate([data.images[:count], fresh.images])
    labels = np.concatenate([data.labels[:count], fresh.labels])
    return Dataset("mixed", images, labels, data.classes)


def test_images_that_are_learnt_are_no_test():
    data = make_data()
    with pytest.raises(ValueError, match=r"got 2 of 101 that are among the training images; give"):
        fit(data=data, test=first_of(data, 2, 99))
    assert fit(data=data, test=first_of(data, 1, 99), epochs=1).history[0].test_accuracy is not None


def test_shared_images_are_of_one_shape():
    data = make_data()
    flat = Dataset("flat", data.images.reshape(48, 3, 4, 16), data.labels, data.classes)
    assert count_shared_images(data.first(9), data) == count_shared_images(data, data.first(9)) == 9
    assert count_shared_images(data, make_data(seed=1)) == count_shared_images(data, flat) == 0
