"""Each script in ``examples`` runs as it is, in an empty folder, and prints what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples"
MOST_LINES = 60
#: Seconds that a script may take; from the installed package to one's own defence attacked.
MOST_SECONDS = {"attack_your_own_defense": 120}
#: The code of a script that cannot run here; its last line is the reason.
SKIPPED = 77

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the tests run without the examples")

#: Script -> what it needs beside NumPy, and what its output matches.
EXAMPLES = {
    "attack_with_art": (("art", "safetensors", "sklearn"), r"white box: .+ % behind total"),
    "attack_with_foolbox": (("foolbox", "safetensors", "sklearn"), r"\nexact( +\d+\.\d){3}\n"),
    "attack_your_own_defense": (
        ("foolbox", "safetensors", "sklearn"),
        r"\nverdict: weakest gradient: .+; strongest attack: .+ are left",
    ),
    "complete_on_a_gpu": ((), r"mean difference \d\.\de-0[4-9]"),
    "dataloader": (("torch", "sklearn"), r"epoch 2: 512 images.+\nthe same masks in both: False\n"),
    "defend_a_classifier": (("foolbox", "safetensors", "sklearn"), r"white box( +\d+\.\d){2}\n"),
    "evaluate_from_python": (
        ("foolbox", "safetensors", "sklearn"),
        r"\nseed 0 network \w{12}\n",
    ),
    "inpaint": (("PIL", "skimage"), r"1272 pixels hidden\nsplic_ext.inpaint    RMSE 4\d\.\d\n"),
}


def test_all_examples_are_known():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(EXAMPLES)
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[`(\w+)\.py`\]\(\1\.py\) \|", page, re.M)) == sorted(EXAMPLES)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_runs(name, tmp_path):
    needed, printed = EXAMPLES[name]
    for package in needed:
        pytest.importorskip(package, reason=f"{package} is not installed")
    path = FOLDER / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    process = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS.get(name, 600),
        check=False,
    )
    if process.returncode == SKIPPED:
        pytest.skip(process.stdout.strip().splitlines()[-1])
    assert process.returncode == 0, process.stderr
    assert re.search(printed, process.stdout), process.stdout
