"""Images of one's own on the command line: folders of classes, sizes, notes, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.cli import invoke

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("foolbox", reason="foolbox is not installed")
image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from splic_ext.models import build_model  # noqa: E402

SIZE = ("--resize", 12, "--center-crop", "8x8", "--interpolation", "bicubic")
NETWORK = ("--model", "digits_cnn", "--weights", "net.pt")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Gray images of 12 x 16 of two classes, in two splits; one is damaged."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in ("ant", "bee"):
            place = tmp_path / "scans" / split / kind
            place.mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 256, (12, 16), dtype=np.uint8)
                image_module.fromarray(pixels).save(place / f"{number}.png")
    (tmp_path / "scans" / "test" / "bee" / "torn.png").write_bytes(b"torn")
    torch.manual_seed(0)
    torch.save(build_model("digits_cnn", num_classes=2).state_dict(), "net.pt")
    return tmp_path


def test_evaluate(folder):
    result = invoke("evaluate", "--dataset", "scans", *NETWORK, *SIZE, "--defense", "tv", "--json")
    assert result.exit_code == 0, result.output
    assert "note: 1 of the images in 'scans/test' cannot be read and are left" in result.stderr
    assert "the file 'bee/torn.png' (it is no BMP, JPEG" in result.stderr
    record = json.loads(result.stdout)["records"][0]
    assert record["dataset"]["name"] == "scans"
    assert record["dataset"]["split"] == "test"
    assert record["dataset"]["images"] == 8
    assert record["dataset"]["shape"] == [1, 8, 8]


def test_certify(folder):
    result = invoke(
        "certify", "--dataset", "scans", *NETWORK, *SIZE, "--patch", 1, "--fill", "gray",
        "--masks", 2, "--limit", 2, "--json", "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert '"images": 2' in result.stdout


def test_train(folder):
    result = invoke(
        "train", "--dataset", "scans", "--test", "scans", "--model", "digits_cnn", *SIZE,
        "--epochs", 1, "--crop", 1, "--no-flip", "-o", "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    record = json.loads((folder / "out" / "training.json").read_text(encoding="utf-8"))
    assert record["dataset"]["shape"] == [1, 8, 8]
    assert "test accuracy" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "scans", "--resize", "big"), "--resize must be a side such as 32, or"),
        (
            ("--dataset", "scans", "--center-crop", 20),
            "--center-crop must fit into each image",
        ),
        (("--dataset", "scans", "--interpolation", "x"), "--interpolation must be one of bilinear"),
        (
            ("--dataset", "scans", "--max-bytes", 600),
            "more than the limit of 600; raise it with --max",
        ),
        (("--dataset", "scans", "--split", "val"), "--split must be one of test, train, got 'val'"),
        (("--dataset", "scans/test/ant"), "holds no images in folders of their classes; expected"),
    ],
)
def test_errors_name_the_flags(folder, arguments, words):
    result = invoke("evaluate", *arguments, *NETWORK, "--defense", "tv")
    assert result.exit_code == 2, result.output
    assert f"error: {words}" in result.stderr or words in result.stderr


def test_mixed_sizes_name_the_flags(folder):
    pixels = np.zeros((5, 5), np.uint8)
    image_module.fromarray(pixels).save(folder / "scans" / "test" / "bee" / "0.png")
    result = invoke("evaluate", "--dataset", "scans", *NETWORK, "--defense", "tv")
    assert result.exit_code == 2
    assert "give --resize as HEIGHTxWIDTH, or --center-crop" in result.stderr
