"""Pictures beside a report of patches: what was hidden, filled, decided."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from helpers.evaluation import fit_digits  # noqa: E402

import splic_ext.certify.patches as module  # noqa: E402
from splic_ext.certify import Examples, MaskSet, evaluate_patches  # noqa: E402
from splic_ext.certify.examples import choose_examples  # noqa: E402
from splic_ext.data import load_dataset  # noqa: E402
from splic_ext.fills import create_fill  # noqa: E402

FILLS = ["gray:value=0", "mean"]


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", limit=24)


@pytest.fixture(scope="module")
def network():
    return fit_digits()


def certified(network, digits, output, **changes):
    options = {"fills": FILLS, "patch": [1, 2], "masks": 4, "progress": False, **changes}
    return evaluate_patches(network, digits, output=output, **options)


def test_they_are_what_the_network_saw(network, digits, tmp_path):
    report = certified(network, digits, tmp_path)
    found = Examples.load(tmp_path / "examples.npz")
    assert found.fits(report)
    assert found.images.shape == (3, 1, 8, 8)
    assert found.filled.shape == (4, 3, 1, 8, 8)
    assert (tmp_path / "examples.npz").stat().st_size < 10_000
    images = torch.from_numpy(digits.to_float())
    kinds = set()
    for r, record in enumerate(report.records):
        masks = MaskSet(8, 8, int(record.patch), 4)
        for i, place in enumerate(found.index.tolist()):
            assert np.array_equal(found.images[i], np.rint(255 * images[place].numpy()))
            first, second = found.pairs[r, i].tolist()
            shown = masks.visible[first] & masks.visible[second]
            assert np.array_equal(found.visible[r, i], shown)
            filled = create_fill(*record.fill.split(":")[:1], **(
                {"value": 0} if "value" in record.fill else {}
            ))(images[place][None], torch.from_numpy(shown))  # fmt: skip
            assert np.array_equal(found.filled[r, i], np.rint(255 * filled[0].numpy()))
            assert found.decided[r, i] == int(network(filled).argmax())
            assert found.labels[i] == record.labels[place]
            sure = record.certified[place]
            kinds.add(sure)
            if sure:
                assert found.decided[r, i] == found.labels[i]
            else:
                assert record.failed[place] == (first, second)
    assert kinds == {True, False}


def test_of_a_certified_image_the_pair_that_leads_least(network, digits, tmp_path):
    report = certified(network, digits, tmp_path, patch=1, fills=["gray:value=0"])
    found = Examples.load(tmp_path / "examples.npz")
    masks = MaskSet(8, 8, 1, 4)
    images, fill = torch.from_numpy(digits.to_float()), create_fill("gray", value=0)
    tried = 0
    for i, place in enumerate(found.index.tolist()):
        if not report.records[0].certified[place]:
            continue
        leads = {}
        for first, second in masks.pairs.tolist():
            shown = torch.from_numpy(masks.visible[first] & masks.visible[second])
            logits = network(fill(images[place][None], shown))[0].detach()
            top = logits.topk(2).values
            leads[first, second] = float((top[0] - top[1]) / logits.abs().max())
        assert leads[tuple(found.pairs[0, i].tolist())] == pytest.approx(min(leads.values()), 1e-4)
        tried += 1
    assert tried


def test_they_are_made_once(network, digits, tmp_path, monkeypatch):
    calls, make = [], module.make_examples
    monkeypatch.setattr(module, "make_examples", lambda *some: calls.append(1) or make(*some))
    certified(network, digits, tmp_path)
    path = tmp_path / "examples.npz"
    first = path.read_bytes()
    certified(network, digits, tmp_path)
    assert len(calls) == 1
    path.unlink()
    certified(network, digits, tmp_path)
    assert len(calls) == 2
    assert arrays(path) == arrays(first, tmp_path)
    path.write_bytes(first[:-30])
    certified(network, digits, tmp_path)
    assert len(calls) == 3
    assert arrays(path) == arrays(first, tmp_path)
    certified(network, digits, tmp_path, fills=FILLS[:1], overwrite=True)
    assert len(calls) == 4
    certified(network, digits, None)
    assert len(calls) == 4


def arrays(source, folder=None):
    if isinstance(source, bytes):
        (folder / "copy").write_bytes(source)
        source = folder / "copy"
    with np.load(source) as archive:
        return {name: archive[name].tolist() for name in archive.files}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"decided": np.full((4, 3), 77)}, "must be of the same images, masks and classes"),
        ({"labels": np.full(3, -1)}, "must be of the same images, masks and classes"),
        ({"visible": np.ones((4, 3, 8, 7), bool)}, "must be of the same images"),
        ({"images": np.zeros((3, 1, 8, 8))}, "arrays of other kinds"),
        ({"more": np.zeros(3)}, "arrays of other kinds"),
        ({"key": np.array([object()])}, "holds Python objects"),
        ({"images": np.zeros((3, 1, 5000, 5000), np.uint8)}, "more than the limit"),
        (None, "File is not a zip file"),
    ],
)
def test_damaged_files(network, digits, tmp_path, change, reason):
    certified(network, digits, tmp_path)
    path = tmp_path / "examples.npz"
    if change is None:
        path.write_bytes(b"no archive")
    else:
        with np.load(path) as archive:
            values = {name: archive[name] for name in archive.files}
        np.savez(path, **values | change)
    with pytest.raises(ValueError, match=f"the examples '.*' cannot be used: .*{reason}"):
        Examples.load(path)
    with pytest.raises(FileNotFoundError):
        Examples.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("certificates", "chosen"),
    [
        ([[0, 0, 0, 1, 1], [0, 1, 0, 1, 1]], [0, 1, 3]),
        ([[1, 1, 1, 1]], [0, 1, 2]),
        ([[0]], [0]),
        ([[0, 1]], [0, 1]),
    ],
)
def test_those_that_differ_are_chosen(certificates, chosen):
    assert choose_examples(np.array(certificates, bool)) == chosen
