"""Fills by name and from texts."""

from __future__ import annotations

import sys

import pytest

from splic_ext import MissingExtraError, SolverOptions

pytest.importorskip("torch", reason="torch is not installed")
fills = pytest.importorskip("splic_ext.fills")

from helpers.fills import diagonal  # noqa: E402

from splic_ext import defenses  # noqa: E402


def test_every_fill_has_a_name():
    kinds = {
        getattr(fills, name)
        for name in fills.__all__
        if isinstance(getattr(fills, name), type) and issubclass(getattr(fills, name), fills.Fill)
    }
    assert kinds - {fills.Fill, fills.FunctionFill} == {
        *fills.FILLS.values(),
        *fills.ENCODINGS.values(),
    }
    expected = ["gray", "mean", "telea", "navier-stokes", "biharmonic", "thin-plate", "tv", "splic"]
    assert list(fills.FILLS) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("gray:value=1/4", "Constant(value=0.25)"),
        ("mean", "Mean()"),
        ("telea:radius=5", "Telea(radius=5)"),
        ("navier-stokes", "NavierStokes(radius=3)"),
        ("biharmonic", "Biharmonic()"),
        ("thin-plate:tension=1", "ThinPlate(tension=1.0)"),
        ("tv:epsilon=0.02,iterations=200", "TVInpainting(epsilon=0.02, iterations=200)"),
    ],
)
def test_specifications(spec, expected):
    assert repr(fills.fill_from_spec(spec)) == expected


def test_options_of_splic():
    refine = SolverOptions.preset("refine")
    assert fills.create_fill("splic").options == refine
    assert fills.create_fill("splic").start == "thin-plate"
    assert fills.create_fill("splic", rank=5).options == refine.replace(rank=5)
    assert fills.create_fill("splic", preset="holes").start is None
    own = SolverOptions(alternate=False)
    assert fills.create_fill("splic", options=own).options == own
    changed = fills.create_fill("splic", preset="recommended", alternate=False, n_masks=1)
    expected = SolverOptions.preset("recommended").replace(alternate=False, n_masks=1)
    assert changed.options == expected
    with pytest.raises(ValueError, match="`options` of a fill must be of one pass"):
        fills.SPLICFill("paper")
    with pytest.raises(
        ValueError, match="`start` must be None for options that do not start from the image"
    ):
        fills.SPLICFill("holes", start="tv")
    with pytest.raises(ValueError, match=r"`start` must be one of 'gray', .*, got 'telea'"):
        fills.SPLICFill(start="telea")
    with pytest.raises(ValueError, match="n_masks > 1"):
        fills.SPLICFill(refine.replace(n_masks=2))


@pytest.mark.parametrize(
    ("name", "parameters", "kind", "message"),
    [
        ("grey", {}, ValueError, "fill name must be one of gray, mean, .*got 'grey'"),
        (3, {}, ValueError, "fill name must be one of"),
        ("mean", {"value": 0}, TypeError, "unknown parameter `value` of the fill 'mean'.*none"),
        ("gray", {"value": 2}, ValueError, "`value` must be finite and in"),
        ("gray", {"value": "x"}, TypeError, "`value` must be a number"),
        ("thin-plate", {"tension": 0}, ValueError, "`tension` must be finite and in"),
        ("tv", {"epsilon": 0}, ValueError, "`epsilon` must be finite and in"),
        ("tv", {"epsilon": float("nan")}, ValueError, "`epsilon` must be finite and in"),
        ("tv", {"iterations": 0}, ValueError, "`iterations` must be an integer in"),
        ("tv", {"iterations": 1.5}, TypeError, "`iterations` must be an integer"),
        ("telea", {"radius": 0}, ValueError, "`radius` must be an integer in"),
        ("navier-stokes", {"radius": 101}, ValueError, "`radius` must be an integer in"),
        ("telea", {"radius": 2.5}, TypeError, "`radius` must be an integer"),
        ("splic", {"options": "holes", "rank": 3}, TypeError, "contradicts `preset` and single"),
    ],
)
def test_wrong_names_and_parameters(name, parameters, kind, message):
    with pytest.raises(kind, match=message):
        fills.create_fill(name, **parameters)


def test_what_is_taken_as_a_fill():
    gray = fills.Constant()
    assert fills.as_fill(gray) is gray
    assert repr(fills.as_fill("gray:value=0")) == "Constant(value=0.0)"
    assert repr(fills.as_fill(diagonal)) == "FunctionFill(function='diagonal')"
    for wrong in (3, None, defenses.Identity()):
        with pytest.raises(TypeError, match="`fill` must be a Fill, its name, or a function"):
            fills.as_fill(wrong)


@pytest.mark.parametrize(
    ("name", "package", "distribution"),
    [
        ("telea", "cv2", "opencv-python-headless"),
        ("navier-stokes", "cv2", "opencv-python-headless"),
        ("biharmonic", "skimage.restoration", "scikit-image"),
    ],
)
def test_an_absent_package_is_named_with_its_extra(monkeypatch, name, package, distribution):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=distribution) as caught:
        fills.create_fill(name)
    assert caught.value.extra == "certify"
