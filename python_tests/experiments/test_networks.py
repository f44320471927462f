"""Networks of experiments: their plans, shared by what needs them, kept on disk."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.experiments import TINY, make_bench, make_subject

from splic_ext.experiments import BUDGETS, EXPERIMENTS
from splic_ext.experiments.budgets import SCALES, resolve_budget
from splic_ext.experiments.figures.sweeps import LAMBDAS, RANKS, TRAINED_LAMBDAS
from splic_ext.experiments.networks import make_plan, train_network
from splic_ext.models import build_model
from splic_ext.runs.fingerprints import fingerprint_weights

RECIPE = TINY.recipes["svhn"]


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_can_be_trained(name):
    """Every plan of a budget is one that the training accepts, of networks that there are."""
    budget = resolve_budget(name)
    for recipe in budget.recipes.values():
        for adversarial in (False, True):
            plan = make_plan(budget, recipe, defense="splic", adversarial=adversarial)
            build_model(plan.architecture)
            assert plan.options.copies == (0 if adversarial else budget.copies)
        for architecture in (recipe.surrogate, recipe.other_size):
            build_model(architecture)
    for experiment in EXPERIMENTS.values():
        if experiment.tried is not None:
            assert set(budget.pick(experiment.tried)) <= set(budget.recipes)


def test_the_recorded_device_is_that_of_the_network():
    """Of the given one, unless another was asked for; the CPU where there is none yet."""
    subject = make_subject(model=torch.nn.Linear(2, 2, device="meta"))
    devices = [
        bench.provenance().machine.device
        for bench in (
            make_bench("table4", subject),
            make_bench("table4", subject, device="cpu"),
            make_bench("table4"),
        )
    ]
    assert devices == ["meta", "cpu", "cpu"]


def test_values_of_the_sweeps():
    for scale in SCALES:
        assert set(TRAINED_LAMBDAS[scale]) <= set(LAMBDAS[scale])
        assert max(RANKS[scale]) == 32


def test_sizes_of_the_paper():
    recipe = BUDGETS["gpu"].recipes["cifar10"]
    plan = make_plan(BUDGETS["gpu"], recipe, defense="splic", adversarial=True)
    assert plan.architecture == "resnet18"
    assert plan.images >= 50_000
    assert (plan.options.epochs, plan.options.schedule) == (200, "step")
    assert plan.options.adversarial == "bpda"
    assert make_plan(BUDGETS["gpu"], recipe, defense="splic").options.copies == 0


@pytest.mark.parametrize(
    ("like", "change", "message"),
    [
        (RECIPE, {"growth": 1}, "`growth` must be fewer than the 1 `adversarial_epochs`, got 1"),
        (TINY, {"scale": "tiny"}, "`scale` of a budget must be one of smoke, cpu, gpu, got 'tiny'"),
    ],
)
def test_budgets_of_ones_own_are_checked(like, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(like, **change)


def test_plan():
    plan = make_plan(TINY, RECIPE, seed=3, architecture="svhn_vgg", epochs=2)
    assert (plan.architecture, plan.options.epochs, plan.options.seed) == ("svhn_vgg", 2, 3)
    assert (plan.options.defense, plan.options.copies) == ("identity", 0)
    note = plan.describe(make_subject().training)
    assert note == "svhn_vgg, trained for 2 epochs on 400 images of digits/train, seed 3"
    attacked = make_plan(TINY, RECIPE, defense="usvt", adversarial=True)
    images = make_subject().training
    note = attacked.describe(images)
    spec = TINY.adversary
    assert f"for 1 epoch on 64 images of digits/train behind usvt, attacked by {spec}, seed" in note
    growing = dataclasses.replace(RECIPE, growth=0.5)
    plan = make_plan(TINY, growing, adversarial=True)
    assert plan.options.adversarial_warmup_epochs == 0.5
    assert f"{spec}, with a radius that grows for 0.5 epochs, seed 0" in plan.describe(images)
    assert make_plan(TINY, growing).options.adversarial_warmup_epochs == 0


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a trained network."""
    folder = tmp_path_factory.mktemp("work")
    plan = make_plan(TINY, RECIPE, defense="tv", epochs=1)
    network = train_network(plan, make_subject().training, folder=folder, known={}, progress=False)
    return folder, plan, network


def test_a_network_is_trained_once(kept, monkeypatch):
    folder, plan, network = kept
    (place,) = (folder / "networks").iterdir()
    assert (place / "weights.safetensors").is_file()
    before = place.joinpath("weights.safetensors").stat().st_mtime_ns
    known = {}
    again = train_network(plan, make_subject().training, folder=folder, known=known, progress=False)
    assert fingerprint_weights(again.model) == fingerprint_weights(network.model)
    assert place.joinpath("weights.safetensors").stat().st_mtime_ns == before
    assert not again.model.training
    assert not any(part.requires_grad for part in again.model.parameters())
    monkeypatch.setattr("splic_ext.experiments.networks.train", None)
    same = train_network(plan, make_subject().training, folder=folder, known=known)
    assert same is again, "a run does not even read it twice"


def test_another_plan_is_another_network(kept):
    folder, plan, network = kept
    other = dataclasses.replace(plan, options=dataclasses.replace(plan.options, seed=1))
    found = train_network(other, make_subject().training, folder=folder, known={}, progress=False)
    assert fingerprint_weights(found.model) != fingerprint_weights(network.model)
    assert len(list((folder / "networks").iterdir())) == 2


def test_the_bench_trains_and_notes():
    subject = make_subject()
    bench = make_bench("table3", subject)
    plain = bench.undefended(subject)
    assert bench.undefended(subject).model is plain.model
    assert bench.notes == [plain.note]
    other = bench.surrogate(subject)
    assert fingerprint_weights(other.model) != fingerprint_weights(plain.model)
    given = make_subject(model=plain.model)
    assert bench.undefended(given).model is plain.model
    assert bench.surrogate(given).model is plain.model
    assert bench.surrogate(given).name == "given"
    assert bench.trained(given).model is plain.model, "the plan is the same"
