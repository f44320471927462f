"""Results of experiments: accuracies, curves and pictures beside the paper's numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from splic_ext.common.atomic import write_bytes, write_text
from splic_ext.common.notebook import markdown_to_html
from splic_ext.evaluation import DatasetInfo, Provenance
from splic_ext.experiments.results.keys import attack_title
from splic_ext.experiments.results.layout import (
    head,
    point_tables,
    points_to_csv,
    row_table,
    rows_to_csv,
)
from splic_ext.experiments.results.rows import Gallery, Point, Row
from splic_ext.runs.plain import decode, encode, not_too_deep, read_versioned

__all__ = ["SCHEMA_VERSION", "ExperimentResult"]

#: Of the JSON form.
SCHEMA_VERSION = 3
#: Earlier versions that are read as well -> what they lack.
OLDER: Mapping[int, Mapping[str, Any]] = {
    1: {"points": [], "galleries": [], "datasets": [], "budget": None, "kinds": {}},
    2: {"kinds": {}},
}
#: Lists that are written with a line for each item.
LISTS = ("rows", "points", "galleries")


@dataclass(frozen=True)
class ExperimentResult:
    """What an experiment found, and how it came about.

    Attributes
    ----------
    name, title : str
    rows : tuple of Row
        Accuracies.
    provenance : Provenance
        Versions, code, machine, command and date.
    notes : tuple of str
        What a reader should know.
    points : tuple of Point
        Curves, bars and clouds of points.
    galleries : tuple of Gallery
        Pictures.
    datasets : tuple of DatasetInfo
        The images that points and galleries are of.
    budget : str or None
        Name of the budget, where there was one; of the adaptive protocol that of its size.
    kinds : dict
        Name of a data set -> whose column of the paper it belongs to, "cifar10" or "svhn".
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    provenance: Provenance
    notes: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    datasets: tuple[DatasetInfo, ...] = ()
    budget: str | None = None
    kinds: dict[str, str] = field(default_factory=dict)

    def select(
        self, *, section: str | None = None, method: str | None = None, attack: str | None = None
    ) -> tuple[Row, ...]:
        """Return the rows of a section, method or attack, by key or title; default: of all."""
        return tuple(
            row
            for row in self.rows
            if section in (None, row.section)
            and method in (None, row.method)
            and attack in (None, row.attack, attack_title(row.attack))
        )

    def to_json(self) -> str:
        """Return JSON, which :meth:`from_json` reads."""
        values = {"schema_version": SCHEMA_VERSION, **encode(self)}
        lists = {name: values.pop(name) for name in LISTS}
        text = json.dumps(values, indent=2, allow_nan=False)[:-2]
        for name, items in lists.items():
            lines = ",\n".join("    " + json.dumps(item, allow_nan=False) for item in items)
            text += f',\n  "{name}": [\n{lines}\n  ]'
        return text + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> ExperimentResult:
        """Return the result that :meth:`to_json` wrote, in this version or an earlier one.

        Parameters
        ----------
        text : str

        Raises
        ------
        ValueError
            No JSON, another version of the schema, or not as it was written.
        """
        what = "the result of an experiment"
        with not_too_deep(what):
            return decode(cls, read_versioned(text, SCHEMA_VERSION, what, OLDER), "result")

    def to_csv(self) -> str:
        """Return one line for each row, accuracies in %."""
        return rows_to_csv(self.rows)

    def to_markdown(self) -> str:
        """Return the sections as tables, in %; of the pictures their titles."""
        parts = [f"# {' '.join(self.title.split())}", ""]
        parts += head(self.provenance, self.notes, accuracies=bool(self.rows))
        if self.points or self.galleries:
            parts += ["", f"![{' '.join(self.title.split())}]({self.name}.png)"]
        sections = [row.section for row in self.rows] + [point.section for point in self.points]
        for section in dict.fromkeys(sections):
            rows = self.select(section=section)
            points = [point for point in self.points if point.section == section]
            # The rows of a section with a curve are its points.
            lines = point_tables(points) if points else row_table(rows)
            if lines:
                parts += ["", f"## {section}", "", *lines]
        return "\n".join(parts) + "\n"

    def _repr_html_(self) -> str:
        return markdown_to_html(self.to_markdown())

    def to_png(self) -> bytes:
        """Return points and pictures, drawn.

        Raises
        ------
        MissingExtraError
            Matplotlib is not installed.
        """
        from splic_ext.experiments.results.drawing import draw, render

        return render(draw(self.title, self.points, self.galleries), "png")

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that :meth:`save` writes."""
        return tuple(self._forms())

    def save(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write NAME.json and NAME.md into a folder, and what else there is.

        NAME.csv has the rows, NAME_points.csv the points, NAME.png points and pictures. Each file
        is written at once or not at all.

        Parameters
        ----------
        folder : path
            Made if it is missing.

        Returns
        -------
        tuple of Path

        Raises
        ------
        MissingExtraError
            Matplotlib is not installed, and there are points or pictures. Nothing is written.
        OSError
            A file cannot be written.
        """
        contents = {name: form() for name, form in self._forms().items()}
        for name, content in contents.items():
            path = Path(folder) / name
            if isinstance(content, str):
                write_text(path, content)
            else:
                write_bytes(path, content)
        return tuple(Path(folder) / name for name in contents)

    def _forms(self) -> dict[str, Callable[[], str | bytes]]:
        """Return what makes each file."""
        drawn = bool(self.points or self.galleries)
        forms: dict[str, Callable[[], str | bytes]] = {f"{self.name}.json": self.to_json}
        if self.rows or not drawn:
            forms[f"{self.name}.csv"] = self.to_csv
        if self.points:
            forms[f"{self.name}_points.csv"] = lambda: points_to_csv(self.points)
        forms[f"{self.name}.md"] = self.to_markdown
        if drawn:
            forms[f"{self.name}.png"] = self.to_png
        return forms
