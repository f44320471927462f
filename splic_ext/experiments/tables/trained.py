"""Tables 1 and 2 and figure 7: networks that were trained on what the defence makes of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splic_ext.attacks import BPDA, EOTPGD, Attack, ThreatModel
from splic_ext.defenses import Defense, Identity, defense_from_spec, gradient_mode
from splic_ext.evaluation import Record, worst_case
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.networks import Network
from splic_ext.experiments.results.rows import Point, Row
from splic_ext.experiments.subjects import Subject
from splic_ext.experiments.tables import paper

__all__ = [
    "BLACK_BOX",
    "FILTERS",
    "WHITE_BOX",
    "Method",
    "figure7",
    "gradient_modes",
    "table1",
    "table2",
    "white_box_records",
]

GRADIENTS = ("identity", "exact", "surrogate")


@dataclass(frozen=True)
class Method:
    """A defence and the network behind it.

    Attributes
    ----------
    key : str
        In the paper's numbers; empty for what the paper does not have.
    title : str
        In tables.
    defense : str
        Text of the defence; "menet" is the estimation that the budget says.
    adversarial : bool
        Whether the network was attacked in training.
    """

    key: str
    title: str
    defense: str = "identity"
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
FILTERS = (
    Method("splic", "SPLIC", "splic"),
    Method("", "bilateral filter", "bilateral"),
    Method("", "guided filter", "guided"),
    Method("", "total variation, 0.1", "tv:weight=0.1"),
)

ATTACKS = {"fgsm": "FGSM", "pgd": "PGD", "cw": "CW"}
WORST = "worst of them"


def gradient_modes(defense: Defense) -> list[str]:
    """Return the gradients that a defence has, each of them once.

    Parameters
    ----------
    defense : Defense

    Returns
    -------
    list of str
        Some of "identity", "exact" and "surrogate".

    Examples
    --------
    >>> gradient_modes(defense_from_spec("splic")), gradient_modes(defense_from_spec("jpeg"))
    (['identity', 'exact', 'surrogate'], ['identity'])
    """
    # To the identity, which lets every gradient pass, all of them are the same.
    parts = [
        part
        for part in defense.modules()
        if isinstance(part, Defense) and not isinstance(part, Identity)
    ]
    found: dict[tuple[str, ...], str] = {}
    for mode in GRADIENTS:
        try:
            with gradient_mode(defense, mode):
                found.setdefault(tuple(part.gradient for part in parts), mode)
        except ValueError:
            continue
    return list(found.values())


def table1(bench: Bench) -> Outcome:
    """Black box: adversarial images of a surrogate, transferred to each method."""
    outcome = Outcome()
    for subject in bench.subjects:
        surrogate = bench.surrogate(subject)
        attacks = bench.paper_attacks(tuple(ATTACKS) if bench.attacks is None else bench.attacks)
        own = bench.records(subject, surrogate, attacks, defenses=["identity"])
        for method in BLACK_BOX:
            network = _network(bench, subject, method)
            records = bench.records(
                subject,
                network,
                attacks,
                defenses=[method.defense],
                scenario="black",
                surrogate=surrogate,
            )
            outcome.rows += _rows(subject, method, network, records, paper.TABLE1)
        outcome.rows += _rows(subject, SURROGATE, surrogate, own, {})
    outcome.notes = ["every attack is made on the surrogate, and transferred"]
    return outcome


def table2(bench: Bench) -> Outcome:
    """White box: BPDA as the paper has it, and adaptive attacks, of which the worst counts."""
    outcome = Outcome()
    for subject in bench.subjects:
        for method in WHITE_BOX:
            network = _network(bench, subject, method)
            records = white_box_records(bench, subject, network, _spec(bench, method))
            outcome.rows += _rows(subject, method, network, records, paper.TABLE2)
    budget = bench.budget
    outcome.notes = [
        "BPDA: 7 steps of 2/255, one draw for each gradient, as in the paper",
        f"past it, through it, smooth cut: {budget.steps} steps of 1/255, {budget.eot} draws for "
        "each gradient; by the gradient identity, exact and surrogate",
        "the worst of several attacks is chosen by the draws that are counted",
    ]
    return outcome


def white_box_records(
    bench: Bench, subject: Subject, network: Network, spec: str, *, adaptive: bool = True
) -> list[Record]:
    """Return the records of clean images, BPDA, the worst of all attacks, adaptive ones."""
    defense = defense_from_spec(spec)
    threat = ThreatModel(steps=bench.budget.steps, step_size=1 / 255)
    names = {"identity": "past it", "exact": "through it", "surrogate": "smooth cut"}
    attacks: dict[str, Attack] = {"bpda": BPDA()}
    if adaptive:
        for mode in gradient_modes(defense):
            attacks[names[mode]] = EOTPGD(threat, eot=bench.budget.eot, gradient=mode)
    limit = (
        bench.budget.attacked if bench.images is None else min(bench.budget.attacked, bench.images)
    )
    report = bench.evaluate(
        subject, network, {spec: defense}, attacks, scenario="white", limit=limit
    )
    records = list(report.records)
    if adaptive:
        records.insert(2, worst_case(records[1:], WORST))
    return records


def figure7(bench: Bench) -> Outcome:
    """SPLIC and filters that keep edges, each with a network trained on it."""
    outcome = Outcome()
    attacks = bench.paper_attacks(tuple(ATTACKS) if bench.attacks is None else bench.attacks)
    for subject in bench.subjects:
        names: list[str] = []
        for method in FILTERS:
            network = _network(bench, subject, method)
            records = bench.records(subject, network, attacks, defenses=[method.defense])
            if bench.attacks is None:
                white = white_box_records(bench, subject, network, method.defense)
                records += white[1:3]
            for row in _rows(subject, method, network, records, {}):
                names += [row.attack] if row.attack not in names else []
                outcome.rows.append(row)
                outcome.points.append(
                    Point.from_row(
                        row, "attack", names.index(row.attack), label=row.attack, kind="bar"
                    )
                )
    budget = bench.budget
    outcome.notes = [
        "FGSM, PGD, CW: made on the network that was trained on the filter, without the filter",
        "BPDA: past the filter, 7 steps of 2/255; worst of them: also with "
        f"{budget.steps} steps of 1/255, {budget.eot} draws, and through the filter",
        "the paper says white box, and prints no numbers",
    ]
    return outcome


def _spec(bench: Bench, method: Method) -> str:
    return bench.budget.menet if method.defense == "menet" else method.defense


def _network(bench: Bench, subject: Subject, method: Method) -> Network:
    return bench.trained(subject, defense=_spec(bench, method), adversarial=method.adversarial)


def _rows(
    subject: Subject,
    method: Method,
    network: Network,
    records: Sequence[Record],
    printed: paper.Numbers,
) -> list[Row]:
    names = {"clean": "clean", "bpda": "BPDA", **ATTACKS}
    return [
        Row.from_record(
            record,
            record.dataset.name,
            method.title,
            names.get(record.attack or "clean", record.attack or "clean"),
            printed.get((subject.kind, method.key, record.attack or "clean")),
        )
        for record in records
    ]
