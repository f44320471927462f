"""Points, galleries and pictures: what they hold, and what is refused."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from helpers.results import make_row

pytest.importorskip("torch", reason="torch is not installed")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from splic_ext.errors import MissingExtraError  # noqa: E402
from splic_ext.experiments import Gallery, Point  # noqa: E402
from splic_ext.experiments.results.rows import encode_picture  # noqa: E402


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_a_point_of_a_row():
    point = Point.from_row(make_row("tv", "FGSM", 2, paper=40.0), "rank", 8, series="other")
    assert point == Point(
        "made", "other", "rank", 8, "accuracy (%)", 50.0, 12.5, 87.5, 4, 40.0, "made"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": float("nan")}, "`y` of a point must be finite, got nan; leave"),
        ({"x": float("inf")}, "`x` of a point must be finite, got inf"),
        ({"high": float("-inf")}, "`high` of a point must be finite"),
        ({"kind": "pie"}, "`kind` of a point must be one of line, bar, scatter, got 'pie'"),
    ],
)
def test_refused_points(changes, message):
    values = {"section": "s", "series": "a", "x_name": "x", "x": 1.0, "y_name": "y", "y": 2.0}
    assert Point(**values).low is None
    with pytest.raises(ValueError, match=message):
        Point(**{**values, **changes})


@pytest.mark.parametrize("name", ["images", "captions", "right"])
def test_refused_galleries(name):
    grid = {"images": (("", ""),), "captions": (("a", "b"),), "right": ((None, True),)}
    made = Gallery("s", "t", ("r",), ("c", "d"), **grid)
    assert made.right[0][1] is True
    with pytest.raises(ValueError, match=rf"`{name}` of a gallery must have 1 rows of 2, got rows"):
        Gallery("s", "t", ("r",), ("c", "d"), **{**grid, name: ((grid[name][0][0],),)})
    with pytest.raises(ValueError, match=r"got rows of \[\]"):
        Gallery("s", "t", ("r",), ("c", "d"), **{**grid, name: ()})


def test_pictures():
    gray = np.array([[[0.0, 1.0], [0.5, 2.0]]])
    assert decoded(encode_picture(gray)).tolist() == [[0, 255], [128, 255]]
    large = decoded(encode_picture(gray, magnify=3))
    assert large.shape == (6, 6)
    assert (large[:3, 3:] == 255).all()
    color = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert (decoded(encode_picture(color)) == color.transpose(1, 2, 0)).all()


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="report"):
        encode_picture(np.zeros((1, 2, 2)))
