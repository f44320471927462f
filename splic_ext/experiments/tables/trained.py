"""Tables 1 and 2: networks that were trained on what the defence makes of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splic_ext.evaluation import Record
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.networks import Network
from splic_ext.experiments.results.keys import CLEAN, GRADIENTS, PAPER_ATTACKS, attack_key
from splic_ext.experiments.results.rows import Row
from splic_ext.experiments.subjects import Subject
from splic_ext.experiments.tables import paper
from splic_ext.experiments.tables.boxes import WORST_NOTE, white_box_records

__all__ = [
    "BLACK_BOX", "MENET", "SURROGATE", "WHITE_BOX", "Method", "method_rows", "own_methods",
    "table1", "table2", "trained_for",
]  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A defence and the network behind it."""

    #: In the paper's numbers; empty for what the paper does not have.
    key: str
    title: str
    #: Text of the defence; "menet" is that of :data:`MENET`.
    defense: str = "identity"
    #: Whether the network was attacked in training.
    adversarial: bool = False


BLACK_BOX = (
    Method("vanilla", "no defence"),
    Method("madry", "adversarial training", adversarial=True),
    Method("menet", "ME-Net (nuclear norm)", "nuclear-norm"),
    Method("splic", "SPLIC", "splic"),
    Method("", "total variation, 0.1", "tv:weight=0.1"),
)
SURROGATE = Method("", "the surrogate itself")
WHITE_BOX = (
    Method("vanilla", "no defence"),
    Method("madry", "adversarial training", adversarial=True),
    Method("tv", "total variation, 0.1", "tv:weight=0.1"),
    Method("", "total variation, 0.1, adversarial training", "tv:weight=0.1", adversarial=True),
    Method("menet", "ME-Net, adversarial training", "menet", adversarial=True),
    Method("", "SPLIC", "splic"),
    Method("splic", "SPLIC, adversarial training", "splic", adversarial=True),
)
#: Scale of a budget -> ME-Net's estimation where a network is trained adversarially.
MENET = {"smoke": "usvt", "cpu": "usvt", "gpu": "nuclear-norm"}


def table1(bench: Bench) -> Outcome:
    """Black box: adversarial images of a surrogate, transferred to each method."""
    outcome = Outcome()
    for subject in bench.subjects:
        surrogate = bench.surrogate(subject)
        attacks = bench.paper_attacks(tuple(PAPER_ATTACKS))
        own = bench.records(subject, surrogate, attacks, defenses=["identity"])
        for method in (*BLACK_BOX, *own_methods(bench)):
            network = trained_for(bench, subject, method)
            records = bench.records(
                subject,
                network,
                attacks,
                defenses=[method.defense],
                scenario="black",
                surrogate=surrogate,
            )
            outcome.rows += method_rows(subject, method, records, paper.TABLE1)
        outcome.rows += method_rows(subject, SURROGATE, own, {})
    outcome.notes = ["every attack is made on the surrogate, and transferred"]
    return outcome


def table2(bench: Bench) -> Outcome:
    """White box: BPDA as the paper has it, and adaptive attacks, of which the worst counts."""
    outcome = Outcome()
    for subject in bench.subjects:
        for method in (*WHITE_BOX, *own_methods(bench), *own_methods(bench, adversarial=True)):
            network = trained_for(bench, subject, method)
            records = white_box_records(bench, subject, network, _spec(bench, method))
            outcome.rows += method_rows(subject, method, records, paper.TABLE2)
    budget = bench.settings.budget
    outcome.notes = [
        "BPDA: 7 steps of 2/255, one draw for each gradient, as in the paper",
        f"{', '.join(GRADIENTS)}: attacks by this gradient, {budget.steps} steps of 1/255, "
        f"{budget.eot} draws of the masks for each step",
        WORST_NOTE,
    ]
    return outcome


def own_methods(bench: Bench, *, adversarial: bool = False) -> list[Method]:
    """Return a method for each defence that was given."""
    how = ", adversarial training" if adversarial else ""
    return [Method("", f"{name}{how}", name, adversarial) for name in bench.own]


def trained_for(bench: Bench, subject: Subject, method: Method) -> Network:
    """Return the network behind a method."""
    return bench.trained(subject, defense=_spec(bench, method), adversarial=method.adversarial)


def method_rows(
    subject: Subject, method: Method, records: Sequence[Record], printed: paper.Numbers
) -> list[Row]:
    """Return the rows of a method, beside the paper's numbers."""
    return [
        Row.from_record(
            record,
            record.dataset.name,
            method.title,
            attack_key(record.attack),
            printed.get((subject.kind, method.key, record.attack or CLEAN)),
        )
        for record in records
    ]


def _spec(bench: Bench, method: Method) -> str:
    menet = bench.settings.budget.pick(MENET)
    return menet if method.defense == "menet" else method.defense
