"""Certificates against patches as users call them: arguments, records, finished parts."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from helpers.certify import kill_and_take_up  # noqa: E402
from helpers.evaluation import fit_digits, make_dataset, make_network, timeless  # noqa: E402

from splic_ext.certify import (  # noqa: E402
    CertificateReport,
    MaskedVote,
    attack_patches,
    certify_patches,
    evaluate_patches,
)
from splic_ext.data import Dataset, load_dataset  # noqa: E402
from splic_ext.defenses import SPLIC, Defended, Identity  # noqa: E402
from splic_ext.errors import ShapeError  # noqa: E402
from splic_ext.fills import Constant, Fill, SPLICFill  # noqa: E402
from splic_ext.options import SolverOptions  # noqa: E402


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", limit=60)


@pytest.fixture(scope="module")
def network():
    return fit_digits()


def evaluated(network, digits, **changes):
    arguments = {
        "fills": ["gray", "gray:value=0"],
        "patch": 1,
        "masks": 4,
        "progress": False,
        **changes,
    }
    return evaluate_patches(network, digits, **arguments)


def test_records_of_images(network, digits):
    images = torch.from_numpy(digits.to_float())
    found = certify_patches(
        network, images, digits.labels, patch=1, masks=4, fill="splic:holes,rank=2"
    )
    vote = MaskedVote(network, 1, 4, "splic:holes,rank=2")
    assert [c.answer for c in found] == vote(images).tolist()
    assert [c.plain for c in found] == network(images).argmax(1).tolist()
    assert [c.index for c in found] == list(range(60))
    sure = [c for c in found if c.certified]
    assert 10 < len(sure) < 60
    assert all(c.answer == c.label and c.failed is None and c.pairs == 136 for c in sure)
    assert all(c.failed is not None for c in found if not c.certified)
    arrays = certify_patches(
        network, images.numpy(), list(digits.labels), patch=1, masks=4, fill="splic:holes,rank=2"
    )
    assert arrays == found
    assert certify_patches(network, images[:0], [], patch=1) == ()


def test_the_failing_pair_fails(network, digits):
    images = torch.from_numpy(digits.to_float())
    masks = MaskedVote(network, 1, 3, "gray").mask_set(8, 8)
    fill = Constant()
    for c in certify_patches(network, images, digits.labels, patch=1, masks=3, fill="gray"):
        if c.failed is None:
            continue
        shown = torch.from_numpy(masks.visible[c.failed[0]] & masks.visible[c.failed[1]])
        logits = network(fill(images[c.index][None], shown))[0]
        top = logits.topk(2)
        lead = (top.values[0] - top.values[1]) / logits.abs().max()
        assert int(top.indices[0]) != c.label or lead <= 2e-4


def test_an_attack_turns_no_certified_image_and_some_others(network, digits):
    images = torch.from_numpy(digits.to_float())
    tried = broken = 0
    for fill in ("gray:value=0", "splic:holes,rank=2"):
        options = {"patch": 1, "masks": 4, "fill": fill}
        vote = MaskedVote(network, **options)
        found = certify_patches(network, images, digits.labels, **options)
        right = [c for c in found if c.answer == c.label]
        chosen = torch.tensor([c.index for c in right])
        results = attack_patches(
            vote, images[chosen], digits.labels[chosen.numpy()], places=3, restarts=2, steps=10
        )
        for certificate, result in zip(right, results, strict=True):
            assert len(result.answers) == result.tried == 6
            assert not (certificate.certified and result.turned)
            tried += certificate.certified * result.tried
            broken += result.turned
            if result.turned:
                assert int(vote(result.image[None])) != certificate.label
                changed = (result.image != images[certificate.index]).any(0).nonzero()
                assert len(changed) == 1
    assert tried > 60
    assert broken > 5


def test_the_gradient_goes_through_the_fill():
    """The attack moves a pixel that matters through the hidden ones alone."""

    class Corner(torch.nn.Module):
        def forward(self, images):
            corner = images[:, 0, 0, 0]
            return torch.stack([corner, 0.6 - corner], dim=1)

    vote = MaskedVote(Corner().eval(), 1, 2, "mean")
    image = torch.full((1, 1, 4, 4), 0.4)
    gradient = []
    for fill in ("mean", "gray", "splic:rank=1"):
        vote = MaskedVote(Corner().eval(), 1, 2, fill)
        x = image.clone().requires_grad_()
        shown = torch.from_numpy(vote.mask_set(4, 4).visible[0])
        vote.fill(x, shown)[:, 0, 0, 0].sum().backward()
        gradient.append(float(x.grad[0, 0, 3, 3]))
    assert gradient[0] > 0
    assert gradient[1] == 0
    assert gradient[2] != 0


@pytest.mark.parametrize("changed", [pickle.dumps, copy.deepcopy], ids=["pickle", "copy"])
def test_a_vote_is_a_module(network, digits, changed):
    images = torch.from_numpy(digits.to_float())
    vote = MaskedVote(network, 2, 3, "mean")
    answers = vote(images)
    other = changed(vote)
    other = pickle.loads(other) if isinstance(other, bytes) else other
    assert torch.equal(other(images), answers)
    assert "patch=2, masks=3" in repr(vote)
    assert set(vote.state_dict()) == {f"model.{name}" for name in network.state_dict()}
    alone = torch.cat([vote(image[None]) for image in images])
    assert torch.equal(alone, answers)
    assert vote(images[:0]).shape == (0,)
    assert torch.equal(MaskedVote(network, 2, 3, "mean", batch_size=7)(images), answers)


def test_images_of_other_sizes_get_masks_of_their_own():
    class Bright(torch.nn.Module):
        def forward(self, images):
            mean = images.mean((1, 2, 3))
            return torch.stack([mean, 1 - mean], dim=1)

    vote = MaskedVote(Bright().eval(), 2, 3, "gray")
    for shape in ((2, 1, 8, 8), (2, 3, 12, 9)):
        assert vote(torch.ones(shape)).tolist() == [0, 0]


class Leaky(Fill):
    def fill(self, images, mask):
        return images.mean((1, 2, 3), keepdim=True).expand_as(images)


class Overriding(Fill):
    """Looks at hidden pixels before they are erased."""

    def forward(self, images, mask):
        return torch.where(mask, images, images.mean((1, 2, 3), keepdim=True))


class Sharing(Fill):
    def fill(self, images, mask):
        return images.amax(0, keepdim=True).expand_as(images)


class Random(Fill):
    def fill(self, images, mask):
        return torch.rand_like(images)


class Dropping(torch.nn.Module):
    def forward(self, images):
        return torch.nn.functional.dropout(images.flatten(1), 0.5, training=True)[:, :5]


def through(images, mask):
    return images


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"fill": Leaky()}, ValueError, "`fill` must not look at hidden pixels, .*Leaky"),
        ({"fill": Overriding()}, ValueError, "`fill` must not look at hidden pixels, .*Overriding"),
        ({"fill": "null"}, ValueError, "`model` must take images of 6 channels, as the fill Null"),
        ({"fill": through}, ValueError, "`fill` must not look at hidden pixels"),
        ({"fill": Sharing()}, ValueError, "`fill` must fill each image by itself"),
        ({"fill": Random()}, ValueError, "`fill` must return the same in each call"),
        ({"fill": SPLIC(seed=1)}, TypeError, "a defence draws masks of its own"),
        ({"fill": "splic:alternate=true"}, ValueError, "one pass with one mask, got alternate=Tr"),
        ({"fill": "splic:paper"}, ValueError, "one pass with one mask"),
        ({"fill": "splic:n_masks=2"}, ValueError, "one pass with one mask, got n_masks > 1"),
        ({"fill": "grey"}, ValueError, "fill name must be one of gray"),
        ({"fill": 3}, TypeError, "`fill` must be a Fill, its name, or a function"),
        ({"model": Dropping().eval()}, ValueError, "without randomness"),
        ({"model": make_network().train()}, ValueError, "`model` is in train mode"),
        ({"model": Defended(make_network(), Identity()).eval()}, ValueError, "holds a defence"),
        ({"model": make_network}, TypeError, "`model` must be a torch.nn.Module"),
        ({"patch": 9}, ValueError, "`patch` must fit into the images of 8 x 8"),
        ({"labels": [0, 4]}, ValueError, "4 outputs, but there is the label 4"),
        ({"labels": [0, -1]}, ValueError, "`labels`"),
        ({"labels": [0]}, ValueError, "`labels`"),
        ({"images": torch.full((2, 3, 8, 8), 2.0)}, ValueError, r"lie in \[0, 1\]"),
        ({"images": torch.full((2, 3, 8, 8), torch.nan)}, ValueError, "finite"),
        ({"images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, TypeError, "`images` must be of"),
        ({"images": torch.zeros(3, 8, 8)}, ShapeError, r"shape \(N, C, H, W\)"),
        ({"batch_size": 0}, ValueError, "`batch_size`"),
        ({"masks": 1}, ValueError, "`masks` must be at least 2"),
        ({"patches": 3}, ValueError, "`patches`"),
    ],
)
def test_refused(changes, error, message):
    arguments = {"model": make_network(), "images": torch.rand(2, 3, 8, 8), "labels": [0, 1]}
    arguments |= {"patch": 2, "masks": 3, "fill": "gray", **changes}
    with pytest.raises(error, match=message):
        certify_patches(**arguments)


def test_a_vote_whose_network_goes_to_train_mode_is_refused():
    vote = MaskedVote(make_network(), 2, 3, "gray")
    images = torch.rand(2, 3, 8, 8)
    vote(images)
    vote.train()
    with pytest.raises(ValueError, match="`model` is in train mode"):
        vote(images)


def test_logits_that_are_no_numbers():
    class Broken(torch.nn.Module):
        def forward(self, images):
            hidden = (images == 0.5).flatten(1).any(1)
            return torch.where(hidden[:, None], torch.nan, torch.eye(3)[:1].expand(len(images), 3))

    images = torch.full((2, 1, 8, 8), 0.25)
    with pytest.raises(ValueError, match="`model` returned NaN or infinity for an image with hid"):
        MaskedVote(Broken().eval(), 2, 3, "gray")(images)


def test_a_report(network, digits, tmp_path):
    report = evaluated(network, digits, patch=[1, "1x2", (2, 2)], output=tmp_path / "out")
    assert [(r.patch, r.fill) for r in report.records] == [
        (patch, fill) for patch in ("1", "1x2", "2x2") for fill in ("gray", "gray:value=0")
    ]
    record = report.records[1]
    assert (record.masks, record.mask, record.area) == (16, "2x2", 1 / 64)
    assert record.clean_accuracy.value >= record.certified_accuracy.value > 0
    assert CertificateReport.load(tmp_path / "out" / "certificates.json") == report
    text = (tmp_path / "out" / "certificates.md").read_text(encoding="utf-8")
    assert "| 1x2 | 3.1 | 16 of " in text
    only = [
        sum(a and not b for a, b in zip(*pair, strict=True))
        for pair in (
            (report.records[0].certified, record.certified),
            (record.certified, report.records[0].certified),
        )
    ]
    assert f"| 1 | gray | gray:value=0 | {only[0]} | {only[1]} | " in text
    assert report.select(fill="gray:value=0", patch="1") == (record,)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: r["certified"].__setitem__(0, not r["certified"][0]), "a pair that fails where"),
        (lambda r: r["plain"].pop(), "a value for each of its 60 images, got 59"),
        (lambda r: r["accuracy"]["certified"].update(value=1.0), "must be what its counts say"),
        (lambda r: r["pairs"].__setitem__(0, -1), "no negative times and counts"),
        (lambda r: r.pop("mask"), "missing mask"),
    ],
)
def test_damaged_reports(network, digits, damage, message):
    values = json.loads(evaluated(network, digits, fills=["gray"]).to_json())
    damage(values["records"][0])
    with pytest.raises(ValueError, match=message):
        CertificateReport.from_json(json.dumps(values))


def test_finished_parts_are_taken_up(network, digits, tmp_path, monkeypatch):
    import splic_ext.certify.patches as module

    whole = evaluated(network, digits)
    calls, certify = [], module._certify

    def stopping(asker, images, labels, start):
        calls.append(start)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return certify(asker, images, labels, start)

    monkeypatch.setattr(module, "_certify", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluated(network, digits, output=tmp_path)
    report = evaluated(network, digits, output=tmp_path)
    assert calls == [0, 10, 20, 30, 40, 40, 50, 0, 10, 20, 30, 40, 50]
    assert timeless(report) == timeless(whole)
    again = evaluated(network, digits, output=tmp_path)
    assert len(calls) == 13
    assert again.seconds.network == again.seconds.fill == 0


def test_what_changes_a_result_changes_the_parts(network, digits, tmp_path):
    first = evaluated(network, digits, output=tmp_path)
    with pytest.raises(ValueError, match="report of another certification: other fills; name"):
        evaluated(network, digits, fills=["gray", "gray:value=0", "mean"], output=tmp_path)
    with pytest.raises(ValueError, match="other patches"):
        evaluated(network, digits, patch=2, output=tmp_path)
    with pytest.raises(ValueError, match="other network"):
        evaluated(make_digits_network(), digits, output=tmp_path)
    more = evaluated(
        network, digits, fills=["gray", "gray:value=0", "mean"], output=tmp_path, overwrite=True
    )
    assert timeless(more)[:2] == timeless(first)
    (tmp_path / "certificates.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is no report that can be read"):
        evaluated(network, digits, output=tmp_path)


def make_digits_network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()


def test_the_code_of_a_fill_of_ones_own_counts(network, digits, tmp_path):
    """Two functions of one name, whose code differs."""

    def write(value):
        path = tmp_path / f"own{value}.py"
        path.write_text(f"def black(images, mask):\n    return 0 * images + {value}\n")
        scope = {}
        exec(compile(path.read_text(), str(path), "exec"), scope)
        return scope["black"]

    out = tmp_path / "out"
    first = evaluated(network, digits, fills={"own": write(0)}, output=out)
    second = evaluated(network, digits, fills={"own": write(1)}, output=out, overwrite=True)
    assert first.records[0].certified != second.records[0].certified


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"fills": []}, ValueError, "`fills` must not be empty"),
        (
            {"fills": ["gray", "gray"]},
            ValueError,
            "`fills` must have names that differ, got 'gray'",
        ),
        ({"patch": []}, ValueError, "`patch` must not be empty"),
        ({"patch": [1, "1"]}, ValueError, "`patch` has '1' twice"),
        ({"limit": 0}, ValueError, "`limit`"),
        ({"dataset": 3}, TypeError, "`dataset` must be a Dataset"),
        ({"device": "nowhere"}, ValueError, "`device`"),
    ],
)
def test_refused_of_a_data_set(network, digits, changes, error, message):
    arguments = {"model": network, "dataset": digits, "progress": False, **changes}
    with pytest.raises(error, match=message):
        evaluate_patches(**arguments)


def test_labels_beyond_the_outputs():
    made = make_dataset()
    data = Dataset(made.name, made.images, made.labels + 1, tuple("abcde"))
    with pytest.raises(ValueError, match="4 outputs, but there is the label 4"):
        evaluate_patches(make_network(), data, patch=2, masks=3, fills=["gray"], progress=False)


def test_killed_and_taken_up_on_the_command_line(network, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.manual_seed(0)
    from splic_ext.models import build_model

    torch.save(build_model("digits_cnn").state_dict(), weights)
    given = ["certify", "--dataset", "digits", "--model", "digits_cnn", "--weights", str(weights)]
    given += ["--patch", "2", "--masks", "4", "--limit", "120", "--fill", "splic", "--fill", "gray"]
    folders = kill_and_take_up([*given, "-q"], tmp_path)
    reports = [CertificateReport.load(folder / "certificates.json") for folder in folders]
    assert timeless(reports[0]) == timeless(reports[1])


def test_fill_options_must_be_single():
    with pytest.raises(ValueError, match="one pass with one mask"):
        SPLICFill(SolverOptions())
    assert SPLICFill().options == SolverOptions.preset("refine")


def test_time_goes_to_fill_and_network(network, digits):
    seconds = evaluated(network, digits, fills=["splic:holes,rank=2"]).seconds
    assert seconds.fill > 0
    assert seconds.network > 0
    assert np.isclose(seconds.total, seconds.fill + seconds.network + seconds.rest)
