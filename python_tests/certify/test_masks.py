"""Sets of masks: every place of a patch is hidden by one of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st

from splic_ext.certify.masks import MaskSet, parse_patch


def placed(height, width, boxes):
    hidden = np.zeros((height, width), bool)
    for top, left, high, wide in boxes:
        hidden[top : top + high, left : left + wide] = True
    return hidden


def places(height, width, shapes):
    return [
        (top, left, high, wide)
        for high, wide in shapes
        for top, left in product(range(height - high + 1), range(width - wide + 1))
    ]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_each_place_of_a_patch_is_hidden_by_a_mask(data):
    height, width = data.draw(st.integers(2, 24)), data.draw(st.integers(2, 24))
    patch = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    counts = data.draw(st.integers(2, 6)), data.draw(st.integers(2, 6))
    masks = MaskSet(height, width, patch, counts)
    assert masks.uncovered() == []
    for box in places(height, width, [patch]):
        inside = placed(height, width, [box])
        assert not (masks.visible & inside).any(axis=(1, 2)).all()
    assert len(masks) <= counts[0] * counts[1]


def test_a_set_that_misses_a_place_is_found_out():
    masks = MaskSet(8, 8, 2, 3)
    object.__setattr__(masks, "_values", (masks.boxes[1:], masks.visible[1:], masks.pairs))
    assert ((0, 0, 2, 2),) in masks.uncovered()


@pytest.mark.parametrize("shapes", [[(2, 3), (3, 2)], [(1, 4), (4, 1), (2, 2)]])
def test_one_of_several_shapes(shapes):
    masks = MaskSet(7, 9, shapes, 3)
    assert masks.uncovered() == []
    for box in places(7, 9, shapes):
        assert not (masks.visible & placed(7, 9, [box])).any(axis=(1, 2)).all()


def test_two_patches():
    masks = MaskSet(5, 5, 2, 2, patches=2)
    boxes = places(5, 5, [(2, 2)])
    for first, second in product(boxes, boxes):
        assert not (masks.visible & placed(5, 5, [first, second])).any(axis=(1, 2)).all()
    # Subsets of one to four of the four boxes.
    assert len(masks.boxes) == 4
    unions = {np.packbits(masks.visible[i] & masks.visible[j]).tobytes() for i, j in masks.pairs}
    assert len(unions) == len(masks.pairs)


def test_pairs_are_all_unions_once():
    masks = MaskSet(32, 32)
    assert (len(masks), len(masks.pairs)) == (36, 666)
    assert masks.pairs[:36].tolist() == [[i, i] for i in range(36)]
    assert masks == MaskSet(32, 32, (5, 5), (6, 6))
    assert masks != MaskSet(32, 32, 4)
    assert len({MaskSet(32, 32), MaskSet(32, 32, (5, 5))}) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((8, 8, 9), ValueError, "`patch` must fit into the images of 8 x 8, got 9 x 9"),
        ((8, 8, (2, 9)), ValueError, "`patch` must fit into the images of 8 x 8, got 2 x 9"),
        ((8, 8, 0), ValueError, "`patch` must be"),
        ((8, 8, 2.5), TypeError, "`patch` must be"),
        ((8, 8, (1, 2, 3)), ValueError, "`patch` must be an integer, or two"),
        ((8, 8, 2, 1), ValueError, "`masks` must be at least 2 along each axis, got 1"),
        ((8, 8, 2, (3, 1)), ValueError, "`masks` must be at least 2 along each axis"),
        ((8, 8, 2, 3, 3), ValueError, "`patches` must be"),
        ((64, 64, 2, 32, 1), ValueError, "at most 200000 pairs, got 524800 of 1024 masks"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MaskSet(*arguments)


@pytest.mark.parametrize("text", ["", "x", "5x", "5x6x7", "-5", "5,", "five", "²"])
def test_texts_that_are_no_patch(text):
    with pytest.raises(ValueError, match="`patch` must be a side such as 5"):
        parse_patch(text)
