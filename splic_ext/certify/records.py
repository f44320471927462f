"""What was certified, as typed records: of an image, and of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from splic_ext.common.notebook import InNotebook
from splic_ext.evaluation.statistics import Accuracy, majority_accuracy
from splic_ext.runs.clock import Spent
from splic_ext.runs.plain import Counted, Versioned, decode, encode, to_text
from splic_ext.runs.records import DatasetInfo, NetworkInfo, Provenance

__all__ = [
    "SCHEMA_VERSION",
    "CertificateReport",
    "FillSeconds",
    "PatchCertificate",
    "PatchRecord",
    "share",
]

#: Of the JSON form; raised when a reader of the former would misread it.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class PatchCertificate:
    """What is known of one image.

    Attributes
    ----------
    index : int
        Its position.
    label : int
        Its class.
    plain : int
        What the network answers to the whole image, without masks.
    answer : int
        What the vote answers to the clean image.
    certified : bool
        Whether the vote answers `label` for this image with any patch: the network is right under
        every pair of masks.
    failed : (int, int) or None
        Where it is not certified: the first pair of masks found under which the network is not
        surely right; (i, i) is mask i alone.
    pairs : int
        How many pairs were asked for.
    """

    index: int
    label: int
    plain: int
    answer: int
    certified: bool
    failed: tuple[int, int] | None
    pairs: int


@dataclass(frozen=True)
class FillSeconds(Spent):
    """Where the time went.

    Attributes
    ----------
    fill, network : float
        Filling hidden pixels, and classifying.
    rest : float
        Everything else.
    """

    fill: float = 0.0
    network: float = 0.0
    rest: float = 0.0


@dataclass(frozen=True)
class PatchRecord(Counted):
    """One network with one fill against patches of one size, on a data set.

    Attributes
    ----------
    dataset : DatasetInfo
    model : NetworkInfo
    fill, fill_repr : str
        Its name, and all of its parameters.
    patch : str
        What the attacker may place: ``5``, ``3x8`` or ``3x8,8x3``, in pixels.
    area : float
        Largest share of the image that the patches cover.
    patches : int
        How many.
    masks : int
        Masks of round one.
    mask : str
        Height and width of what each hides.
    plain : tuple of int
        Answers to the whole images, without masks.
    answers : tuple of int
        Answers of the vote to the clean images.
    labels : tuple of int
    certified : tuple of bool
        Of each image.
    failed : tuple of tuple of int
        Of each image, the first pair of masks found that fails; empty where it is certified.
    pairs : tuple of int
        How many pairs were asked of each image.
    seconds : FillSeconds
    provenance : Provenance

    Raises
    ------
    ValueError
        Counts that do not fit together, or a certificate for a wrong answer.
    """

    dataset: DatasetInfo
    model: NetworkInfo
    fill: str
    fill_repr: str
    patch: str
    area: float
    patches: int
    masks: int
    mask: str
    plain: tuple[int, ...]
    answers: tuple[int, ...]
    labels: tuple[int, ...]
    certified: tuple[bool, ...]
    failed: tuple[tuple[int, ...], ...]
    pairs: tuple[int, ...]
    seconds: FillSeconds
    provenance: Provenance

    accuracies: ClassVar[dict[str, str]] = {
        name: f"{name}_accuracy" for name in ("plain", "clean", "certified")
    }

    def __post_init__(self) -> None:
        rows = (self.plain, self.answers, self.labels, self.certified, self.failed, self.pairs)
        if {len(row) for row in rows} != {self.dataset.images}:
            raise ValueError(
                "a record of certificates must have a value for each of its "
                f"{self.dataset.images} images, got {', '.join(str(len(row)) for row in rows)}; "
                "take a record as it was made"
            )
        for i, (sure, answer, label, pair) in enumerate(
            zip(self.certified, self.answers, self.labels, self.failed, strict=True)
        ):
            if (sure and answer != label) or len(pair) != (0 if sure else 2):
                raise ValueError(
                    f"a record of certificates must have a pair that fails where it is not "
                    f"certified, and certify right answers alone, got another case as image {i}; "
                    "take a record as it was made"
                )
        if min(self.seconds.total, self.area, *self.pairs) < 0 or min(self.masks, self.patches) < 1:
            raise ValueError(
                "a record of certificates must have no negative times and counts; take a record "
                "as it was made"
            )

    @property
    def plain_accuracy(self) -> Accuracy:
        """Accuracy of the network alone, on clean images."""
        return share(np.equal(self.plain, self.labels))

    @property
    def clean_accuracy(self) -> Accuracy:
        """Accuracy of the vote, on clean images."""
        return share(np.equal(self.answers, self.labels))

    @property
    def certified_accuracy(self) -> Accuracy:
        """Share of images that no patch can turn."""
        return share(self.certified)


def share(flags: Any) -> Accuracy:
    """Return the share of images of which something is true, with Wilson's interval."""
    return majority_accuracy(tuple(bool(flag) for flag in flags))


@dataclass(frozen=True)
class CertificateReport(InNotebook, Versioned):
    """The records of a certification.

    Attributes
    ----------
    key : str
        SHA-256 of all that was asked for.
    records : tuple of PatchRecord
        For each size of patches all fills, in order.
    seconds : FillSeconds
        Of the run that wrote the report.
    notes : tuple of str
        What was warned of.
    """

    key: str
    records: tuple[PatchRecord, ...]
    seconds: FillSeconds
    notes: tuple[str, ...] = field(default=())

    schema: ClassVar[tuple[int, str, str]] = (SCHEMA_VERSION, "a certificate report", "report")

    def select(
        self, *, fill: str | None = None, patch: str | None = None
    ) -> tuple[PatchRecord, ...]:
        """Return some of the records.

        Parameters
        ----------
        fill, patch : str, optional
            Name of a fill, text of a patch; default: all.
        """
        return tuple(
            record
            for record in self.records
            if fill in (None, record.fill) and patch in (None, record.patch)
        )

    def to_json(self) -> str:
        """Return the report as JSON, which :meth:`from_json` reads."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "key": self.key,
            "seconds": encode(self.seconds),
            "notes": list(self.notes),
            "records": [record.to_dict() for record in self.records],
        }
        return to_text(values)

    @classmethod
    def _from_values(cls, values: dict[str, Any], where: str) -> CertificateReport:
        records = values.pop("records", None)
        if not isinstance(records, list) or not records:
            raise ValueError(
                "`records` of a certificate report must be a list with a record at least; it is "
                "damaged"
            )
        return replace(
            decode(cls, {**values, "records": []}, where),
            records=tuple(
                PatchRecord.from_dict(record, f"records[{i}]") for i, record in enumerate(records)
            ),
        )
