"""What may explain the distance to the paper's numbers: one change at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from splic_ext.experiments.bench import SURROGATE_SEED, Bench, Outcome
from splic_ext.experiments.figures.sweeps import scaled_ranks
from splic_ext.experiments.networks import Network
from splic_ext.experiments.results.keys import BPDA_WHITE, CLEAN, attack_key
from splic_ext.experiments.results.rows import Row
from splic_ext.experiments.subjects import Subject
from splic_ext.experiments.tables.boxes import black_box_records, white_box_records

__all__ = ["VARIATIONS", "Variation", "hypotheses"]

BASE = "splic"


@dataclass(frozen=True)
class Variation:
    """A network that is trained, and the defence before it."""

    title: str
    #: In training and test; "{rank}" stands for half the full rank.
    defense: str = BASE
    #: In the test alone.
    test: str | None = None
    #: By which the epochs are multiplied.
    epochs: float = 1.0
    #: What else differs in `make_plan`; an architecture of "other" is one of another size.
    plan: Mapping[str, object] = field(default_factory=dict)
    #: Whether it is also attacked by transfer from each surrogate, which tells what is due to the
    #: surrogate and what to the defence.
    crossed: bool = False


#: The base setting first.
VARIATIONS = (
    Variation("base: SPLIC, paper's constants", crossed=True),
    Variation("another seed", plan={"seed": 2}),
    Variation("60 % anchors", "splic:anchor_fraction=0.6"),
    Variation("70 % anchors", "splic:anchor_fraction=0.7"),
    Variation("80 % anchors", "splic:anchor_fraction=0.8"),
    Variation("90 % anchors", "splic:anchor_fraction=0.9"),
    Variation("one pass instead of two", "splic:alternate=false"),
    Variation("lambda 0.1", "splic:tv_weight=0.1"),
    Variation("lambda 0", "splic:tv_weight=0.0"),
    Variation("half the full rank", "splic:rank={rank}"),
    Variation("mean of 4 masks", "splic:n_masks=4"),
    Variation("mean of 4 masks in the test alone", test="splic:n_masks=4"),
    Variation("SPLIC, recommended", "splic:recommended"),
    Variation("SPLIC in the test alone", "identity", test=BASE),
    Variation("SPLIC in training alone", test="identity"),
    Variation("total variation, 0.1, in place of SPLIC", "tv:weight=0.1", crossed=True),
    Variation("no defence", "identity", crossed=True),
    Variation("a third of the epochs", epochs=1 / 3),
    Variation("twice the epochs", epochs=2.0),
    Variation("a network of another size", plan={"architecture": "other"}),
    Variation("adversarial training through SPLIC", plan={"adversarial": True}, crossed=True),
)


def hypotheses(bench: Bench) -> Outcome:
    """Vary the base setting, one thing at a time, and the surrogate of the black box."""
    outcome = Outcome()
    for subject in bench.subjects:
        surrogate = bench.surrogate(subject)
        for variation in _possible(bench, subject):
            network = _network(bench, subject, variation)
            spec = _spec(subject, variation.test or variation.defense)
            names = (subject.name, variation.title)
            records = black_box_records(bench, subject, network, spec, surrogate)
            outcome.rows += [Row.from_record(r, *names, attack_key(r.attack)) for r in records]
            _, bpda = white_box_records(bench, subject, network, spec, adaptive=False)
            outcome.rows.append(Row.from_record(bpda, *names, BPDA_WHITE))
        outcome.rows += _crossed(bench, subject, f"{subject.name}, surrogates of the black box")
    outcome.notes = [
        "where training differs, a row is a network of its own; each has one seed, so a difference "
        "of a few points may be chance: compare `another seed`",
        "adversarial training has fresh masks in each epoch, and its own numbers of images and "
        "epochs; the others have completed copies",
        "PGD and BPDA of 7 steps of 2/255",
        "surrogates: the same PGD, made on each of them, against some of the rows above",
    ]
    return outcome


def _possible(bench: Bench, subject: Subject) -> list[Variation]:
    """Return the variations that can be tried: there may be no network of another size."""
    recipe = bench.recipe(subject)
    alike = recipe.other_size == recipe.architecture
    return [v for v in VARIATIONS if not (alike and v.plan.get("architecture") == "other")]


def _spec(subject: Subject, text: str) -> str:
    (rank,) = scaled_ranks((16,), min(subject.dataset.images.shape[2:]))
    return text.format(rank=rank)


def _network(bench: Bench, subject: Subject, variation: Variation) -> Network:
    recipe = bench.recipe(subject)
    plan = dict(variation.plan)
    if plan.get("architecture") == "other":
        plan["architecture"] = recipe.other_size
    if variation.epochs != 1:
        plan["epochs"] = max(1, round(recipe.epochs * variation.epochs))
    return bench.trained(subject, defense=_spec(subject, variation.defense), **plan)


def _crossed(bench: Bench, subject: Subject, section: str) -> list[Row]:
    """Return the rows of some variations, attacked by transfer from each surrogate."""
    rows: list[Row] = []
    surrogates = _surrogates(bench, subject)
    for variation in filter(attrgetter("crossed"), VARIATIONS):
        network, names = _network(bench, subject, variation), (section, variation.title)
        for i, (title, surrogate) in enumerate(surrogates.items()):
            clean, black = black_box_records(bench, subject, network, variation.defense, surrogate)
            rows += [Row.from_record(clean, *names, CLEAN)] if i == 0 else []  # the same for all
            rows.append(Row.from_record(black, *names, title))
    return rows


def _surrogates(bench: Bench, subject: Subject) -> dict[str, Network]:
    """Return networks that may be attacked in place of the defended one."""
    recipe = bench.recipe(subject)
    found = {} if subject.model is None else {"as it was given": bench.undefended(subject)}
    found["same architecture, another seed"] = bench.trained(subject, seed=SURROGATE_SEED)
    if recipe.surrogate != recipe.architecture:
        found["another architecture"] = bench.trained(
            subject, seed=SURROGATE_SEED, architecture=recipe.surrogate
        )
    found["trained on completed images, another seed"] = bench.trained(
        subject, seed=SURROGATE_SEED, defense=BASE
    )
    return {f"{title} ({network.name})": network for title, network in found.items()}
