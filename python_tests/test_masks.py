"""Masks: published Philox vectors, independence of the batch, statistics."""

from __future__ import annotations

import numpy as np
import pytest

from splic_ext.masks import anchor_threshold, bernoulli_masks, philox4x32

BIGGEST = 2**64 - 1
SHAPE = (4, 3, 5, 7)

# kat_vectors of Random123: rounds, counter, key, output.
KNOWN_ANSWERS = [
    (7, "00000000 00000000 00000000 00000000", "00000000 00000000",
     "5f6fb709 0d893f64 4f121f81 4f730a48"),
    (7, "ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "5207ddc2 45165e59 4d8ee751 8c52f662"),
    (7, "243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "4dfccaba 190a87f0 c47362ba b6b5242a"),
    (10, "00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (10, "ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (10, "243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("rounds", "counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_known_answers(rounds, counter, key, expected):
    low, high = words(key)
    block = philox4x32(np.array(words(counter), np.uint32), (low, high), rounds)
    assert block.dtype == np.uint32
    assert block.tolist() == words(expected)


def test_philox_takes_blocks_of_any_shape():
    rng = np.random.default_rng(0)
    counters = rng.integers(0, 2**32, (3, 5, 4), dtype=np.uint32)
    blocks = philox4x32(counters, (1, 2))
    assert blocks.shape == counters.shape
    for place in np.ndindex(3, 5):
        assert (blocks[place] == philox4x32(counters[place], (1, 2))).all()


def plain_bit(seed, index, stream, position, fraction):
    counter = np.array([position // 4, stream, index & 0xFFFFFFFF, index >> 32], dtype=np.uint32)
    word = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))[position % 4]
    return int(word) < fraction * 2**32


@pytest.mark.parametrize("seed", [0, 7, 2**32, BIGGEST])
@pytest.mark.parametrize("first", [0, 2**32 - 1, 2**63])
@pytest.mark.parametrize("stream", [0, 3])
def test_each_bit_follows_the_documented_counter(seed, first, stream):
    masks = bernoulli_masks(
        (2, 1, 3, 3), seed=seed, first_index=first, stream=stream, anchor_fraction=0.3
    )
    for i, position in np.ndindex(2, 9):
        expected = plain_bit(seed, first + i, stream, position, 0.3)
        assert masks[i].ravel()[position] == expected


@pytest.mark.parametrize("channels", ["stacked", "separate"])
@pytest.mark.parametrize("first", [0, 11, 2**32 - 2, BIGGEST - 3])
def test_masks_do_not_depend_on_the_split_of_the_batch(channels, first):
    draw = {"seed": BIGGEST, "channels": channels}
    whole = bernoulli_masks(SHAPE, first_index=first, **draw)
    for sizes in ((1, 1, 1, 1), (3, 1), (2, 2)):
        starts = np.cumsum((0, *sizes[:-1])).tolist()
        parts = [
            bernoulli_masks((n, *SHAPE[1:]), first_index=first + start, **draw)
            for n, start in zip(sizes, starts, strict=True)
        ]
        assert np.array_equal(np.concatenate(parts), whole)


def test_index_starts_again_after_the_largest():
    wrapped = bernoulli_masks((2, *SHAPE[1:]), first_index=BIGGEST)
    assert np.array_equal(wrapped[1:], bernoulli_masks((1, *SHAPE[1:]), first_index=0))
    assert not np.array_equal(wrapped[0], wrapped[1])


def test_shapes():
    assert bernoulli_masks(SHAPE).shape == SHAPE
    assert bernoulli_masks(SHAPE, channels="separate").shape == (4, 1, 5, 7)
    assert bernoulli_masks((0, 3, 5, 7)).shape == (0, 3, 5, 7)
    assert bernoulli_masks((2, 1, 1, 1)).dtype == np.bool_


def test_separate_is_the_first_plane_of_stacked():
    stacked, separate = (bernoulli_masks(SHAPE, channels=c) for c in ("stacked", "separate"))
    assert np.array_equal(stacked[:, :1], separate)


def test_bits_of_an_image_do_not_depend_on_its_width():
    flat = bernoulli_masks((1, 1, 1, 35))
    assert np.array_equal(flat.reshape(5, 7), bernoulli_masks((1, 1, 5, 7))[0, 0])


def test_anything_in_the_key_or_counter_changes_the_mask():
    base = {"seed": 1, "first_index": 1, "stream": 0}
    variants = [
        base,
        {**base, "seed": 2},
        {**base, "seed": 1 + 2**32},
        {**base, "first_index": 2**32 + 1},
        {**base, "first_index": 2**63 + 1},
        {**base, "stream": 1},
        {**base, "stream": 2},
    ]
    masks = [bernoulli_masks((1, 1, 16, 16), **variant).ravel() for variant in variants]
    for i, first in enumerate(masks):
        for second in masks[:i]:
            # 256 independent fair bits: five standard deviations around one half.
            assert abs(np.mean(first == second) - 0.5) < 5 * 0.5 / 16


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.64, 0.97])
def test_share_of_anchors(fraction):
    masks = bernoulli_masks((100, 3, 32, 32), anchor_fraction=fraction, seed=3)
    deviation = (fraction * (1 - fraction)) ** 0.5
    assert abs(masks.mean() - fraction) < 5 * deviation / masks.size**0.5
    per_image = masks.mean(axis=(1, 2, 3))
    assert np.abs(per_image - fraction).max() < 6 * deviation / 3072**0.5
    per_pixel = masks.mean(axis=0)
    assert np.abs(per_pixel - fraction).max() < 6 * deviation / 100**0.5
    # Neighbouring bits, which share a Philox block, are not correlated.
    product = (masks[..., 1:] - fraction) * (masks[..., :-1] - fraction)
    assert abs(product.mean()) < 5 * deviation**2 / product.size**0.5


@pytest.mark.parametrize(
    ("shape", "changes", "error", "message"),
    [
        (SHAPE, {"channels": "Stacked"}, ValueError, "`channels` must be one of .*, got 'Stacked'"),
        (SHAPE, {"channels": None}, ValueError, "`channels` must be one of"),
        (SHAPE[1:], {}, ValueError, r"`shape` must be \(N, C, H, W\), got \(3, 5, 7\); use 1"),
        ((-1, 3, 5, 7), {}, ValueError, r"`shape\[0\]` must be an integer in \[0, .*, got -1"),
        ((1, 3, 5.0, 7), {}, TypeError, r"`shape\[2\]` must be an integer, got 5.0 of float"),
        (SHAPE, {"seed": -1}, ValueError, "`seed` must be an integer in"),
        (SHAPE, {"stream": 2**32}, ValueError, "`stream` must be an integer in"),
        (SHAPE, {"anchor_fraction": 2}, ValueError, "`anchor_fraction` must be finite and in"),
    ],
)
def test_what_masks_refuse(shape, changes, error, message):
    with pytest.raises(error, match=message):
        bernoulli_masks(shape, **changes)


def test_fraction_zero_and_one():
    assert not bernoulli_masks(SHAPE, anchor_fraction=0.0).any()
    assert bernoulli_masks(SHAPE, anchor_fraction=1.0).all()
    assert (anchor_threshold(0.0), anchor_threshold(1.0)) == (0, 2**32)


def test_anchors_grow_with_the_fraction():
    previous = bernoulli_masks(SHAPE, anchor_fraction=0.0)
    for fraction in (0.25, 0.5, 0.75, 1.0):
        masks = bernoulli_masks(SHAPE, anchor_fraction=fraction)
        assert (masks >= previous).all()
        assert masks.sum() > previous.sum()
        previous = masks


@pytest.mark.parametrize("channels", ["stacked", "separate"])
@pytest.mark.parametrize("seed", [0, 7, BIGGEST])
def test_torch_draws_the_same_masks(torch, seed, channels):
    """As it does for images on another device than the CPU."""
    from splic_ext.autograd.masks import draw, masks_on

    indices = np.array([3, 4, BIGGEST, 0, 2**40], np.uint64)
    arguments = {"anchor_fraction": 0.3, "seed": seed, "stream": 2, "channels": channels}
    images = torch.empty(5, 3, 9, 7)
    known = masks_on(images, indices, **arguments)
    single = bernoulli_masks((1, 3, 9, 7), first_index=2**40, **arguments)
    assert np.array_equal(known[4:].numpy(), single)
    assert torch.equal(draw(images, indices, *arguments.values()), known)
