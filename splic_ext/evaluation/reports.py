"""The records of an evaluation together: JSON with a version, and back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from splic_ext.common.notebook import InNotebook
from splic_ext.evaluation.records import Record, Seconds
from splic_ext.runs.plain import Versioned, decode, encode, to_text

__all__ = ["SCHEMA_VERSION", "EvaluationReport"]

#: Of the JSON form; raised when a reader of the former would misread it.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class EvaluationReport(InNotebook, Versioned):
    """The records of an evaluation.

    Attributes
    ----------
    key : str
        SHA-256 of all that was asked for.
    records : tuple of Record
        For each attack, clean images first, all defences in order.
    seconds : Seconds
        Of the run that wrote the report: less than those of the records where it took up the
        parts of an earlier run.
    notes : tuple of str
        What was warned of.
    """

    key: str
    records: tuple[Record, ...]
    seconds: Seconds
    notes: tuple[str, ...] = field(default=())

    schema: ClassVar[tuple[int, str, str]] = (SCHEMA_VERSION, "an evaluation report", "report")

    def select(self, *, defense: str | None = None, attack: str | None = "") -> tuple[Record, ...]:
        """Return some of the records.

        Parameters
        ----------
        defense : str, optional
            Name of a defence; default: all.
        attack : str or None, optional
            Name of an attack, None for clean images; default: all.

        Returns
        -------
        tuple of Record
        """
        return tuple(
            record
            for record in self.records
            if defense in (None, record.defense) and attack in ("", record.attack)
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
    def _from_values(cls, values: dict[str, Any], where: str) -> EvaluationReport:
        records = values.pop("records", None)
        if not isinstance(records, list):
            raise ValueError("`records` of an evaluation report must be a list; it is damaged")
        return replace(
            decode(cls, {**values, "records": []}, where),
            records=tuple(
                Record.from_dict(record, f"records[{i}]") for i, record in enumerate(records)
            ),
        )
