"""``splic-ext info`` and ``splic-ext demo``."""

import json
import sys

import numpy as np
import pytest
from helpers.cli import FAST, FAST_OPTIONS, files_below, invoke, load
from typer.testing import CliRunner

import splic_ext
from splic_ext import diagnostics
from splic_ext.cli import demo as demonstration
from splic_ext.cli.app import app
from splic_ext.data.photos import load_photos


def test_info_json():
    result = invoke("info", "--json")
    assert result.exit_code == 0, result.output
    info = json.loads(result.output)
    assert info["version"] == splic_ext.__version__
    assert info["numpy"] == np.__version__
    assert info["python"] == ".".join(map(str, sys.version_info[:3]))
    assert info["default_threads"] >= 1
    backends = splic_ext.backend_info()
    assert list(info["backends"]) == list(backends)
    for name, backend in info["backends"].items():
        assert backend["available"] == backends[name].available
        assert backend["reason"] == backends[name].reason
        assert set(backend["details"]) == set(backends[name].details)
    assert info["packages"]["pillow"] is not None
    assert info["cpu_features"] is None or isinstance(info["cpu_features"], list)


def test_info_gives_the_reason_of_an_absent_back_end(monkeypatch):
    monkeypatch.setattr("splic_ext.backends.cpu._core", None)
    monkeypatch.setattr("splic_ext.backends.cpu._REASON", "the module [x] was not built")
    result = CliRunner().invoke(app, ["info"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for words in (splic_ext.__version__, "numpy", "the module [x] was not built", "CPU features"):
        assert words in result.output


def test_info_names_what_is_absent_and_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(diagnostics.OPTIONAL_PACKAGES, "no-such-package", ("cli", "data"))
    info = json.loads(invoke("info", "--json").output)
    assert info["packages"]["no-such-package"] is None
    assert info["extras"]["no-such-package"] == ["cli", "data"]
    result = CliRunner().invoke(app, ["info"], env={"COLUMNS": "200"})
    (line,) = [line for line in result.output.splitlines() if "no-such-package" in line]
    assert "not installed" in line
    assert "cli, data" in line


def test_info_with_a_bad_environment(monkeypatch):
    monkeypatch.setenv("SPLIC_NUM_THREADS", "many")
    result = invoke("info")
    assert result.exit_code == 2
    assert "SPLIC_NUM_THREADS must be a positive integer" in result.output


def test_demo(tmp_path, monkeypatch):
    pytest.importorskip("skimage", reason="the extra 'demo' is not installed")
    monkeypatch.setattr(demonstration, "MAX_CROPS", 4)
    arguments = ("demo", "-o", tmp_path / "d.png", "--size", "32", *FAST)
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    for words in ("astronaut", "rocket", "mean", "images/s", "PSNR"):
        assert words in result.output
    sheet = load(tmp_path / "d.png")
    assert sheet.shape[2] == 3
    photos = load_photos(32)
    corner = np.rint(photos[0] * 255).astype(np.uint8)
    np.testing.assert_array_equal(sheet[28 : 28 + 32, 8 : 8 + 32], corner)
    again = invoke(*arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    assert invoke(*arguments, "--overwrite").exit_code == 0


def test_demo_scores(monkeypatch):
    pytest.importorskip("skimage", reason="the extra 'demo' is not installed")
    monkeypatch.setattr(demonstration, "MAX_CROPS", 4)
    result = demonstration.run_demo(FAST_OPTIONS, size=32, sigma=0.1, backend="numpy")
    photos = load_photos(32)
    assert photos.shape == (4, 32, 32, 3)
    assert 0 <= photos.min() < photos.max() <= 1
    for row in (*result.rows, result.mean()):
        assert 18 < row.scores[0].psnr < 24  # noise of sigma 0.1 is 20 dB, less what is clipped
        assert all(0 < score.ssim < 1 for score in row.scores)
    completed = splic_ext.complete(
        photos[1], first_index=1, options=FAST_OPTIONS, backend="numpy", channel_axis=-1
    )
    psnr = -10 * np.log10(np.mean((completed - photos[1]) ** 2))
    assert result.rows[1].scores[2].psnr == pytest.approx(psnr, rel=1e-5)
    assert result.batch == 4
    assert result.speed > 0


def test_demo_without_scikit_image(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    result = invoke("demo", "-o", tmp_path / "d.png", "--size", "32", *FAST)
    assert result.exit_code == 1
    assert 'pip install "splic-ext[demo]"' in result.output
    assert files_below(tmp_path) == []


def test_demo_refuses_other_formats(tmp_path):
    result = invoke("demo", "-o", tmp_path / "d.txt", *FAST)
    assert result.exit_code == 2
    assert "must have a suffix of .png" in result.output
