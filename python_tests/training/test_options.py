"""Options of a training, the learning rate, and the batches of an epoch."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from helpers.training import torch

from splic_ext.training import TrainingOptions
from splic_ext.training.batches import EpochPlan, batch_bounds, shift_and_mirror
from splic_ext.training.schedule import learning_rate_at


def test_round_trip():
    options = TrainingOptions(
        epochs=7, schedule="step", ema_decay=0.99, defense="splic:seed=3", adversarial="bpda"
    )
    assert TrainingOptions.from_dict(options.to_dict()) == options
    assert TrainingOptions.from_dict({}) == TrainingOptions()
    assert hash(options) == hash(TrainingOptions.from_dict(options.to_dict()))


def test_numbers_are_plain_python():
    options = TrainingOptions(epochs=np.int64(3), learning_rate=1, warmup_epochs=np.float32(0.5))
    assert type(options.epochs) is int
    assert type(options.learning_rate) is float
    assert type(options.warmup_epochs) is float


GROWTH = "`adversarial_warmup_epochs` needs `adversarial`"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"epochs": 0}, ValueError, "`epochs` must be an integer in [1, "),
        ({"epochs": 1.5}, TypeError, "`epochs` must be an integer"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be an integer"),
        ({"learning_rate": 0}, ValueError, "`learning_rate` must be finite and > 0"),
        ({"learning_rate": math.nan}, ValueError, "`learning_rate` must be finite"),
        ({"momentum": 1.0}, ValueError, "`momentum` must be below 1, got 1.0"),
        ({"weight_decay": -1}, ValueError, "`weight_decay` must be finite and >= 0"),
        ({"schedule": "linear"}, ValueError, "`schedule` must be one of 'cosine', 'step', got"),
        ({"schedule": 3}, ValueError, "`schedule` must be one of"),
        ({"precision": "int8"}, ValueError, "`precision` must be one of 'float32', 'bfloat16'"),
        (
            {"adversarial": "bpda", "adversarial_warmup_epochs": 31},
            ValueError,
            "`adversarial_warmup_epochs` must be fewer than the 30 `epochs`, got 31; choose less",
        ),
        (
            {"adversarial_warmup_epochs": 1},
            ValueError,
            f"{GROWTH}, an attack that has a radius, got None; use 'bpda', or leave it out",
        ),
        (
            {"adversarial": "cw", "adversarial_warmup_epochs": 1},
            ValueError,
            f"{GROWTH}, an attack that has a radius, got 'cw'",
        ),
        ({"warmup_epochs": 30}, ValueError, "`warmup_epochs` must be fewer than the 30 `epochs`"),
        ({"label_smoothing": 1}, ValueError, "`label_smoothing` must be below 1"),
        ({"crop": -1}, ValueError, "`crop` must be an integer in [0, 512]"),
        ({"flip": 1}, TypeError, "`flip` must be True or False"),
        ({"ema_decay": 1.0}, ValueError, "`ema_decay` must be below 1"),
        ({"compile": "yes"}, TypeError, "`compile` must be True or False"),
        ({"defense": "nothing"}, ValueError, "defence name must be one of"),
        ({"adversarial": "nothing"}, ValueError, "attack name must be one of"),
        ({"adversarial": "bpda:stepz=3"}, TypeError, "`stepz` is no parameter of the attack"),
        ({"copies": 2, "adversarial": "bpda"}, ValueError, "`copies` and `adversarial` contrad"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in [0, "),
    ],
)
def test_what_is_refused(change, kind, message):
    with pytest.raises(kind) as error:
        TrainingOptions(**change)
    assert str(error.value).startswith(message)


def test_what_is_no_dict_of_options():
    with pytest.raises(TypeError, match="unknown field 'lr' of training options; known are epochs"):
        TrainingOptions.from_dict({"lr": 0.1})
    with pytest.raises(TypeError, match="training options must be a mapping of names to values"):
        TrainingOptions.from_dict([1])


# The learning rate


def test_cosine_falls_to_nothing():
    options = TrainingOptions(epochs=10, learning_rate=0.4)
    rates = [learning_rate_at(options, t) for t in np.linspace(0, 10, 101)]
    assert rates[0] == 0.4
    assert rates[50] == pytest.approx(0.2)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(late < early for early, late in pairwise(rates))


def test_steps_at_half_and_three_quarters():
    options = TrainingOptions(epochs=200, learning_rate=0.1, schedule="step")
    rates = {t: learning_rate_at(options, t) for t in (0.5, 99.9, 100.1, 149.9, 150.1, 199.9)}
    expected = {0.5: 0.1, 99.9: 0.1, 100.1: 0.01, 149.9: 0.01, 150.1: 0.001, 199.9: 0.001}
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_warm_up_rises_linearly(schedule):
    options = TrainingOptions(epochs=8, learning_rate=0.2, schedule=schedule, warmup_epochs=2)
    assert [learning_rate_at(options, t) for t in (0.5, 1.0, 2.0)] == pytest.approx(
        [0.05, 0.1, 0.2]
    )


# Batches


@pytest.mark.parametrize(
    ("images", "size"), [(1, 128), (128, 128), (129, 128), (50000, 128), (7, 1)]
)
def test_batches_are_even(images, size):
    bounds = batch_bounds(images, size)
    sizes = np.diff(bounds)
    assert (bounds[0], bounds[-1]) == (0, images)
    assert len(sizes) == math.ceil(images / size)
    assert sizes.max() - sizes.min() <= 1
    assert sizes.max() <= size


def test_a_plan_is_a_function_of_seed_and_epoch():
    def plan(seed=0, number=0):
        found = EpochPlan(seed, number, 500, 4, True)
        return [found.order, found.offsets, found.mirrored]

    for one, other in zip(plan(), plan(), strict=True):
        assert np.array_equal(one, other)
    for changed in (plan(seed=1), plan(number=1)):
        assert not any(np.array_equal(a, b) for a, b in zip(plan(), changed, strict=True))


def test_a_plan_is_even():
    plan = EpochPlan(0, 0, 9000, 1, True)
    assert sorted(plan.order) == list(range(9000))
    counts = np.bincount(3 * plan.offsets[:, 0] + plan.offsets[:, 1], minlength=9)
    assert counts.min() > 1000 - 5 * math.sqrt(1000)
    assert abs(plan.mirrored.mean() - 0.5) < 5 * 0.5 / math.sqrt(9000)
    assert not EpochPlan(0, 0, 9000, 1, False).mirrored.any()


def test_shifts_are_those_of_padding_and_cutting():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (6, 3, 5, 7), dtype=np.uint8))
    offsets = np.array([[0, 0], [4, 4], [2, 2], [1, 3], [3, 0], [2, 4]])
    mirrored = np.array([False, False, True, True, False, True])
    found = shift_and_mirror(images, offsets, mirrored, 2)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for image, (row, column), mirror, result in zip(padded, offsets, mirrored, found, strict=True):
        cut = image[:, row : row + 5, column : column + 7]
        assert torch.equal(result, cut.flip(2) if mirror else cut)
    assert torch.equal(found[2], images[2].flip(2)), "the middle is no shift"
    assert found.dtype == torch.uint8
