"""Write docs/reproduction.md: the paper's numbers beside ours, made from files of results.

python benchmarks/make_reproduction.py results docs/reproduction.md
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from splic_ext.common.atomic import write_text
from splic_ext.evaluation.tables import markdown_table, percent
from splic_ext.experiments.bench import PAPER_ITERATIONS
from splic_ext.experiments.registry import EXPERIMENTS
from splic_ext.experiments.results.agreement import Agreement, agreement
from splic_ext.experiments.results.keys import CLEAN, SMOKE, attack_key, attack_title
from splic_ext.experiments.results.layout import row_table
from splic_ext.experiments.results.result import ExperimentResult
from splic_ext.experiments.results.rows import Point, Row
from splic_ext.experiments.tables import paper
from splic_ext.experiments.tables.gray_box import METHODS
from splic_ext.experiments.tables.trained import BLACK_BOX, WHITE_BOX

#: Data of the paper -> how the page calls it.
DATA = {"cifar10": "CIFAR-10", "svhn": "SVHN"}
#: Methods that the paper quotes from others and that are no part of this library.
QUOTED = {
    "thermometer": "Thermometer",
    "tla-rn": "TLA-RN",
    "tla-sa": "TLA-SA",
    "tla": "TLA",
}
_GRAY = {
    **{key: (title,) for key, title in METHODS.items()},
    "splic": (METHODS["splic"], METHODS["splic:recommended"]),
}
#: Table -> its method in the paper's numbers -> ours, the first for a row that was not run.
NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "table1": {m.key: (m.title,) for m in BLACK_BOX if m.key},
    "table2": {m.key: (m.title,) for m in WHITE_BOX if m.key},
    "table3": _GRAY,
    "table4": _GRAY,
}
#: Figures whose curves have no best point.
NO_BEST = ("figure4",)
#: Why a number may differ, by table; then for SPLIC itself.
REASONS = {
    "table1": "another network, training and surrogate",
    "table2": "another network and training",
    "table3": "another network",
    "table4": "another network",
}
OPEN = "choices that the paper leaves open"
#: The quoted number is that of Guo et al. 2018, who keep random pixels and fill in the others.
TV = "plain denoising, without random pixels"
INTRODUCTION = """\
# Reproduction

Every number that the paper prints, beside what the committed results say. The page is made from
the files below [results](../results), and a test holds it to them:

```console
$ python benchmarks/make_reproduction.py results docs/reproduction.md
```

- *ours*: accuracy in %, one draw of the masks, with the 95 % Wilson interval over the images.
- *why*: *within the interval* says that the paper's number lies in ours. Otherwise it says what
  may explain the difference. These are possible causes: none has been shown to be one unless
  [hypotheses](#hypotheses) says so. The choices that the paper leaves open are in
  [how it works](how_it_works.md).
- *not run*: there is no committed result. *not implemented*: a method of others that the paper
  quotes, and that has no part in SPLIC.
- *run* is the number of a result among the [runs](#runs), with the command that made it.
  [Experiments](experiments.md) explains experiments and budgets.

## What was found

All of it was run on two cores, with small networks and short trainings. Rows that need the paper's
networks have not been run. [Results](results.md) has the numbers behind this, with their
intervals.

- Table 3: the baselines come out as printed on the 500 CIFAR-10 images with true pixels, not on
  compressed ones. SPLIC's row comes out with lambda 0.1 and the mean of 4 masks, not with the
  printed constants.
- Table 1: no surrogate that was tried on SVHN gives the printed numbers. The paper's network
  without a defence keeps 8.6 %. Ours keeps 62 % when the surrogate was trained mostly on other
  images, 30 when it has another architecture, 24 when only its seed differs, and 20 when it learnt
  completed images. SPLIC is 3 to 9 points above each of these, total variation 14 to 32; the paper
  has 93.0 for SPLIC. So a near surrogate explains much of the low number without a defence. None
  explains the high number with it.
- Table 2: its attack is weak. With adversarial training, BPDA of 7 steps leaves 61 % of ME-Net, 46
  of SPLIC and 44 without a defence on SVHN, and 36, 35 and 33 on CIFAR-10. The worst of all attacks
  has more steps and draws, and every gradient. It leaves 38 to 40 of each on SVHN and 30 to 32 on
  CIFAR-10, which 100 images do not tell apart. ME-Net's lead on SVHN is there because BPDA of one
  draw does not average over its masks.
- Anchors, passes, lambda, rank, masks, length of training and size of the network were varied
  one at a time on SVHN. None of them brings SPLIC under attack within 3 points of the paper.
"""


@dataclass(frozen=True)
class Source:
    """A result, and its path below the folder of all results, with slashes."""

    path: str
    result: ExperimentResult


def find_results(folder: str | os.PathLike[str]) -> list[Source]:
    """Return the results of the paper's experiments below a folder, in the order of their paths.

    Runs of the budget "smoke" are left out: their numbers mean nothing.
    """
    found = []
    place = Path(folder)
    for path in sorted(place.rglob("*.json")):
        if path.stem not in EXPERIMENTS or "work" in path.relative_to(place).parts:
            continue
        try:
            result = ExperimentResult.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"'{path}' is no result of an experiment: {error}") from error
        if result.budget != SMOKE:
            found.append(Source(path.relative_to(place).as_posix(), result))
    return found


def reproduction_page(sources: Sequence[Source], results: str = "../results") -> str:
    """Return the page in Markdown; its links find the folder of all results at `results`."""
    numbers = {source.path: i for i, source in enumerate(sources, 1)}
    parts = [INTRODUCTION]
    for name in paper.TABLES:
        parts += [f"## {EXPERIMENTS[name].title}", "", *_table(name, sources, numbers), ""]
    parts += ["## Figures", "", "The paper's figures print no numbers; what they claim:", ""]
    parts += [*_figures(sources, numbers), ""]
    parts += ["## Hypotheses", "", *_hypotheses(sources, numbers), "", "## Runs", ""]
    for source in sources:
        origin = source.result.provenance
        command = f"`{origin.command}`" if origin.command else "from Python"
        parts.append(
            f"{numbers[source.path]}. [{source.path}]({results}/{source.path}), "
            f"{origin.date[:10]}, {origin.machine.cpu}, {origin.machine.cores} cores: {command}"
        )
    if not sources:
        parts.append("None.")
    return "\n".join(parts).rstrip() + "\n"


def _kind(result: ExperimentResult, row: Row) -> str | None:
    """Return whose column of the paper a row belongs to; files of old say it by their name."""
    named = next((kind for kind in DATA if kind in row.dataset.name.lower()), None)
    return result.kinds.get(row.dataset.name, named)


def _table(name: str, sources: Sequence[Source], numbers: Mapping[str, int]) -> list[str]:
    lines = [["data", "method", "attack", "paper", "ours", "our images, network", "run", "why"]]
    for (kind, key, attack), printed in paper.TABLES[name].items():
        wanted = attack_key(None if attack == CLEAN else attack)
        head = [DATA[kind], attack_title(wanted), f"{printed:.1f}"]
        if key in QUOTED:
            lines.append([head[0], QUOTED[key], *head[1:], "not implemented", "", "", ""])
            continue
        found = [
            (source, row)
            for source in sources
            if source.result.name == name
            for row in source.result.rows
            if row.method in NAMES[name][key]
            and row.attack == wanted
            and _kind(source.result, row) == kind
        ]
        for source, row in found:
            which = f"{row.mean.n:,} of {row.dataset.name}, {row.model.name}"
            run = f"{numbers[source.path]}"
            why = _why(name, kind, key, row, printed)
            lines.append([head[0], row.method, *head[1:], percent(row.mean), which, run, why])
        if not found:
            lines.append([head[0], NAMES[name][key][0], *head[1:], "not run", "", "", ""])
    return markdown_table(lines, left=3)


def _why(name: str, kind: str, key: str, row: Row, printed: float) -> str:
    if agreement(printed, 100 * row.mean.low, 100 * row.mean.high) is Agreement.WITHIN:
        return "within the interval"
    reasons = [REASONS[name]]
    if key == "tv":
        reasons.append(TV)
    if key == "menet" and row.defense.startswith("USVT"):
        reasons.append("its cheapest estimation, USVT")
    parameters = json.loads(row.parameters) if row.parameters else {}
    if parameters.get("iterations", PAPER_ITERATIONS) != PAPER_ITERATIONS:
        reasons.append(f"{parameters['iterations']} iterations")
    if "jpeg" in row.dataset.name.lower():
        reasons.append("images were compressed")
    if key in ("splic", "srf"):
        reasons.append(OPEN)
    return "; ".join(reasons)


def _figures(sources: Sequence[Source], numbers: Mapping[str, int]) -> list[str]:
    lines = [["figure", "the paper's claim", "what came out", "run"]]
    for name, claim in paper.FIGURES.items():
        found = [source for source in sources if source.result.name == name]
        for source in found:
            run = f"{numbers[source.path]}"
            lines.append([name, claim, _finding(source.result), run])
        if not found:
            lines.append([name, claim, "not run", ""])
    return markdown_table(lines, left=4)


def _finding(result: ExperimentResult) -> str:
    """Return for each curve where it is highest, and for each group of bars which is."""
    sections: dict[tuple[str, str], list[Point]] = {}
    for point in result.points:
        if point.kind != "scatter" and result.name not in NO_BEST:
            group = point.label if point.kind == "bar" else point.series
            sections.setdefault((point.section, group), []).append(point)
    told = []
    for (section, group), points in sections.items():
        best = max(points, key=lambda point: point.y)
        where = best.series if best.kind == "bar" else f"{best.x_name} {best.x:g}"
        least = min(points, key=lambda point: point.y)
        told.append(f"{section}, {group}: highest for {where}, {best.y:.3g}; lowest {least.y:.3g}")
    return ". ".join(told) if told else "see its pictures"


def _hypotheses(sources: Sequence[Source], numbers: Mapping[str, int]) -> list[str]:
    lines: list[str] = []
    for source in sources:
        if source.result.name != "hypotheses":
            continue
        for section in dict.fromkeys(row.section for row in source.result.rows):
            rows = source.result.select(section=section)
            lines += [f"Run {numbers[source.path]}, {section}:", "", *row_table(rows), ""]
    return lines or ["Not run."]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="the folder of all results")
    parser.add_argument("page", type=Path, help="the page to write")
    arguments = parser.parse_args()
    try:
        write_text(arguments.page, reproduction_page(find_results(arguments.results)))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
