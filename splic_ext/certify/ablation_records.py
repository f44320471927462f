"""What randomised ablation proved, image by image, as typed records."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from splic_ext.certify.ablation_bounds import certified_radius, check_alpha, clopper_pearson_lower
from splic_ext.certify.ablation_masks import MOST_DRAWS, SEEDS, Kept
from splic_ext.common.checks import check_integer
from splic_ext.common.notebook import markdown_to_html
from splic_ext.evaluation.statistics import Accuracy, majority_accuracy
from splic_ext.evaluation.tables import markdown_table
from splic_ext.runs.clock import Spent
from splic_ext.runs.plain import Versioned, decode, encode
from splic_ext.runs.records import NetworkInfo, Provenance

__all__ = ["PIXELS_SCHEMA", "PixelRecord", "PixelReport", "PixelSeconds"]

#: Version of the JSON form of a :class:`PixelReport`.
PIXELS_SCHEMA = 1


@dataclass(frozen=True)
class PixelSeconds(Spent):
    """Where the time went: drawing masks, encoding, the network, the rest."""

    masks: float = 0.0
    encoding: float = 0.0
    network: float = 0.0
    rest: float = 0.0


@dataclass(frozen=True)
class PixelRecord:
    """What is proved of one image.

    Attributes
    ----------
    index : int
        Of the image: with the seed it decides the masks.
    label : int
        Its class.
    answer : int or None
        What the vote answers; None where the draws do not prove a majority: it abstains.
    count : int
        Draws for the class that was selected, among those that estimate.
    p_lower : float
        Lower bound of the probability of that class over masks.
    radius : int or None
        No change of so many pixels changes the answer; None if it abstains.
    """

    index: int
    label: int
    answer: int | None
    count: int
    p_lower: float
    radius: int | None


@dataclass(frozen=True)
class PixelReport(Versioned):
    """What :func:`splic_ext.certify.certify_pixels` returns.

    Attributes
    ----------
    network : NetworkInfo
    images_sha256 : str
        Of images and labels.
    shape : tuple of int
        (C, H, W) of each image.
    encoding : str
        Its repr, with all parameters.
    scheme : {"bernoulli", "exact-k"}
    kept : float
        k, or the probability of a pixel to be kept.
    selection, draws : int
        Draws that select the class, and others that estimate its probability.
    alpha : float
        Each record is wrong with this probability at most.
    seed : int
        Of the masks.
    records : tuple of PixelRecord
    seconds : PixelSeconds
    provenance : Provenance

    Raises
    ------
    ValueError
        Records that contradict themselves, or none.

    Examples
    --------
    >>> import torch
    >>> from splic_ext.certify import certify_pixels
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()
    >>> report = certify_pixels(network, torch.rand(2, 1, 8, 8), [0, 1], draws=100)
    >>> PixelReport.from_json(report.to_json()) == report
    True
    """

    network: NetworkInfo
    images_sha256: str
    shape: tuple[int, ...]
    encoding: str
    scheme: str
    kept: float
    selection: int
    draws: int
    alpha: float
    seed: int
    records: tuple[PixelRecord, ...]
    seconds: PixelSeconds
    provenance: Provenance

    schema: ClassVar[tuple[int, str, str]] = (PIXELS_SCHEMA, "a report of pixels", "report")

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape, default=0) < 1 or not self.records:
            raise ValueError(
                f"a report of pixels must be of images of shape (C, H, W), got {self.shape} and "
                f"{len(self.records)} records; take a report as it was made"
            )
        for name in ("selection", "draws"):
            check_integer(name, getattr(self, name), 1, MOST_DRAWS)
        check_integer("seed", self.seed, 0, SEEDS - 1)
        check_alpha(self.alpha)
        plan = self.plan
        for record in self.records:
            check_record(record, plan, self.draws, self.alpha)

    @property
    def plan(self) -> Kept:
        """What is kept; a ValueError if scheme and amount do not fit."""
        whole = self.scheme == "exact-k" and self.kept.is_integer()
        plan = Kept.of(int(self.kept) if whole else self.kept, *self.shape[1:])
        if plan.scheme != self.scheme or plan.amount != self.kept:
            raise ValueError(
                f"a report of pixels must keep what its scheme can, got {self.kept!r} for "
                f"{self.scheme!r}; take a report as it was made"
            )
        return plan

    @property
    def largest_radius(self) -> int:
        """The radius of an image of which all draws agree: more cannot be proved."""
        plan = self.plan
        best = clopper_pearson_lower(self.draws, self.draws, self.alpha)
        return certified_radius(best, plan.pixels, plan.amount, plan.scheme) or 0

    @property
    def abstained(self) -> Accuracy:
        """Share of images without an answer."""
        return majority_accuracy([record.answer is None for record in self.records])

    def accuracy(self) -> Accuracy:
        """Return the share of images that are answered, and rightly."""
        return self.certified_accuracy(0)

    def certified_accuracy(self, rho: int) -> Accuracy:
        """Return the share of images whose answer is right, and stays if `rho` pixels change.

        Parameters
        ----------
        rho : int
            Number of pixels, at least 0.

        Returns
        -------
        Accuracy
            With Wilson's interval, for images as a sample of others like them.

        Raises
        ------
        TypeError, ValueError
            `rho` is no such number.
        """
        rho = check_integer("rho", rho, 0)
        return majority_accuracy(
            [r.answer == r.label and r.radius is not None and r.radius >= rho for r in self.records]
        )

    def table(self, radii: Sequence[int] | None = None) -> tuple[tuple[int, Accuracy], ...]:
        """Return the certified accuracy of several radii.

        Parameters
        ----------
        radii : sequence of int, optional
            Default: all from 0 to :attr:`largest_radius`.

        Returns
        -------
        tuple of (int, Accuracy)
        """
        chosen = range(self.largest_radius + 1) if radii is None else radii
        return tuple((rho, self.certified_accuracy(rho)) for rho in chosen)

    def to_markdown(self, radii: Sequence[int] | None = None) -> str:
        """Return the table as Markdown, with a line above it that says what was asked for."""
        kept = f"{self.kept:.0f} pixels" if self.scheme == "exact-k" else f"{self.kept:.4g}"
        line = (
            f"{len(self.records)} images, {self.network.name}, {self.encoding}, {self.scheme} "
            f"keeping {kept}, {self.selection} + {self.draws} draws, alpha {self.alpha:g}, seed "
            f"{self.seed}; abstained: {self.abstained}"
        )
        rows = [(str(rho), str(accuracy)) for rho, accuracy in self.table(radii)]
        lines = markdown_table([("pixels changed", "certified accuracy"), *rows], left=0)
        return "\n".join([" ".join(line.split()), "", *lines]) + "\n"

    def _repr_html_(self) -> str:
        return markdown_to_html(self.to_markdown())

    def to_json(self) -> str:
        """Return the report as JSON, which :meth:`from_json` reads; a line for each record."""
        values = {"schema_version": PIXELS_SCHEMA, **encode(self)}
        records = values.pop("records")
        head = json.dumps(values, indent=2, allow_nan=False).removesuffix("\n}")
        lines = ",\n".join(f"    {json.dumps(record, allow_nan=False)}" for record in records)
        return f'{head},\n  "records": [\n{lines}\n  ]\n}}'

    @classmethod
    def _from_values(cls, values: dict[str, Any], where: str) -> PixelReport:
        try:
            return decode(cls, values, where)
        except TypeError as error:  # of a parameter, which here is a field of a file
            raise ValueError(str(error)) from error


def check_record(record: PixelRecord, plan: Kept, draws: int, alpha: float) -> None:
    """Raise unless bound, answer and radius are what the count of a record says."""
    good = 0 <= record.index < SEEDS and record.label >= 0 and 0 <= record.count <= draws
    if good:
        bound = clopper_pearson_lower(record.count, draws, alpha)
        good = math.isclose(record.p_lower, bound, rel_tol=1e-9, abs_tol=1e-12)
    if good:
        radius = certified_radius(record.p_lower, plan.pixels, plan.amount, plan.scheme)
        good = record.radius == radius and (record.answer is None) == (radius is None)
    if not good or (record.answer is not None and record.answer < 0):
        raise ValueError(
            f"a record of pixels must be what its count says of {draws} draws, got {record}; take "
            "it as it was made"
        )
