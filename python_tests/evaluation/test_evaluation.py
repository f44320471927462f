"""What evaluate() computes, and what it refuses."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
from helpers.evaluation import (
    CLASSES,
    Step,
    calls,
    make_dataset,
    make_network,
    run,
    timeless,
    torch,
)

from splic_ext import defenses
from splic_ext.attacks import Attack, ThreatModel
from splic_ext.errors import AttackError
from splic_ext.evaluation import evaluate, worst_case
from splic_ext.models import build_model

__all__ = ["calls"]  # the fixture

# What is computed


def by_hand(record, model, defense, images, labels):
    """Right draws of each image, all images at once."""
    right = np.zeros(len(images), dtype=int)
    for seed in record.mask_seeds:
        with torch.no_grad(), defenses.seeded_masks(seed):
            right += (model(defense(images, index=0)).argmax(1) == labels).numpy()
    return right.tolist()


@pytest.mark.parametrize("scenario", ["gray", "black", "white"])
def test_records_are_what_a_plain_loop_counts(scenario, calls):
    model, other, data = make_network(), make_network(1), make_dataset()
    images, labels = torch.from_numpy(data.to_float()), torch.from_numpy(data.labels)
    parts = {"none": defenses.Identity(), "usvt": defenses.USVT()}
    surrogate = other if scenario == "black" else None
    report = run(scenario=scenario, defenses=parts, surrogate=surrogate)
    assert [(r.attack, r.defense) for r in report.records] == [
        (None, "none"), (None, "usvt"), ("step", "none"), ("step", "usvt")
    ]  # fmt: skip
    seed = calls[0][3]
    for record in report.records:
        defense = parts[record.defense]
        finished = images
        if record.attack is not None:
            target = {"gray": model, "black": other}.get(
                scenario, defenses.Defended(model, defense)
            )
            finished = Step()(target, images, labels, index=0, seed=seed)
            change = (finished - images).flatten(1)
            assert record.perturbation.linf_max == pytest.approx(change.abs().max().item())
            assert record.perturbation.unchanged == 0
            assert record.perturbation.l2_mean == pytest.approx(change.norm(dim=1).mean().item())
        else:
            assert record.perturbation is None
        assert list(record.right) == by_hand(record, model, defense, finished, labels)
        assert record.mean.value == pytest.approx(sum(record.right) / record.draws / len(data))
    clean, attacked = report.select(defense="none")
    assert clean.mean.value > 0.7 > 0.3 > attacked.mean.value or scenario == "black"


def test_who_is_attacked(calls):
    data, model, other = make_dataset(), make_network(), make_network(1)
    sizes = [(0, 10), (10, 10), (20, 3)]
    run(model=model)
    assert [(c[1], c[2]) for c in calls] == sizes, "all defences share the adversarial images"
    assert all(c[0] is model for c in calls)
    calls.clear()
    run(model=model, surrogate=other, scenario="black")
    assert [(c[1], c[2]) for c in calls] == sizes
    assert all(c[0] is other for c in calls)
    calls.clear()
    run(model=model, scenario="white", dataset=data)
    assert [(c[1], c[2]) for c in calls] == [size for size in sizes for _ in range(2)]
    assert {type(c[0].defense).__name__ for c in calls} == {"Identity", "USVT"}
    assert all(c[0].model is model for c in calls)


def test_a_defence_without_randomness_is_scored_once():
    report = run(
        defenses={
            "tv": defenses.TotalVariation(iterations=3),
            "seeded": defenses.USVT(seed=3),
            "fresh": defenses.Compose(defenses.BitDepth(4), defenses.USVT()),
        },
        attacks=(),
    )
    assert [record.draws for record in report.records] == [1, 1, 3]
    assert [len(record.mask_seeds) for record in report.records] == [1, 1, 3]


def test_draws_differ_and_do_not_depend_on_the_batch():
    whole, parts = (run(batch_size=size, draws=6) for size in (100, 3))
    for a, b in zip(timeless(whole), timeless(parts), strict=True):
        assert (a.right, a.voted, a.mask_seeds) == (b.right, b.voted, b.mask_seeds)
    usvt = whole.select(defense="usvt", attack=None)[0]
    assert any(0 < count < 6 for count in usvt.right), "all draws gave the same"
    assert usvt.all_draws.value < usvt.mean.value


def test_seed_decides():
    first, again, other = (run(seed=seed) for seed in (3, 3, 4))
    assert timeless(first) == timeless(again)
    assert first.records[1].mask_seeds != other.records[1].mask_seeds
    assert first.key == again.key != other.key


def test_the_seed_of_an_attack_counts_too(calls):
    run(attacks={"a": Step(), "b": Step(ThreatModel(seed=1))})
    assert len({call[3] for call in calls}) == 2


def test_limit_takes_the_first_images():
    few, all_images = run(limit=7, attacks=()), run(attacks=())
    assert few.records[1].dataset.images == 7
    assert few.records[1].right == all_images.records[1].right[:7]
    assert run(limit=100, attacks=()).records[0].dataset.images == 23


def test_what_a_record_says():
    record = run(scenario="white", model_name="mine", command="splic-ext evaluate").records[-1]
    assert (record.scenario, record.attack, record.defense) == ("white", "step", "usvt")
    assert (record.dataset.name, record.dataset.split) == ("made", "test")
    assert record.dataset.shape == (3, 8, 8)
    assert record.defense_repr.startswith("USVT(keep=0.8, ")
    assert record.parameters == Step().to_dict()
    assert record.threat == {"norm": "linf", "epsilon": 8 / 255}
    assert record.model.name == "mine"
    assert record.surrogate is None
    provenance = record.provenance
    assert provenance.command == "splic-ext evaluate"
    assert provenance.date.endswith("+00:00")
    assert provenance.versions["torch"] == torch.__version__
    assert provenance.machine.device == "cpu"
    for value in (record.dataset.sha256, record.model.sha256, provenance.code):
        assert len(value) == 64


def test_defences_and_attacks_from_texts():
    pytest.importorskip("foolbox", reason="foolbox is not installed")
    report = run(
        defenses=["splic:max_iterations=7,tv_weight=1/10", "bit-depth:bits=3+gaussian"],
        attacks=["fgsm:epsilon=4/255"],
    )
    assert report.records[0].defense == "splic:max_iterations=7,tv_weight=1/10"
    assert "tv_weight=0.1, max_iterations=7" in report.records[0].defense_repr
    assert report.records[1].defense_repr.startswith("Compose(")
    assert report.records[-1].threat["epsilon"] == 4 / 255
    assert report.records[-1].perturbation.linf_max == pytest.approx(4 / 255, abs=1e-6)


def test_single_objects_need_no_list():
    report = run(defenses=defenses.BitDepth(3), attacks=Step())
    assert [(r.attack, r.defense) for r in report.records] == [
        (None, "BitDepth(bits=3, gradient='identity')"),
        (repr(Step()), "BitDepth(bits=3, gradient='identity')"),
    ]


def test_random_generators_are_left_alone():
    network, data = make_network(), make_dataset()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(model=network, dataset=data)
    assert torch.equal(torch.rand(3), expected)


def test_under_no_grad_and_inference_mode():
    network, data = make_network(), make_dataset()
    expected = timeless(run(model=network, dataset=data))
    with torch.no_grad():
        assert timeless(run(model=network, dataset=data)) == expected
    with torch.inference_mode():
        assert timeless(run(model=network, dataset=data)) == expected


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        network = make_network()
    changes = {"scenario": "white", "dataset": make_dataset(3)}
    found, expected = (run(model=model, **changes) for model in (network, make_network()))
    assert [r.right for r in found.records] == [r.right for r in expected.records]


def test_the_worst_case_of_several_attacks():
    attacks = {str(k): Step(ThreatModel(epsilon=k / 255)) for k in (2, 6)}
    report = run(attacks=attacks, defenses=["usvt"], scenario="white")
    weak, strong = (report.select(attack=name)[0] for name in attacks)
    worst = worst_case([weak, strong], "both")
    assert worst.attack == "both"
    assert list(worst.right) == np.minimum(weak.right, strong.right).tolist()
    assert worst.mean.value <= min(weak.mean.value, strong.mean.value)
    assert worst.all_draws.value <= min(weak.all_draws.value, strong.all_draws.value)
    assert worst.parameters["attacks"] == [weak.parameters, strong.parameters]
    assert worst.seconds.attack == weak.seconds.attack + strong.seconds.attack
    gray = run(attacks=attacks, defenses=["usvt"]).select(attack="2")[0]
    assert worst_case([weak, gray]).scenario == "mixed"
    with pytest.raises(ValueError, match="`records` must not be empty"):
        worst_case([])
    with pytest.raises(ValueError, match="`records` must be of the same defense_repr"):
        worst_case([weak, run(defenses=["usvt:keep=0.5"]).records[1]])
    with pytest.raises(ValueError, match="`records` must be of the same draws"):
        worst_case([weak, run(draws=2, defenses=["usvt"]).records[1]])


@dataclass(frozen=True, repr=False)
class Half(Step):
    """Inverts a pixel of every other image, and finds nothing for the rest."""

    name = "half"
    bounded = False

    def perturb(self, target, images, streams):
        changed = images.clone()
        changed[::2, 0, 0, 0] = 1 - images[::2, 0, 0, 0]
        return changed


def test_sizes_of_perturbations_without_a_bound():
    data = make_dataset(11)
    data.images[:, 0, 0, 0] = 51
    record = run(dataset=data, attacks=[Half()], defenses=["identity"]).records[1]
    size = record.perturbation
    assert record.threat is None
    assert size.unchanged == 5
    assert (size.linf_max, size.linf_mean) == pytest.approx((0.6, 0.6 * 6 / 11))
    assert (size.l2_median, size.l2_mean) == pytest.approx((0.6, 0.6 * 6 / 11))


# Time


class Slow(defenses.Defense):
    def defend(self, images, index):
        time.sleep(0.02)
        return images


@dataclass(frozen=True, repr=False)
class SlowStep(Step):
    name = "slow"

    def perturb(self, target, images, streams):
        time.sleep(0.05)
        return super().perturb(target, images, streams)


def test_phases():
    network = make_network()
    network.register_forward_hook(lambda *_: time.sleep(0.01))
    began = time.perf_counter()
    report = run(model=network, defenses={"slow": Slow()}, attacks={"slow": SlowStep()})
    total = time.perf_counter() - began
    spent = report.seconds
    assert spent.attack >= 3 * (0.05 + 0.01)
    assert spent.defense >= 6 * 0.02
    assert spent.network >= 6 * 0.01
    assert spent.total == pytest.approx(total, abs=0.05)
    clean, attacked = report.records
    assert clean.seconds.attack == 0
    assert attacked.seconds.attack == spent.attack
    assert clean.seconds.defense + attacked.seconds.defense == pytest.approx(spent.defense)


def test_overhead_is_small(tmp_path):
    """Of images, networks and defences of the real size, all parts written: below 10 %."""
    images = np.random.default_rng(0).integers(0, 256, (100, 3, 32, 32), dtype=np.uint8)
    data = type(make_dataset())("noise", images, np.arange(100) % 10, tuple("0123456789"))
    torch.manual_seed(0)
    network = build_model("cifar_resnet20").eval()
    report = evaluate(
        network, data, defenses=["splic", "tv"], attacks={"step": Step()}, draws=2,
        batch_size=50, output=tmp_path,
    )  # fmt: skip
    assert report.seconds.rest < 0.1 * report.seconds.total, report.seconds


# What is refused


class Dropping(torch.nn.Module):
    def forward(self, images):
        return torch.full((len(images), CLASSES), float("nan"))


class Gray(torch.nn.Module):
    def forward(self, images):
        return images.mean(1)


class Dropout(torch.nn.Module):
    """Dropout that no eval mode switches off."""

    def __init__(self):
        super().__init__()
        self.network = make_network()

    def forward(self, images):
        return self.network(torch.nn.functional.dropout(images, 0.5))


def behind(defense):
    return defenses.Defended(make_network(), defense).eval()


class Noise(defenses.Defense):
    def defend(self, images, index):
        return images + 0.1 * torch.rand_like(images)


class NotANumber(defenses.Defense):
    def defend(self, images, index):
        return images.log() - images.log()


@dataclass(frozen=True, repr=False)
class Wild(Step):
    """Returns what it is told to."""

    name = "wild"
    what: str = "far"

    def run(self, model, images, labels, *, index=None, seed=None):
        return {
            "far": lambda: (images + 9 / 255).clamp(0, 1),
            "outside": lambda: images - 8 / 255,
            "nan": lambda: images * float("nan"),
            "shape": lambda: images[:, :1],
            "dtype": lambda: images.double(),
            "kind": lambda: images.tolist(),
        }[self.what]()


def train_part():
    network = make_network()
    network[1].train()
    return network


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": lambda x: x}, TypeError, "`model` must be a torch.nn.Module, got function"),
        ({"model": make_network().train()}, ValueError, r"`model` is in train mode, .*`model.eval"),
        ({"model": make_network().half()}, TypeError, "of torch.float16; convert .*model.float"),
        ({"model": make_network().bfloat16()}, TypeError, "torch.bfloat16; convert .*model.float"),
        ({"model": make_network().double()}, TypeError, "must take images of float32, got .*64"),
        ({"model": train_part()}, ValueError, "`model` is in train mode"),
        (
            {"model": Gray().eval()},
            ValueError,
            r"of shape \(N, K\) = \(4, at least 1\), got \(4, 8, 8\)",
        ),
        ({"model": Dropping().eval()}, ValueError, "NaN or infinity for image 0 behind .* 'ident"),
        (
            {"model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)).eval()},
            ValueError,
            "`model` has 3 outputs, but there is the label 3; give a network and images",
        ),
        ({"model": behind(defenses.USVT())}, ValueError, "`model` must be .* holds a random def"),
        ({"model": behind(defenses.USVT(seed=3))}, ValueError, "holds a random .* `defenses`"),
        ({"model": Dropout().eval()}, ValueError, "`model` must be .* returns other logits in e"),
        (
            {"scenario": "black", "surrogate": Dropout().eval()},
            ValueError,
            "`surrogate` must be a network without randomness",
        ),
        ({"dataset": (1, 2)}, TypeError, "`dataset` must be a Dataset, got a pair whose images"),
        ({"dataset": make_dataset(0)}, ValueError, "`dataset` must hold an image at least"),
        ({"scenario": "grey"}, ValueError, "`scenario` must be one of gray, black, white, got"),
        ({"scenario": "black"}, ValueError, "the black box needs a `surrogate`"),
        ({"surrogate": make_network()}, ValueError, "for the black box, got one in the gray box"),
        (
            {"scenario": "black", "surrogate": make_network().train()},
            ValueError,
            "`surrogate` is in train mode",
        ),
        ({"draws": 0}, ValueError, "`draws` must be an integer in"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in"),
        ({"batch_size": 2.5}, TypeError, "`batch_size` must be an integer"),
        ({"limit": 0}, ValueError, "`limit` must be an integer in"),
        ({"device": "gpu"}, ValueError, "`device` must be one that torch can use here, got 'gpu'"),
        ({"device": 1.5}, ValueError, "`device` must be one that torch can use here"),
        ({"device": "meta"}, ValueError, "that torch can use here, got 'meta': Cannot copy out"),
        ({"model": make_network().to("meta")}, ValueError, "torch can use here, got 'meta'"),
        ({"defenses": []}, ValueError, r"`defenses` must not be empty; use \['identity'\]"),
        ({"defenses": 3}, TypeError, "`defenses` must be a list or a dict, got int"),
        ({"defenses": [3]}, TypeError, "`defenses` must hold texts or Defense objects, got int"),
        ({"defenses": {1: "tv"}}, TypeError, "`defenses` must have names as keys, got 1"),
        ({"defenses": ["tv", "tv"]}, ValueError, "`defenses` has 'tv' twice; leave one out, or"),
        ({"defenses": ["median"]}, ValueError, "defence name must be one of"),
        ({"defenses": {"noise": Noise()}}, ValueError, "the defence 'noise' returns other images"),
        ({"defenses": {"x": NotANumber()}}, ValueError, "`NotANumber` must return finite images"),
        ({"attacks": ["magic"]}, ValueError, "attack name must be one of"),
        ({"attacks": [defenses.Identity()]}, TypeError, "texts or Attack objects, got Identity as"),
        ({"attacks": [Wild()]}, ValueError, r"stay within 0.0313725 in linf, got .* 0.0352941"),
        ({"attacks": {"x": Wild(what="outside")}}, ValueError, "attack 'x' must return finite im"),
        ({"attacks": {"x": Wild(what="nan")}}, ValueError, "in .0, 1., got minimum nan"),
        ({"attacks": {"x": Wild(what="shape")}}, ValueError, r"got \(10, 1, 8, 8\) and"),
        ({"attacks": {"x": Wild(what="dtype")}}, ValueError, "got .* and torch.float64; mend"),
        ({"attacks": {"x": Wild(what="kind")}}, ValueError, "got list; mend its `run`"),
    ],
)  # fmt: skip
def test_refused(changes, error, message):
    with pytest.raises(error, match=message):
        run(**changes)


@dataclass(frozen=True, repr=False)
class Dead(Step):
    """Follows a gradient that is 0."""

    name = "dead"

    def perturb(self, target, images, streams):
        inputs = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(0 * target(inputs).sum(), inputs)
        return images + gradient


def test_frozen_masks_are_refused(tmp_path):
    """The same masks in all draws would be scored, and saved for later runs."""
    with defenses.frozen_masks(), pytest.raises(RuntimeError, match="not be called inside frozen"):
        run(output=tmp_path)
    assert not list(tmp_path.iterdir())
    counts = run(output=tmp_path, draws=6).select(defense="usvt", attack=None)[0].right
    assert any(0 < count < 6 for count in counts)


def test_an_attack_that_was_none_is_not_scored():
    with pytest.raises(AttackError, match="TotalVariation with the gradient 'exact'"):
        run(scenario="white", defenses=["tv"], attacks=[Dead()])


def test_a_message_of_a_defence_passes_through():
    with pytest.raises(ValueError, match="`Outside` must return images in"):
        run(defenses={"splic": defenses.Compose(Outside(), defenses.USVT())})


class Outside(defenses.Defense):
    def forward(self, images, index=None):
        return images + 2


def test_an_attack_class_is_no_attack():
    with pytest.raises(TypeError, match="must hold texts or Attack objects, got type"):
        run(attacks={"x": Attack})
