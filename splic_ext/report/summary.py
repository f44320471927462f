"""What stands at the top of the page: the comparison in short, and what it does not show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from splic_ext.evaluation import Accuracy
from splic_ext.experiments import Row
from splic_ext.experiments.results.agreement import Agreement
from splic_ext.experiments.results.keys import BPDA, CLEAN, SMOKE, attack_title, section_key
from splic_ext.experiments.results.rows import is_worst
from splic_ext.report.entries import evaluation_rows
from splic_ext.report.sources import Collection
from splic_ext.report.views import Cell, Line, Table, one_line, percent_cell

__all__ = ["Card", "Part", "Proved", "Summary", "parts_of", "summarize"]

#: Scenarios in which the attacker knows the defence.
KNOWN = ("white", "mixed")
#: Results whose rows differ in more than the defence.
LEFT_OUT = ("hypotheses", "ranking")
#: Of the clean accuracy: what is no more below is as accurate.
CLOSE = 0.01
#: An attack that takes fewer points from the bare network fails: it says nothing of a defence.
FAILS = 10.0
#: Fewer images than this are few.
FEW = 1000


@dataclass(frozen=True)
class Part:
    """The rows of a section; title and key of their entry. An evaluation has no name."""

    name: str
    title: str
    key: str
    section: str
    rows: tuple[Row, ...]

    @property
    def data(self) -> str:
        """Names of the data sets."""
        return ", ".join(dict.fromkeys(row.dataset.name for row in self.rows))


@dataclass(frozen=True)
class Card:
    """A few numbers of a part: title and key of its entry, and its data sets."""

    title: str
    key: str
    data: str
    table: Table


@dataclass(frozen=True)
class Summary:
    """The top of the page.

    `unknown` and `known` are accuracies against attackers who do not know the defence, and who do.
    `paper` and `counts` say how many of the paper's numbers lie within ours, below and above.
    `proved` is what no attack within bounds can change.
    """

    unknown: tuple[Card, ...]
    known: tuple[Card, ...]
    paper: Table
    counts: tuple[int, int, int]
    limits: tuple[str, ...]
    proved: tuple[Card, ...] = ()


@dataclass(frozen=True)
class Proved:
    """What is certified: cards, and the accuracies that they are about."""

    cards: tuple[Card, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()


def parts_of(found: Collection, keys: Mapping[str, tuple[str, str]]) -> list[Part]:
    """Return the sections of all results but smoke tests; `keys` has title and key of each path."""
    rows = {
        s.path: (s.content.name, s.content.rows) for s in found.results if s.content.budget != SMOKE
    }
    rows |= {s.path: ("", evaluation_rows(s.content)) for s in found.evaluations}
    return [
        Part(name, *keys[path], section, tuple(row for row in some if row.section == section))
        for path, (name, some) in rows.items()
        if path in keys
        for section in dict.fromkeys(row.section for row in some)
    ]


def summarize(
    parts: Sequence[Part], proved: Proved, *, missing: int, unread: int, smoke: int
) -> Summary:
    """Return the top of the page; `missing`, `unread` and `smoke` are numbers of them."""
    failed: dict[str, None] = {}  # titles of results whose attacks fail
    unknown = [card for part in parts if (card := _unknown(part, failed)) is not None]
    known = _known(parts, failed)
    paper, counts = _paper(parts)
    limits = _limits(parts, proved, bool(known), any(counts))
    if failed:
        limits.append(
            f"Attacks that fail. They take less than {FAILS:.0f} points from a network without a "
            f"defence, so they say nothing of any defence, and are not above: {'; '.join(failed)}."
        )
    if smoke:
        limits.append(
            f"{_count(smoke, 'result is a smoke test', 'results are smoke tests')}: such numbers "
            "mean nothing, and none of them is above."
        )
    if missing:
        limits.append(
            f"{_count(missing, 'experiment has', 'experiments have')} no result here; "
            "they are listed under “Not run”."
        )
    if unread:
        limits.append(f"{_count(unread, 'file', 'files')} could not be used; see the last section.")
    return Summary(tuple(unknown), tuple(known), paper, counts, tuple(limits), proved.cards)


def _is_splic(row: Row) -> bool:
    return "SPLIC(" in row.defense


def _is_other(row: Row) -> bool:
    """Whether a defence has no part of the paper's method; SRF is one."""
    return not (_is_splic(row) or "SRF(" in row.defense)


def _fails(clean: float | None, attacked: float | None) -> bool:
    """Say whether an attack takes next to nothing from a network; accuracies in percent."""
    return clean is not None and attacked is not None and attacked > clean - FAILS


def _unknown(part: Part, failed: dict[str, None]) -> Card | None:
    """Compare SPLIC with what is as accurate on clean images, under the hardest attack."""
    rows = [row for row in part.rows if row.attack != CLEAN and row.scenario not in KNOWN]
    clean = {row.method: row for row in part.rows if row.attack == CLEAN}
    rows = [row for row in rows if row.method in clean]
    plain = [row for row in rows if row.defense.startswith("Identity(")]
    if not plain or part.name in LEFT_OUT:
        return None
    bare = min(
        (row for row in plain if row.method == plain[0].method), key=lambda row: row.mean.value
    )
    rows = [row for row in rows if (row.attack, row.scenario) == (bare.attack, bare.scenario)]
    best = max(filter(_is_splic, rows), key=lambda row: row.mean.value, default=None)
    if best is None:
        return None
    if _fails(100 * clean[bare.method].mean.value, 100 * bare.mean.value):
        failed[part.title] = None
        return None
    accurate = clean[best.method].mean.value
    rivals = [
        row
        for row in rows
        if _is_other(row) and row.method != bare.method
        if clean[row.method].mean.value >= accurate - CLOSE
    ]
    rival = max(rivals, key=lambda row: row.mean.value, default=None)
    own_row = next((row for row in rows if _is_splic(row) and row.paper is not None), best)
    lines = [_line(clean[row.method], row) for row in dict.fromkeys((bare, own_row, best))]
    lines[-1] = replace(lines[-1], marked=True)
    if rival is None:
        lines.append(Line("No other defence is as accurate on clean images.", ()))
    else:
        lines.append(_line(clean[rival.method], rival))
    table = Table("", ("defence", "clean", one_line(attack_title(best.attack))), tuple(lines))
    return Card(part.title, part.key, part.data, table)


def _line(clean: Row, attacked: Row) -> Line:
    cells = (percent_cell(clean.mean), percent_cell(attacked.mean, paper=attacked.paper))
    return Line(one_line(attacked.method), cells)


def _known(parts: Sequence[Part], failed: dict[str, None]) -> list[Card]:
    """Show what is left of each method under the worst of the attacks that know it."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for part in parts:
        for row in part.rows:
            found.setdefault((part.title, part.key, row.dataset.name), []).append(row)
    cards = []
    for (title, key, data), rows in found.items():
        printed = any(row.paper is not None and row.scenario in KNOWN for row in rows)
        lines = [
            line
            for method in dict.fromkeys(row.method for row in rows)
            if (line := _worst([row for row in rows if row.method == method], printed)) is not None
        ]
        plain = {one_line(row.method) for row in rows if row.defense.startswith("Identity(")}
        bare = next((line.cells for line in lines if line.head in plain), None)
        if bare is not None and _fails(bare[0].value, bare[-1].value):
            failed[title] = None
        elif lines:
            paper = ("the paper's attack",) if printed else ()
            header = ("defence", "clean", *paper, "worst attack")
            cards.append(Card(title, key, data, Table("", header, tuple(lines))))
    return cards


def _worst(rows: Sequence[Row], printed: bool) -> Line | None:
    """Return clean images, the attack that the paper prints, if it does, and the worst."""
    known = [row for row in rows if row.scenario in KNOWN and row.attack != CLEAN]
    worst = [row for row in known if is_worst(row) and section_key(row.section) != "radius"]
    if not worst:
        return None
    lowest = min(worst, key=lambda row: row.mean.value)
    clean = [row for row in rows if row.attack == CLEAN and row.section == lowest.section]
    if not clean:
        return None
    cells = [percent_cell(clean[0].mean)]
    if printed:
        own = next((row for row in known if row.attack == BPDA), None)
        cells.append(Cell("") if own is None else percent_cell(own.mean, paper=own.paper))
    return Line(one_line(lowest.method), (*cells, percent_cell(lowest.mean)))


def _paper(parts: Iterable[Part]) -> tuple[Table, tuple[int, int, int]]:
    lines, total = [], [0, 0, 0]
    parts = list(parts)
    keys = [part.key for part in parts]
    for part in parts:
        cells = [percent_cell(row.mean, paper=row.paper) for row in part.rows]
        found = [cell.verdict for cell in cells if cell.verdict]
        if not found:
            continue
        counts = [found.count(verdict) for verdict in Agreement]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        told = keys.count(part.key) == 1 and part.section in part.title
        title = part.title if told else f"{part.title}: {part.section}"
        lines.append(Line(one_line(title), tuple(Cell(str(count)) for count in counts)))
    header = ("the paper's number is", "within ours", "below", "above")
    return Table("", header, tuple(lines)), (total[0], total[1], total[2])


def _limits(parts: Sequence[Part], proved: Proved, worst: bool, paper: bool) -> list[str]:
    rows = [row for part in parts for row in part.rows]
    attacked = [row for row in rows if row.attack != CLEAN]
    limits = []
    if attacked and not any(row.scenario in KNOWN for row in attacked):
        limits.append(
            "Robustness. Nobody who attacks here knows the defence: such numbers say what it does "
            "to old adversarial images, and nothing of an attacker who adapts."
        )
    elif worst:
        limits.append(
            "Robustness. An attack that fails proves nothing: what is left under attackers who "
            "know the defence is an upper bound, and the other numbers are none at all."
        )
    if paper:
        limits.append(
            "Errors of the paper. Its networks and images are not the ones here, and not all of "
            "its constants are printed: a difference may come from any of these."
        )
    if proved.cards:
        limits.append(
            "Certificates. They hold against patches of these sizes and changes of so many pixels, "
            "and say nothing of other attacks, such as small changes everywhere."
        )
    few = [a for a in (*(row.mean for row in rows), *proved.accuracies) if a.n < FEW]
    if few:
        fewest = min(accuracy.n for accuracy in few)
        widest = max(50 * (accuracy.high - accuracy.low) for accuracy in few)
        limits.append(
            f"Small differences. Some numbers are of {_count(fewest, 'image', 'images')} alone, "
            f"and intervals reach up to {widest:.0f} points to either side."
        )
    return limits


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
