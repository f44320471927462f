"""Accuracies over several draws of the masks, with intervals.

>>> right, voted = count_votes(np.array([[3, 3, 1], [0, 2, 0]]), np.array([3, 0]))
>>> right, voted
(array([2, 2]), array([ True,  True]))
>>> print(mean_accuracy(right, draws=3))
66.7 % [15.9, 95.5] of 2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import check_integer, check_number

__all__ = [
    "Accuracy",
    "Difference",
    "all_draws_accuracy",
    "count_votes",
    "majority_accuracy",
    "mean_accuracy",
    "paired_difference",
    "wilson_interval",
]

CONFIDENCE = 0.95

Counts = npt.NDArray[np.int64] | Sequence[int]
Flags = npt.NDArray[np.bool_] | Sequence[bool]


@dataclass(frozen=True)
class Accuracy:
    """A share of images, with its interval.

    Attributes
    ----------
    value : float
        In [0, 1].
    low, high : float
        Ends of the 95 % interval.
    n : int
        Number of images.

    Raises
    ------
    ValueError
        What can be no share of images.

    Examples
    --------
    >>> print(Accuracy(0.5, 0.25, 0.75, 12))
    50.0 % [25.0, 75.0] of 12
    """

    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high <= 1 or self.n < 1:
            raise ValueError(
                f"an accuracy must be in [0, 1], within its interval, and of an image at least, "
                f"got {self.value} in [{self.low}, {self.high}] of {self.n}; take it as it was "
                "made"
            )

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] of {self.n}"


@dataclass(frozen=True)
class Difference:
    """How many more images one has than another of the same images.

    Attributes
    ----------
    value : float
        Share of the images that only the first has, less that which only the second has.
    low, high : float
        Ends of the 95 % interval.
    first, second : int
        Images that only the first has, and only the second.
    n : int
        Number of images.

    Examples
    --------
    >>> print(Difference(0.25, -0.1, 0.5, 4, 1, 12))
    25.0 points [-10.0, 50.0] of 12
    """

    value: float
    low: float
    high: float
    first: int
    second: int
    n: int

    def __str__(self) -> str:
        low, high = 100 * self.low, 100 * self.high
        return f"{100 * self.value:.1f} points [{low:.1f}, {high:.1f}] of {self.n}"


def paired_difference(first: Flags, second: Flags, confidence: float = CONFIDENCE) -> Difference:
    r"""Return by how much the share of one exceeds that of another on the same images.

    The interval is Wald's with half an image added to each cell of the table of pairs [1]_:
    with b and c images that only the first or only the second has, n of all, and N = n + 2,

    .. math:: \frac{b - c}{N} \pm \frac{z}{N} \sqrt{b + c + 1 - \frac{(b - c)^2}{N}} .

    Parameters
    ----------
    first, second : sequence of bool, shape (N,)
        Of which images each is true.
    confidence : float, default 0.95
        In (0, 1).

    Returns
    -------
    Difference

    Raises
    ------
    ValueError
        Different numbers of images, or none.

    References
    ----------
    .. [1] A. Agresti, Y. Min, "Simple improved confidence intervals for comparing matched
       proportions", Statistics in Medicine 24, 2005.

    Examples
    --------
    >>> found = paired_difference([True, True, True, False], [False, False, True, False])
    >>> found.first, found.second, found.value
    (2, 0, 0.5)
    """
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    if one.shape != other.shape or one.ndim != 1 or not one.size:
        raise ValueError(
            f"`first` and `second` must be flags of the same images, one at least, got shapes "
            f"{one.shape} and {other.shape}; give both a flag for each image"
        )
    wilson_interval(0, 1, confidence)  # checks it
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    n, b, c = len(one), int((one & ~other).sum()), int((other & ~one).sum())
    size = n + 2
    centre, half = (b - c) / size, z * math.sqrt(b + c + 1 - (b - c) ** 2 / size) / size
    return Difference((b - c) / n, max(-1.0, centre - half), min(1.0, centre + half), b, c, n)


def wilson_interval(
    successes: float, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    r"""Return Wilson's score interval [1]_ of a share.

    .. math:: \frac{\hat p + z^2 / 2n \pm
              z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4n^2}}{1 + z^2 / n}, \qquad
              \hat p = \mathrm{successes} / n

    Parameters
    ----------
    successes : float
        In [0, n]; a sum of shares need not be whole.
    n : int
        Number of independent trials, at least 1.
    confidence : float, default 0.95
        In (0, 1); larger -> wider.

    Returns
    -------
    low, high : float
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        A value of the wrong kind, or out of its range.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
       Journal of the American Statistical Association 22, 1927.

    Examples
    --------
    >>> low, high = wilson_interval(45, 100)
    >>> f"{low:.3f}, {high:.3f}"
    '0.356, 0.548'
    >>> wilson_interval(0, 100)[0]
    0.0
    """
    n = check_integer("n", n, 1, 2**63 - 1)
    successes = check_number("successes", successes, 0.0, float(n))
    confidence = check_number("confidence", confidence, 0.0, 1.0, above=True)
    if confidence == 1:
        raise ValueError("`confidence` must be below 1, got 1; nothing but [0, 1] is certain")
    z = NormalDist().inv_cdf(min((1 + confidence) / 2, math.nextafter(1.0, 0.0)))
    share = successes / n
    centre = share + z**2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return low, high


def count_votes(
    predictions: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return in how many draws each image is right, and whether the label wins the vote.

    `predictions` has shape (N, K); a tie is wrong.

    >>> count_votes(np.array([[1, 0, 1, 0], [1, 0, 2, 1]]), np.array([1, 1]))
    (array([2, 2]), array([False,  True]))
    """
    right = (predictions == labels[:, None]).sum(axis=1, dtype=np.int64)
    classes = np.unique(predictions)
    votes = (predictions[:, :, None] == classes).sum(axis=1)
    votes[labels[:, None] == classes] = 0  # of the other classes alone
    return right, right > votes.max(axis=1)


def mean_accuracy(right: Counts, draws: int) -> Accuracy:
    """Return the accuracy averaged over draws: that of a single, fresh draw.

    Draws of one image are not independent trials. So the interval is Wilson's with the mean as
    share and the number of images, not of predictions, as n: exact if all draws of an image
    agree, and too wide rather than too narrow otherwise.

    Parameters
    ----------
    right : sequence of int, shape (N,)
        In how many draws each image is right.
    draws : int
        K, of each image.

    Returns
    -------
    Accuracy

    Examples
    --------
    >>> mean_accuracy([2, 0, 1, 1], draws=2).value
    0.5
    """
    return _share(float(np.sum(right)) / draws, len(right))


def all_draws_accuracy(right: Counts, draws: int) -> Accuracy:
    """Return the share of images that are right in every draw.

    So it is 1 minus the success of an attacker who may try K times.

    Parameters
    ----------
    right, draws
        As in :func:`mean_accuracy`.

    Returns
    -------
    Accuracy

    Examples
    --------
    >>> all_draws_accuracy([2, 0, 1, 1], draws=2).value
    0.25
    """
    return _share(int(np.sum(np.asarray(right) == draws)), len(right))


def majority_accuracy(voted: Flags) -> Accuracy:
    """Return the accuracy of the vote of all draws.

    Parameters
    ----------
    voted : sequence of bool, shape (N,)
        As `count_votes` returns it.

    Returns
    -------
    Accuracy

    Examples
    --------
    >>> majority_accuracy([True, False]).value
    0.5
    """
    return _share(int(np.sum(voted)), len(voted))


def _share(successes: float, n: int) -> Accuracy:
    low, high = wilson_interval(successes, n)
    return Accuracy(successes / n, low, high, n)
