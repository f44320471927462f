"""Trainings for certificates: boxes that are hidden and filled, pixels that are ablated."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from helpers.training import (
    StopTraining,
    by_image,
    digits,
    fit,
    make_data,
    make_network,
    numbered,
    same_weights,
    spy,
    stop_at,
    timeless,
    torch,
    wide,
)

from splic_ext.data import load_dataset
from splic_ext.defenses import TotalVariation
from splic_ext.evaluation import load_network
from splic_ext.fills import Constant, Fill, SPLICFill, create_fill, registry
from splic_ext.models import build_model, load_weights
from splic_ext.runs.fingerprints import TRAINING_CODE
from splic_ext.training import TrainingOptions, TrainingRecord
from splic_ext.training import run as run_module
from splic_ext.training.folder import WEIGHTS
from splic_ext.training.hiding import Boxes, Hiding, kept_masks
from splic_ext.training.learner import Learner
from splic_ext.training.processes import Processes

CUTOUT = {"cutout": "2x3", "fill": "splic"}
ABLATE = {"ablate": 0.4, "encoding": "mean"}
KINDS = {"cutout": CUTOUT, "ablate": ABLATE, "exactly": {"ablate": 20, "encoding": "splic"}}


class Twice(Fill):
    """(x, 1 - x), and 0 in both where hidden: an encoding of two channels for each."""

    outputs = 2

    def forward(self, images, mask):
        visible = mask.expand(len(images), 1, *images.shape[2:])
        return torch.cat([images, 1 - images], dim=1) * visible


@pytest.fixture
def twice(monkeypatch):
    monkeypatch.setattr(registry, "FILLS", {**registry.FILLS, "twice": Twice})


# Boxes


@pytest.mark.parametrize(
    ("text", "boxes"),
    [("2x9", (2, 9, 9)), ("1x5x8", (1, 5, 8)), ("64x1", (64, 1, 1)), ("02x9x9", (2, 9, 9))],
)
def test_texts_of_boxes(text, boxes):
    found = Boxes.parse(text)
    assert (found.count, found.height, found.width) == boxes
    assert Boxes.parse(str(found)) == found


def test_the_number_of_boxes_and_their_places_are_uniform():
    count, masks = 9000, Boxes(1, 3, 2).masks(7, slice(0, 9000), 5, 6)
    assert masks.shape == (count, 1, 5, 6)
    hidden = ~masks[:, 0]
    areas = hidden.sum(axis=(1, 2))
    assert set(areas) == {0, 6}
    assert abs((areas == 0).sum() - count / 2) < 5 * math.sqrt(count / 4)
    touched = hidden[areas > 0]
    tops, lefts = touched.any(axis=2).argmax(axis=1), touched.any(axis=1).argmax(axis=1)
    for box, top, left in zip(touched, tops, lefts, strict=True):
        assert box[top : top + 3, left : left + 2].all()
    places = np.bincount(5 * tops + lefts, minlength=15)
    mean = len(touched) / 15
    assert len(places) == 15, "3 rows and 5 columns where it can begin"
    assert np.abs(places - mean).max() < 5 * math.sqrt(mean)


def test_of_several_boxes_none_one_and_two_are_there():
    """A box of one pixel shows the number, but where two lie on each other: 1 in 100."""
    count, masks = 9000, Boxes(2, 1, 1).masks(3, slice(0, 9000), 10, 10)
    areas = np.bincount((~masks).sum(axis=(1, 2, 3)), minlength=3)
    expected = np.array([1 / 3, 1 / 3 + 1 / 300, 1 / 3 - 1 / 300]) * count
    assert len(areas) == 3
    assert np.abs(areas - expected).max() < 5 * math.sqrt(count * 2 / 9)
    hits = (~masks).sum(axis=(0, 1))
    assert np.abs(hits - hits.mean()).max() < 5 * math.sqrt(hits.mean())


def test_a_box_may_be_the_whole_image():
    masks = Boxes(1, 4, 4).masks(0, slice(0, 50), 4, 4)
    assert set(masks.sum(axis=(1, 2, 3))) == {0, 16}


@pytest.mark.parametrize("kind", ["boxes", "share", "exactly"])
def test_masks_are_functions_of_seed_and_position(kind):
    def draw(seed, start, stop):
        if kind == "boxes":
            return Boxes(3, 2, 2).masks(seed, slice(start, stop), 5, 7)
        return kept_masks({"share": 0.3, "exactly": 9}[kind], seed, slice(start, stop), 5, 7)

    whole = draw(4, 0, 40)
    for rank in range(3):
        part = Processes(rank, 3).part(0, 40)
        assert np.array_equal(draw(4, part.start, part.stop), whole[part])
    assert draw(4, 7, 7).shape == (0, 1, 5, 7)
    assert not np.array_equal(draw(5, 0, 40), whole)
    assert len({mask.tobytes() for mask in whole}) > 20


# Ablation


def test_a_share_of_the_pixels_is_kept():
    masks = kept_masks(0.1, 0, slice(0, 4000), 8, 8)
    bound = 5 * math.sqrt(0.1 * 0.9)
    assert abs(masks.mean() - 0.1) < bound / math.sqrt(masks.size)
    assert np.abs(masks.mean(axis=0) - 0.1).max() < bound / math.sqrt(4000)
    counts = masks.sum(axis=(1, 2, 3))
    assert abs(counts.var() - 64 * 0.09) < 0.1 * 64 * 0.09, "each pixel for itself"


def test_exactly_so_many_pixels_are_kept():
    masks = kept_masks(2, 1, slice(0, 6000), 2, 3)
    assert (masks.sum(axis=(1, 2, 3)) == 2).all()
    sets, counts = np.unique(masks.reshape(6000, 6), axis=0, return_counts=True)
    assert len(sets) == 15, "all pairs"
    assert np.abs(counts - 400).max() < 5 * math.sqrt(400)


# What is learnt


def test_images_with_a_box_are_filled_and_the_others_are_whole(monkeypatch):
    seen, data = spy(monkeypatch), numbered(40)
    fit(wide(40), data, crop=0, cutout="2x3", fill="gray", batch_size=16)
    whole = torch.from_numpy(data.to_float())
    for batches in (seen[:3], seen[3:]):
        learnt = by_image(batches)
        hidden = (learnt != whole).any(dim=1)
        assert ((learnt == 0.5) | ~hidden[:, None]).all()
        areas = hidden.sum(dim=(1, 2))
        assert 5 < (areas == 0).sum() < 25
        assert ((areas == 0) | (areas >= 9)).all()
        assert 9 < areas.max() <= 18
    assert not torch.equal(by_image(seen[:3]), by_image(seen[3:])), "others in each epoch"


def test_it_is_the_fill_of_the_masks(monkeypatch):
    seen, data = spy(monkeypatch), make_data(48)
    fit(data=data, epochs=1, crop=1, flip=True, **CUTOUT)
    plain = list(seen)
    seen.clear()
    fit(data=data, epochs=1, crop=1, flip=True)
    shifted = torch.cat([images for images, _ in seen])
    hiding = Hiding(0, Boxes(2, 3, 3), None, SPLICFill())
    expected = hiding.learnt(shifted, 0, slice(0, 48))
    assert torch.equal(torch.cat([images for images, _ in plain]), expected)
    assert not torch.equal(expected, shifted)


def test_only_images_with_a_box_go_to_the_fill_in_one_call():
    calls = []

    class Noted(Constant):
        def fill(self, images, mask):
            calls.append((len(images), (~mask).flatten(1).any(dim=1).all()))
            return super().fill(images, mask)

    images = torch.rand(300, 3, 8, 8)
    hiding = Hiding(0, Boxes(1, 3, 3), None, Noted())
    hiding.learnt(images, 0, slice(0, 300))
    ((count, hidden),) = calls
    assert 100 < count < 200
    assert hidden


def test_no_box_at_all(monkeypatch):
    class Never(Constant):
        def fill(self, images, mask):
            raise AssertionError

    hiding = Hiding(0, Boxes(1, 3, 3), None, Never())
    alone = next(k for k in range(20) if Boxes(1, 3, 3).masks(0, slice(k, k + 1), 8, 8).all())
    images = torch.rand(1, 3, 8, 8)
    monkeypatch.setattr("splic_ext.training.hiding.derive_seed", lambda *_: 0)
    assert hiding.learnt(images, 0, slice(alone, alone + 1)) is images


def test_filled_before_the_defence(monkeypatch):
    seen, given = spy(monkeypatch), []
    monkeypatch.setattr(
        TotalVariation, "defend", lambda self, images, index: given.append(images) or images / 2
    )
    fit(defense="tv", cutout="2x3", fill="gray", epochs=1, batch_size=48)
    learnt = seen[0][0]
    before = next(images for images in given if len(images) == 48)
    assert torch.equal(learnt, before / 2)
    assert ((before == 0.5).all(dim=1).sum(dim=(1, 2)) >= 9).sum() > 20


def test_ablated_images_in_training_and_test(monkeypatch):
    seen, scored, logits = spy(monkeypatch), [], Learner.logits
    data, test = numbered(40), make_data(20, seed=1)

    def noted(self, network, images):
        if not network.training:
            scored.append(images)
        return logits(self, network, images)

    monkeypatch.setattr(Learner, "logits", noted)
    fit(wide(40), data, test=test, crop=0, ablate=20, encoding="gray", batch_size=40)
    whole = torch.from_numpy(data.to_float())
    first, second = (by_image([batch]) for batch in seen)
    for learnt in (first, second):
        visible = (learnt == whole).all(dim=1).sum(dim=(1, 2))
        assert (visible == 20).all()
    assert not torch.equal(first, second)
    assert torch.equal(scored[0], scored[1]), "the same draw in each epoch"
    shown = (scored[0] == torch.from_numpy(test.to_float())).all(dim=1).sum(dim=(1, 2))
    assert (shown == 20).all()


def test_with_boxes_test_images_are_whole(monkeypatch):
    test = make_data(20, seed=1)
    result = fit(test=test, cutout="2x4", fill="gray")
    with torch.no_grad():
        logits = result.network(torch.from_numpy(test.to_float()))
    right = (logits.argmax(1).numpy() == test.labels).mean()
    assert result.history[-1].test_accuracy == pytest.approx(right)


def test_an_encoding_of_more_channels(tmp_path, twice):
    test = load_dataset("digits", limit=30)
    result = fit("digits_cnn", digits(), ablate=0.5, encoding="twice", test=test, output=tmp_path)
    record = TrainingRecord.load(tmp_path / "training.json")
    assert (record.channels, record.fill_repr) == (2, "Twice()")
    assert record == result.record
    network = load_weights(build_model("digits_cnn", 10, record.channels), tmp_path / WEIGHTS)
    assert same_weights(network, result.network)
    loaded = load_network("digits_cnn", tmp_path / WEIGHTS, channels=record.channels)
    assert same_weights(loaded, result.network)
    own = fit(wide(4, channels=6), ablate=0.5, encoding="twice")
    assert own.record.channels == 6
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit(wide(4), ablate=0.5, encoding="twice")


def test_the_record(tmp_path):
    result = fit(output=tmp_path, cutout="1x3")
    record = TrainingRecord.load(tmp_path / "training.json")
    assert record == result.record
    assert (record.options.cutout, record.options.fill) == ("1x3", "splic")
    assert (record.fill_repr, record.channels) == (repr(create_fill("splic")), 3)
    assert fit().record.fill_repr is None


# Again, and resumed


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_again(kind):
    one, other = fit(**KINDS[kind]), fit(**KINDS[kind])
    assert same_weights(one.network, other.network)
    assert timeless(one) == timeless(other)


@pytest.mark.parametrize("stops", [(4,), (1, 2, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_to_the_same_bits(tmp_path, monkeypatch, stops, kind):
    """Three updates are an epoch; a checkpoint follows each update here."""
    arguments = {**KINDS[kind], "epochs": 3, "test": make_data(10, seed=1), "defense": "usvt"}
    expected = fit(make_network(dropout=0.2), **arguments)
    monkeypatch.setattr(run_module, "INTERVAL", 0.0)
    for count in stops:
        stop_at(monkeypatch, count)
        with pytest.raises(StopTraining):
            fit(make_network(dropout=0.2), output=tmp_path, **arguments)
    monkeypatch.undo()
    found = fit(make_network(dropout=0.2), output=tmp_path, **arguments)
    assert same_weights(found.network, expected.network)
    assert timeless(found) == timeless(expected)


@pytest.mark.parametrize(
    "change",
    [
        {"cutout": "1x3"},
        {"cutout": "2x3"},
        {"cutout": "1x3", "fill": "mean"},
        {"cutout": "1x3", "cutout_tries": 2},
        {"ablate": 0.5, "encoding": "gray"},
        {"ablate": 32, "encoding": "gray"},
        {"ablate": 0.5, "encoding": "mean"},
    ],
    ids=str,
)
def test_another_training(tmp_path, change):
    plain = fit(epochs=1, output=tmp_path)
    (name, value), *_ = change.items()
    told = re.escape(f"is of another training: `{name}` is None there and {value!r} here")
    with pytest.raises(ValueError, match=told):
        fit(epochs=1, output=tmp_path, **change)
    changed = fit(epochs=1, **change)
    assert changed.record.key != plain.record.key
    assert not same_weights(changed.network, plain.network)


def test_of_several_tries_the_worst_is_learnt(monkeypatch):
    """Each image has the boxes of one of the draws, that of the largest loss at that time."""
    tried, losses = [], Learner.losses

    def noted(self, images, labels):
        with torch.no_grad():
            logits = before(images)
        found = losses(self, images, labels)
        assert torch.allclose(
            found, torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        )
        tried.append((images.clone(), found))
        return found

    monkeypatch.setattr(Learner, "losses", noted)
    seen, before, network = spy(monkeypatch), wide().eval(), wide()
    data = numbered()
    fit(network, data, epochs=1, batch_size=12, cutout="2x3", fill="gray", cutout_tries=4)
    assert len(tried) == 4
    assert len({images.numpy().tobytes() for images, _ in tried}) == 4
    worst = torch.stack([found for _, found in tried]).argmax(dim=0)
    assert len(worst.unique()) > 1
    (learnt, _), *more = seen
    assert not more
    images = torch.stack([images for images, _ in tried])
    assert torch.equal(learnt, images[worst, torch.arange(12)])
    seen.clear()
    fit(wide(), data, epochs=1, batch_size=12, cutout="2x3", fill="gray")
    assert torch.equal(tried[0][0], seen[0][0]), "the first draw is that of a single one"


def test_the_code_of_the_fills_counts():
    assert "fills" in TRAINING_CODE


def test_one_text_for_one_kind_of_boxes():
    assert TrainingOptions(cutout="2x3x3") == TrainingOptions(cutout="2x3", fill="splic")
    options = TrainingOptions(ablate=np.int64(5), encoding="mean")
    assert type(options.ablate) is int
    assert TrainingOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_the_fill_is_part_of_the_time_of_the_defence():
    assert fit(**CUTOUT).seconds.defense > fit().seconds.defense > 0


# What it is good for


def test_hidden_boxes_are_borne_by_who_has_learnt_them():
    """All places of a box of 3 x 3 in digits of 8 x 8, filled by completion."""
    test = load_dataset("digits", limit=200)
    images, labels = torch.from_numpy(test.to_float()), torch.from_numpy(test.labels)
    masks = torch.ones(36, 1, 8, 8, dtype=torch.bool)
    for k, mask in enumerate(masks[:, 0]):
        mask[k // 6 : k // 6 + 3, k % 6 : k % 6 + 3] = False
    fill, found = create_fill("splic"), []
    filled = [fill(images, mask[None]) for mask in masks]
    for change in ({}, {"cutout": "1x3"}):
        result = fit(
            "digits_cnn", digits(1000), epochs=15, batch_size=32, learning_rate=0.03, crop=0,
            seed=1, **change,
        )  # fmt: skip
        with torch.no_grad():
            clean = (result.network(images).argmax(1) == labels).float().mean()
            right = torch.stack([result.network(x).argmax(1) == labels for x in filled])
        found.append((clean, right.float().mean(), right.all(dim=0).float().mean()))
    (clean, one, all_places), (clean_too, one_too, all_places_too) = found
    assert one_too > one + 0.05, "0.81 and 0.92"
    assert all_places_too > all_places + 0.15, "0.10 and 0.40"
    assert clean_too > clean - 0.03


# What is refused


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"cutout": "2y9"}, ValueError, "`cutout` must be COUNTxSIDE or COUNTxHEIGHTxWIDTH, got"),
        ({"cutout": "-2x9"}, ValueError, "`cutout` must be COUNTxSIDE"),
        ({"cutout": "2x-9"}, ValueError, "`cutout` must be COUNTxSIDE"),
        ({"cutout": "9"}, ValueError, "`cutout` must be COUNTxSIDE"),
        ({"cutout": "1x2x3x4"}, ValueError, "`cutout` must be COUNTxSIDE"),
        ({"cutout": "2x9\n"}, ValueError, "`cutout` must be COUNTxSIDE"),
        ({"cutout": 9}, TypeError, "`cutout` must be COUNTxSIDE"),
        ({"cutout": "0x9"}, ValueError, "`cutout` must have 1 to 64 boxes with sides from 1 to"),
        ({"cutout": "2x0"}, ValueError, "`cutout` must have 1 to 64 boxes with sides from 1 to"),
        ({"cutout": "65x2"}, ValueError, "`cutout` must have 1 to 64 boxes"),
        ({"cutout": "1x999999999"}, ValueError, "`cutout` must have 1 to 64 boxes"),
        ({"cutout": "2x9", "fill": "grey"}, ValueError, "fill name must be one of gray, mean,"),
        ({"cutout": "2x9", "fill": "gray:value=2"}, ValueError, "`value` must be finite and in"),
        ({"cutout": "2x9", "fill": 3}, TypeError, "a specification must be a string"),
        (
            {"cutout": "1x3", "cutout_tries": 0},
            ValueError,
            "`cutout_tries` must be an integer in [1, 64]",
        ),
        (
            {"cutout": "1x3", "cutout_tries": 65},
            ValueError,
            "`cutout_tries` must be an integer in [1, 64]",
        ),
        ({"cutout": "1x3", "cutout_tries": 1.5}, TypeError, "`cutout_tries` must be an integer"),
        ({"cutout_tries": 2}, ValueError, "`cutout_tries` needs `cutout`, which hides what"),
        ({"fill": "gray"}, ValueError, "`fill` needs `cutout`, which hides what it fills; give"),
        ({"encoding": "gray"}, ValueError, "`encoding` needs `ablate`, which hides"),
        ({"ablate": 0.1}, ValueError, "`ablate` needs `encoding`, what the network gets of an"),
        ({**ABLATE, "ablate": 0}, ValueError, "`ablate` must be an integer in [1, "),
        ({**ABLATE, "ablate": -3}, ValueError, "`ablate` must be an integer in [1, "),
        ({**ABLATE, "ablate": 0.0}, ValueError, "`ablate` must be finite and in (0, 1]"),
        ({**ABLATE, "ablate": 1.5}, ValueError, "`ablate` must be finite and in (0, 1]"),
        ({**ABLATE, "ablate": 1.0}, ValueError, "`ablate` must be a share below 1, or an integer"),
        ({**ABLATE, "ablate": math.nan}, ValueError, "`ablate` must be finite"),
        ({**ABLATE, "ablate": True}, TypeError, "`ablate` must be a number, got True"),
        ({**ABLATE, "ablate": "half"}, TypeError, "`ablate` must be a number, got 'half'"),
        ({**ABLATE, "encoding": "none"}, ValueError, "fill name must be one of"),
        ({**CUTOUT, **ABLATE}, ValueError, "`cutout` and `ablate` contradict each other"),
        ({**CUTOUT, "copies": 2}, ValueError, "`copies` and `cutout` contradict each other"),
        ({**ABLATE, "copies": 2}, ValueError, "`copies` and `ablate` contradict each other"),
        ({**CUTOUT, "adversarial": "bpda"}, ValueError, "`adversarial` and `cutout` contradict"),
        ({**ABLATE, "adversarial": "bpda"}, ValueError, "`adversarial` and `ablate` contradict"),
        ({"cutout": "2x9", "fill": "twice"}, ValueError, "`fill` must return images with the"),
        (
            {"ablate": 0.1, "encoding": "twice", "defense": "tv"},
            ValueError,
            "`defense` must be 'identity' with the `encoding` 'twice', whose results are no images",
        ),
    ],
)
def test_what_is_refused(twice, change, kind, message):
    with pytest.raises(kind) as error:
        TrainingOptions(**change)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutout": "2x40"}, "images of 8 x 8, got 40 x 40; choose smaller ones"),
        ({"cutout": "1x9x2"}, "`cutout` must have boxes that fit into images of 8 x 8, got 9 x 2"),
        ({"cutout": "1x2x9"}, "`cutout` must have boxes that fit into images of 8 x 8, got 2 x 9"),
        (
            {"ablate": 64, "encoding": "gray"},
            "`ablate` must keep fewer than the 64 pixels of an image, got 64; choose less",
        ),
    ],
)
def test_what_does_not_fit_into_the_images(tmp_path, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(output=tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()
