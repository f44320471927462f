"""The vote over ablated images as one module: what answers, where a certificate was given."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.attacks.target import in_train_mode
from splic_ext.certify.ablation_bounds import check_alpha, statistics
from splic_ext.certify.ablation_draws import (
    Draws,
    as_encoding,
    as_images,
    check_draws,
    check_index,
    check_trial,
)
from splic_ext.certify.ablation_masks import SEEDS, Kept
from splic_ext.common.checks import check_integer
from splic_ext.fills import Fill

__all__ = ["ABSTAINED", "AblatedVote"]

#: The answer of a vote that did not decide.
ABSTAINED = -1


class AblatedVote(nn.Module):
    """Answers by a vote over randomly ablated images, or abstains.

    It answers the most frequent class of `draws` if these would be so far ahead of the second most
    frequent one with a probability of at most `alpha` were both equally likely, by the two-sided
    binomial test of Cohen et al. [1]_. So a wrong answer about the vote over all masks, the one
    that :func:`certify_pixels` certifies, has the probability alpha at most, for each image.

    Parameters
    ----------
    model : nn.Module
        As for :func:`certify_pixels`.
    kept : float or int, default 0.1
    encoding : Fill or str, default "splic"
        As there.
    draws : int, default 100
        More -> fewer abstentions.
    seed : int, optional
        In [0, 2**64): the masks of an image are a function of it and of the index of the image.
        None (the default): masks that nobody can predict, in each forward. An attacker who knows
        the masks to come may aim at these: the certificate is one for masks drawn afterwards.
    alpha : float, default 0.001
        Probability of error of an answer, in (0, 1).
    batch_size : int, default 256
        Ablated images at a time.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range; too few draws to decide at `alpha`. In
        forward, as :func:`certify_pixels`.
    MissingExtraError
        SciPy, or what the encoding needs, is not installed.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld, J. Z. Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, section 3.2.2.

    Examples
    --------
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    >>> vote = AblatedVote(network, kept=0.1, encoding="mean", seed=0)
    >>> images = torch.rand(2, 1, 8, 8)
    >>> vote(images).shape, vote.counts(images).sum(dim=1)
    (torch.Size([2]), tensor([100, 100]))
    """

    def __init__(
        self,
        model: nn.Module,
        kept: int | float = 0.1,
        encoding: Fill | str = "splic",
        draws: int = 100,
        seed: int | None = None,
        *,
        alpha: float = 0.001,
        batch_size: int = 256,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"`model` must be a torch.nn.Module, got {type(model).__name__}; wrap it in one"
            )
        self.model = model
        self.encoding = as_encoding(encoding)
        self.kept = kept
        self.draws = check_draws("draws", draws)
        self.seed = None if seed is None else check_integer("seed", seed, 0, SEEDS - 1)
        self.alpha = check_alpha(alpha)
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self._tried: tuple[int, ...] | None = None
        least = next(n for n in range(1, 2000) if 2.0 ** (1 - n) <= self.alpha)
        if self.draws < least:
            raise ValueError(
                f"`draws` must be at least {least} to answer anything at `alpha` = "
                f"{self.alpha:g}, got {self.draws}; draw more"
            )

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"kept={self.kept!r}, draws={self.draws}, seed={self.seed}, alpha={self.alpha:g}"

    def forward(self, images: torch.Tensor, first_index: int = 0) -> torch.Tensor:
        """Return the answers.

        Parameters
        ----------
        images : tensor of shape (N, C, H, W), floating point
            In [0, 1], on the device of the network.
        first_index : int, default 0
            Index of the first image; with a `seed` it selects the masks.

        Returns
        -------
        tensor of shape (N,), int64
            The class of each image, or -1 where the vote abstains.
        """
        return torch.from_numpy(decide(self._count(images, first_index), self.alpha)).to(
            images.device
        )

    def counts(self, images: torch.Tensor, first_index: int = 0) -> torch.Tensor:
        """Return the votes for each class, int64 of shape (N, K), K - 1 the largest class found."""
        return torch.from_numpy(self._count(images, first_index)).to(images.device)

    def _count(self, images: torch.Tensor, first_index: Any) -> npt.NDArray[np.int64]:
        tensor = as_images(images)
        index = check_index(first_index, len(tensor))
        plan = Kept.of(self.kept, *tensor.shape[2:])
        seed = secrets.randbits(64) if self.seed is None else self.seed
        work = Draws(self.model, self.encoding, plan, seed, self.batch_size)
        if self._tried != tuple(tensor.shape[1:]) or in_train_mode(self.model):
            check_trial(work, tensor[:1], np.zeros(1, np.int64))
            self._tried = tuple(tensor.shape[1:])
        votes = work.predict(tensor, index, 0, self.draws)
        classes = np.arange(int(votes.max()) + 1)
        return np.stack([(votes == each).sum(axis=1) for each in classes], axis=1)


def decide(counts: npt.NDArray[np.int64], alpha: float) -> npt.NDArray[np.int64]:
    """Return the most frequent class of each row of counts (N, K), or -1.

    >>> decide(np.array([[100, 0], [60, 40]]), 0.001)
    array([ 0, -1])
    """
    ordered = np.sort(counts, axis=1)
    first = ordered[:, -1]
    second = ordered[:, -2] if counts.shape[1] > 1 else np.zeros_like(first)
    chance = 2 * statistics().binom.sf(first - 1, first + second, 0.5)
    answers: npt.NDArray[np.int64] = counts.argmax(axis=1)
    return np.where(chance <= alpha, answers, ABSTAINED)
