"""`certify_pixels`: its draws, its records, and all that it refuses."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from helpers.ablation import brightness, certify, fit_ablated, linear, some_digits, torch

from splic_ext import MissingExtraError, SolverOptions
from splic_ext.certify import (
    PixelRecord,
    PixelReport,
    ablation_bounds,
    ablation_delta,
    ablation_masks,
    certified_radius,
    clopper_pearson_lower,
)
from splic_ext.certify.ablation_draws import as_encoding
from splic_ext.defenses import create_defense
from splic_ext.fills import FILLS, Fill, create_fill

KEPT = [8, 0.12]


@pytest.fixture(scope="module")
def network():
    return fit_ablated()


@pytest.fixture(scope="module")
def digits():
    return some_digits("test", limit=12)


def by_hand(network, image, index, kept, encoding, draws):
    """Classes of an image in some draws, one by one."""
    fill = create_fill(encoding)
    classes = []
    for draw in draws:
        mask = torch.from_numpy(ablation_masks((8, 8), kept, index=index, draw=draw, seed=4))
        with torch.no_grad():
            classes.append(int(network(fill(torch.from_numpy(image[None]), mask)).argmax()))
    return classes


@pytest.mark.parametrize("kept", KEPT)
def test_records_are_those_of_the_draws(network, digits, kept):
    """The first draws select, others estimate; nothing else decides a record."""
    images, labels = digits
    report = certify(
        network, images[:3], labels[:3], kept=kept, encoding="null", selection=20, draws=60,
        seed=4, first_index=7, alpha=0.05,
    )  # fmt: skip
    scheme = "exact-k" if isinstance(kept, int) else "bernoulli"
    for i, record in enumerate(report.records):
        first = by_hand(network, images[i], 7 + i, kept, "null", range(20))
        later = by_hand(network, images[i], 7 + i, kept, "null", range(20, 80))
        (chosen, _), *_ = Counter(first).most_common()
        count = later.count(chosen)
        bound = clopper_pearson_lower(count, 60, 0.05)
        radius = certified_radius(bound, 64, report.kept if scheme == "bernoulli" else kept, scheme)
        answer = None if radius is None else chosen
        assert record == PixelRecord(7 + i, int(labels[i]), answer, count, bound, radius)


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("encoding", ["null", "mean", "splic"])
def test_batches_and_parts_do_not_matter(digits, kept, encoding):
    network = fit_ablated(encoding=encoding, times=1)
    images, labels = digits
    arguments = {"kept": kept, "encoding": encoding, "selection": 10, "draws": 30}
    whole = certify(network, images[:4], labels[:4], **arguments)
    for batch_size in (1, 7, 80, 1000):
        other = certify(network, images[:4], labels[:4], batch_size=batch_size, **arguments)
        assert other.records == whole.records
    parts = [
        certify(network, images[i : i + 1], labels[i : i + 1], first_index=i, **arguments)
        for i in range(4)
    ]
    assert sum((part.records for part in parts), ()) == whole.records
    assert certify(network, images[:4], labels[:4], seed=1, **arguments).records != whole.records


def test_a_bound_is_too_high_as_rarely_as_alpha_says():
    """The truth is known of a network that asks whether one pixel is visible."""
    network = linear(np.array([[2.0], [-2.0]]) * np.eye(64)[:1], [-1.0, 1.0])
    image = torch.zeros(1, 1, 8, 8)
    image[..., 0, 0] = 1.0
    many, alpha, truth = 1500, 0.1, 1 - 16 / 64
    report = certify(
        network, image.expand(many, 1, 8, 8), [1] * many, kept=16, encoding="gray:value=0",
        draws=60, selection=100, alpha=alpha, batch_size=4000,
    )  # fmt: skip
    assert all(record.answer in (1, None) for record in report.records)
    wrong = np.mean([record.p_lower > truth for record in report.records])
    assert wrong <= alpha + 4 * np.sqrt(alpha * (1 - alpha) / many)
    assert wrong > alpha / 10  # it is no idle bound
    mean = np.mean([record.count for record in report.records]) / 60
    assert mean == pytest.approx(truth, abs=5 * np.sqrt(truth * (1 - truth) / 60 / many))


def test_it_abstains_where_the_vote_is_level():
    # Half of the pixels are white: of few of them the mean is above and below as often.
    image = torch.zeros(1, 1, 8, 8)
    image[..., ::2, :] = 1.0
    report = certify(brightness(), image, [0], kept=7, draws=200)
    (record,) = report.records
    assert (record.answer, record.radius) == (None, None)
    assert record.p_lower < 0.5
    assert report.abstained.value == 1
    assert report.accuracy().value == report.certified_accuracy(3).value == 0


def test_a_sure_answer_has_the_largest_radius():
    report = certify(images=torch.full((2, 1, 8, 8), 0.8), labels=[0, 1], draws=1000)
    right, wrong = report.records
    assert right.answer == wrong.answer == 0
    assert right.count == 1000
    assert right.radius == report.largest_radius >= 5
    assert ablation_delta(64, 6, right.radius, "exact-k") < right.p_lower - 0.5
    assert ablation_delta(64, 6, right.radius + 1, "exact-k") >= right.p_lower - 0.5
    assert report.certified_accuracy(report.largest_radius).value == 0.5
    assert report.certified_accuracy(report.largest_radius + 1).value == 0


def test_numpy_and_torch_and_whole_numbers_of_numpy():
    images = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
    one = certify(images=images, kept=np.int64(6), labels=np.zeros(3, np.uint8))
    other = certify(images=torch.from_numpy(images))
    assert timeless_records(one) == timeless_records(other)
    assert one.scheme == "exact-k"
    turned = np.ascontiguousarray(images[..., ::-1])[..., ::-1]
    assert timeless_records(certify(images=turned)) == timeless_records(one)


def timeless_records(report):
    return report.records, report.images_sha256, report.network, report.kept


def test_float64_images_and_network():
    images = torch.linspace(0.1, 0.9, 128, dtype=torch.float64).reshape(2, 1, 8, 8)
    report = certify(brightness().double(), images)
    assert report.records == certify(images=images.float()).records


def test_the_network_is_left_as_it_was(network, digits):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    certify(network, digits[0][:1], [0], encoding="null")
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# Reports


@pytest.fixture(scope="module")
def report(network, digits):
    return certify(network, *digits, kept=8, encoding="null", draws=100, model_name="linear")


def test_json_round_trip(report, tmp_path):
    assert PixelReport.from_json(report.to_json()) == report
    (tmp_path / "pixels.json").write_text(report.to_json())
    assert PixelReport.load(tmp_path / "pixels.json") == report
    assert json.loads(report.to_json())["schema_version"] == 1


def test_a_report_says_what_it_depends_on(report):
    assert report.network.name == "linear"
    assert (report.encoding, report.scheme, report.kept) == ("Null()", "exact-k", 8.0)
    assert (report.selection, report.draws, report.alpha, report.seed) == (100, 100, 0.001, 0)
    assert report.shape == (1, 8, 8)
    assert report.seconds.network > 0
    assert report.seconds.masks > 0


def test_accuracies_are_counted_from_records(report):
    for rho, accuracy in report.table():
        held = [r for r in report.records if r.answer == r.label and (r.radius or 0) >= rho]
        assert accuracy.value == len(held) / 12
        assert accuracy.low <= accuracy.value <= accuracy.high
    values = [accuracy.value for _, accuracy in report.table()]
    assert values[0] > values[1] >= values[-1]
    assert report.accuracy() == report.certified_accuracy(0)


def test_the_table_in_markdown(report):
    text = report.to_markdown([0, 2])
    assert text.startswith("12 images, linear, Null(), exact-k keeping 8 pixels, 100 + 100 draws")
    rows = text.strip().splitlines()[4:]
    assert [row.split("|")[1].strip() for row in rows] == ["0", "2"]
    assert str(report.certified_accuracy(2)) in rows[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["records"][0].update(radius=9), "a record of pixels must be what its count"),
        (lambda v: v["records"][0].update(p_lower=0.99), "a record of pixels must be what its"),
        (lambda v: v["records"][0].update(count=101), "a record of pixels must be what its count"),
        (lambda v: v["records"][0].update(count=-1), "a record of pixels must be what its count"),
        (lambda v: v["records"][0].update(answer=-3), "a record of pixels must be what its count"),
        (lambda v: v["records"][0].update(label=-1), "a record of pixels must be what its count"),
        (lambda v: v["records"][0].update(answer="a"), r"`report.records\[0\].answer` must be of"),
        (lambda v: v.update(records=[]), "a report of pixels must be of images of shape"),
        (lambda v: v.update(shape=[8, 8]), "a report of pixels must be of images of shape"),
        (lambda v: v.update(scheme="bernoulli"), "`kept` must be finite and in"),
        (
            lambda v: v.update(scheme="other", kept=0.5),
            "a report of pixels must keep what its scheme can",
        ),
        (lambda v: v.update(kept=8.5), "`kept` must be finite and in"),
        (lambda v: v.update(kept=0.5), "a report of pixels must keep what its scheme can"),
        (lambda v: v.update(kept=float("nan")), "`kept` must be finite and in"),
        (lambda v: v.update(draws=0), "`draws` must be an integer in"),
        (lambda v: v.update(alpha=2.0), "`alpha` must be finite and in"),
        (lambda v: v.pop("seed"), "`report` must have the keys"),
        (lambda v: v.update(schema_version=2), "a report of pixels must have the schema version 1"),
    ],
)
def test_damaged_reports_are_refused(report, change, message):
    values = json.loads(report.to_json())
    change(values)
    with pytest.raises(ValueError, match=message):
        PixelReport.from_json(json.dumps(values))


# Encodings


def test_splic_has_a_preset_for_few_pixels():
    assert as_encoding("splic").options == SolverOptions.preset("ablation")
    assert as_encoding("splic:tv_weight=0.3").options == SolverOptions.preset("ablation").replace(
        tv_weight=0.3
    )
    assert as_encoding("splic:holes").options == SolverOptions.preset("holes")


@pytest.mark.parametrize("name", FILLS)
def test_every_fill_is_an_encoding(name):
    try:
        create_fill(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    report = certify(encoding=name, images=torch.full((1, 1, 8, 8), 0.75), draws=30, selection=5)
    assert report.records[0].answer == 0
    assert report.encoding.startswith(type(create_fill(name)).__name__)


def test_a_function_is_an_encoding():
    report = certify(encoding=lambda images, mask: images * mask)
    assert report.encoding.startswith("FunctionFill(function=")


# What is refused


class Leaky(Fill):
    """Overrides what hides the hidden pixels."""

    def forward(self, images, mask):
        return images


class Fresh(Fill):
    """Fills with fresh noise."""

    def fill(self, images, mask):
        return torch.rand_like(images)


class OfBatch(Fill):
    """Fills with the mean of the batch."""

    def fill(self, images, mask):
        return images.mean().expand_as(images)


class Sometimes(torch.nn.Module):
    """Dropout that never rests."""

    def forward(self, images):
        return torch.nn.functional.dropout(images.flatten(1), training=True)


class Broken(torch.nn.Module):
    """Returns NaN."""

    def forward(self, images):
        return images.flatten(1)[:, :3] * torch.nan


NAN = torch.full((1, 1, 8, 8), torch.nan)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": NAN}, ValueError, "`images` must be finite and lie in"),
        ({"images": torch.full((1, 1, 8, 8), 1.5)}, ValueError, "`images` must be finite and lie"),
        ({"images": np.zeros((1, 1, 8, 8), np.uint8)}, TypeError, "`images` must be of float16"),
        ({"images": torch.zeros(8, 8)}, ValueError, r"`images` must have shape \(N, C, H, W\)"),
        ({"images": [[0.5]]}, TypeError, "`images` must be a torch tensor, got list"),
        ({"images": torch.zeros(0, 1, 8, 8)}, ValueError, "`images` must hold an image at least"),
        ({"labels": [0] * 4}, ValueError, "`labels` must have shape"),
        ({"labels": [0, 0, 0, 0, 2]}, ValueError, "`model` has 2 outputs, but there is the label"),
        ({"labels": [0, 0, 0, 0, -1]}, ValueError, "`labels` must not be negative, got -1"),
        ({"kept": 0}, ValueError, r"`kept` must be an integer in \[1, 64\]"),
        ({"kept": 65}, ValueError, r"`kept` must be an integer in \[1, 64\]"),
        ({"kept": 32}, ValueError, "`kept` must be at most 31 to certify anything, got 32"),
        ({"kept": 0.5}, ValueError, "`kept` must be below 0.5 to certify anything, got 0.5"),
        ({"kept": True}, TypeError, "`kept` must be an integer, got True"),
        ({"kept": 0.0}, ValueError, "`kept` must be finite and in"),
        ({"kept": -0.1}, ValueError, "`kept` must be finite and in"),
        ({"draws": 13}, ValueError, "`draws` must be at least 14 to certify one pixel at `alpha`"),
        ({"draws": 0}, ValueError, "`draws` must be an integer in"),
        ({"selection": 0}, ValueError, "`selection` must be an integer in"),
        ({"alpha": 0}, ValueError, "`alpha` must be finite and in"),
        ({"alpha": 1}, ValueError, "`alpha` must be below 1"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be an integer in"),
        ({"first_index": 2**64 - 4}, ValueError, "`first_index` must be an integer in"),
        ({"device": "meta"}, ValueError, "`device` must be one that torch can use here"),
        ({"model": "resnet20"}, TypeError, "`model` must be a torch.nn.Module, got str"),
        ({"model": brightness().train()}, ValueError, "`model` is in train mode"),
        ({"model": Sometimes().eval()}, ValueError, "`model` must be a network without randomness"),
        ({"model": Broken().eval()}, ValueError, "`model` returned NaN or infinity for an ablated"),
        ({"model": torch.nn.Identity().eval()}, ValueError, "`model` must return logits of shape"),
        ({"model": brightness(60)}, ValueError, "`model` must take images of 1 channels, as the"),
        ({"encoding": "null"}, ValueError, "`model` must take images of 2 channels, as the enc"),
        ({"model": brightness(128)}, ValueError, "`model` must take images of 1 channels"),
        ({"model": brightness().double()}, TypeError, "`model` must take images of float32"),
        ({"encoding": "blue"}, ValueError, "fill name must be one of"),
        ({"encoding": "splic:paper"}, ValueError, "`options` of a fill must be of one pass"),
        ({"encoding": "splic:n_masks=4"}, ValueError, "`options` of a fill must be of one pass"),
        ({"encoding": create_defense("splic")}, TypeError, "`fill` must be a Fill, its name, or"),
        ({"encoding": 3}, TypeError, "`fill` must be a Fill, its name, or"),
        ({"encoding": Leaky()}, ValueError, "`encoding` must not look at hidden pixels, .* Leaky"),
        ({"encoding": Fresh()}, ValueError, "`encoding` must return the same in each call, got"),
        ({"encoding": lambda images, mask: images}, ValueError, "`encoding` must not look at hid"),
        ({"encoding": OfBatch()}, ValueError, "`encoding` must fill each image by itself, got"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        certify(**arguments)


def test_one_draw_fewer_than_the_least_is_refused():
    with pytest.raises(ValueError, match="at least") as caught:
        certify(draws=1)
    least = int(str(caught.value).split("at least ")[1].split()[0])
    assert certify(draws=least, images=torch.full((1, 1, 8, 8), 0.9)).records[0].radius == 1
    with pytest.raises(ValueError, match=f"at least {least} to certify one pixel"):
        certify(draws=least - 1)


def test_defences_in_the_network_are_refused():
    from splic_ext.defenses import USVT, Defended

    with pytest.raises(ValueError, match=r"holds a defence, .*; give what completes as `encoding`"):
        certify(Defended(brightness(), USVT()).eval())


def test_without_scipy(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name="scipy")

    monkeypatch.setattr(ablation_bounds, "import_module", absent)
    ablation_bounds._lower.cache_clear()
    with pytest.raises(MissingExtraError, match="scipy"):
        certify()
