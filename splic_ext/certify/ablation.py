"""Certificates against changes of a few pixels, by randomised ablation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.ablation_bounds import (
    ablation_delta,
    certified_radius,
    check_alpha,
    clopper_pearson_lower,
    least_draws,
)
from splic_ext.certify.ablation_draws import (
    Draws,
    as_encoding,
    as_images,
    check_draws,
    check_index,
    check_trial,
)
from splic_ext.certify.ablation_masks import SEEDS, Kept
from splic_ext.certify.ablation_records import PixelRecord, PixelReport, PixelSeconds
from splic_ext.certify.guards import check_classes
from splic_ext.common.checks import check_integer
from splic_ext.fills import Fill
from splic_ext.runs.clock import Clock
from splic_ext.runs.fingerprints import (
    CERTIFY_CODE,
    code_fingerprint,
    fingerprint_arrays,
    fingerprint_weights,
    package_versions,
)
from splic_ext.runs.inputs import resolve_device
from splic_ext.runs.machine import made_now
from splic_ext.runs.progress import progress_of
from splic_ext.runs.records import NetworkInfo

__all__ = [
    "certify_pixels",
    "check_power",
    "count_votes",
    "image_groups",
    "most_frequent",
    "pixel_records",
]


def certify_pixels(
    model: nn.Module,
    images: Any,
    labels: Any,
    *,
    kept: int | float = 0.1,
    encoding: Fill | str = "splic",
    selection: int = 100,
    draws: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    batch_size: int = 256,
    first_index: int = 0,
    progress: bool = False,
    device: str | torch.device | None = None,
    model_name: str | None = None,
    command: str | None = None,
) -> PixelReport:
    r"""Prove that no change of a few pixels changes the answers of a vote over ablated images.

    The vote answers the class that is most likely when a random mask hides all but a few pixels,
    the hidden ones are filled from the visible, and the network classifies what results. A change
    of rho pixels goes unseen by all masks but a share :math:`\Delta_\rho`, whatever the network
    and the fill [1]_. The most frequent class of `selection` draws is selected; `draws` others
    give a Clopper-Pearson lower bound of its probability, :math:`\underline{p_A}`, and the radius
    is the largest rho with

    .. math:: \underline{p_A} > \tfrac{1}{2} + \Delta_\rho .

    The runner-up is bounded by :math:`p_B \le 1 - p_A`. (Jia et al. [2]_ show what more can be
    had.) Where not even rho = 0 is proved, the vote abstains. Each record holds with probability
    1 - alpha over the masks, for itself: of many images a share alpha may be wrong.

    Parameters
    ----------
    model : nn.Module
        Images (N, C * outputs, H, W) in [0, 1] to logits, in eval mode, without randomness; best
        trained on ablated images of the same encoding.
    images : ndarray or tensor of shape (N, C, H, W), floating point
        In [0, 1].
    labels : sequence of int, shape (N,)
        Their classes.
    kept : float or int, default 0.1
        A float: probability of each pixel to be kept (Bernoulli). An int: so many pixels are kept
        (exact k). Smaller -> larger radii, less accuracy.
    encoding : Fill or str, default "splic"
        What the network sees of hidden pixels: a name or text of :func:`splic_ext.fills.as_fill`,
        such as "mean", "gray", or "null", which doubles the channels. "splic" is one pass of
        completion with the preset "ablation".
    selection : int, default 100
        Draws that select the class; for nothing else.
    draws : int, default 1000
        Draws that estimate its probability; more -> larger radii, as far as they go.
    alpha : float, default 0.001
        Probability of error, in (0, 1).
    seed : int, default 0
        In [0, 2**64). The mask of a draw is a function of seed, index of the image, and draw.
    batch_size : int, default 256
        Ablated images at a time. Results do not depend on it, up to rounding in the network.
    first_index : int, default 0
        Index of the first image, so that parts of a data set have masks of their own.
    progress : bool, default False
        Show a progress bar; where there is no terminal, or no Rich, a line a minute.
    device : str or torch.device, optional
        The network is moved there; default: the device of `model`.
    model_name, command : str, optional
        For the report; default: the name of the class, and nothing.

    Returns
    -------
    PixelReport

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range; `kept` with which nothing, or too few
        draws with which not one changed pixel can be certified; a network in train mode, random,
        or not made for the encoding; an encoding that is random, or shows what is hidden.
    MissingExtraError
        SciPy, or what the encoding needs, is not installed.

    Notes
    -----
    What is proved is the vote over all masks. :class:`splic_ext.certify.AblatedVote` answers from
    a finite number of fresh draws, and abstains where they do not decide.

    References
    ----------
    .. [1] A. Levine, S. Feizi, "Robustness Certificates for Sparse Adversarial Attacks by
       Randomized Ablation", AAAI 2020.
    .. [2] J. Jia, B. Wang, X. Cao, H. Liu, N. Z. Gong, "Almost Tight L0-norm Certified Robustness
       of Top-k Predictions against Adversarial Perturbations", ICLR 2022.

    Examples
    --------
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    >>> report = certify_pixels(network, torch.rand(4, 1, 8, 8), [0, 1, 2, 0], draws=200)
    >>> len(report.records), report.largest_radius
    (4, 5)
    """
    tensor = as_images(images)
    classes = check_classes(labels, len(tensor))
    plan = Kept.of(kept, *tensor.shape[2:])
    fill = as_encoding(encoding)
    check_draws("selection", selection)
    check_power(plan, check_draws("draws", draws), check_alpha(alpha))
    index = check_index(first_index, len(tensor))
    place = resolve_device(device, model)
    clock = Clock(place)
    work = Draws(
        model,
        fill,
        plan,
        check_integer("seed", seed, 0, SEEDS - 1),
        check_integer("batch_size", batch_size, 1),
        clock,
    )
    if isinstance(model, nn.Module):
        model.to(place)
    check_trial(work, tensor[:1].to(place), classes)
    environment = {"versions": package_versions(), "code": code_fingerprint(CERTIFY_CODE)}
    found = []
    with progress_of({"certify": len(tensor)}, shown=progress) as bar:
        for part in image_groups(len(tensor), batch_size, selection + draws):
            started = time.perf_counter()
            here = tensor[part].to(place)
            votes = count_votes(work, here, index[part], selection, draws)
            found += pixel_records(plan, draws, alpha, index[part], classes[part], *votes)
            bar.advance("certify", len(here), time.perf_counter() - started)
    return PixelReport(
        network=NetworkInfo(model_name or type(model).__name__, fingerprint_weights(model)),
        images_sha256=fingerprint_arrays(tensor.cpu().float().numpy(), classes),
        shape=tuple(tensor.shape[1:]),
        encoding=" ".join(repr(fill).split()),
        scheme=plan.scheme,
        kept=float(plan.amount),
        selection=selection,
        draws=draws,
        alpha=float(alpha),
        seed=work.seed,
        records=tuple(found),
        seconds=PixelSeconds.of(clock),
        provenance=made_now(environment, place, command),
    )


def check_power(plan: Kept, draws: int, alpha: float) -> None:
    """Raise unless one changed pixel could be certified if all draws agreed."""
    change = ablation_delta(plan.pixels, plan.amount, 1, plan.scheme)
    if change >= 0.5:
        most = (plan.pixels - 1) // 2 if plan.scheme == "exact-k" else 0.5
        raise ValueError(
            f"`kept` must be {'at most' if plan.scheme == 'exact-k' else 'below'} {most} to "
            f"certify anything, got {plan.amount:g}: a single pixel is then seen by half of the "
            "masks or more; keep fewer pixels"
        )
    if clopper_pearson_lower(draws, draws, alpha) <= 0.5 + change:
        least = least_draws(0.5 + change, alpha)
        raise ValueError(
            f"`draws` must be at least {least} to certify one pixel at `alpha` = {alpha:g} with "
            f"`kept` = {plan.amount:g}, got {draws}: even if all of them agreed, the bound would "
            "be too low; draw more, or keep fewer pixels"
        )


def most_frequent(predictions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the most frequent class of each row; the smallest of equal ones.

    >>> most_frequent(np.array([[2, 1, 1], [4, 3, 0]]))
    array([1, 0])
    """
    return np.array([np.bincount(row).argmax() for row in predictions], dtype=np.int64)


def image_groups(images: int, batch_size: int, draws: int) -> Iterator[slice]:
    """Yield parts of the images that fill a batch, or single ones if their draws do."""
    step = max(1, batch_size // draws)
    for start in range(0, images, step):
        yield slice(start, min(start + step, images))


def count_votes(
    work: Draws, images: torch.Tensor, index: npt.NDArray[np.uint64], selection: int, draws: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the class that some draws select for each image, and how many others agree."""
    chosen = most_frequent(work.predict(images, index, 0, selection))
    again = work.predict(images, index, selection, draws)
    counts: npt.NDArray[np.int64] = (again == chosen[:, None]).sum(axis=1)
    return chosen, counts


def pixel_records(
    plan: Kept,
    draws: int,
    alpha: float,
    index: npt.NDArray[np.uint64],
    labels: npt.NDArray[np.int64],
    chosen: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> list[PixelRecord]:
    """Return what these counts prove."""
    return [
        _record(plan, draws, alpha, *map(int, values))
        for values in zip(index, labels, chosen, counts, strict=True)
    ]


def _record(
    plan: Kept, draws: int, alpha: float, index: int, label: int, answer: int, count: int
) -> PixelRecord:
    bound = clopper_pearson_lower(count, draws, alpha)
    radius = certified_radius(bound, plan.pixels, plan.amount, plan.scheme)
    return PixelRecord(index, label, None if radius is None else answer, count, bound, radius)
