"""Figure 7: SPLIC and filters that keep edges, each with a network trained on it."""

from __future__ import annotations

from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.results.keys import PAPER_ATTACKS, WORST
from splic_ext.experiments.results.rows import Point
from splic_ext.experiments.tables.boxes import white_box_records
from splic_ext.experiments.tables.trained import Method, method_rows, own_methods, trained_for

__all__ = ["FILTERS", "figure7"]

FILTERS = (
    Method("splic", "SPLIC", "splic"),
    Method("", "bilateral filter", "bilateral"),
    Method("", "guided filter", "guided"),
    Method("", "total variation, 0.1", "tv:weight=0.1"),
)


def figure7(bench: Bench) -> Outcome:
    """Each filter under the paper's attacks and, with its network, under those that know it."""
    outcome = Outcome()
    attacks = bench.paper_attacks(tuple(PAPER_ATTACKS))
    for subject in bench.subjects:
        names: list[str] = []
        for method in (*FILTERS, *own_methods(bench)):
            network = trained_for(bench, subject, method)
            records = bench.records(subject, network, attacks, defenses=[method.defense])
            if bench.settings.attacks is None:
                _, bpda, worst, *_ = white_box_records(bench, subject, network, method.defense)
                records += [bpda, worst]
            for row in method_rows(subject, method, records, {}):
                names += [row.attack] if row.attack not in names else []
                outcome.rows.append(row)
                outcome.points.append(
                    Point.from_row(
                        row, "attack", names.index(row.attack), label=row.attack, kind="bar"
                    )
                )
    budget = bench.settings.budget
    outcome.notes = [
        "FGSM, PGD, CW: made on the network that was trained on the filter, without the filter",
        f"BPDA: 7 steps of 2/255 by the identity; {WORST}: also {budget.steps} steps of 1/255 "
        f"with {budget.eot} draws, by the identity and by the exact gradient",
        "the paper says white box, and prints no numbers",
    ]
    return outcome
