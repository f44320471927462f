"""Figures 3, 4, 5, 8 and 12: what the solver does to images, and pictures of it."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
import pytest
from helpers.experiments import TINY, make_bench, make_subject

from splic_ext import SolverOptions, complete
from splic_ext.defenses import defense_from_spec
from splic_ext.experiments import Subject
from splic_ext.experiments.figures.pictures import figure3, figure8
from splic_ext.experiments.figures.solver import figure4, figure5, figure12, psnr

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def decoded(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_figure4_is_the_change_of_each_iteration():
    bench = make_bench("figure4", seed=5)
    points = [p for p in figure4(bench).points if p.series == "image 1"]
    assert [point.x for point in points] == list(range(1, 71))
    images = bench.subjects[0].dataset.first(4).to_float()
    options = SolverOptions(alternate=False, tolerance=0.0)
    for t in (2, 10):
        before, after = (
            complete(images.astype(np.float64), options=options.replace(max_iterations=n), seed=5)
            for n in (t - 1, t)
        )
        if (after[1] > 0).all() and (after[1] < 1).all():  # results are clipped
            change = np.linalg.norm(after[1] - before[1]) / np.linalg.norm(after[1])
            assert points[t - 1].y == pytest.approx(change, rel=1e-3)
    assert points[-1].y < points[0].y


def test_figure4_on_images_that_are_not_clipped(smooth):
    values = np.rint(255 * smooth((2, 3, 16, 16))).astype(np.uint8)
    subject = make_subject("svhn")
    data = dataclasses.replace(subject.dataset, images=values, labels=np.zeros(2, np.int64))
    bench = make_bench("figure4", Subject("svhn", data, None, None, subject.training))
    points = [p for p in figure4(bench).points if p.series == "image 0"]
    images = data.to_float().astype(np.float64)
    options = SolverOptions(alternate=False, tolerance=0.0)
    results = [
        complete(images, options=options.replace(max_iterations=t), seed=0)[0] for t in (8, 9)
    ]
    assert 0 < results[1].min() <= results[1].max() < 1
    change = np.linalg.norm(results[1] - results[0]) / np.linalg.norm(results[1])
    assert points[8].x == 9
    assert points[8].y == pytest.approx(change, rel=1e-3)


def test_figure5():
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    bench = make_bench("figure5")
    (gallery,) = figure5(bench).galleries
    assert gallery.rows == ("original", "r = 32", "r = 16", "r = 8", "r = 4", "r = 2")
    assert gallery.columns == ("astronaut",)
    original, smallest = decoded(gallery.images[0][0]), decoded(gallery.images[5][0])
    assert original.shape == (32, 32, 3)
    quality = psnr(smallest[None] / 255, original[None] / 255)
    assert gallery.captions[5][0] == f"{quality[0]:.1f} dB"
    spectrum = np.linalg.svd(smallest.transpose(2, 0, 1).reshape(96, 32) / 255, compute_uv=False)
    full = np.linalg.svd(original.transpose(2, 0, 1).reshape(96, 32) / 255, compute_uv=False)
    assert spectrum[2:].sum() / spectrum.sum() < full[2:].sum() / full.sum()


def test_figure5_without_photographs(monkeypatch):
    monkeypatch.setattr("splic_ext.data.photos.PHOTOS", ("absent.png",))
    outcome = figure5(make_bench("figure5"))
    assert outcome.galleries[0].columns == ("0",)
    assert decoded(outcome.galleries[0].images[0][0]).shape == (32, 32)
    assert "images of digits/test, enlarged" in outcome.notes[0]


def test_figure12():
    bench = make_bench("figure12", make_subject("svhn"), make_subject("cifar10", name="b/test"))
    outcome = figure12(bench)
    assert [(point.label, point.x) for point in outcome.points[::4]] == [("digits", 0), ("b", 1)]
    data = bench.subjects[0].dataset.first(TINY.images)
    images = data.to_float()
    done = defense_from_spec("splic:seed=0")(torch.from_numpy(images)).numpy()
    expected = psnr(done, images)
    point = next(p for p in outcome.points if p.series == "SPLIC")
    assert point.y == pytest.approx(expected.mean())
    assert point.high - point.y == pytest.approx(1.96 * expected.std() / np.sqrt(len(expected)))
    assert point.n == TINY.images
    srf = next(p for p in outcome.points if p.series.startswith("SRF"))
    assert srf.y < point.y, "total variation raises the PSNR"


def test_psnr():
    images = np.zeros((2, 1, 2, 2))
    found = psnr(images + np.array([0.1, 0.0]).reshape(2, 1, 1, 1), images)
    assert found[0] == pytest.approx(20)
    assert np.isfinite(found[1])


def test_figure3():
    bench = make_bench("figure3")
    outcome = figure3(bench)
    (gallery,) = outcome.galleries
    assert gallery.rows == ("attacked", "SPLIC")
    data = bench.subjects[0].dataset.first(3)
    assert gallery.columns == tuple(data.classes[label] for label in data.labels)
    attacked = decoded(gallery.images[0][0])[::8, ::8]
    assert attacked.shape == (8, 8), "each pixel is a square"
    change = attacked.astype(int) - data.images[0, 0]
    assert 1 <= np.abs(change).max() <= 8 + 1
    network = bench.undefended(bench.subjects[0])
    assert network.note in outcome.notes
    shown = torch.from_numpy(attacked[None, None] / np.float32(255))
    share, choice = network.model(shown).softmax(1).max(1)
    assert gallery.captions[0][0].split()[0] == str(choice.item())
    assert float(gallery.captions[0][0].split()[1]) == pytest.approx(share.item(), abs=0.06)
    assert gallery.right[0][0] == (choice.item() == data.labels[0])


def test_names_of_classes():
    """An archive of CIFAR-10 images need not hold them."""
    (gallery,) = figure3(make_bench("figure3", make_subject("cifar10"))).galleries
    assert gallery.columns == ("airplane", "automobile", "bird")
    (gallery,) = figure3(make_bench("figure3", make_subject("svhn"))).galleries
    assert gallery.columns == ("0", "1", "2")


def test_figure8():
    bench = make_bench("figure8")
    (gallery,) = figure8(bench).galleries
    assert gallery.rows == ("original", "attacked", "SPLIC")
    data = bench.subjects[0].dataset.first(3)
    for i in range(3):
        original = decoded(gallery.images[0][i])[::8, ::8]
        assert (original == data.images[i, 0]).all()
        change = decoded(gallery.images[1][i])[::8, ::8].astype(int) - original
        assert 1 <= np.abs(change).max() <= 8 + 1
    model = bench.trained(bench.subjects[0], defense="splic").model
    for row in (1, 2):
        images = np.stack([decoded(text)[::8, ::8] for text in gallery.images[row]])[:, None]
        shares = model(torch.from_numpy(images / np.float32(255))).softmax(1).max(1).values
        told = [float(text.split()[1]) for text in gallery.captions[row]]
        assert told == pytest.approx(shares.tolist(), abs=0.06)
