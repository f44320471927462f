"""What the result of an experiment is made of: accuracies, points of curves, pictures."""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splic_ext.common.checks import shortened
from splic_ext.common.optional import optional
from splic_ext.evaluation import Accuracy, DatasetInfo, NetworkInfo, Record

__all__ = ["KINDS", "Gallery", "Point", "Row", "encode_picture", "is_worst"]

#: How points are drawn.
KINDS = ("line", "bar", "scatter")
#: What an accuracy is called at the axis.
ACCURACY = "accuracy (%)"


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
        "clean", or the key of the attack; most are what tables show.
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

    def __post_init__(self) -> None:
        for name, low, high in (
            ("draws", 1, math.inf),
            ("paper", 0, 100),
            ("seconds", 0, math.inf),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(
                    f"`{name}` of a row must be in [{low}, {high}], got {value!r}; take the "
                    "result as it was made"
                )

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


def is_worst(row: Row) -> bool:
    """Whether a row is the worst of several attacks for each image, whatever it is called."""
    return bool(row.parameters) and "attacks" in json.loads(row.parameters)


@dataclass(frozen=True)
class Point:
    """One number of a curve, a bar chart or a cloud of points.

    Attributes
    ----------
    section : str
        Part of the experiment; all points of a section that share `x_name` and `y_name` are one
        diagram.
    series : str
        The curve, or colour, that it belongs to.
    x_name : str
    x : float
    y_name : str
    y : float
    low, high : float or None
        Ends of its interval.
    n : int or None
        How many images it is of.
    paper : float or None
        The number that the paper prints there, in the unit of `y`.
    dataset : str
        Name of the images; empty where there are none.
    label : str
        What stands at `x` in place of the number.
    kind : {"line", "bar", "scatter"}
        How it is drawn.

    Raises
    ------
    ValueError
        A number that is not finite, an accuracy that is none, or another kind.
    """

    section: str
    series: str
    x_name: str
    x: float
    y_name: str
    y: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    paper: float | None = None
    dataset: str = ""
    label: str = ""
    kind: str = "line"

    def __post_init__(self) -> None:
        for name in ("x", "y", "low", "high", "paper"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(
                    f"`{name}` of a point must be finite, got {value!r}; leave the point out"
                )
            percent = self.y_name == ACCURACY and name != "x"
            if value is not None and percent and not 0 <= value <= 100:
                raise ValueError(
                    f"`{name}` of a point must be in [0, 100], an accuracy in %, got {value!r}; "
                    "take it as it was made"
                )
        if self.kind not in KINDS:
            raise ValueError(
                f"`kind` of a point must be one of {', '.join(KINDS)}, got "
                f"{shortened(repr(self.kind))}; choose one"
            )

    @classmethod
    def from_row(cls, row: Row, x_name: str, x: float, **more: Any) -> Point:
        """Return the mean accuracy of a row, in %, as a point of the curve of its method.

        Parameters
        ----------
        row : Row
        x_name : str
        x : float
        **more
            Other fields, in place of those of the row.
        """
        values: dict[str, Any] = {
            "section": row.section,
            "series": row.method,
            "y_name": ACCURACY,
            "y": 100 * row.mean.value,
            "low": 100 * row.mean.low,
            "high": 100 * row.mean.high,
            "n": row.mean.n,
            "paper": row.paper,
            "dataset": row.dataset.name,
        }
        return cls(x_name=x_name, x=x, **{**values, **more})


@dataclass(frozen=True)
class Gallery:
    """A grid of pictures.

    Attributes
    ----------
    section, title : str
    rows, columns : tuple of str
        What stands at the left of each row, and above each column.
    images : tuple of tuple of str
        PNG files in base64, row by row, as `encode_picture` makes them; an empty string
        where there is none.
    captions : tuple of tuple of str
        What stands below each, such as what a network takes it for.
    right : tuple of tuple of (bool or None)
        Whether the network is right; None where there is no such question.

    Raises
    ------
    ValueError
        Another number of pictures, captions or truth values than rows and columns say.
    """

    section: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    images: tuple[tuple[str, ...], ...]
    captions: tuple[tuple[str, ...], ...]
    right: tuple[tuple[bool | None, ...], ...]

    def __post_init__(self) -> None:
        expected = [len(self.columns)] * len(self.rows)
        for name in ("images", "captions", "right"):
            found = [len(line) for line in getattr(self, name)]
            if found != expected:
                raise ValueError(
                    f"`{name}` of a gallery must have {len(self.rows)} rows of "
                    f"{len(self.columns)}, got rows of {found}; give one for each picture"
                )


def encode_picture(image: npt.NDArray[Any], *, magnify: int = 1) -> str:
    """Return an image as a PNG file in base64, its pixels as squares of `magnify` pixels a side.

    Shape (C, H, W), gray or RGB, uint8 or floating point in [0, 1].
    """
    with optional("`encode_picture`", "report", "PIL"):
        from PIL import Image
    values = np.asarray(image)
    if values.dtype != np.uint8:
        values = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    values = values.repeat(magnify, axis=1).repeat(magnify, axis=2)
    picture = Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
