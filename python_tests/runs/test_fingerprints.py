"""What fingerprints cover, and what the fingerprint of the code does."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import splic_ext

pytest.importorskip("torch", reason="torch is not installed")

from torch import nn

from splic_ext import SolverOptions, options
from splic_ext.defenses import SPLIC, Compose
from splic_ext.runs.fingerprints import (
    CODE,
    DEFENSE_CODE,
    TRAINING_CODE,
    code_fingerprint,
    derive_seed,
    fingerprint,
    fingerprint_arrays,
    fingerprint_module,
    fingerprint_weights,
    stable_repr,
)

PACKAGE = Path(splic_ext.__file__).parent
#: Refusals and texts do not decide which result there is, nor do stored parts and times.
WITHOUT = {
    *("errors.py", "specs.py"),
    *(
        f"common/{name}.py"
        for name in ("atomic", "checks", "clusters", "notebook", "optional", "outside")
    ),
    *(f"runs/{name}.py" for name in ("clock", "inputs", "machine", "plain", "progress")),
    *("runs/records.py", "runs/store.py"),
}
#: Data has its own fingerprint.
FOLDERS = {"data"}


def covered():
    for pattern in (*CODE, *DEFENSE_CODE, *TRAINING_CODE):
        for place in PACKAGE.glob(pattern):
            yield from place.rglob("*.py") if place.is_dir() else [place]


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("splic_ext"):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("splic_ext"))


def test_code_covers_what_it_imports():
    files = {path.resolve() for path in covered() if path.suffix == ".py"}
    assert len(files) > 30
    missing = set()
    for path in files:
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            module = PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")
            if module.is_file() and module.resolve() not in files:
                missing.add(module.relative_to(PACKAGE).as_posix())
    assert {name for name in missing if name.partition("/")[0] not in FOLDERS} <= WITHOUT


def test_a_pattern_that_names_nothing_is_refused():
    with pytest.raises(ValueError, match=r"must each name code of splic_ext, got 'arrayz'"):
        code_fingerprint(("arrays", "arrayz"))


def test_code_covers_every_attack_and_defence():
    files = {path.resolve() for path in covered()}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bases = node.bases if isinstance(node, ast.ClassDef) else []
            if {ast.unparse(base) for base in bases} & {"Attack", "Defense", "RandomDefense"}:
                assert path.resolve() in files, f"{path.name} defines {node.name}"


def test_what_tells_fingerprints_apart():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert derive_seed(0, "draw", 1) == derive_seed(0, "draw", 1) != derive_seed(0, "draw", 2)
    arrays = [np.zeros(3), np.zeros((3, 1)), np.zeros(3, np.float32), np.ones(3)]
    assert len(set(map(fingerprint_arrays, arrays))) == len(arrays)
    assert fingerprint_module(nn.ReLU()) != fingerprint_module(nn.Tanh())
    layer = nn.Linear(2, 2)
    before = fingerprint_weights(layer)
    nn.init.zeros_(layer.bias)
    assert fingerprint_weights(layer) != before


def test_a_preset_to_come_changes_no_fingerprint(monkeypatch):
    defense = Compose(SPLIC("recommended", seed=1), SPLIC(SolverOptions(rank=2)))
    text, before = repr(defense), fingerprint_module(defense)
    assert "SolverOptions.preset('recommended')" in text
    assert (
        "SolverOptions(tv_weight=0.1, max_iterations=56, tolerance=1e-08, n_masks=4), seed=1"
        in (stable_repr(defense))
    )
    assert "SolverOptions(rank=2), seed=None" in stable_repr(defense)
    later = {"later": SolverOptions(tv_weight=0.1, rank=2, n_masks=4, max_iterations=56)}
    monkeypatch.setattr(options, "PRESETS", {**later, **options.PRESETS})
    monkeypatch.setitem(options.PRESETS, "nearer", SolverOptions(rank=2))
    assert repr(defense) != text
    assert fingerprint_module(defense) == before
