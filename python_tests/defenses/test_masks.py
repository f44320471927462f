"""The masks of random defences: seeds, indices, held still, and in sequences of their own."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import splic_ext
from splic_ext import ShapeError

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
defenses = pytest.importorskip("splic_ext.defenses")
from helpers.defenses import MAKERS, QUICK, RANDOM, random_images  # noqa: E402


@pytest.fixture(params=RANDOM)
def random_maker(request):
    return MAKERS[request.param]


@pytest.fixture
def images():
    return random_images()


def test_seed_fixes_the_masks(random_maker, images):
    defense = random_maker(seed=7)
    assert torch.equal(defense(images), defense(images))
    assert torch.equal(random_maker(seed=7)(images), defense(images))
    assert not torch.equal(random_maker(seed=8)(images), defense(images))
    assert not torch.equal(defense(images, index=1), defense(images))


def test_without_seed_masks_are_fresh_and_repeatable(random_maker, images):
    def run():
        torch.manual_seed(5)
        defense = random_maker()
        return [defense(images) for _ in range(3)]

    first, second = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])
    torch.manual_seed(6)
    assert not torch.equal(random_maker()(images), first[0])


def test_masks_are_those_of_the_library(images):
    class Masked(splic_ext.defenses.menet.MatrixEstimation):
        def estimate(self, matrices, observed):
            return 2 * observed - 1

    masks = splic_ext.masks.bernoulli_masks((3, 3, 9, 8), seed=4, first_index=2**40)
    assert np.array_equal(Masked(seed=4)(images, index=2**40).numpy(), masks)


@pytest.mark.parametrize("order", [[2, 0, 1], [5, 5, 5], [1, 2, 3], [0, 1, 0]])
def test_index_tensor(random_maker, images, order):
    defense = random_maker(seed=7)
    index = torch.tensor(order)
    expected = torch.cat([defense(images[i : i + 1], index=k) for i, k in enumerate(order)])
    for dtype in (torch.int64, torch.int32, torch.uint8):
        torch.testing.assert_close(
            defense(images, index=index.to(dtype)), expected, rtol=0, atol=1e-6
        )


def test_index_tensor_with_several_masks(images):
    defense = defenses.SPLIC(QUICK.replace(n_masks=3), seed=1)
    whole = defense(images)
    order = torch.tensor([2, 1, 0])
    assert torch.equal(defense(images[order], index=order), whole[order])


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (-1, ValueError, "`index` must be an integer in"),
        (1.5, TypeError, "`index` must be an integer"),
        (torch.zeros(3), TypeError, "got torch.float32; convert it"),
        (torch.ones(3, dtype=torch.bool), TypeError, "got torch.bool"),
        (torch.zeros(2, dtype=torch.int64), ShapeError, r"\(N,\) = \(3,\).*got \(2,\)"),
        (torch.tensor([0, -4, 1]), ValueError, "must not be negative, got -4"),
    ],
)
def test_refused_index(images, index, error, message):
    with pytest.raises(error, match=message):
        defenses.USVT()(images, index=index)


def test_frozen_masks(random_maker, images):
    defense, other = random_maker(), random_maker()
    with defenses.frozen_masks():
        first = defense(images)
        with defenses.frozen_masks():
            assert torch.equal(defense(images), first)
        assert torch.equal(defense(images), first)
        torch.testing.assert_close(defense(images[1:], index=1), first[1:], rtol=0, atol=1e-6)
        assert not torch.equal(other(images), first)
    assert not torch.equal(defense(images), first)
    with defenses.frozen_masks():
        assert not torch.equal(defense(images), first)


def test_seeded_masks(random_maker, images):
    defense = random_maker()
    defense(images)  # what was drawn before does not matter

    def run(seed):
        with defenses.seeded_masks(seed):
            return [defense(images) for _ in range(3)]

    first, again, other = run(1), run(1), run(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(image.flatten().tolist()) for image in first + other}) == 6
    with defenses.seeded_masks(1), defenses.frozen_masks():
        assert torch.equal(defense(images), first[0])
        assert torch.equal(defense(images), first[0])
        with defenses.seeded_masks(2):
            assert torch.equal(defense(images), first[0])
    with defenses.seeded_masks(1):
        with defenses.seeded_masks(2):
            assert torch.equal(defense(images), other[0])
        assert torch.equal(defense(images), first[0])
    with pytest.raises(ValueError, match="`seed` must be an integer"), defenses.seeded_masks(-1):
        pass


def test_frozen_masks_end_with_an_exception(images):
    defense = defenses.USVT()
    with pytest.raises(ShapeError, match="`images` must have shape"), defenses.frozen_masks():
        defense(images[0])
    assert not torch.equal(defense(images), defense(images))


def test_frozen_masks_hold_for_one_thread(images):
    defense = defenses.USVT()
    results = []

    def work():
        results.extend(defense(images) for _ in range(2))

    with defenses.frozen_masks():
        defense(images)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not torch.equal(*results)
