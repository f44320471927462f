"""What the sections say together: the gradient and the attack that fool most."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from splic_ext.experiments.results.keys import CLEAN, SECTIONS, WORST
from splic_ext.experiments.results.rows import Row

__all__ = ["doubts", "verdict"]

#: Sections that attack the defence itself in the ball of 8/255, masks and all.
COUNTED = (
    "gradients",
    "draws",
    "losses",
    "steps",
    "radius",
    "queries",
    "transfer",
    "surrogates",
    "others",
)
#: The attack of the section "radius" in that ball.
NEAR = "8/255"
#: Sections at whose largest radius nearly nothing must be left, from this radius on.
FALLING, FAR = ("radius", "broken"), 16


def verdict(rows: Sequence[Row], method: str) -> list[str]:
    """Return a note that names the weakest gradient and the strongest attack, if there are any.

    Weak is a gradient that an attacker gets far with: the one that leaves the fewest images right.
    """
    titles = {SECTIONS[key]: key for key in COUNTED}
    own = [row for row in rows if row.method == method and row.section in titles]
    attacked = [
        row
        for row in own
        if row.attack not in (CLEAN, WORST)
        and (titles[row.section] != "radius" or row.attack == NEAR)
        and (titles[row.section] != "others" or _is_near(row))
    ]
    if not attacked:
        return []
    told = []
    gradients = {r.attack: r.mean.value for r in attacked if titles[r.section] == "gradients"}
    if gradients:
        least = min(gradients.values())
        weakest = [mode for mode, value in gradients.items() if value == least]
        others = [f"{m} {_percent(v)}" for m, v in gradients.items() if m not in weakest]
        rest = f"; {', '.join(others)}" if others else ""
        told.append(f"weakest gradient: {_listed(weakest)} ({_percent(least)} are left{rest})")
    least = min(row.mean.value for row in attacked)
    names = (f"{r.attack!r} of {r.section!r}" for r in attacked if r.mean.value == least)
    strongest = list(dict.fromkeys(names))
    more = f" and {len(strongest) - 3} others" if len(strongest) > 3 else ""
    told.append(
        f"strongest attack: {_listed(strongest[:3]) if not more else ', '.join(strongest[:3])}"
        f"{more} ({_percent(least)} are left)"
    )
    clean = next((row.mean.value for row in own if row.attack == CLEAN), None)
    before = "" if clean is None else f"; on clean images {_percent(clean)}"
    return [f"verdict: {'; '.join(told)}{before}. Other attacks may leave less"]


def doubts(rows: Sequence[Row]) -> list[str]:
    """Return a note on what stands where an attacker may do nearly anything, if something does."""
    standing = []
    for key in FALLING:
        of_section = [row for row in rows if row.section == SECTIONS[key]]
        for method in dict.fromkeys(row.method for row in of_section):
            clean = [r.mean.value for r in of_section if (r.method, r.attack) == (method, CLEAN)]
            radii = {r: _radius(r) for r in of_section if r.method == method}
            farthest = max(radii.values(), default=0.0)
            left = [r.mean.value for r, radius in radii.items() if radius == farthest]
            if farthest >= FAR and clean and min(left) > clean[0] / 2:
                standing.append(
                    f"{_percent(min(left))} of {method!r} at {farthest:g}/255 in {SECTIONS[key]!r}"
                )
    if not standing:
        return []
    return [
        f"the attacks do not work here, and no number here says that a defence holds: left are "
        f"{_listed(standing)}, where an attacker may do nearly anything"
    ]


def _radius(row: Row) -> float:
    """Return K of an attack that is called "... K/255", or 0."""
    number, _, rest = row.attack.rpartition(" ")[2].partition("/")
    return float(number) if rest == "255" else 0.0


def _is_near(row: Row) -> bool:
    """Say whether an attack of others is known to stay in the ball."""
    told = json.loads(row.parameters or "{}")
    return told.get("norm") == "linf" and bool(told.get("epsilon", 1.0) <= 8 / 255 + 1e-9)


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
