"""The page of the lesson: what each attacker leaves, and pictures of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from splic_ext import __version__
from splic_ext.common.optional import optional
from splic_ext.experiments.lesson import Lesson
from splic_ext.report.figures import show_gallery
from splic_ext.report.views import (
    Grid,
    Line,
    Table,
    one_line,
    percent_cell,
    provenance_facts,
)
from splic_ext.report.writing import check_target, page_file, render

__all__ = ["LessonPage", "lesson_page", "write_lesson"]

TITLE = "Attack and defence in a minute"
CAPTION = (
    "Accuracy in %, with its 95 % interval, of a network without SPLIC and of another one behind it"
)


@dataclass(frozen=True)
class LessonPage:
    """What is on the page.

    Attributes
    ----------
    title : str
    table : Table
        A line for each attacker: both accuracies.
    learnt : tuple of (str, str)
        For each attacker what follows.
    grids : tuple of Grid
    notes : tuple of str
    facts : tuple of (str, str)
    command : str or None
    version : str
        Of this package.
    """

    title: str
    table: Table
    learnt: tuple[tuple[str, str], ...]
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    command: str | None
    version: str = __version__

    def to_html(self) -> str:
        """Return the page.

        Raises
        ------
        MissingExtraError
            Jinja is not installed.
        """
        return render("lesson.html", self)


def lesson_page(lesson: Lesson) -> LessonPage:
    """Return the page of a lesson.

    Parameters
    ----------
    lesson : Lesson

    Returns
    -------
    LessonPage
    """
    lines = tuple(
        Line(row.attacker.partition(":")[0], (percent_cell(row.plain), percent_cell(row.defended)))
        for row in lesson.rows
    )
    origin = lesson.provenance
    seconds = ", ".join(f"{phase} {spent:.1f} s" for phase, spent in lesson.seconds.items())
    return LessonPage(
        TITLE,
        Table(CAPTION, ("attacker", "without SPLIC", "with SPLIC"), lines),
        tuple((row.attacker, row.learnt.replace(" %", "\u00a0%")) for row in lesson.rows),
        tuple(map(show_gallery, lesson.galleries)),
        tuple(map(one_line, lesson.notes)),
        (*provenance_facts(origin), ("Time", seconds)),
        origin.command,
    )


def write_lesson(
    make: Callable[[], Lesson],
    output: str | os.PathLike[str] = "defend.html",
    *,
    overwrite: bool = False,
) -> Lesson:
    """Make a lesson, and write it as one page of HTML, which needs no other file and no network.

    The name of the file is checked first.

    Parameters
    ----------
    make : callable
        Returns the lesson, as :func:`splic_ext.experiments.teach` does.
    output : path, default "defend.html"
        The page; it appears at once, when it is finished.
    overwrite : bool, default False
        Whether a file may be there already.

    Returns
    -------
    Lesson

    Raises
    ------
    FileExistsError
        `output` exists.
    MissingExtraError
        Jinja is not installed.
    OSError
        `output` cannot be written.
    ValueError
        `output` is a folder.
    """
    with optional("`write_lesson`", "report", "jinja2"):
        import jinja2 as _jinja2  # noqa: F401
    with page_file(check_target(output), overwrite=overwrite) as save:
        lesson = make()
        save(lesson_page(lesson).to_html())
    return lesson
