"""Tables 3 and 4 of the paper, and accuracy under attack at equal clean accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from splic_ext.evaluation import Record
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.results.keys import CLEAN, attack_key
from splic_ext.experiments.results.rows import Row
from splic_ext.experiments.subjects import KINDS, Subject
from splic_ext.experiments.tables import paper

__all__ = ["TABLES", "GrayBoxTable", "make_table"]

#: Defence -> how tables name it. Those of the paper, then those that it leaves out. SPLIC before
#: light denoising is ours, an exploratory row.
METHODS = {
    "identity": "no defence",
    "usvt": "USVT",
    "soft-impute": "Soft-Impute",
    "nuclear-norm": "ME-Net (nuclear norm)",
    "srf": "SRF (lambda 0)",
    "splic": "SPLIC, paper's constants",
    "splic:recommended": "SPLIC, recommended",
    "splic:recommended,tv_weight=0.02+tv:weight=0.03": "SPLIC, then total variation, 0.03",
    "tv:weight=0.1": "total variation, 0.1",
    "gaussian:sigma=0.7": "Gaussian blur, 0.7",
    "bilateral": "bilateral filter",
    "guided": "guided filter",
}
#: The paper prints one row for SPLIC; it stands beside each of ours.
SAME = {"splic:recommended": "splic"}


#: Denoisers and SPLIC by strength, and light denoising after another transformation.
FAMILIES = (
    ("tv:weight={}", "total variation, {}", (0.05, 0.07, 0.085, 0.1, 0.12, 0.15)),
    ("gaussian:sigma={}", "Gaussian blur, {}", (0.5, 0.6, 0.7, 0.85)),
    (
        "gaussian:sigma=0.5+tv:weight={}",
        "Gaussian blur, 0.5, then total variation, {}",
        (0.05, 0.07, 0.085),
    ),
    ("splic:recommended,tv_weight={}", "SPLIC, lambda {}", (0.02, 0.05, 0.07, 0.1, 0.14)),
    (
        "splic:recommended,tv_weight=0.02+tv:weight={}",
        "SPLIC, lambda 0.02, then total variation, {}",
        (0.02, 0.03, 0.04, 0.05),
    ),
)
FRONTIER = {"identity": "no defence"} | {
    spec.format(s): name.format(s) for spec, name, strengths in FAMILIES for s in strengths
}


@dataclass(frozen=True)
class GrayBoxTable:
    """What a gray-box table shows.

    Attributes
    ----------
    title : str
    kinds : tuple of str
        Data sets that it is for.
    attacks : tuple of str
        In its columns, after clean images.
    methods : mapping
        Text of a defence -> its name in the table.
    printed : mapping
        The paper's numbers.
    """

    title: str
    kinds: tuple[str, ...]
    attacks: tuple[str, ...]
    methods: Mapping[str, str] = field(default_factory=lambda: METHODS)
    printed: paper.Numbers = field(default_factory=dict)


#: The experiments of this module, by name.
TABLES: Mapping[str, GrayBoxTable] = {
    "table3": GrayBoxTable(
        "Table 3: gray box, without training",
        KINDS,
        ("fgsm", "pgd"),
        printed=paper.TABLE3,
    ),
    "table4": GrayBoxTable(
        "Table 4: SVHN, gray box, with and without total variation",
        ("svhn", "digits", "shapes"),
        ("fgsm", "pgd", "cw"),
        {
            key: METHODS[key]
            for key in ("identity", "srf", "splic", "splic:recommended", "tv:weight=0.1")
        },
        paper.TABLE4,
    ),
    "frontier": GrayBoxTable(
        "SPLIC and plain denoising at equal clean accuracy, gray box",
        KINDS,
        ("fgsm", "pgd"),
        FRONTIER,
    ),
}


def make_table(bench: Bench) -> Outcome:
    """Make a table of :data:`TABLES`: attacks on the network, tried on it behind each defence."""
    table = TABLES[bench.name]
    attacks = bench.paper_attacks(table.attacks)
    methods = {**table.methods, **{name: name for name in bench.own}}
    outcome = Outcome()
    for subject in bench.subjects:
        network = bench.undefended(subject)
        records = bench.records(subject, network, attacks, defenses=list(methods))
        outcome.rows += [_row(table, methods, subject, record) for record in records]
    return outcome


def _row(table: GrayBoxTable, methods: Mapping[str, str], subject: Subject, record: Record) -> Row:
    printed_as = SAME.get(record.defense, record.defense)
    return Row.from_record(
        record,
        section=record.dataset.name,
        method=methods[record.defense],
        attack=attack_key(record.attack),
        paper=table.printed.get((subject.kind, printed_as, record.attack or CLEAN)),
    )
