"""Results of experiments: rows with intervals beside the paper's numbers; JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splic_ext.evaluation import Accuracy, DatasetInfo, NetworkInfo, Provenance, Record
from splic_ext.evaluation.tables import markdown_table, percent
from splic_ext.runs.plain import decode, encode, read_versioned, told_if_nested
from splic_ext.runs.store import write_text

__all__ = ["SCHEMA_VERSION", "ExperimentResult", "Row"]

#: Of the JSON form.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One number of an experiment.

    Attributes
    ----------
    section : str
        Part of the experiment.
    method : str
        The defence, as a table names it.
    defense : str
        All of its parameters.
    attack : str
        "clean", or the attack as a table names it.
    parameters : str
        All of the attack's parameters; empty for clean images.
    scenario : str
        "gray", "black", "white" or "mixed".
    dataset : DatasetInfo
    model : NetworkInfo
    draws : int
        Fresh draws of the masks for each image.
    mean, all_draws, majority : Accuracy
        As of :class:`splic_ext.evaluation.Record`.
    paper : float or None
        The number that the paper prints, in %.
    seconds : float
        What it took.
    """

    section: str
    method: str
    defense: str
    attack: str
    parameters: str
    scenario: str
    dataset: DatasetInfo
    model: NetworkInfo
    draws: int
    mean: Accuracy
    all_draws: Accuracy
    majority: Accuracy
    paper: float | None
    seconds: float

    @classmethod
    def from_record(
        cls, record: Record, section: str, method: str, attack: str, paper: float | None = None
    ) -> Row:
        """Return the row of a record.

        Parameters
        ----------
        record : Record
        section, method, attack : str
            How it is named.
        paper : float, optional
            The paper's number, in %.
        """
        return cls(
            section=section,
            method=method,
            defense=record.defense_repr,
            attack=attack,
            parameters="" if record.parameters is None else json.dumps(record.parameters),
            scenario=record.scenario,
            dataset=record.dataset,
            model=record.model,
            draws=record.draws,
            mean=record.mean,
            all_draws=record.all_draws,
            majority=record.majority,
            paper=paper,
            seconds=record.seconds.total,
        )


@dataclass(frozen=True)
class ExperimentResult:
    """The rows of an experiment, and how they came about.

    Attributes
    ----------
    name, title : str
    rows : tuple of Row
    provenance : Provenance
        Versions, code, machine, command and date.
    notes : tuple of str
        What a reader should know.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    provenance: Provenance
    notes: tuple[str, ...] = ()

    def select(
        self, *, section: str | None = None, method: str | None = None, attack: str | None = None
    ) -> tuple[Row, ...]:
        """Return the rows of a section, method or attack; default: of all."""
        return tuple(
            row
            for row in self.rows
            if section in (None, row.section)
            and method in (None, row.method)
            and attack in (None, row.attack)
        )

    def to_json(self) -> str:
        """Return JSON, which :meth:`from_json` reads."""
        values = {"schema_version": SCHEMA_VERSION, **encode(self)}
        rows = ",\n".join("    " + json.dumps(row, allow_nan=False) for row in values.pop("rows"))
        head = json.dumps(values, indent=2, allow_nan=False)
        return head[:-2] + f',\n  "rows": [\n{rows}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> ExperimentResult:
        """Return the result that :meth:`to_json` wrote.

        Parameters
        ----------
        text : str

        Raises
        ------
        ValueError
            No JSON, another version of the schema, or not as it was written.
        """
        what = "the result of an experiment"
        with told_if_nested(what):
            return decode(cls, read_versioned(text, SCHEMA_VERSION, what), "result")

    def to_csv(self) -> str:
        """Return one line for each row, accuracies in %."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        accuracies = ("mean", "all_draws", "majority")
        writer.writerow(
            ["section", "dataset", "images", "network", "scenario", "method", "attack", "draws"]
            + [f"{name}{end}" for name in accuracies for end in ("", "_low", "_high")]
            + ["paper", "defense", "parameters"]
        )
        for row in self.rows:
            values = [getattr(row, name) for name in accuracies]
            writer.writerow(
                [row.section, row.dataset.name, row.mean.n, row.model.name, row.scenario]
                + [row.method, row.attack, row.draws]
                + [f"{100 * x:.2f}" for a in values for x in (a.value, a.low, a.high)]
                + ["" if row.paper is None else row.paper, row.defense, row.parameters]
            )
        return text.getvalue()

    def to_markdown(self) -> str:
        """Return the sections as tables, methods down and attacks across, in %."""
        parts = [f"# {' '.join(self.title.split())}", "", *_head(self)]
        for section in dict.fromkeys(row.section for row in self.rows):
            rows = self.select(section=section)
            parts += ["", f"## {section}", "", *_table(rows)]
        return "\n".join(parts) + "\n"

    def save(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write NAME.json, NAME.csv and NAME.md into a folder, each at once or not at all.

        Parameters
        ----------
        folder : path
            Made if it is missing.

        Returns
        -------
        tuple of Path

        Raises
        ------
        OSError
            It cannot be written.
        """
        forms = {"json": self.to_json(), "csv": self.to_csv(), "md": self.to_markdown()}
        paths = tuple(Path(folder) / f"{self.name}.{suffix}" for suffix in forms)
        for path, text in zip(paths, forms.values(), strict=True):
            write_text(path, text)
        return paths


def _head(result: ExperimentResult) -> list[str]:
    origin = result.provenance
    versions = ", ".join(
        f"{name} {version}" for name, version in origin.versions.items() if version
    )
    lines = [
        "Accuracy in %, mean over the draws, with 95 % Wilson intervals over the images; in round "
        "brackets the share of images that are right in every draw.",
        "",
        f"- {origin.date[:10]}, {origin.machine.cpu}, {origin.machine.cores} cores; {versions}",
    ]
    if origin.command is not None:
        lines.append(f"- `{origin.command}`")
    return lines + [f"- {note}" for note in result.notes]


def _table(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    most = max(row.mean.n for row in rows)
    fewer = {row.attack: row.mean.n for row in rows if row.mean.n < most}
    methods = dict.fromkeys(row.method for row in rows)
    caption = f"{most:,} images of {first.dataset.name}, {first.model.name}"
    caption += "".join(f"; {attack}: the first {n:,}" for attack, n in fewer.items())
    if len(methods) == 1:
        caption = f"{first.method}: {caption}"
    lines = _by_attack(rows) if len(methods) == 1 else _by_method(rows, list(methods))
    return [f"{' '.join(caption.split())}.", "", *markdown_table(lines)]


def _by_attack(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["attack", "one draw", "every draw", "vote"]]
    for row in rows:
        lines.append([row.attack, *map(percent, (row.mean, row.all_draws, row.majority))])
    return lines


def _by_method(rows: Sequence[Row], methods: Sequence[str]) -> list[list[str]]:
    attacks = list(dict.fromkeys(row.attack for row in rows))
    printed = {row.attack for row in rows if row.paper is not None}
    header = ["method"]
    for attack in attacks:
        header += [attack, "paper"] if attack in printed else [attack]
    lines = [header]
    for method in methods:
        line = [method]
        for attack in attacks:
            found = [row for row in rows if (row.method, row.attack) == (method, attack)]
            line.append(_cell(found[0]) if found else "")
            if attack in printed:
                paper = found[0].paper if found else None
                line.append("" if paper is None else f"{paper:.1f}")
        lines.append(line)
    return lines


def _cell(row: Row) -> str:
    text = percent(row.mean)
    return text if row.draws == 1 else f"{text} ({100 * row.all_draws.value:.1f})"
