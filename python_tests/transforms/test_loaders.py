"""Transforms behind a DataLoader: masks of workers and epochs, threads, batches."""

from __future__ import annotations

import copy
import pickle
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
from helpers.transforms import QUICK, OneImage, Threads, counting, loader  # noqa: E402

import splic_ext  # noqa: E402
from splic_ext import ShapeError, SolverOptions  # noqa: E402
from splic_ext.transforms import Complete, CompleteCollate, CompletedDataset  # noqa: E402

# (Since Python 3.12 a fork with threads about, as torch has them, is warned of.)
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

Sample = namedtuple("Sample", "image label")


def keys(images):
    return [tuple(image.flatten().tolist()) for image in images]


def fresh(start, kind, persistent=False, epochs=2):
    """Return what two workers make of one image, again and again, in two epochs."""
    if kind == "image":
        dataset, collate = OneImage(8, Complete(QUICK)), None
    else:
        dataset, collate = OneImage(8), CompleteCollate(QUICK)
    batches = loader(
        dataset,
        start,
        batch_size=2,
        collate_fn=collate,
        persistent_workers=persistent,
        generator=torch.Generator().manual_seed(3),
    )
    return [key for _ in range(epochs) for images, _ in batches for key in keys(images)]


@pytest.mark.parametrize("kind", ["image", "batch"])
@pytest.mark.parametrize("persistent", [False, True])
def test_fresh_masks_of_forked_workers(kind, persistent):
    found = fresh("fork", kind, persistent)
    assert len(set(found)) == len(found) == 16
    assert fresh("fork", kind, persistent) == found


@pytest.mark.parametrize("kind", ["image", "batch"])
def test_fresh_masks_of_spawned_workers(kind):
    found = fresh("spawn", kind, persistent=True)
    assert len(set(found)) == len(found) == 16
    assert fresh("fork", kind, persistent=True) == found


@pytest.mark.parametrize(
    ("start", "persistent"), [("fork", False), ("fork", True), ("spawn", True)]
)
def test_masks_of_samples_and_epochs(start, persistent):
    plain = OneImage(6)
    dataset = CompletedDataset(plain, Complete(QUICK, seed=9))
    batches = loader(dataset, start, batch_size=2, shuffle=True, persistent_workers=persistent)
    found = []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        assert dataset.epoch == epoch
        for images, numbers in batches:
            for image, number in zip(images, numbers.tolist(), strict=True):
                expected = splic_ext.complete(
                    plain.image, options=QUICK, seed=9, first_index=epoch * 2**32 + number
                )
                assert torch.equal(image, expected)
                found.append((number, epoch))
    assert len(set(found)) == len(found) == 12


def test_fresh_masks_of_a_data_set():
    dataset = CompletedDataset(OneImage(4), Complete(QUICK))
    found = keys(image for _ in range(2) for image, _ in (dataset[i] for i in range(4)))
    assert len(set(found)) == 8


def test_samples_counted_from_the_end():
    dataset = CompletedDataset(OneImage(4), Complete(QUICK, seed=0))
    plain = CompletedDataset([OneImage(1).image] * 4, Complete(QUICK, seed=0))
    assert torch.equal(plain[-1], plain[3])
    assert len(plain) == len(dataset) == 4
    with pytest.raises(ValueError, match=r"must be an integer in \[-4, 3\]"):
        plain[4]


def test_a_copy_has_an_epoch_of_its_own():
    dataset = CompletedDataset(OneImage(4), Complete(QUICK, seed=0))
    dataset.set_epoch(3)
    for again in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert again.epoch == 3
        again.set_epoch(5)
        assert dataset.epoch == 3


@pytest.mark.parametrize(
    ("sample", "key"),
    [
        (lambda image: image, None),
        (lambda image: (image, 3), None),
        (lambda image: [3, image], 1),
        (lambda image: (3, image), -1),
        (lambda image: Sample(image, 3), None),
        (lambda image: {"id": 3, "pixels": image}, "pixels"),
    ],
)
def test_forms_of_samples(sample, key):
    image = OneImage(1).image
    expected = splic_ext.complete(image, options=QUICK, seed=0)
    given = sample(image)
    found = CompletedDataset([given], Complete(QUICK, seed=0), key=key)[0]
    assert type(found) is type(given)
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, expected)
        return
    parts = found.values() if isinstance(found, dict) else found
    assert [part for part in parts if not isinstance(part, torch.Tensor)] == [3]
    assert torch.equal(next(p for p in parts if isinstance(p, torch.Tensor)), expected)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_worker_has_one_thread(start, monkeypatch):
    monkeypatch.setenv("SPLIC_NUM_THREADS", "3")
    for batch in loader(Threads(), start, batch_size=2):
        assert batch.tolist() == [1, 1]
    assert next(iter(loader(Threads(), None, workers=0)))[0] == 3


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc: threads are not seen")
@pytest.mark.parametrize(("threads", "most"), [(None, 1), (3, 3)])
def test_threads_of_a_worker_are_bounded(threads, most, monkeypatch):
    """As the system counts them, while many images are completed."""
    monkeypatch.setenv("SPLIC_NUM_THREADS", "4")
    collate = counting(CompleteCollate(SolverOptions(max_iterations=35), threads=threads))
    dataset = OneImage(128, shape=(3, 24, 24))
    for _, extra, seen in loader(dataset, "fork", batch_size=64, collate_fn=collate):
        assert seen > 5
        assert extra <= most
        if threads:
            assert extra >= 2


@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 9, 8), -3), ((9, 8, 3), -1), ((9, 8), -3), ((9, 8), -1)]
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_batches(shape, axis, dtype):
    values = torch.rand(4, *shape, generator=torch.Generator().manual_seed(2))
    images = (255 * values).to(dtype) if dtype == torch.uint8 else values
    collate = CompleteCollate(QUICK, channel_axis=axis)
    torch.manual_seed(8)
    done, labels = collate([(image, i) for i, image in enumerate(images)])
    torch.manual_seed(8)
    seed = int(torch.randint(2**63 - 1, ()))
    whole = images[:, None] if len(shape) == 2 else images
    axis = -3 if len(shape) == 2 else axis
    expected = splic_ext.complete(whole, options=QUICK, seed=seed, channel_axis=axis)
    assert torch.equal(done, expected.reshape(done.shape))
    assert done.dtype == dtype
    assert labels.tolist() == [0, 1, 2, 3]


def test_a_batch_is_collated_as_one_wants():
    def collate(samples):
        return {"x": torch.stack([image for image, _ in samples]), "ids": [i for _, i in samples]}

    batch = CompleteCollate(QUICK, key="x", collate=collate)([OneImage(3)[i] for i in range(3)])
    assert batch["x"].shape == (3, 3, 9, 8)
    assert batch["ids"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"options": 3}, TypeError, "`options`"),
        ({"key": 1.5}, TypeError, "`key` must be the place or the name of the image"),
        ({"collate": 3}, TypeError, "`collate` must be callable"),
        ({"channel_axis": 2}, ValueError, "`channel_axis` must be -3"),
        ({"threads": 0}, ValueError, "`threads`"),
        ({"data_range": -1.0}, ValueError, "`data_range`"),
        ({"backend": "gpu"}, ValueError, "`backend`"),
    ],
)
def test_wrong_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        CompleteCollate(**parameters)


@pytest.mark.parametrize(
    ("samples", "key", "error", "message"),
    [
        ([(1, 2)], None, ShapeError, r"a batch of images must have shape"),
        ([(np.zeros((3, 9, 8)), 2)], 2, ValueError, r"in samples of 2 parts, got 2"),
        ([(np.zeros((3, 9, 8)), 2)], "image", ValueError, r"in samples of 2 parts, got 'image'"),
        (
            [{"a": np.zeros((3, 9, 8))}],
            None,
            ValueError,
            r"the image among 'a', got None",
        ),
        ([np.zeros((3, 9, 8))], 0, TypeError, r"`key` must be None for samples that are Tensor"),
        ([np.zeros((9, 8, 3))], None, ShapeError, r"looks channel last"),
    ],
)
def test_wrong_batches(samples, key, error, message):
    with pytest.raises(error, match=message):
        CompleteCollate(QUICK, key=key)(samples)


@pytest.mark.parametrize(
    ("dataset", "transform", "message"),
    [
        (iter([]), Complete(QUICK), "`dataset` must have a length and items"),
        ([1], CompleteCollate(QUICK), "`transform` must be a Complete, got CompleteCollate"),
    ],
)
def test_wrong_data_sets(dataset, transform, message):
    with pytest.raises(TypeError, match=message):
        CompletedDataset(dataset, transform)


def test_wrong_epochs():
    dataset = CompletedDataset(OneImage(1), Complete(QUICK))
    with pytest.raises(ValueError, match="`epoch` must be an integer in"):
        dataset.set_epoch(-1)
