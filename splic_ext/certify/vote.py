"""Double masking: the vote that answers, and the certificate that it cannot be swayed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.certify.answers import Answers, Asker, LayoutProbe
from splic_ext.certify.guards import check_classifier, check_fill, tried_masks
from splic_ext.certify.masks import MaskSet, Patch
from splic_ext.common.checks import check_integer
from splic_ext.defenses.images import check_images
from splic_ext.fills import Fill, as_fill

__all__ = ["MaskedVote", "Verdict", "answer_images", "certify_image"]

Indices = npt.NDArray[np.int64]

#: Pairs that are asked for at first, and masks of round two: most that fail do so soon.
FIRST_PAIRS, FIRST_MASKS = 32, 12


class MaskedVote(nn.Module):
    r"""A classifier that no patch can sway on the images that it certifies ([1]_, Algorithm 1).

    Round one asks the network for each mask, with the hidden pixels filled. If all answers agree,
    this is the answer. Else each answer that departs from the majority is tried in round two: its
    mask is joined with all others; if all of these answers agree with it, it is the answer. If
    none does, the majority is.

    Let the network be right on an image under every pair of masks. Then no patch, whatever it
    holds, changes the answer: one mask hides it, and the answers under that mask and under its
    pairs are those of the clean image, since a fill sees the visible pixels alone. So a wrong
    answer is never unanimous, nor is it in round two; and if the majority is wrong, the mask that
    hides the patch departs from it and wins its round two.

    Parameters
    ----------
    model : nn.Module
        Images (N, C, H, W) in [0, 1] to logits (N, K); in eval mode and without randomness.
    patch, masks, patches
        What the attacker may place, and the masks against it; see
        :class:`splic_ext.certify.MaskSet`.
    fill : Fill, str or callable, default "splic"
        What hidden pixels are filled with; see :mod:`splic_ext.fills`.
    batch_size : int, default 128
        Filled images that the network takes at a time.

    Raises
    ------
    TypeError, ValueError
        A parameter of the wrong kind, or out of its range.

    References
    ----------
    .. [1] C. Xiang, S. Mahloujifar, P. Mittal, "PatchCleanser: Certifiably Robust Defense against
       Adversarial Patches for Any Image Classifier", USENIX Security 2022.

    Examples
    --------
    >>> from splic_ext.models import build_model
    >>> vote = MaskedVote(build_model("digits_cnn").eval(), patch=2, masks=3, fill="gray")
    >>> vote(torch.rand(4, 1, 8, 8)).shape
    torch.Size([4])
    """

    def __init__(
        self,
        model: nn.Module,
        patch: Patch = 5,
        masks: int | tuple[int, int] = 6,
        fill: Any = "splic",
        *,
        patches: int = 1,
        batch_size: int = 128,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"`model` must be a torch.nn.Module, got {type(model).__name__}; wrap it in one"
            )
        self.model = model
        self.fill: Fill = as_fill(fill)
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self.patch, self.masks, self.patches = patch, masks, patches
        self._askers: dict[Any, Asker] = {}

    def extra_repr(self) -> str:
        """Return what the attacker may place, and how many masks there are."""
        return f"patch={self.patch!r}, masks={self.masks!r}, patches={self.patches!r}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_askers": {}}

    def mask_set(self, height: int, width: int) -> MaskSet:
        """Return the masks for images of that size.

        Parameters
        ----------
        height, width : int
            In pixels.

        Raises
        ------
        TypeError, ValueError
            As :class:`splic_ext.certify.MaskSet`.
        """
        return MaskSet(height, width, self.patch, self.masks, self.patches)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Answer by the vote.

        Parameters
        ----------
        images : tensor of shape (N, C, H, W), float16, bfloat16, float32 or float64
            In [0, 1], on the device of the network.

        Returns
        -------
        int64 tensor of shape (N,)
            The classes.

        Raises
        ------
        TypeError, ValueError, ShapeError
            Wrong images; a patch that does not fit into them; a network in train mode or with
            randomness; a fill that sees hidden pixels, or is random. Network and fill are tried
            with the first images of each size.
        """
        check_images(images)
        if len(images) == 0:
            return torch.empty(0, dtype=torch.int64, device=images.device)
        answers = answer_images(self.asker(images), images)
        return torch.from_numpy(answers.classes).to(images.device)

    def asker(self, images: torch.Tensor) -> Asker:
        """Return what asks the network, checked with the first images of each size and device."""
        if self.model.training:
            self._askers.clear()
        key = (tuple(images.shape[1:]), images.dtype, str(images.device))
        if key not in self._askers:
            masks = self.mask_set(*images.shape[2:])
            few = images[:2]
            check_classifier(self.model, self.fill, few, np.zeros(1, np.int64))
            check_fill(self.fill, few, *tried_masks(masks, few.device))
            layout = LayoutProbe(self.model, few).format
            self._askers[key] = Asker(self.model, self.fill, masks, self.batch_size, layout)
        return self._askers[key]


@dataclass(frozen=True, eq=False)
class VoteOutcome:
    """What both rounds found.

    Attributes
    ----------
    classes : ndarray of shape (N,)
        The answers.
    first : Answers
        Of round one, shape (N, M).
    """

    classes: Indices
    first: Answers


def answer_images(asker: Asker, images: torch.Tensor) -> VoteOutcome:
    """Return the answers of the two-round vote."""
    count, masks = len(images), len(asker.masks)
    single = np.tile(np.arange(masks), count)
    asked = asker.ask(images, np.repeat(np.arange(count), masks), single, single)
    first = asked.classes.reshape(count, masks)
    majority = np.array([np.bincount(row).argmax() for row in first])
    answers = majority.copy()
    for i in np.flatnonzero((first != majority[:, None]).any(axis=1)):
        answers[i] = _second_round(asker, images[i : i + 1], first[i], int(majority[i]))
    return VoteOutcome(answers, Answers(first, asked.leads.reshape(count, masks)))


def _second_round(asker: Asker, image: torch.Tensor, first: Indices, majority: int) -> int:
    """Return the answer where round one disagrees: of the first mask that all others confirm."""
    masks = np.arange(len(asker.masks))
    # Fewest first: the mask that hides a patch stands alone as a rule.
    departing = np.flatnonzero(first != majority)
    order = np.argsort(np.bincount(first)[first[departing]], kind="stable")
    for i in departing[order]:
        if all(
            (asker.ask(image, 0 * part, 0 * part + i, part).classes == first[i]).all()
            for part in _in_parts(masks, FIRST_MASKS, asker.batch_size)
        ):
            return int(first[i])
    return majority


@dataclass(frozen=True)
class Verdict:
    """Whether an image is certified.

    Attributes
    ----------
    certified : bool
        Whether the network is surely right under all pairs of masks.
    failed : (int, int) or None
        The first pair found under which it is not; (i, i) is mask i alone.
    pairs : int
        How many pairs were asked for.
    weakest : (int, int)
        The pair that fails; where none does, the one whose answer leads least.
    """

    certified: bool
    failed: tuple[int, int] | None
    pairs: int
    weakest: tuple[int, int]


def certify_image(
    asker: Asker,
    image: torch.Tensor,
    label: int,
    right: npt.NDArray[np.bool_],
    leads: npt.NDArray[np.float32],
) -> Verdict:
    """Say whether the network is surely right under all pairs; stop at the first that fails.

    `image` has shape (1, C, H, W); `right` and `leads` say of each mask alone whether the answer is
    surely the label, and by how much it leads. Pairs of masks whose leads are small come first.
    """
    singles = len(right)
    if not right.all():
        first = int(np.flatnonzero(~right)[0])
        return Verdict(False, (first, first), singles, (first, first))
    pairs = asker.masks.pairs
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    pairs = pairs[np.argsort(leads[pairs].sum(axis=1), kind="stable")]
    done = singles
    least = int(leads.argmin())
    lead, weakest = float(leads[least]), (least, least)
    for part in _in_parts(pairs, FIRST_PAIRS, asker.batch_size):
        answers = asker.ask(image, 0 * part[:, 0], part[:, 0], part[:, 1])
        done += len(part)
        wrong = np.flatnonzero(~answers.sure(label))
        if wrong.size:
            i, j = map(int, part[wrong[0]])
            return Verdict(False, (i, j), done, (i, j))
        least = int(answers.leads.argmin()) if len(part) else 0
        if len(part) and answers.leads[least] < lead:
            i, j = map(int, part[least])
            lead, weakest = float(answers.leads[least]), (i, j)
    return Verdict(True, None, done, weakest)


def _in_parts(rows: Indices, few: int, size: int) -> Iterator[Indices]:
    """Yield a few rows first, then the others in parts of `size`."""
    few = min(few, size)
    yield rows[:few]
    for start in range(few, len(rows), size):
        yield rows[start : start + size]
