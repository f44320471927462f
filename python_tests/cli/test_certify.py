"""``splic-ext certify``: reports, what goes together, failures."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cli import invoke

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")

from splic_ext.certify import (  # noqa: E402
    CertificateReport,
    PixelEvaluation,
    evaluate_patches,
    evaluate_pixels,
)
from splic_ext.data import load_dataset  # noqa: E402
from splic_ext.evaluation import load_network  # noqa: E402
from splic_ext.models import build_model  # noqa: E402


@pytest.fixture
def files(tmp_path, monkeypatch):
    """An archive of images, and weights for them and for two channels; in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    np.savez("mine.npz", x=images, y=np.arange(5), classes=np.array(list("0123456789")))
    torch.manual_seed(0)
    for name, channels in (("one.pt", None), ("two.pt", 2)):
        torch.save(build_model("digits_cnn", 10, channels).state_dict(), name)
    return tmp_path


def certified(*arguments, weights="one.pt", code=0):
    base = ("--dataset", "mine.npz", "--model", "digits_cnn", "--weights", weights)
    result = invoke("certify", *base, *arguments)
    assert result.exit_code == code, result.output
    return result


def test_patches(files):
    result = certified(
        "--patch", 1, "--patch", "1x2", "--fill", "gray", "--fill", "mean", "--masks", 3,
        "-o", "out",
    )  # fmt: skip
    report = CertificateReport.load("out/certificates.json")
    expected = evaluate_patches(
        load_network("digits_cnn", "one.pt"), load_dataset("mine.npz"), fills=["gray", "mean"],
        patch=["1", "1x2"], masks=3, progress=False,
    )  # fmt: skip
    assert report.key == expected.key
    assert [r.certified for r in report.records] == [r.certified for r in expected.records]
    assert "certificates.json" in result.output
    assert sorted(path.name for path in (files / "out").iterdir()) == [
        "certificates.json", "certificates.md", "examples.npz", "parts",
    ]  # fmt: skip


def test_pixels(files):
    result = certified(
        "--kept", 0.1, "--kept", 6, "--encoding", "mean", "--encoding", "gray", "--selection", 20,
        "--draws", 60, "--alpha", 0.01, "--seed", 3, "--batch-size", 50, "-o", "out",
    )  # fmt: skip
    found = PixelEvaluation.load("out/pixels.json")
    expected = evaluate_pixels(
        load_network("digits_cnn", "one.pt"), load_dataset("mine.npz"), kept=[0.1, 6],
        encodings=["mean", "gray"], selection=20, draws=60, alpha=0.01, seed=3, batch_size=50,
        progress=False,
    )  # fmt: skip
    assert found.key == expected.key
    assert [r.records for r in found.reports] == [r.records for r in expected.reports]
    assert found.reports[0].provenance.command.startswith("splic-ext")
    for words in ("20 + 60 draws, alpha 0.01, seed 3", "abstained %", "pixels.json"):
        assert words in result.output
    again = certified("--kept", 0.1, "--encoding", "mean", "--json")
    assert PixelEvaluation.from_json(again.stdout).names == ("mean",)


def test_encodings_of_more_channels(files):
    given = ("--kept", 6, "--encoding", "null", "--json")
    found = PixelEvaluation.from_json(certified(*given, weights="two.pt").stdout)
    assert found.reports[0].encoding == "Null()"
    output = certified(*given, code=2).output
    assert "of shape (1, 1, 1), expected (2, 1, 1)" in output
    output = certified(*given, "--encoding", "mean", weights="two.pt", code=2).output
    assert "--encoding must all make images of as many channels for one network, got null 2" in (
        output
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --patch or --kept, got none of them"),
        (("--patch", 1, "--kept", 6), "give --patch or --kept, got both"),
        (("--patch", 1, "--encoding", "mean"), "--encoding goes with --kept, got it with --patch"),
        (("--patch", 1, "--draws", 9), "--draws goes with --kept, got it with --patch"),
        (("--patch", 1, "--selection", 9), "--selection goes with --kept"),
        (("--patch", 1, "--alpha", 0.1), "--alpha goes with --kept"),
        (("--patch", 1, "--seed", 0), "--seed goes with --kept"),
        (("--kept", 6, "--fill", "mean"), "--fill goes with --patch, got it with --kept; leave"),
        (("--kept", 6, "--masks", 4), "--masks goes with --patch"),
        (("--kept", 6, "--patches", 2), "--patches goes with --patch"),
        (("--kept", "many"), "--kept must be a number of pixels such as 100, or a share such as"),
        (("--kept", 6, "--kept", 6), "--kept has '6' twice"),
        (("--kept", 0.7), "--kept must be below 0.5 to certify anything"),
        (("--kept", 6, "--draws", 3), "--draws must be at least"),
        (("--kept", 6, "--alpha", 2), "--alpha must be"),
        (("--kept", 6, "--encoding", "nul"), "did you mean 'null'?"),
    ],
)
def test_refused(files, arguments, message):
    assert message in certified(*arguments, code=2).output
    assert not (files / "out").exists()


def test_another_report_is_not_replaced(files):
    given = ("--kept", 6, "--encoding", "mean", "-o", "out", "-q")
    certified(*given)
    output = certified(*given, "--seed", 1, code=2).output
    assert "is the report of another certification: other seed; name another --out, or" in output
    certified(*given, "--seed", 1, "--overwrite")
    assert PixelEvaluation.load("out/pixels.json").reports[0].seed == 1
