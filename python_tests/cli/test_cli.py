"""The command ``splic-ext``: options, usage errors, processes of their own."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.cli import (
    FAST,
    RNG,
    command,
    complete_files,
    expected,
    invoke,
    load,
    run_command,
    save_png,
)
from typer.testing import CliRunner

import splic_ext
from splic_ext.cli.app import app
from splic_ext.cli.solver_flags import option_help, resolve_options

# Options


@pytest.fixture
def seen(monkeypatch):
    """Catch the options that reach the solver."""
    caught = []

    def spy(batch, **arguments):
        caught.append(arguments)
        return batch

    monkeypatch.setattr("splic_ext.files.work.complete", spy)
    return caught


ALL_FLAGS = {
    "rank": 3, "tv_weight": 0.25, "delta_decay": 0.75, "step_size": 0.125, "inner_iterations": 5,
    "max_iterations": 9, "tolerance": 0.5, "anchor_fraction": 0.25, "alternate": False,
    "empty_value": 0.5, "n_masks": 2, "channels": "separate", "gradient_step": "literal",
    "tv_gradient": "forward", "start": "image", "first_delta": 0.5,
}  # fmt: skip


def test_every_option_has_a_flag(tmp_path, seen):
    save_png(tmp_path / "a.png")
    flags = []
    for name, value in ALL_FLAGS.items():
        dashed = name.replace("_", "-")
        flags += [f"--no-{dashed}"] if value is False else [f"--{dashed}", value]
    result = invoke("complete", tmp_path / "a.png", "-o", tmp_path / "out", *flags)
    assert result.exit_code == 0, result.output
    changed = splic_ext.SolverOptions.preset("recommended").replace(**ALL_FLAGS)
    assert seen[0]["options"] == changed


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), splic_ext.SolverOptions.preset("recommended")),
        (("--preset", "paper"), splic_ext.SolverOptions()),
        (("--preset", "paper", "--rank", "2"), splic_ext.SolverOptions(rank=2)),
        (
            ("--preset", "recommended", "--tv-weight", "0.5"),
            splic_ext.SolverOptions.preset("recommended").replace(tv_weight=0.5),
        ),
        (("--options", "o.json"), splic_ext.SolverOptions(delta_decay=0.5, n_masks=3)),
        (("--options", "o.json", "--n-masks", "1"), splic_ext.SolverOptions(delta_decay=0.5)),
    ],
)
def test_presets_files_and_flags(tmp_path, seen, monkeypatch, arguments, options):
    monkeypatch.chdir(tmp_path)
    save_png(tmp_path / "a.png")
    (tmp_path / "o.json").write_text(json.dumps({"delta_decay": 0.5, "n_masks": 3}))
    result = invoke("complete", "a.png", "-o", "out", *arguments)
    assert result.exit_code == 0, result.output
    assert seen[0]["options"] == options


def test_options_round_trip(tmp_path):
    options = splic_ext.SolverOptions.preset("recommended").replace(rank=7)
    (tmp_path / "o.json").write_text(options.to_json())
    assert resolve_options(None, tmp_path / "o.json", {}) == options


def test_help_explains_every_option():
    texts = option_help()
    assert list(texts) == list(splic_ext.SolverOptions().to_dict())
    for text in texts.values():
        assert len(text) > 20
        assert not set("`\\") & set(text)
    output = CliRunner().invoke(app, ["complete", "--help"], env={"COLUMNS": "250"}).output
    for words in ("--tv-weight", "--no-alternate", "stacked|separate", "default: 0.45"):
        assert words in output
    for words in ("[paper: 0.02, recommended: ", "first_index", "tile by tile"):
        assert words in output


# Usage errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "best"), "preset name must be one of 'paper', 'recommended', "),
        (("--rank", "0"), "`rank` must be an integer in [1, 512], got 0"),
        (("--tv-weight", "nan"), "`tv_weight` must be finite"),
        (("--channels", "mixed"), "`channels` must be one of 'stacked', 'separate', got 'mixed'"),
        (("--backend", "gpu"), "--backend must be one of"),
        (("--channel-axis", "2"), "--channel-axis must be -3 (channel first) or -1"),
        (("--data-range", "0"), "--data-range must be finite and > 0"),
        (("--overwrite", "--skip-existing"), "contradict"),
        (("--options", "none.json"), "'none.json' cannot be read: No such file"),
        (("--options", "bad.json"), "is no JSON"),
        (("--options", "unknown.json"), "unknown solver option 'lambda'"),
        (("--options", "bad.json", "--preset", "paper"), "contradict"),
        (("missing.png",), "the input 'missing.png' does not exist"),
        (("*.gif",), "no image or array file matches the pattern '*.gif'"),
        (("--quality", "101"), "--quality"),
        (("--seed", "-1"), "--seed"),
        (("--jobs", "0"), "--jobs"),
        (("--unknown",), "--unknown"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_runs(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    save_png(tmp_path / "a.png")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "unknown.json").write_text('{"lambda": 1}')
    result = invoke("complete", "a.png", "-o", "out", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_no_input_and_no_output(tmp_path):
    assert invoke("complete", "-o", tmp_path).exit_code == 2
    assert invoke("complete", tmp_path).exit_code == 2


def test_a_collision_names_both_and_runs_nothing(tmp_path):
    save_png(tmp_path / "a/x.png")
    save_png(tmp_path / "b/x.png")
    output = complete_files(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", code=2)
    assert str(tmp_path / "a/x.png") in output
    assert str(tmp_path / "b/x.png") in output
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(tmp_path):
    pixels = save_png(tmp_path / "in/a.png", (8, 8))
    for out in ("out", "in"):
        if out == "out":
            complete_files(tmp_path / "in", "-o", tmp_path / "out")
        before = (tmp_path / out / "a.png").read_bytes()
        output = complete_files(tmp_path / "in", "-o", tmp_path / out, "--seed", "1", code=2)
        assert "--overwrite" in output
        assert (tmp_path / out / "a.png").read_bytes() == before
        complete_files(tmp_path / "in", "-o", tmp_path / out, "--seed", "1", "--overwrite")
        np.testing.assert_array_equal(load(tmp_path / out / "a.png"), expected(pixels, seed=1))


def test_an_absent_back_end_ends_with_1(tmp_path, monkeypatch):
    save_png(tmp_path / "a.png")
    monkeypatch.setattr("splic_ext.backends.cpu._core", None)
    result = invoke("complete", tmp_path / "a.png", "-o", tmp_path / "out", "--backend", "cpu")
    assert result.exit_code == 1
    assert "back end 'cpu' cannot run here" in result.output


# Processes of their own


def test_streams_and_quiet(tmp_path):
    save_png(tmp_path / "in/a.png")
    loud = run_command("complete", tmp_path / "in", "-o", tmp_path / "1", *FAST)
    assert (loud.returncode, loud.stdout) == (0, "")
    assert len(loud.stderr.splitlines()) == 1  # the summary; no bar without a terminal
    quiet = run_command("complete", tmp_path / "in", "-o", tmp_path / "2", "-q", *FAST)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals there")
def test_a_terminal_gets_a_progress_bar(tmp_path):
    save_png(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_text("text")
    leader, follower = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    environment.pop("NO_COLOR", None)
    try:
        arguments = command("complete", tmp_path / "in", "-o", tmp_path / "out", *FAST)
        code = subprocess.run(arguments, stderr=follower, env=environment).returncode
        text = os.read(leader, 1 << 16).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert code == 1
    assert "images/s" in text
    assert "in/b.png: not a PNG" in text


def start_long_run(tmp_path):
    """Start a run whose first file is done soon and whose second takes minutes."""
    save_png(tmp_path / "in/a.png")
    np.save(tmp_path / "in/b.npy", RNG.random((4000, 3, 64, 64), dtype=np.float32))
    arguments = command("complete", tmp_path / "in", "-o", tmp_path / "out", "--backend", "numpy")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path).glob("out/.splic-*.tmp")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.2)
    return process


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
def test_a_killed_run_leaves_finished_files_only(tmp_path):
    process = start_long_run(tmp_path)
    process.kill()
    process.communicate(timeout=60)
    for path in (tmp_path / "out").iterdir():
        assert path.name.startswith(".splic-") or load(path).shape == (8, 10, 3)
    assert not (tmp_path / "out/b.npy").exists()


@pytest.mark.parametrize(
    ("module", "package"), [("typer", "typer"), ("rich", "rich"), ("PIL", "pillow")]
)
def test_a_missing_extra_is_named(module, package):
    code = f"import sys; sys.modules[{module!r}] = None; from splic_ext.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"error: `splic-ext` needs the package {package!r}, which is not installed; "
        'install it with `pip install "splic-ext[cli]"`\n'
    )


def test_importing_the_package_imports_nothing_of_this():
    code = (
        "import sys, splic_ext, splic_ext.cli; "
        "print([name for name in ('typer', 'rich', 'PIL', 'skimage', 'scipy', 'torch') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "[]\n")


@pytest.mark.parametrize(
    ("name", "preset"),
    [("complete", "recommended"), ("demo", "recommended"), ("inpaint", "inpaint")],
)
def test_commands_for_pictures_begin_with_their_preset(name, preset):
    output = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "250"}).output
    first = next(line for line in output.splitlines() if line.strip() and "Usage:" not in line)
    assert f'with the preset "{preset}"' in first


def test_version_and_help():
    assert invoke("--version").output == f"splic-ext {splic_ext.__version__}\n"
    output = invoke("--help").output
    for name in ("complete", "info", "demo", "evaluate"):
        assert name in output
