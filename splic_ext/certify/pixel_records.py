"""What was certified of a data set against changed pixels, as one typed record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from splic_ext.certify.ablation_records import PixelReport, PixelSeconds
from splic_ext.common.notebook import InNotebook
from splic_ext.runs.plain import Versioned, decode, encode, to_text
from splic_ext.runs.records import DatasetInfo

__all__ = ["PixelEvaluation"]

#: Of the JSON form; raised when a reader of the former would misread it.
SCHEMA_VERSION = 1
#: A record of an image in JSON with indents.
RECORD = re.compile(r'\{\n\s+("index":[^{}]+?)\n\s+\}')


@dataclass(frozen=True)
class PixelEvaluation(InNotebook, Versioned):
    """What :func:`splic_ext.certify.evaluate_pixels` returns; iterates over (name, report).

    Attributes
    ----------
    key : str
        SHA-256 of all that was asked for.
    dataset : DatasetInfo
    names : tuple of str
        Of the encoding of each report.
    reports : tuple of PixelReport
        For each amount of pixels kept all encodings, in order.
    seconds : PixelSeconds
        Of the run that wrote it.
    notes : tuple of str
        What was warned of.

    Raises
    ------
    ValueError
        Reports that are not of one network and these images, or none.
    """

    key: str
    dataset: DatasetInfo
    names: tuple[str, ...]
    reports: tuple[PixelReport, ...]
    seconds: PixelSeconds
    notes: tuple[str, ...] = field(default=())

    schema: ClassVar[tuple[int, str, str]] = (SCHEMA_VERSION, "a pixel evaluation", "evaluation")

    def __post_init__(self) -> None:
        labels = {tuple(record.label for record in r.records) for r in self.reports}
        shared = {
            (r.network, r.images_sha256, r.shape, r.selection, r.draws, r.alpha, r.seed)
            for r in self.reports
        }
        whole = tuple(range(self.dataset.images))
        fits = all(
            (r.images_sha256, r.shape) == (self.dataset.sha256, self.dataset.shape)
            and tuple(record.index for record in r.records) == whole
            for r in self.reports
        )
        kinds = {(n, r.plan) for n, r in zip(self.names, self.reports, strict=False)}
        if (
            len(shared) != 1
            or len(labels) != 1
            or not fits
            or not len(kinds) == len(self.names) == len(self.reports)
        ):
            raise ValueError(
                f"a pixel evaluation must have reports of one network on its "
                f"{self.dataset.images} images, each with a name, got {len(self.reports)} with "
                f"{len(self.names)} names; take it as it was made"
            )

    def __iter__(self) -> Iterator[tuple[str, PixelReport]]:
        return zip(self.names, self.reports, strict=True)

    def select(self, *, encoding: str | None = None, kept: str | None = None) -> tuple[Any, ...]:
        """Return some of the reports.

        Parameters
        ----------
        encoding, kept : str, optional
            Name of an encoding; what is kept, such as "0.1" or "100". Default: all.

        Returns
        -------
        tuple of PixelReport
        """
        return tuple(
            report
            for name, report in self
            if encoding in (None, name) and kept in (None, report.plan.text)
        )

    @property
    def largest_radius(self) -> int:
        """The largest radius that any of the reports could prove."""
        return max(report.largest_radius for report in self.reports)

    def to_json(self) -> str:
        """Return JSON, which :meth:`from_json` reads; a line for each record."""
        values = {"schema_version": SCHEMA_VERSION, **encode(self)}
        # No string of JSON holds a line break.
        return RECORD.sub(lambda m: f"{{{' '.join(m[1].split())}}}", to_text(values))

    @classmethod
    def _from_values(cls, values: dict[str, Any], where: str) -> PixelEvaluation:
        try:
            return decode(cls, values, where)
        except TypeError as error:  # of a parameter, which here is a field of a file
            raise ValueError(str(error)) from error
