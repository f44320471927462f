"""How the commands end: messages and exit codes."""

from __future__ import annotations

import pytest

typer = pytest.importorskip("typer", reason="Typer is not installed")

from splic_ext.cli.app import complete  # noqa: E402
from splic_ext.cli.evaluate import evaluate  # noqa: E402
from splic_ext.cli.exits import exit_codes  # noqa: E402
from splic_ext.cli.flags import with_flags  # noqa: E402
from splic_ext.cli.train import train  # noqa: E402
from splic_ext.errors import AttackError  # noqa: E402


def ended(error):
    """The exit code of a command in which the error occurs."""
    with pytest.raises(typer.Exit) as caught, exit_codes(memory="use less"):
        raise error
    return caught.value.exit_code


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; nothing was written"),
        (AttackError("no gradient", "TotalVariation", "exact"), 1, "error: no gradient"),
        (OSError("no room"), 1, "error: no room"),
        (MemoryError(), 1, "error: out of memory; use less"),
        (ValueError("`seed`"), 2, "error: `seed`"),
    ],
)
def test_exit_codes(error, code, message, capsys):
    assert ended(error) == code
    assert capsys.readouterr().err.strip() == message


def test_too_little_memory_for_torch(capsys):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert ended(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")) == 1
    assert capsys.readouterr().err.strip() == "error: out of memory; use less"
    with pytest.raises(typer.Exit), exit_codes(memory="use less"):
        torch.empty(2**55, dtype=torch.uint8)
    assert capsys.readouterr().err.strip() == "error: out of memory; use less"


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="a bug"), exit_codes():
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        (train, "name another `output`, or", "name another --out, or"),
        (train, "or give `overwrite=True` to begin", "or give --overwrite to begin"),
        (train, "`copies` and `adversarial`", "--copies and --adversarial"),
        (train, "use `copies=0`", "use --copies 0"),
        (complete, "give `channel_axis=-1`", "give --channel-axis -1"),
        (train, "`flip` of the images", "--flip of the images"),
        (train, "`num_classes=10`", "`num_classes=10`"),
        (evaluate, "build it with `num_classes=10`", "build it with --classes 10"),
        (complete, "raise it with `max_pixels`", "raise it with --max-pixels"),
        (complete, "pass the right `data_range=`", "pass the right --data-range"),
        (complete, "`rank` may be that of a file", "`rank` may be that of a file"),
        (evaluate, "`attacks` and `defenses`", "--attack and --defense"),
        (evaluate, "give `weight`, call `model.eval()`", "give `weight`, call `model.eval()`"),
        (evaluate, "`seed` may be that of a defence", "`seed` may be that of a defence"),
        (train, "get it with `download=True`", "get it with --download"),
        (complete, "get `download=True`", "get `splic_ext.data.load_dataset(..., download=True)`"),
        (None, "`output`", "`output`"),
        (None, "`download=True`", "`download=True`"),
    ],
)
def test_parameters_are_told_as_flags(command, message, shown):
    assert with_flags(message, command) == shown
