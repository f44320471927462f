"""The first guess: the surface of least energy, whatever the holes and the way to it."""

from __future__ import annotations

import numpy as np
import pytest

from splic_ext.inpainting import plate
from splic_ext.inpainting.energy import energy


def scattered(height, width, share, seed=0):
    visible = np.random.default_rng(seed).random((height, width)) < share
    visible[0, 0], visible[-1, -1] = True, False
    return visible


def boxed(height, width, *boxes):
    visible = np.ones((height, width), bool)
    for rows, columns in boxes:
        visible[rows, columns] = False
    return visible


MASKS = {
    "scattered": scattered(21, 34, 0.3),
    "few left": scattered(30, 17, 0.05),
    "a corner": boxed(40, 40, (slice(0, 9), slice(0, 12))),
    "far apart": boxed(120, 150, (slice(3, 9), slice(4, 12)), (slice(80, 99), slice(100, 150))),
    "a cross": boxed(50, 40, (slice(20, 24), slice(None)), (slice(None), slice(10, 13))),
    "one row": boxed(1, 30, (slice(0, 1), slice(5, 20))),
    "two columns": boxed(30, 2, (slice(4, 25), slice(0, 2))),
}


def least(pixels, visible):
    """The minimum by dense linear algebra."""
    height, width = visible.shape
    place = np.arange(height * width)
    matrix = np.zeros((height * width, height * width))
    for (down, right), coefficients in energy(height, width, plate.TENSION).items():
        values = coefficients.ravel()
        rows = np.flatnonzero(values)
        matrix[rows, place[rows] + down * width + right] = values[rows]
    hidden = ~visible.ravel()
    flat = pixels.reshape(len(pixels), -1).copy()
    outer = matrix[np.ix_(hidden, ~hidden)] @ flat[:, ~hidden].T
    flat[:, hidden] = -np.linalg.solve(matrix[np.ix_(hidden, hidden)], outer).T
    return flat.reshape(pixels.shape)


@pytest.mark.parametrize("way", ["both", "gradients", "elimination"])
@pytest.mark.parametrize("name", [name for name in MASKS if name != "far apart"])
def test_the_energy_is_least(name, way, monkeypatch):
    if way == "gradients":
        monkeypatch.setattr(plate, "MOST_WORK", 0)
    if way == "elimination":
        monkeypatch.setattr(plate, "FEW_STEPS", 0)
    visible = MASKS[name]
    pixels = np.random.default_rng(1).random((2, *visible.shape))
    expected = least(pixels, visible)
    found = np.where(visible, pixels, np.nan)
    found[:, ~visible] = 0.0
    plate.with_surface(found, visible)
    assert np.abs(found - expected).max() < (1e-9 if way == "elimination" else 1e-3)
    assert np.array_equal(found[:, visible], pixels[:, visible])


def test_windows_hold_all_holes_and_are_far_apart():
    for visible in MASKS.values():
        seen = np.zeros(visible.shape, int)
        for rows, columns in plate.windows(visible):
            seen[rows, columns] += 1
        assert (seen[~visible] == 1).all()
    assert len(list(plate.windows(MASKS["far apart"]))) == 2


def test_windows_change_nothing(monkeypatch):
    visible = MASKS["far apart"]
    pixels = np.random.default_rng(1).random((3, *visible.shape))
    apart, whole = pixels.copy(), pixels.copy()
    plate.with_surface(apart, visible)
    monkeypatch.setattr(plate, "CELL", 1000)
    plate.with_surface(whole, visible)
    assert np.abs(apart - whole).max() < 1e-5


def test_ramps_are_restored():
    visible = boxed(40, 60, (slice(12, 30), slice(15, 44)))
    ramp = np.add.outer(np.linspace(0, 0.5, 40), np.linspace(0, 0.4, 60))[None]
    found = np.where(visible, ramp, 0.0)
    plate.with_surface(found, visible)
    assert np.abs(found - ramp).max() < 1e-6


def test_channels_are_apart():
    visible = MASKS["scattered"]
    pixels = np.random.default_rng(1).random((3, *visible.shape))
    together, alone = pixels.copy(), pixels[1:2].copy()
    plate.with_surface(together, visible)
    plate.with_surface(alone, visible)
    assert np.abs(together[1] - alone[0]).max() < 1e-6
