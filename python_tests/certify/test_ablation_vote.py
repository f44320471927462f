"""The vote that is deployed, and an attacker who searches for pixels."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.ablation import brightness, certify, fit_ablated, linear, some_digits, torch

from splic_ext.certify import (
    ABSTAINED,
    AblatedVote,
    ablation_masks,
    clopper_pearson_lower,
    greedy_pixel_search,
)
from splic_ext.certify.ablation_vote import decide
from splic_ext.fills import create_fill

KEPT = 6


@pytest.fixture(scope="module")
def network():
    return fit_ablated(KEPT)


@pytest.fixture(scope="module")
def digits():
    return some_digits("test", limit=40)


def test_it_answers_what_certificates_are_of(network, digits):
    images, labels = digits
    report = certify(network, images, labels, kept=KEPT, encoding="null", draws=400)
    vote = AblatedVote(network, KEPT, "null", draws=400)
    answers = vote(torch.from_numpy(images))
    for record, answer in zip(report.records, answers.tolist(), strict=True):
        if record.answer is not None:
            assert answer in (record.answer, ABSTAINED)
    sure = [r.radius is not None and r.radius >= 1 for r in report.records]
    assert np.all(answers.numpy()[sure] >= 0)
    assert sum(sure) > 10


def test_with_a_seed_it_repeats_itself(network, digits):
    images = torch.from_numpy(digits[0][:5])
    vote = AblatedVote(network, KEPT, "null", draws=50, seed=3)
    counts = vote.counts(images)
    assert torch.equal(counts, vote.counts(images))
    assert counts.dtype == torch.int64
    assert torch.equal(vote.counts(images[2:], first_index=2), counts[2:])
    fresh = AblatedVote(network, KEPT, "null", draws=50)
    assert not torch.equal(fresh.counts(images), fresh.counts(images))
    masks = torch.from_numpy(ablation_masks((8, 8), KEPT, index=4, draw=range(50), seed=3))
    with torch.no_grad():
        classes = network(create_fill("null")(images[4:], masks)).argmax(1)
    assert torch.equal(torch.bincount(classes, minlength=counts.shape[1]), counts[4])


def test_it_abstains_by_the_binomial_test():
    stats = pytest.importorskip("scipy.stats")
    for first in range(10, 30):
        counts = np.array([[5, first, 10]])
        pvalue = stats.binomtest(first, first + 10).pvalue
        assert decide(counts, 0.05)[0] == (1 if pvalue <= 0.05 else ABSTAINED)
    assert decide(np.array([[7, 7]]), 0.999)[0] == ABSTAINED


def test_a_level_vote_abstains():
    image = torch.zeros(2, 1, 8, 8)
    image[:1, :, ::2] = 1.0
    assert AblatedVote(brightness(), 7, "mean", seed=0)(image).tolist() == [ABSTAINED, 1]


def test_it_is_a_module(network):
    vote = AblatedVote(network, KEPT, "splic", draws=20, alpha=0.01)
    assert "kept=6, draws=20, seed=None, alpha=0.01" in repr(vote)
    assert {name for name, _ in vote.named_children()} == {"model", "encoding"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "`model` must be a torch.nn.Module, got int"),
        ({"draws": 10}, ValueError, "`draws` must be at least 11 to answer anything at `alpha`"),
        ({"draws": 0}, ValueError, "`draws` must be an integer in"),
        ({"alpha": 0.0}, ValueError, "`alpha` must be finite and in"),
        ({"alpha": 1e-320, "draws": 500}, ValueError, "`draws` must be at least 1065 to answer"),
        ({"seed": 2**64}, ValueError, "`seed` must be an integer in"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be an integer in"),
        ({"encoding": "red"}, ValueError, "fill name must be one of"),
        ({"kept": 65}, ValueError, "`kept` must be an integer in"),
        ({"encoding": "null"}, ValueError, "`model` must take images of 2 channels"),
        ({"model": torch.nn.Flatten()}, ValueError, "`model` is in train mode"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        AblatedVote(**{"model": brightness(), "kept": 6, "encoding": "mean", **arguments})(
            torch.full((1, 1, 8, 8), 0.75)
        )


def test_train_mode_is_refused_after_the_first_forward():
    vote = AblatedVote(brightness(), 6, "mean").eval()
    image = torch.full((1, 1, 8, 8), 0.75)
    assert vote(image).tolist() == [0]
    vote.model.train()
    with pytest.raises(ValueError, match="`model` is in train mode"):
        vote(image)
    assert vote.eval()(image).tolist() == [0]


# The search


def search(network, image, label, pixels, **changes):
    return greedy_pixel_search(
        network, image, label, **{"pixels": pixels, "kept": KEPT, "encoding": "null", **changes}
    )


def test_a_search_never_beats_a_certificate(network, digits):
    """Within the radius the vote stays, by fresh draws; not far beyond, the search succeeds."""
    images, labels = digits
    report = certify(network, images, labels, kept=KEPT, encoding="null", draws=1000)
    best = sorted((r for r in report.records if r.radius), key=lambda r: -r.radius)[:6]
    assert best[0].radius >= 3
    broken = 0
    for record in best:
        image = images[record.index]
        attack = search(network, image, record.answer, record.radius, draws=100, lead=20)
        assert 1 <= len(attack.changed) <= record.radius
        different = (attack.image != torch.from_numpy(image)).any(0)
        assert int(different.sum()) <= record.radius
        counts = AblatedVote(network, KEPT, "null", draws=2000, seed=99).counts(attack.image[None])
        own = int(counts[0, record.answer])
        # What is proved is that it has more than a half: draws must not disprove it.
        assert clopper_pearson_lower(2000 - own, 2000, 1e-6) < 0.5
        assert counts.argmax() == record.answer
        far = 4 * record.radius
        further = search(network, image, record.answer, far, draws=100, lead=50)
        counts = AblatedVote(network, KEPT, "null", draws=2000, seed=99).counts(further.image[None])
        broken += int(counts.argmax() != record.answer)
    assert broken >= 4


def test_a_step_is_the_best_of_all(network, digits):
    """Against the same search without the shortcut over draws that do not see the pixel."""
    image, draws = torch.from_numpy(digits[0][0]), 40
    masks = torch.from_numpy(ablation_masks((8, 8), KEPT, index=5, draw=range(draws), seed=2))

    def margin(changed):
        with torch.no_grad():
            classes = network(create_fill("null")(changed[None], masks)).argmax(1)
        counts = torch.bincount(classes, minlength=3)
        return int(counts[0] - counts[1:].max())

    attack = search(network, image, 0, 1, draws=draws, seed=2, first_index=5, batch_size=37)
    margins = {}
    for y in range(8):
        for x in range(8):
            for value in (0.0, 1.0):
                changed = image.clone()
                changed[:, y, x] = value
                margins[y, x, value] = margin(changed)
    assert attack.margins == (margin(image), min(margins.values()))
    ((y, x),) = attack.changed
    assert margins[y, x, float(attack.image[0, y, x])] == attack.margins[1]


def test_colours_are_tried_at_all_corners():
    """The class is that of blue in a corner, which the search must find to be lacking."""
    weights = np.zeros((2, 27))
    weights[1, 18] = 1.0  # blue of the first pixel
    weights[1, [0, 9]] = -1.0
    image = torch.zeros(3, 3, 3)
    attack = greedy_pixel_search(
        linear(weights, [0.5, 0.0]), image, 0, pixels=1, kept=8, encoding="gray:value=0"
    )
    assert attack.changed == ((0, 0),)
    assert attack.image[:, 0, 0].tolist() == [0.0, 0.0, 1.0]
    assert attack.success


def test_what_is_wrong_already_is_left(network, digits):
    attack = search(network, digits[0][0], 2, 3)
    assert attack.success
    assert attack.changed == ()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image": torch.zeros(5, 8, 8)}, ValueError, r"`image` must be one of shape \(C, H, W\)"),
        ({"image": torch.zeros(2, 1, 8, 8)}, ValueError, "`image` must be one of shape"),
        ({"label": -1}, ValueError, "`label` must be an integer in"),
        ({"label": 3}, ValueError, "`model` has 3 outputs, but there is the label 3"),
        ({"pixels": 0}, ValueError, "`pixels` must be an integer in"),
        ({"pixels": 65}, ValueError, "`pixels` must be an integer in"),
        ({"draws": 0}, ValueError, "`draws` must be an integer in"),
    ],
)
def test_search_refuses(network, arguments, error, message):
    arguments = {"image": torch.zeros(1, 8, 8), "label": 0, "pixels": 2, **arguments}
    with pytest.raises(error, match=message):
        search(network, **arguments)
