"""Defences by name and from texts."""

from __future__ import annotations

import pytest

from splic_ext import SolverOptions

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")

from splic_ext import defenses
from splic_ext.defenses import DEFENSES, create_defense, defense_from_spec


def test_every_defence_has_a_name():
    kinds = {
        getattr(defenses, name)
        for name in defenses.__all__
        if isinstance(getattr(defenses, name), type)
        and issubclass(getattr(defenses, name), defenses.Defense)
    }
    others = {defenses.Defense, defenses.RandomDefense, defenses.Compose, defenses.ModuleDefense}
    assert kinds - others == set(DEFENSES.values())


@pytest.mark.parametrize("name", DEFENSES)
def test_defaults_are_those_of_the_class(name):
    assert repr(create_defense(name)) == repr(DEFENSES[name]())
    assert repr(defense_from_spec(name)) == repr(DEFENSES[name]())


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("tv:weight=1/4,gradient=identity", defenses.TotalVariation(0.25, gradient="identity")),
        ("soft_impute:iterations=3", defenses.SoftImpute(iterations=3)),
        ("usvt:seed=none", defenses.USVT()),
        ("guided:guide=self", defenses.GuidedFilter(guide="self")),
        ("splic:paper", defenses.SPLIC("paper")),
        ("splic:recommended,seed=3", defenses.SPLIC("recommended", seed=3)),
        ("splic:options=recommended", defenses.SPLIC("recommended")),
        (
            "splic:preset=recommended,tv_weight=0.3,n_masks=2,alternate=false,rank=none",
            defenses.SPLIC(
                SolverOptions.preset("recommended").replace(
                    tv_weight=0.3, n_masks=2, alternate=False
                )
            ),
        ),
        ("splic:tv_weight=0.1", defenses.SPLIC(SolverOptions(tv_weight=0.1))),
        ("srf:n_masks=4", defenses.SRF(SolverOptions(n_masks=4))),
        ("splic:backend=numpy", defenses.SPLIC(backend="numpy")),
        (
            "bit-depth:bits=3 + gaussian + usvt",
            defenses.Compose(defenses.BitDepth(3), defenses.GaussianBlur(), defenses.USVT()),
        ),
    ],
)
def test_specifications(spec, expected):
    assert repr(defense_from_spec(spec)) == repr(expected)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("median", ValueError, "defence name must be one of splic, .*, got 'median'; choose one"),
        ("tv+median", ValueError, "got 'median'"),
        ("tv+", ValueError, "must begin with a name, got ''"),
        ("tv:strength=1", TypeError, "unknown parameter `strength` of the defence 'tv'; known are"),
        ("tv:recommended", TypeError, "unknown parameter `preset` of the defence 'tv'"),
        ("splic:lambda=1", TypeError, "unknown parameter `lambda` .* known are .*tv_weight"),
        ("splic:best", ValueError, "preset name must be one of 'paper', 'recommended', "),
        ("splic:options=paper,rank=3", TypeError, "`options` of the defence 'splic' contradicts"),
        ("splic:rank=0", ValueError, "`rank` must be an integer in"),
        ("tv:weight=heavy", TypeError, "`weight` must be a number, got 'heavy'"),
        ("usvt:gradient=magic", ValueError, "`gradient` must be"),
    ],
)
def test_refused(spec, error, message):
    with pytest.raises(error, match=message):
        defense_from_spec(spec)


@pytest.mark.parametrize("name", [None, 3, ["splic"]])
def test_a_name_that_is_no_string(name):
    with pytest.raises(ValueError, match="defence name must be one of"):
        create_defense(name)
