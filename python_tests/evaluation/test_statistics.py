"""Intervals and accuracies over draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.evaluation import (
    Accuracy,
    all_draws_accuracy,
    majority_accuracy,
    mean_accuracy,
    paired_difference,
    wilson_interval,
)
from splic_ext.evaluation.statistics import count_votes


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # scipy.stats.binomtest(successes, n).proportion_ci(method="wilson"), SciPy 1.17
        (0, 10, 0.0, 0.27753280),
        (1, 10, 0.017876213, 0.40415003),
        (45, 100, 0.35614538, 0.54755397),
        (81, 263, 0.25528852, 0.36620958),
        (10, 10, 0.72246720, 1.0),
    ],
)
def test_wilson_interval_of_known_answer(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-7)


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0.01, 0.999))
def test_wilson_interval_solves_its_equation(n, share, confidence):
    """|share - p| = z sqrt(p (1 - p) / n) at both ends p."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = wilson_interval(share * n, n, confidence)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1
    for end in (low, high):
        assert abs(share - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-6)


def test_wilson_interval_narrows_with_images_and_widens_with_confidence():
    def width(*arguments):
        low, high = wilson_interval(*arguments)
        return high - low

    assert width(300, 1000) < width(30, 100) < width(3, 10)
    assert width(30, 100, 0.5) < width(30, 100, 0.95) < width(30, 100, 0.999)
    low, high = wilson_interval(30, 100, math.nextafter(1, 0))
    assert 0 < low < 0.1
    assert 0.6 < high < 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1, 0), ValueError, "`n` must be an integer in"),
        ((1, 2.5), TypeError, "`n` must be an integer"),
        ((-1, 5), ValueError, "`successes` must be finite and"),
        ((6, 5), ValueError, "`successes` must be finite and"),
        ((math.nan, 5), ValueError, "`successes`"),
        ((1, 5, 0), ValueError, "`confidence`"),
        ((1, 5, 1.5), ValueError, "`confidence`"),
        ((1, 5, 1), ValueError, "`confidence` must be below 1, got 1; nothing but"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        wilson_interval(*arguments)


PREDICTIONS = np.array(
    [
        [2, 2, 2, 2],  # always right
        [2, 2, 1, 0],  # most votes, though only half of them
        [2, 2, 1, 1],  # a tie
        [2, 1, 1, 0],  # outvoted
        [1, 1, 1, 1],  # never right
    ]
)
LABELS = np.full(5, 2)


def test_votes():
    right, voted = count_votes(PREDICTIONS, LABELS)
    assert right.tolist() == [4, 2, 2, 1, 0]
    assert voted.tolist() == [True, True, False, False, False]


def test_accuracies():
    right, voted = count_votes(PREDICTIONS, LABELS)
    mean, all_draws = mean_accuracy(right, 4), all_draws_accuracy(right, 4)
    assert mean.value == pytest.approx((PREDICTIONS == 2).mean())
    assert all_draws.value == 1 / 5
    assert majority_accuracy(voted).value == 2 / 5
    assert (mean.low, mean.high) == wilson_interval(9 / 4, 5)
    assert (all_draws.low, all_draws.high) == wilson_interval(1, 5)
    assert mean.n == all_draws.n == 5


def test_one_draw_makes_all_accuracies_equal():
    right, voted = count_votes(PREDICTIONS[:, :1], LABELS)
    assert mean_accuracy(right, 1) == all_draws_accuracy(right, 1) == majority_accuracy(voted)


@pytest.mark.parametrize("sameness", [0.0, 0.5, 1.0])
def test_the_interval_of_the_mean_covers_the_truth(sameness):
    """Whether the draws of an image are independent, alike, or all the same."""
    rng = np.random.default_rng(0)
    truth, images, draws, runs = 0.4, 200, 5, 1000
    hits = 0
    for _ in range(runs):
        shared = rng.random((images, 1)) < truth
        own = rng.random((images, draws)) < truth
        right = np.where(rng.random((images, draws)) < sameness, shared, own).sum(1)
        accuracy = mean_accuracy(right, draws)
        hits += accuracy.low <= truth <= accuracy.high
    assert hits / runs >= 0.93  # 0.95 but for 3 standard errors


def test_accuracy_prints_percent():
    assert str(Accuracy(0.123, 0.1, 0.15, 1000)) == "12.3 % [10.0, 15.0] of 1000"


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 100), (20, 5, 100), (50, 0, 50)])
def test_paired_difference(b, c, n):
    first = [True] * b + [False] * (n - b)
    second = [False] * (n - c) + [True] * c
    found = paired_difference(first, second)
    assert (found.first, found.second, found.n) == (b, c, n)
    assert found.value == (b - c) / n
    size, z = n + 2, 1.959964
    half = z * math.sqrt(b + c + 1 - (b - c) ** 2 / size) / size
    assert found.low == pytest.approx((b - c) / size - half, abs=1e-6)
    assert found.high == pytest.approx(min(1.0, (b - c) / size + half), abs=1e-6)
    other = paired_difference(second, first)
    assert (other.low, other.value) == pytest.approx((-found.high, -found.value), abs=1e-9)


def test_the_paired_interval_covers():
    """In 95 % of the cases or more, for shares that depend on each other."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        hard = rng.random(80)
        first, second = hard < 0.35, (hard < 0.3) ^ (rng.random(80) < 0.05)
        true = 0.35 - (0.3 * 0.95 + 0.7 * 0.05)
        found = paired_difference(first, second)
        covered += found.low <= true <= found.high
    assert covered >= 0.94 * 2000


@pytest.mark.parametrize("flags", [([], []), ([True], [True, False]), ([[True]], [[True]])])
def test_paired_differences_of_nothing(flags):
    with pytest.raises(ValueError, match="`first` and `second` must be flags of the same images"):
        paired_difference(*flags)
