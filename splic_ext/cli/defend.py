"""``splic-ext demo defend``: train, attack and tell, in a minute or so."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splic_ext.cli.console import print_message, print_tables
from splic_ext.cli.exits import exit_codes, notes_on_stderr
from splic_ext.cli.layout import tables
from splic_ext.cli.options import Overwrite, Quiet, command_line
from splic_ext.common.optional import needed

if TYPE_CHECKING:
    from rich.table import Table

    from splic_ext.experiments import Lesson

__all__ = ["defend"]


def defend(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write.")
    ] = Path("defend.html"),
    seed: Annotated[
        int, typer.Option(min=0, max=2**64 - 1, help="Seed of networks, attacks and masks.")
    ] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train on drawn shapes with and without SPLIC, attack both, and say what was learnt.

    A table of one screen has a sentence for each attacker: black, gray and white box. A page of
    HTML shows images as they were, attacked and completed, and what the networks say. It takes a
    minute or so on two cores, and nothing is downloaded.
    """
    with (
        exit_codes(defend, interrupted="no page was written", quiet=quiet),
        notes_on_stderr(),
    ):
        needed("`splic-ext demo defend`", "attack,report", "torch", "foolbox", "jinja2")
        from splic_ext.experiments import teach
        from splic_ext.report import write_lesson

        make = partial(teach, seed=seed, progress=not quiet, command=command_line())
        lesson = write_lesson(make, out, overwrite=overwrite)
    if not quiet:
        print_tables(*_tables(lesson))
        spent = ", ".join(f"{phase} {value:.0f} s" for phase, value in lesson.seconds.items())
        print_message(f"time: {spent}")
        print_message(f"pictures: {out}")


def _tables(lesson: Lesson) -> tuple[Table, ...]:
    """Lay out the rows of a lesson."""
    from rich.console import Console

    names = ["attacker", "without SPLIC", "with SPLIC", "what was learnt"]
    rows = [
        [
            row.attacker.partition(":")[0],
            *(
                f"{100 * found.value:.0f} [{100 * found.low:.0f}-{100 * found.high:.0f}]"
                for found in (row.plain, row.defended)
            ),
            row.learnt,
        ]
        for row in lesson.rows
    ]
    return tuple(
        tables(
            names,
            rows,
            Console().width,
            justify=["left", "right", "right", "left"],
            title=f"Accuracy in % and its 95 % interval, {lesson.rows[0].plain.n} test images of "
            "shapes",
            ends=range(len(rows)),
        )
    )
