"""Bounds of randomised ablation: what a change can do, and what draws prove."""

from __future__ import annotations

import math
from functools import cache
from importlib import import_module
from typing import Any, get_args

from splic_ext.certify.ablation_masks import MOST_DRAWS, Scheme
from splic_ext.common.checks import check_integer, check_number
from splic_ext.common.optional import optional

__all__ = ["ablation_delta", "certified_radius", "clopper_pearson_lower", "least_draws"]

#: Bits after the point in which powers are computed.
BITS = 256


def ablation_delta(pixels: int, kept: int | float, rho: int, scheme: Scheme) -> float:
    r"""Return the probability that a mask keeps at least one of `rho` given pixels [1]_.

    .. math:: \Delta_\rho = 1 - (1 - p)^\rho \quad \text{(Bernoulli)}, \qquad
              \Delta_\rho = 1 - \binom{d - \rho}{k} \Big/ \binom{d}{k} \quad \text{(exact k)}

    No change of `rho` pixels moves the probability of any class by more. It is computed in
    integers, and rounded up: never below the exact value.

    Parameters
    ----------
    pixels : int
        d = H * W.
    kept : int or float
        The k in [1, d] of ``"exact-k"``, or the probability in (0, 1] of ``"bernoulli"``.
    rho : int
        Number of changed pixels, in [0, d]; larger -> larger.
    scheme : {"bernoulli", "exact-k"}

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] A. Levine, S. Feizi, "Robustness Certificates for Sparse Adversarial Attacks by
       Randomized Ablation", AAAI 2020.

    Examples
    --------
    >>> ablation_delta(1024, 0.25, 2, "bernoulli")
    0.4375
    >>> ablation_delta(8, 2, 1, "exact-k")
    0.25
    """
    pixels = check_integer("pixels", pixels, 1)
    rho = check_integer("rho", rho, 0, pixels)
    if scheme not in get_args(Scheme):
        expected = ", ".join(map(repr, get_args(Scheme)))
        raise ValueError(f"`scheme` must be one of {expected}, got {scheme!r}")
    if scheme == "bernoulli":
        return _delta(pixels, check_number("kept", kept, 0.0, 1.0, above=True), rho)
    return _delta(pixels, check_integer("kept", kept, 1, pixels), rho)


@cache
def _delta(pixels: int, kept: int | float, rho: int) -> float:
    """Return it, `kept` an int for the exact scheme and a float for the other."""
    if isinstance(kept, float):
        part, whole = kept.as_integer_ratio()
        hidden, all_masks = _power_below(((whole - part) << BITS) // whole, rho), 1 << BITS
    else:
        # C(d - rho, k) / C(d, k) is the product of (d - k - i) / (d - i) over i < rho, and the
        # same with k and rho exchanged.
        few, many = sorted((kept, rho))
        hidden, all_masks = math.perm(pixels - many, few), math.perm(pixels, few)
    seen = all_masks - hidden
    result = seen / all_masks
    part, whole = result.as_integer_ratio()
    return result if part * all_masks >= seen * whole else math.nextafter(result, 1.0)


def _power_below(base: int, exponent: int) -> int:
    """Return a power of a number in [0, 1] in units of 2**-BITS, rounded down."""
    result = 1 << BITS
    while exponent:
        if exponent & 1:
            result = (result * base) >> BITS
        base = (base * base) >> BITS
        exponent >>= 1
    return result


def clopper_pearson_lower(count: int, draws: int, alpha: float) -> float:
    r"""Return a lower bound of a probability that holds with probability 1 - alpha at least [1]_.

    It is the p at which `count` successes or more out of `draws` have the probability alpha: the
    quantile of the distribution Beta(count, draws - count + 1) at alpha.

    Parameters
    ----------
    count : int
        Successes, in [0, draws].
    draws : int
        Independent trials, at least 1.
    alpha : float
        In (0, 1): probability of error, one-sided; smaller -> a smaller bound.

    Returns
    -------
    float
        In [0, 1).

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    MissingExtraError
        SciPy is not installed.

    References
    ----------
    .. [1] C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in
       the case of the binomial", Biometrika 26, 1934.

    Examples
    --------
    >>> round(clopper_pearson_lower(990, 1000, 0.001), 4)
    0.976
    >>> clopper_pearson_lower(0, 10, 0.05)
    0.0
    """
    draws = check_integer("draws", draws, 1, MOST_DRAWS)
    return _lower(check_integer("count", count, 0, draws), draws, check_alpha(alpha))


def check_alpha(alpha: Any) -> float:
    """Return a probability of error in (0, 1)."""
    value = check_number("alpha", alpha, 0.0, 1.0, above=True)
    if value == 1:
        raise ValueError("`alpha` must be below 1, got 1; 0.001 is usual")
    return value


@cache
def _lower(count: int, draws: int, alpha: float) -> float:
    return float(statistics().beta.ppf(alpha, count, draws - count + 1)) if count else 0.0


def statistics() -> Any:
    """Return `scipy.stats`."""
    with optional("`splic_ext.certify` by draws", "certify", "scipy"):
        return import_module("scipy.stats")


def certified_radius(p_lower: float, pixels: int, kept: int | float, scheme: Scheme) -> int | None:
    r"""Return the largest number of changed pixels that cannot change the answer [1]_.

    A change of rho pixels takes at most :math:`\Delta_\rho` from the probability of the answer,
    and adds at most as much to that of any other class. With the bound :math:`p_B \le 1 - p_A` of
    the runner-up, the simplest and for few draws the best, the answer stays if

    .. math:: p_A - \Delta_\rho > 1 - p_A + \Delta_\rho
              \iff p_A > \tfrac{1}{2} + \Delta_\rho

    Parameters
    ----------
    p_lower : float
        Lower bound of p_A, the probability of the answer over masks, in [0, 1].
    pixels, kept, scheme
        As in :func:`ablation_delta`.

    Returns
    -------
    int or None
        In [0, pixels]; None where not even rho = 0 is proved, that is p_lower <= 1/2.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] A. Levine, S. Feizi, "Robustness Certificates for Sparse Adversarial Attacks by
       Randomized Ablation", AAAI 2020.

    Examples
    --------
    >>> certified_radius(0.9, 1024, 0.1, "bernoulli")
    4
    >>> certified_radius(0.5, 1024, 0.1, "bernoulli") is None
    True
    """
    # Exact for p_lower from 1/4 on (Sterbenz).
    room = check_number("p_lower", p_lower, 0.0, 1.0) - 0.5
    ablation_delta(pixels, kept, 0, scheme)  # checks the rest
    if room <= 0:
        return None
    stays, flips = 0, 1
    while flips <= pixels and ablation_delta(pixels, kept, flips, scheme) < room:
        stays, flips = flips, 2 * flips
    flips = min(flips, pixels + 1)
    while flips - stays > 1:
        middle = (stays + flips) // 2
        if ablation_delta(pixels, kept, middle, scheme) < room:
            stays = middle
        else:
            flips = middle
    return stays


def least_draws(threshold: float, alpha: float) -> int:
    r"""Return the least number of draws whose bound can exceed a threshold, if all of them agree.

    The bound is then :math:`\alpha^{1/n}`.

    Parameters
    ----------
    threshold : float
        In [0, 1): 1/2 + Delta of the wanted number of pixels.
    alpha : float
        In (0, 1).

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.
    MissingExtraError
        SciPy is not installed.

    Examples
    --------
    >>> least_draws(0.6, 0.001)
    14
    """
    threshold = check_number("threshold", threshold, 0.0, math.nextafter(1.0, 0.0))
    alpha = check_alpha(alpha)
    if threshold == 0:
        return 1
    draws = max(1, math.floor(math.log(alpha) / math.log(threshold)))
    while draws <= MOST_DRAWS and clopper_pearson_lower(draws, draws, alpha) <= threshold:
        draws += 1
    return draws
