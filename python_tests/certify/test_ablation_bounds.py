"""Delta against exact fractions, Clopper-Pearson against SciPy and its own promise, radii."""

from __future__ import annotations

from fractions import Fraction
from math import comb, inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
pytest.importorskip("torch", reason="torch is not installed")

from splic_ext.certify import (  # noqa: E402
    ablation_delta,
    certified_radius,
    clopper_pearson_lower,
    least_draws,
)


@given(st.integers(1, 3000), st.data())
def test_delta_of_exact_k_is_never_below_and_at_most_one_float_above(pixels, data):
    kept = data.draw(st.integers(1, pixels))
    rho = data.draw(st.integers(0, min(pixels, 60)))
    exact = 1 - Fraction(comb(pixels - rho, kept), comb(pixels, kept))
    found = ablation_delta(pixels, kept, rho, "exact-k")
    assert exact <= Fraction(found) <= exact + Fraction(2, 2**52) * exact


@given(st.floats(2.0**-32, 1.0), st.integers(0, 200))
def test_delta_of_bernoulli_is_never_below_and_hardly_above(probability, rho):
    exact = 1 - (1 - Fraction(probability)) ** rho
    found = ablation_delta(1000, probability, rho, "bernoulli")
    assert exact <= Fraction(found) <= exact + Fraction(2, 2**52) * exact + Fraction(1, 2**200)


@pytest.mark.parametrize(("kept", "scheme"), [(100, "exact-k"), (0.1, "bernoulli")])
def test_delta_grows_from_0_to_1(kept, scheme):
    deltas = [ablation_delta(1024, kept, rho, scheme) for rho in range(1025)]
    assert deltas[0] == 0.0
    assert np.all(np.diff(deltas) >= 0)
    assert deltas[-1] == 1.0
    assert deltas[1] == pytest.approx(kept / 1024 if scheme == "exact-k" else kept, abs=1e-15)


def test_published_radii():
    """Levine & Feizi's arithmetic: what p_A = 1 would give, by the formula alone."""
    assert certified_radius(1.0, 1024, 0.1, "bernoulli") == 6
    assert certified_radius(1.0, 1024, 0.05, "bernoulli") == 13


@given(st.floats(0.0, 1.0), st.integers(1, 400), st.data())
def test_radius_is_the_largest_that_the_formula_allows(p_lower, pixels, data):
    kept = data.draw(st.integers(1, pixels))
    radius = certified_radius(p_lower, pixels, kept, "exact-k")
    allowed = [
        rho
        for rho in range(pixels + 1)
        if Fraction(p_lower)
        > Fraction(1, 2) + Fraction(ablation_delta(pixels, kept, rho, "exact-k"))
    ]
    assert radius == (allowed[-1] if allowed else None)


def test_radius_is_strict():
    # Delta of one pixel is 1/4: 3/4 proves nothing of it, the next float does.
    assert certified_radius(0.75, 8, 2, "exact-k") == 0
    assert certified_radius(np.nextafter(0.75, 1), 8, 2, "exact-k") == 1
    assert certified_radius(0.5, 8, 2, "exact-k") is None
    assert certified_radius(np.nextafter(0.5, 1), 8, 2, "exact-k") == 0


@pytest.mark.parametrize("draws", [1, 7, 100, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_clopper_pearson_is_scipys(draws, alpha):
    for count in sorted({0, 1, draws // 2, draws - 1, draws}):
        exact = stats.binomtest(count, draws, alternative="greater").proportion_ci(
            confidence_level=1 - alpha, method="exact"
        )
        assert clopper_pearson_lower(count, draws, alpha) == pytest.approx(exact.low, rel=1e-10)


@pytest.mark.parametrize("draws", [20, 137])
@pytest.mark.parametrize("alpha", [0.2, 0.01])
def test_clopper_pearson_covers(draws, alpha):
    """Summed over all counts: the bound exceeds the truth with probability alpha at most."""
    bounds = np.array([clopper_pearson_lower(count, draws, alpha) for count in range(draws + 1)])
    assert np.all(np.diff(bounds) > 0)
    for truth in np.linspace(0.01, 0.99, 99):
        chance = stats.binom.pmf(np.arange(draws + 1), draws, truth)
        assert chance[bounds > truth].sum() <= alpha * (1 + 1e-9)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.9])
@pytest.mark.parametrize("alpha", [0.3, 0.001, 1e-9])
def test_least_draws_are_the_least(threshold, alpha):
    least = least_draws(threshold, alpha)
    assert clopper_pearson_lower(least, least, alpha) > threshold
    assert least == 1 or clopper_pearson_lower(least - 1, least - 1, alpha) <= threshold


def test_least_draws_of_nothing():
    assert least_draws(0.0, 0.5) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ablation_delta(0, 1, 0, "exact-k"), ValueError, "`pixels` must be an integer in"),
        (lambda: ablation_delta(9, 10, 0, "exact-k"), ValueError, "`kept` must be an integer in"),
        (lambda: ablation_delta(9, 0.5, 0, "exact-k"), TypeError, "`kept` must be an integer, got"),
        (lambda: ablation_delta(9, 1.5, 0, "bernoulli"), ValueError, "`kept` must be finite and"),
        (lambda: ablation_delta(9, 1, 10, "exact-k"), ValueError, "`rho` must be an integer in"),
        (lambda: ablation_delta(9, 1, 1, "some"), ValueError, "`scheme` must be one of"),
        (lambda: clopper_pearson_lower(5, 4, 0.1), ValueError, "`count` must be an integer in"),
        (lambda: clopper_pearson_lower(1, 0, 0.1), ValueError, "`draws` must be an integer in"),
        (lambda: clopper_pearson_lower(1, 4, 0.0), ValueError, "`alpha` must be finite and in"),
        (lambda: clopper_pearson_lower(1, 4, 1), ValueError, "`alpha` must be below 1"),
        (lambda: clopper_pearson_lower(1, 4, nan), ValueError, "`alpha` must be finite and in"),
        (lambda: certified_radius(inf, 9, 1, "exact-k"), ValueError, "`p_lower` must be finite"),
        (lambda: certified_radius(0.9, 9, 0, "exact-k"), ValueError, "`kept` must be an integer"),
        (lambda: least_draws(1.0, 0.1), ValueError, "`threshold` must be finite and in"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
