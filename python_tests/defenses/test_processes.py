"""Fresh masks as torch draws its numbers: in workers, epochs, copies, threads."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
from helpers.defenses import MAKERS, RANDOM, DefendedSet, random_images  # noqa: E402

from splic_ext import defenses  # noqa: E402


@pytest.fixture(params=RANDOM)
def defense(request):
    """One that has drawn before, which must not matter."""
    made = MAKERS[request.param]()
    made(random_images())
    return made


def distinct(results):
    return len({tuple(result.flatten().tolist()) for result in results})


def epochs(defense, start, count=2, persistent=False, workers=2):
    # (Since Python 3.12 a fork with threads about, as torch has them, is warned of.)
    loader = torch.utils.data.DataLoader(
        DefendedSet(defense, 6 * workers),
        num_workers=workers,
        multiprocessing_context=start,
        persistent_workers=persistent,
    )
    return [image for _ in range(count) for batch in loader for image in batch]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("persistent", [False, True])
def test_forked_workers_and_epochs_differ(defense, persistent):
    torch.manual_seed(0)
    found = epochs(defense, "fork", persistent=persistent)
    assert distinct(found) == len(found) == 24
    torch.manual_seed(0)
    again = epochs(defense, "fork", persistent=persistent)
    assert all(map(torch.equal, found, again))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_spawned_workers_differ():
    defense = MAKERS["USVT"]()
    defense(random_images())
    torch.manual_seed(0)
    found = epochs(defense, "spawn")
    assert distinct(found) == len(found) == 24
    torch.manual_seed(0)
    assert all(map(torch.equal, found, epochs(defense, "fork")))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_do_not_repeat_a_sequence():
    with defenses.seeded_masks(3):
        found = epochs(MAKERS["USVT"](), "fork")
    assert distinct(found) == len(found)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda part: pickle.loads(pickle.dumps(part))]
)
def test_copies_differ(defense, again):
    parts = [defense, again(defense), again(defense)]
    found = [part(random_images()) for part in (*parts, *parts)]
    assert distinct(found) == 6


def test_the_generator_of_torch_decides(defense):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = [defense(random_images()), defense(random_images())]
    assert not torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        forked = defense(random_images())
    assert torch.equal(defense(random_images()), forked)
    torch.manual_seed(1)
    assert all(torch.equal(defense(random_images()), found) for found in first)
    with defenses.seeded_masks(1):
        before = torch.random.get_rng_state()
        defense(random_images())
        assert torch.equal(torch.random.get_rng_state(), before)


def test_a_checkpoint_computes_the_same_masks_again(defense):
    defense.gradient = "exact"
    inputs = random_images().requires_grad_()

    def gradient(forward):
        torch.manual_seed(4)
        (found,) = torch.autograd.grad(forward(inputs).square().sum(), inputs)
        return found

    def later(x):
        return torch.utils.checkpoint.checkpoint(defense, x, use_reentrant=False)

    assert torch.equal(gradient(later), gradient(defense))


def test_two_threads(defense):
    found = []
    threads = [
        threading.Thread(target=lambda: found.extend(defense(random_images()) for _ in range(8)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert distinct(found) == 16


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_seed_means_the_same_in_workers_and_copies():
    seeded = MAKERS["USVT"](seed=3)
    expected = seeded(random_images()[:1])[0]
    assert all(torch.equal(found, expected) for found in epochs(seeded, "fork"))
    assert torch.equal(copy.deepcopy(seeded)(random_images()[:1])[0], expected)
