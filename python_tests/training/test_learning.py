"""What a network learns: each image once an epoch, with fresh masks, attacked or not."""

from __future__ import annotations

import numpy as np
from helpers.training import by_image, fit, make_data, numbered, same_weights, spy, torch, wide

from splic_ext.attacks import BPDA, attack_from_spec
from splic_ext.defenses import SPLIC, TotalVariation


def test_each_epoch_has_each_image_once(monkeypatch):
    seen, data = spy(monkeypatch), make_data(20)
    fit(data=data, crop=0, batch_size=8)
    assert [len(images) for images, _ in seen] == [6, 7, 7] * 2
    known = {image.tobytes(): label for image, label in zip(data.images, data.labels, strict=True)}
    orders = []
    for epoch in (seen[:3], seen[3:]):
        found = torch.cat([images for images, _ in epoch]).mul(255).round().to(torch.uint8).numpy()
        labels = torch.cat([labels for _, labels in epoch]).numpy()
        assert {image.tobytes() for image in found} == set(known)
        assert all(known[i.tobytes()] == label for i, label in zip(found, labels, strict=True))
        orders.append(found)
    assert not np.array_equal(*orders)


def test_masks_are_fresh_in_each_epoch_and_for_each_image(monkeypatch):
    seen = spy(monkeypatch)
    data = numbered()
    data.images[:] = data.images[:1]
    fit(wide(), data, crop=0, defense="usvt", batch_size=5)
    first, second = by_image(seen[:3]), by_image(seen[3:])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


def test_a_defence_with_a_seed_gives_an_image_one_mask(monkeypatch):
    seen, data = spy(monkeypatch), numbered()
    fit(wide(), data, crop=0, defense="splic:seed=4", batch_size=5)
    expected = SPLIC(seed=4)(torch.from_numpy(data.to_float()))
    assert torch.equal(by_image(seen[:3]), expected)
    assert torch.equal(by_image(seen[3:]), expected)


def test_the_masks_do_not_depend_on_the_batches(monkeypatch):
    seen = spy(monkeypatch)
    fit(wide(), numbered(), defense="splic", batch_size=5, epochs=1)
    fit(wide(), numbered(), defense="splic", batch_size=12, epochs=1)
    assert torch.equal(by_image(seen[:3]), by_image(seen[3:]))


def test_images_are_shifted_before_the_defence(monkeypatch):
    seen, given = spy(monkeypatch), []
    monkeypatch.setattr(
        TotalVariation, "defend", lambda self, images, index: given.append(images) or images / 2
    )
    fit(defense="tv", epochs=1)
    given = [images for images in given if len(images) == 16]
    assert any((images[:, :, 0] == 0).all(dim=2).any() for images in given), "a border moved in"
    for images, (learnt, _) in zip(given, seen, strict=True):
        assert torch.equal(learnt, images / 2)


def test_adversarial_images_go_through_the_defence(monkeypatch):
    seen, calls, run = spy(monkeypatch), [], BPDA.run

    def noted(self, model, images, labels, *, index=None, seed=None):
        assert not any(part.training for part in model.model.modules())
        changed = run(self, model, images, labels, index=index, seed=seed)
        calls.append((type(model.defense), images, changed, seed))
        return changed

    monkeypatch.setattr(BPDA, "run", noted)
    monkeypatch.setattr(TotalVariation, "defend", lambda self, images, index: images * 0.5)
    fit(defense="tv", adversarial="bpda:steps=2", batch_size=24)
    assert [kind for kind, *_ in calls] == [TotalVariation] * 4
    for (_, images, changed, _), (learnt, _) in zip(calls, seen, strict=True):
        size = (changed - images).abs().max()
        assert 0 < size <= 8 / 255 + 1e-6
        assert torch.equal(learnt, changed * 0.5)
    seeds = [seed for *_, seed in calls]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3], "one seed for each epoch"


def test_the_attack_grows(monkeypatch):
    """By the middle of each update, up to the whole radius at the end of the warm-up."""
    seen, run = [], BPDA.run

    def noted(self, *arguments, **given):
        seen.append((self.threat.epsilon * 255, self.threat.step_size * 255))
        return run(self, *arguments, **given)

    monkeypatch.setattr(BPDA, "run", noted)
    grown = {"adversarial": "bpda:steps=1", "adversarial_warmup_epochs": 1.5, "batch_size": 24}
    result = fit(epochs=2, **grown)
    expected = [(8 * share, 2 * share) for share in (1 / 6, 1 / 2, 5 / 6, 1)]
    assert np.allclose(seen, expected)
    assert result.record.options.adversarial_warmup_epochs == 1.5
    whole = fit(epochs=2, **{**grown, "adversarial_warmup_epochs": 0})
    assert not same_weights(result.network, whole.network)


def test_the_masks_of_the_attack_are_not_those_that_are_learnt(monkeypatch):
    drawn, draw = [], SPLIC._complete

    def noted(self, images, indices, seed):
        drawn.append(seed)
        return draw(self, images, indices, seed)

    monkeypatch.setattr(SPLIC, "_complete", noted)
    fit(defense="splic", adversarial="bpda:steps=2", batch_size=48, epochs=2)
    assert len(drawn) == 6, "two steps and the update, twice"
    assert len(set(drawn)) == 6


def test_adversarial_training_hardens():
    data = make_data(200)
    arguments = {"epochs": 6, "crop": 0, "data": data}
    images, labels = torch.from_numpy(data.to_float()), torch.from_numpy(data.labels)
    spec, right = "bpda:epsilon=40/255,step_size=10/255", []
    for adversarial in (None, spec):
        network = fit(adversarial=adversarial, **arguments).network
        changed = attack_from_spec(spec)(network, images, labels)
        with torch.no_grad():
            right.append((network(changed).argmax(1) == labels).float().mean().item())
    assert right[1] > right[0] + 0.05
