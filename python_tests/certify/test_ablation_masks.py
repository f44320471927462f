"""The masks of randomised ablation: uniform, of their key alone, the same in any batch."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.certify import ablation_masks  # noqa: E402
from splic_ext.masks import bernoulli_masks  # noqa: E402


@pytest.mark.parametrize("kept", [0.3, 5])
def test_a_mask_depends_on_its_own_key_alone(kept):
    index, draw = [3, 3, 2**40, 0, 7], [0, 9, 1, 2**32 - 1, 9]
    together = ablation_masks((5, 7), kept, index=index, draw=draw, seed=2**63 + 5)
    for i, key in enumerate(zip(index, draw, strict=True)):
        alone = ablation_masks((5, 7), kept, index=key[0], draw=key[1], seed=2**63 + 5)
        assert np.array_equal(alone[0], together[i])
    assert len({mask.tobytes() for mask in together}) == len(index)
    assert not np.array_equal(
        together, ablation_masks((5, 7), kept, index=index, draw=draw, seed=5)
    )


@pytest.mark.parametrize("fraction", [0.1, 0.73])
def test_bernoulli_masks_are_those_of_the_library(fraction):
    found = ablation_masks((6, 5), fraction, index=range(2**33, 2**33 + 4), draw=11, seed=3)
    known = bernoulli_masks(
        (4, 3, 6, 5),
        anchor_fraction=fraction,
        seed=3,
        first_index=2**33,
        stream=11,
        channels="separate",
    )
    assert np.array_equal(found, known)


def test_each_choice_of_k_pixels_is_as_likely():
    draws = 20_000
    masks = ablation_masks((2, 3), 3, index=0, draw=range(draws)).reshape(draws, 6)
    choices = [sum(1 << i for i in chosen) for chosen in combinations(range(6), 3)]
    counts = np.bincount(masks @ (1 << np.arange(6)), minlength=64)
    assert counts[choices].sum() == draws
    assert stats.chisquare(counts[choices]).pvalue > 1e-4


def test_each_mask_is_as_likely_as_it_should_be():
    draws, probability = 20_000, 0.25
    masks = ablation_masks((1, 4), probability, index=range(draws), draw=5).reshape(draws, 4)
    sizes = np.array([bin(code).count("1") for code in range(16)])
    expected = draws * probability**sizes * (1 - probability) ** (4 - sizes)
    counts = np.bincount(masks @ (1 << np.arange(4)), minlength=16)
    assert stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("kept", [1, 4, 12, 13, 23, 24])
def test_so_many_pixels_are_kept(kept):
    masks = ablation_masks((4, 6), kept, index=range(50), draw=range(50))
    assert np.all(masks.sum(axis=(1, 2, 3)) == kept)
    assert masks.shape == (50, 1, 4, 6)
    assert masks.dtype == np.bool_


def test_draws_of_an_image_are_independent():
    """Two draws of an image, and two images of a draw, agree as often as chance has it."""
    first = ablation_masks((16, 16), 26, index=range(400), draw=0)
    for other in (
        ablation_masks((16, 16), 26, index=range(400), draw=1),
        ablation_masks((16, 16), 26, index=range(1, 401), draw=0),
        ablation_masks((16, 16), 26, index=range(400), draw=0, seed=1),
    ):
        both = (first & other).sum(axis=(1, 2, 3))
        # Hypergeometric: 26 * 26 / 256 on average.
        law = stats.hypergeom(256, 26, 26)
        assert abs(both.mean() - law.mean()) < 5 * law.std() / np.sqrt(400)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kept": 0}, ValueError, "`kept` must be an integer in"),
        ({"kept": 13}, ValueError, "`kept` must be an integer in"),
        ({"kept": True}, TypeError, "`kept` must be an integer, got True"),
        ({"kept": 0.0}, ValueError, "`kept` must be finite and in"),
        ({"kept": 1.2}, ValueError, "`kept` must be finite and in"),
        ({"kept": "all"}, TypeError, "`kept` must be a number"),
        ({"shape": (3, 0)}, ValueError, r"`shape\[1\]` must be an integer in"),
        ({"shape": 12}, ValueError, r"`shape` must be \(H, W\), got 12"),
        ({"shape": (1, 3, 4)}, ValueError, r"`shape` must be \(H, W\)"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in"),
        ({"index": 2**64}, ValueError, "`index` must be an integer in"),
        ({"draw": [0, 2**32]}, ValueError, "`draw` must be an integer in"),
        ({"index": [0, 1], "draw": [0, 1, 2]}, ValueError, "`index` and `draw` must be as many"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ablation_masks(**{"shape": (3, 4), "kept": 2, "index": 0, "draw": 0, **arguments})
