"""What the tests of ``splic-ext`` share: runs of the command, files for it, the right answer.

Importing this skips the test module where the extra ``cli`` is absent.
"""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the extra 'cli' is not installed")
pytest.importorskip("rich", reason="the extra 'cli' is not installed")
pytest.importorskip("typer", reason="the extra 'cli' is not installed")

from PIL import Image
from typer.testing import CliRunner

import splic_ext
from splic_ext.cli.app import app

RNG = np.random.default_rng(11)
FAST = ("--preset", "paper", "--max-iterations", "2", "--backend", "numpy")
FAST_OPTIONS = splic_ext.SolverOptions(max_iterations=2)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def complete_files(*arguments, code=0):
    result = invoke("complete", *arguments, *FAST)
    assert result.exit_code == code, result.output
    return result.output


def command(*arguments):
    return [sys.executable, "-m", "splic_ext.cli", *map(str, arguments)]


def run_command(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, **options)


def expected(array, index=0, **options):
    options = {"options": FAST_OPTIONS, "backend": "numpy", **options}
    return splic_ext.complete(array, first_index=index, **options)


def save_png(path, shape=(8, 10, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    mode = {2: "L", 3: "RGB"}[len(shape)]
    Image.frombytes(mode, shape[1::-1], pixels.tobytes()).save(path)
    return pixels


def load(path):
    with Image.open(path) as image:
        return np.asarray(image)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def damage(folder):
    """Make a folder of good and bad files; return the names of the bad ones with the reason."""
    for i in (0, 2, 4, 6, 8):
        save_png(folder / f"{i}.png")
    save_png(folder / "1.png")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:-60])
    (folder / "3.png").write_text("This is text.")
    save_png(folder / "5.png", (60, 60))
    np.save(folder / "7.npy", np.full((4, 4), np.nan))
    (folder / "9.npz").write_bytes(b"no archive")
    return {
        "1.png": "decoded",
        "3.png": "not a PNG",
        "5.png": "60 x 60 = 3,600 pixels are more than the limit of 3,000",
        "7.npy": "finite",
        "9.npz": "zip",
    }
