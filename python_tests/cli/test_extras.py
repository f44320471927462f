"""What a command says at once where a package that it needs is not installed."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("typer", reason="Typer is not installed")
pytest.importorskip("torch", reason="torch is not installed")
from typer.testing import CliRunner

from splic_ext.cli.app import app

ATTACK = ("--dataset", "none.npz", "--model", "digits_cnn", "--defense", "tv", "-o", "x")


@pytest.mark.parametrize(
    ("arguments", "absent", "extras"),
    [
        (("attack", *ATTACK), "foolbox", "attack"),
        (("reproduce", "table4", "--digits", "-o", "x"), "foolbox", "attack"),
    ],
)
def test_it_is_told_before_any_work(arguments, absent, extras, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, absent, None)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    told = " ".join(result.stderr.split())
    assert f"needs the package '{absent}', which is not installed; " in told
    assert f'"splic-ext[{extras}]"' in told
    assert not list(tmp_path.iterdir())
