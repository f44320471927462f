"""How the commands end: messages and exit codes."""

from __future__ import annotations

import pytest

typer = pytest.importorskip("typer", reason="Typer is not installed")

from splic_ext.cli.app import complete  # noqa: E402
from splic_ext.cli.evaluate import evaluate  # noqa: E402
from splic_ext.cli.exits import exit_codes  # noqa: E402
from splic_ext.cli.flags import with_flags, with_hint  # noqa: E402
from splic_ext.cli.report import report  # noqa: E402
from splic_ext.cli.reproduce import reproduce  # noqa: E402
from splic_ext.cli.train import train  # noqa: E402
from splic_ext.errors import AttackError  # noqa: E402

pytest.importorskip("torch", reason="torch is not installed")

from splic_ext import experiments  # noqa: E402
from splic_ext.attacks import attack_from_spec  # noqa: E402
from splic_ext.backends import get_backend  # noqa: E402
from splic_ext.data import load_dataset  # noqa: E402
from splic_ext.defenses import defense_from_spec  # noqa: E402
from splic_ext.models import build_model  # noqa: E402


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
        (train, "`name_or_path` must be one of cifar10", "the data set must be one of cifar10"),
        (reproduce, "`name` must be", "NAME must be"),
        (reproduce, "`name_or_path` must be", "the data set must be"),
        (report, "check `paths`", "check PATH"),
        (None, "`output`", "`output`"),
        (None, "`download=True`", "`download=True`"),
    ],
)
def test_parameters_are_told_as_flags(command, message, shown):
    assert with_flags(message, command) == shown


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: attack_from_spec("pgd:epsilon=8"), "8 of 255 levels are 8/255"),
        (lambda: attack_from_spec("fgsm:epsilon=300"), ""),
        (lambda: attack_from_spec("pgd:stepsize=1/255"), "did you mean 'step_size'?"),
        (lambda: attack_from_spec("pdg"), "did you mean 'pgd'?"),
        (lambda: defense_from_spec("spilc"), "did you mean 'splic'?"),
        (lambda: defense_from_spec("splic:rnak=6"), "did you mean 'rank'?"),
        (lambda: defense_from_spec("splic:recomended"), "did you mean 'recommended'?"),
        (lambda: defense_from_spec("xyz"), ""),
        (lambda: build_model("digit_cnn"), "did you mean 'digits_cnn'?"),
        (lambda: load_dataset("digitz"), "did you mean 'digits'?"),
        (lambda: load_dataset("digits", "tset"), "did you mean 'test'?"),
        (lambda: get_backend("cpuu", "cpu"), "did you mean 'cpu'?"),
        (lambda: experiments.reproduce("tabel1"), "did you mean 'table1'?"),
    ],
)
def test_hints(make, hint):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    message = str(caught.value)
    assert with_hint(message) == message + (f"; {hint}" if hint else "")
