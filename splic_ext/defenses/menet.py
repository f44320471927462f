"""The three matrix estimations of ME-Net: USVT, Soft-Impute, nuclear norm."""

from __future__ import annotations

from typing import ClassVar

import torch

from splic_ext.autograd.masks import image_indices, masks_on
from splic_ext.autograd.spectral import largest_singular_value, shrink_spectrum
from splic_ext.common.checks import check_integer, check_number
from splic_ext.defenses.base import Index
from splic_ext.defenses.compiled import estimate, is_small
from splic_ext.defenses.randomness import RandomDefense

__all__ = ["USVT", "MatrixEstimation", "NuclearNorm", "SoftImpute"]


class MatrixEstimation(RandomDefense):
    """Base class: drop random entries of an image, and estimate the matrix from the others.

    The matrix of an image is H x (C W), its channels side by side, scaled to [-1, 1]; each entry is
    kept with probability `anchor_fraction`. A subclass implements :meth:`estimate`.

    >>> class Masked(MatrixEstimation):
    ...     def estimate(self, matrices, observed):
    ...         return matrices * observed
    >>> Masked(seed=7)(torch.ones(1, 1, 1, 4)).flatten()
    tensor([0.5000, 0.5000, 1.0000, 1.0000])
    """

    shown: ClassVar[tuple[str, ...]] = ("anchor_fraction", "seed")

    def __init__(
        self, anchor_fraction: float = 0.5, seed: int | None = None, gradient: str = "exact"
    ) -> None:
        super().__init__(seed, gradient)
        self.anchor_fraction = check_number("anchor_fraction", anchor_fraction, 0.0, 1.0)

    def estimate(self, matrices: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """Return the estimates of matrices (N, H, C W) in [-1, 1]; to be implemented by a subclass.

        `observed` is 1 where an entry is observed and 0 elsewhere; the estimate must not depend on
        entries of 0. It is clipped to [-1, 1] afterwards.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement the method `estimate`")

    def defend(self, images: torch.Tensor, index: Index) -> torch.Tensor:
        """Mask the images and estimate them."""
        count, channels, height, width = images.shape
        masks = masks_on(
            images,
            image_indices(index, count),
            anchor_fraction=self.anchor_fraction,
            seed=self.draw(),
        )
        observed = _side_by_side(masks.to(images.dtype))
        result = self.estimate(2 * _side_by_side(images) - 1, observed)
        return ((result + 1) / 2).reshape(count, height, channels, width).transpose(1, 2)


def _side_by_side(images: torch.Tensor) -> torch.Tensor:
    """Return (N, H, C W) matrices of (N, C, H, W) images."""
    return images.transpose(1, 2).flatten(2)


class USVT(MatrixEstimation):
    r"""ME-Net's universal singular value thresholding ([1]_, [2]_).

    Unobserved entries are 0; of the singular values the first ``int(keep * H)`` are kept, and the
    matrix is divided by the share of observed entries:

    .. math:: W = \frac1{\hat p} \sum_{k \le 0.8 H} \sigma_k u_k v_k', \qquad
              U \Sigma V' = M \odot A

    A matrix of which nothing is observed comes out gray.

    Parameters
    ----------
    keep : float, default 0.8
        In [0, 1]; smaller -> smoother. The default is that of [2]_.
    anchor_fraction : float, default 0.5
        Probability that an entry is observed.
    seed : int, optional
        See :class:`RandomDefense`.
    gradient : {"identity", "exact"}, default "identity"
        See :class:`Defense`.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] S. Chatterjee, "Matrix estimation by universal singular value thresholding", Annals of
       Statistics 43, 2015.
    .. [2] Y. Yang, G. Zhang, D. Katabi, Z. Xu, "ME-Net: towards effective adversarial robustness
       with matrix estimation", ICML 2019.

    Examples
    --------
    >>> USVT(seed=0)
    USVT(keep=0.8, anchor_fraction=0.5, seed=0, gradient='identity')
    >>> USVT(seed=0)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 3, 32, 32])
    """

    shown: ClassVar[tuple[str, ...]] = ("keep", "anchor_fraction", "seed")

    def __init__(
        self,
        keep: float = 0.8,
        anchor_fraction: float = 0.5,
        seed: int | None = None,
        gradient: str = "identity",
    ) -> None:
        super().__init__(anchor_fraction, seed, gradient)
        self.keep = check_number("keep", keep, 0.0, 1.0)

    def estimate(self, matrices: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """Cut the spectrum, and divide by the observed share."""
        share = observed.mean((1, 2), keepdim=True)
        rank = int(self.keep * matrices.shape[1])
        cut = shrink_spectrum(
            matrices * observed, matrices.new_zeros(len(matrices)), rank, type(self).__name__
        )
        return cut / torch.where(share > 0, share, torch.ones_like(share))


class SoftImpute(MatrixEstimation):
    r"""ME-Net's Soft-Impute ([1]_, [2]_).

    Observed entries stay; the others start at 0, and are replaced again and again by those of

    .. math:: U \max(\Sigma - \tau, 0) V', \qquad U \Sigma V' = X_t, \qquad
              \tau = \texttt{shrinkage} \cdot \sigma_1(M \odot A)

    until they change by less than ``tolerance`` times their norm.

    Parameters
    ----------
    shrinkage : float, default 0.02
        In [0, 1]; larger -> smoother. The default is the 1/50 of [2]_.
    iterations : int, default 100
        Most iterations.
    tolerance : float, default 1e-3
        At least 0; 0 never stops early.
    anchor_fraction : float, default 0.5
        Probability that an entry is observed.
    seed : int, optional
        See :class:`RandomDefense`.
    gradient : {"identity", "exact"}, default "identity"
        See :class:`Defense`. The number of iterations is taken as constant.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] R. Mazumder, T. Hastie, R. Tibshirani, "Spectral regularization algorithms for learning
       large incomplete matrices", Journal of Machine Learning Research 11, 2010.
    .. [2] Y. Yang, G. Zhang, D. Katabi, Z. Xu, "ME-Net: towards effective adversarial robustness
       with matrix estimation", ICML 2019.

    Examples
    --------
    >>> flat = torch.full((1, 3, 32, 32), 0.75)
    >>> bool((SoftImpute(seed=0)(flat) - flat).abs().max() < 0.05)
    True
    """

    shown: ClassVar[tuple[str, ...]] = (
        "shrinkage",
        "iterations",
        "tolerance",
        "anchor_fraction",
        "seed",
    )

    def __init__(
        self,
        shrinkage: float = 0.02,
        iterations: int = 100,
        tolerance: float = 1e-3,
        anchor_fraction: float = 0.5,
        seed: int | None = None,
        gradient: str = "identity",
    ) -> None:
        super().__init__(anchor_fraction, seed, gradient)
        self.shrinkage = check_number("shrinkage", shrinkage, 0.0, 1.0)
        self.iterations = check_integer("iterations", iterations, 1)
        self.tolerance = check_number("tolerance", tolerance, 0.0)

    def estimate(self, matrices: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """Fill in, shrink, and again, by native code or in torch."""
        if not is_small(matrices):
            return self._in_torch(matrices, observed)
        return estimate(
            matrices,
            observed,
            nuclear=False,
            amount=self.shrinkage,
            tolerance=self.tolerance,
            iterations=self.iterations,
            owner=type(self).__name__,
        )

    def _in_torch(self, matrices: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """Do it in torch; matrices that have converged are left alone."""
        known = matrices * observed
        threshold = self.shrinkage * largest_singular_value(known, type(self).__name__)
        filled = known
        active = torch.arange(len(known), device=known.device)
        for _ in range(self.iterations):
            old = filled[active]
            shrunk = shrink_spectrum(old, threshold[active], owner=type(self).__name__)
            new = known[active] + (1 - observed[active]) * shrunk
            filled = filled.index_copy(0, active, new)
            # Both agree where observed, so the change is that of the unobserved entries.
            change = (new - old).detach().flatten(1).norm(dim=1)
            norm = ((1 - observed[active]) * old).detach().flatten(1).norm(dim=1)
            active = active[~(change < self.tolerance * norm)]
            if len(active) == 0:
                break
        return filled


class NuclearNorm(MatrixEstimation):
    r"""ME-Net's nuclear-norm minimisation ([1]_, [2]_).

    .. math:: \min_W \; \mu \|W\|_* + \|M \odot (W - A)\|_F^2

    by accelerated proximal gradient steps [3]_ with restarts, where [2]_ calls a general convex
    solver.

    Parameters
    ----------
    weight : float, default 1.0
        The mu of the formula, in [0, 1e6], for data in [-1, 1]; larger -> smoother.
    iterations : int, default 200
        Most iterations.
    tolerance : float, default 1e-5
        At least 0: stops once the matrix changes by less than that times its norm.
    anchor_fraction : float, default 0.5
        Probability that an entry is observed.
    seed : int, optional
        See :class:`RandomDefense`.
    gradient : {"identity", "exact"}, default "identity"
        See :class:`Defense`. The number of iterations is taken as constant.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] E. Candes, B. Recht, "Exact matrix completion via convex optimization", Foundations of
       Computational Mathematics 9, 2009.
    .. [2] Y. Yang, G. Zhang, D. Katabi, Z. Xu, "ME-Net: towards effective adversarial robustness
       with matrix estimation", ICML 2019.
    .. [3] A. Beck, M. Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear
       inverse problems", SIAM Journal on Imaging Sciences 2, 2009.

    Examples
    --------
    >>> flat = torch.full((1, 3, 32, 32), 0.75)
    >>> bool((NuclearNorm(seed=0)(flat) - flat).abs().max() < 0.1)
    True
    """

    shown: ClassVar[tuple[str, ...]] = (
        "weight",
        "iterations",
        "tolerance",
        "anchor_fraction",
        "seed",
    )

    def __init__(
        self,
        weight: float = 1.0,
        iterations: int = 200,
        tolerance: float = 1e-5,
        anchor_fraction: float = 0.5,
        seed: int | None = None,
        gradient: str = "identity",
    ) -> None:
        super().__init__(anchor_fraction, seed, gradient)
        self.weight = check_number("weight", weight, 0.0, 1e6)
        self.iterations = check_integer("iterations", iterations, 1)
        self.tolerance = check_number("tolerance", tolerance, 0.0)

    def estimate(self, matrices: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """Step from an extrapolated point, by native code or in torch."""
        if not is_small(matrices):
            return self._in_torch(matrices, observed)
        return estimate(
            matrices,
            observed,
            nuclear=True,
            # The gradient of the squares has the Lipschitz constant 2: a step of 1/2.
            amount=self.weight / 2,
            tolerance=self.tolerance,
            iterations=self.iterations,
            owner=type(self).__name__,
        )

    def _in_torch(self, matrices: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """Do it in torch; matrices that have converged are left alone."""
        known = matrices * observed
        threshold = known.new_full((len(known),), self.weight / 2)
        solution = point = known
        inertia = known.new_ones(len(known))
        active = torch.arange(len(known), device=known.device)
        for _ in range(self.iterations):
            old, start = solution[active], point[active]
            start = known[active] + (1 - observed[active]) * start
            new = shrink_spectrum(start, threshold[active], owner=type(self).__name__)
            # Where the step goes against the way just taken, the inertia starts afresh.
            against = ((point[active] - new) * (new - old)).detach().flatten(1).sum(1) > 0
            before = torch.where(
                against, torch.ones_like(against, dtype=known.dtype), inertia[active]
            )
            after = (1 + (1 + 4 * before**2).sqrt()) / 2
            momentum = torch.where(against, torch.zeros_like(before), (before - 1) / after)
            solution = solution.index_copy(0, active, new)
            point = point.index_copy(0, active, new + momentum[:, None, None] * (new - old))
            inertia = inertia.index_copy(0, active, after)
            change = (new - old).detach().flatten(1).norm(dim=1)
            norm = old.detach().flatten(1).norm(dim=1)
            active = active[~(change <= self.tolerance * norm)]
            if len(active) == 0:
                break
        return solution
